"""TFRecord framing: where each record of a file lies, and its bytes with checksums verified.

A record is its length (8 bytes, little endian), a checksum of those 8 bytes, the data, a checksum of the data. The
checksums are CRC-32C, rotated and shifted by a constant ("masked"). A length is believed only when its checksum
matches and the file is long enough to hold it, so nothing is allocated on a header's word.

Source:
    `tensorflow/core/lib/io/record_writer.h`.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import google_crc32c

from gmsa_models.data.errors import NOT_GIVEN
from gmsa_models.data.reader import Place
from gmsa_models.data.tfrecord.errors import NOT_A_TFRECORD, TFRecordError
from gmsa_models.errors import ContentError

__all__ = ["LONGEST_RECORD", "RecordFile", "decode_at", "frame_record", "masked_checksum"]

Read = TypeVar("Read")
Opened = TypeVar("Opened")
_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")
LONGEST_RECORD = 1 << 28  # bytes; a 5,000-frame YouTube-8M video has 6 million
_AGAIN = "fetch the file again, or leave out what cannot be read (on_error='skip', --on-error skip)"
_REWRITE = "write the record again, or leave it out (on_error='skip', --on-error skip)"
# First bytes of files that are given by mistake -> what they are and what to do.
_OTHER_FORMATS = {
    b"\x1f\x8b": ("a gzip file", "unpack it first (gunzip)"),
    b"PK\x03\x04": ("a zip file", "unpack it first (unzip)"),
    b"PAR1": ("a Parquet file", "if it is a catalogue, its name must end in .parquet"),
    b"<": ("perhaps a web page or XML", "the download may have failed: fetch the file again"),
}


def masked_checksum(data: bytes) -> int:
    """CRC-32C of `data`, masked as TFRecord does."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame_record(data: bytes) -> bytes:
    """The bytes of one record: length, its checksum, data, its checksum."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _FOOTER.pack(masked_checksum(length)), data, _FOOTER.pack(masked_checksum(data))))


class RecordFile:
    """An open TFRecord file, read at any offset.

    Args:
        path: an ordinary file.
        verify: check the checksums.

    Raises:
        TFRecordError: a directory, pipe or other special file, or a file of 0 bytes.
        FileNotFoundError: no such file.
    """

    def __init__(self, path: str | Path, verify: bool = True) -> None:
        self.path, self.verify = Path(path), verify
        self._descriptor: int | None = None
        _check_ordinary(self.path)
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise _not_given(self.path, error) from None
        self.size = os.fstat(self._descriptor).st_size
        if self.size == 0:
            self.close()
            raise TFRecordError(
                path, "is empty (0 bytes); the download or the writing may have been interrupted", kind=NOT_A_TFRECORD
            )

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:  # never opened, or closed
            self.close()

    def places(self) -> Iterator[Place]:
        """Every record's place, in file order, by its header alone.

        Raises:
            TFRecordError: a header that cannot be believed; what follows it cannot be found.
        """
        number, offset = 0, 0
        while offset < self.size:
            place = self.place(offset, number)
            yield place
            number, offset = number + 1, offset + _HEADER.size + place.length + _FOOTER.size

    def place(self, offset: int, number: int = 0) -> Place:
        """The place of the record that starts at byte `offset`.

        Raises:
            TFRecordError: no record starts there.
        """
        header = self._read(_HEADER.size, offset, number, offset)
        if len(header) < _HEADER.size:
            reason = f"{len(header)} bytes are left, a header has {_HEADER.size}: truncated; {_AGAIN}"
            raise TFRecordError(self.path, reason, number, offset, kind="truncated")
        length, checksum = _HEADER.unpack(header)
        if self.verify and masked_checksum(header[:8]) != checksum:
            raise self._bad_header(header, number, offset)
        left = self.size - offset - _HEADER.size - _FOOTER.size
        if length > left:
            reason = f"its header says {length} bytes of data, {max(left, 0)} are left: truncated or damaged; {_AGAIN}"
            raise TFRecordError(self.path, reason, number, offset, kind="truncated")
        if length > LONGEST_RECORD:
            reason = f"{length} bytes of data; at most {LONGEST_RECORD} are read as one record; cut it into several"
            raise TFRecordError(self.path, reason, number, offset, kind="too long")
        return Place(number, offset, length)

    def data(self, place: Place) -> bytes:
        """The data of one record.

        Raises:
            TFRecordError: it lies outside the file, or does not match its checksum.
        """
        start = place.offset + _HEADER.size
        if place.offset < 0 or place.length < 0 or start + place.length + _FOOTER.size > self.size:
            reason = f"a record of {place.length} bytes does not fit this file; {_AGAIN}"
            raise TFRecordError(self.path, reason, place.number, place.offset, kind="truncated")
        data = self._read(place.length, start, place.number, place.offset)
        footer = self._read(_FOOTER.size, start + place.length, place.number, place.offset)
        if len(data) < place.length or len(footer) < _FOOTER.size:
            reason = f"the file was cut short while it was read; {_AGAIN}"
            raise TFRecordError(self.path, reason, place.number, place.offset, kind="truncated")
        if self.verify and masked_checksum(data) != _FOOTER.unpack(footer)[0]:
            reason = f"its {place.length} bytes of data do not match their checksum: damaged; {_AGAIN}"
            raise TFRecordError(self.path, reason, place.number, place.offset, kind="checksum")
        return data

    def checksum(self, place: Place) -> int:
        """The checksum of a record's data as it is stored, which is not compared with the data here.

        Raises:
            TFRecordError: it lies outside the file.
        """
        footer = self._read(_FOOTER.size, place.offset + _HEADER.size + place.length, place.number, place.offset)
        if len(footer) < _FOOTER.size:
            reason = f"a record of {place.length} bytes does not fit this file; {_AGAIN}"
            raise TFRecordError(self.path, reason, place.number, place.offset, kind="truncated")
        return _FOOTER.unpack(footer)[0]

    def _read(self, size: int, start: int, number: int, offset: int) -> bytes:
        try:
            assert self._descriptor is not None  # a closed file is not read
            return os.pread(self._descriptor, size, start)
        except OSError as error:
            reason = f"reading failed: {error.strerror}; check the disk or network"
            raise TFRecordError(self.path, reason, number, offset, kind=NOT_GIVEN) from None

    def _bad_header(self, header: bytes, number: int, offset: int) -> TFRecordError:
        if offset > 0:
            reason = "the length in its header does not match its checksum: damaged, and what follows cannot be found"
            return TFRecordError(self.path, f"{reason}; {_AGAIN}", number, offset, kind="checksum")
        for magic, (what, remedy) in _OTHER_FORMATS.items():
            if header.startswith(magic):
                return TFRecordError(self.path, f"is not a TFRecord but {what}; {remedy}", kind=NOT_A_TFRECORD)
        return TFRecordError(
            self.path,
            f"is not a TFRecord, or its first header is damaged (it begins with {header[:8]!r}); "
            "expected an uncompressed TFRecord file of YouTube-8M or AudioSet",
            kind=NOT_A_TFRECORD,
        )


def _check_ordinary(path: Path) -> None:
    try:
        mode = os.stat(path).st_mode  # without opening: opening a pipe would wait for a writer
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise _not_given(path, error) from None
    if stat.S_ISDIR(mode):
        raise TFRecordError(
            path,
            "is a directory, not a TFRecord; give its files, for example 'DIRECTORY/*.tfrecord'",
            kind=NOT_A_TFRECORD,
        )
    if not stat.S_ISREG(mode):
        raise TFRecordError(
            path, "is a pipe or device, not an ordinary file; save it to a file first", kind=NOT_A_TFRECORD
        )


def _not_given(path: Path, error: OSError | ValueError) -> TFRecordError:
    """A file that the operating system does not give."""
    if isinstance(error, PermissionError):
        return TFRecordError(path, "may not be read by this user; check its permissions", kind=NOT_GIVEN)
    return TFRecordError(
        path, f"cannot be opened: {getattr(error, 'strerror', None) or error}; check the path", kind=NOT_GIVEN
    )


def decode_at(file: RecordFile, place: Place, decode: Callable[[bytes], Read]) -> Read:
    """One record, decoded.

    Raises:
        TFRecordError: damaged data, or `decode` raised a ContentError; names file, record and offset.
    """
    data = file.data(place)
    try:
        return decode(data)
    except ContentError as error:
        raise TFRecordError(file.path, f"{error}; {_REWRITE}", place.number, place.offset, error.kind) from None
