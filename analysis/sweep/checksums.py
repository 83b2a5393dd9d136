"""Checksums of a shard's table, kept in its footer: a flipped bit is found before a value is read from the file.

The footer's metadata hold, under `KEY`, the SHA-256 of the footer (with zeros in the digest's own place, and with the
eight bytes that close the file) and a CRC-32C of each column's bytes. So a reader checks the footer and those columns
that it wants, and nothing else. To other programs it is a Parquet file as any other.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq

from gmsa_models.data.parquet_pages import read_footer
from gmsa_models.errors import DamagedError

__all__ = ["KEY", "check_columns", "checked_metadata", "room_for", "write_checksums"]

KEY = b"gmsa_sweep_checksums"
MAGIC = b"PAR1"
_DIGEST, _COLUMN, _END = 64, 8, 8  # digits of a SHA-256 and of a CRC-32C; bytes that close a file
_CHUNK = 2**24  # bytes that are read at once
# The value as the footer holds it: a text field of Thrift, its length, then the digits.
_PLACE = re.compile(re.escape(KEY) + rb"\x18[\x80-\xff]*[\x00-\x7f]((?:[0-9a-f]{8})+)")


def room_for(columns: int) -> bytes:
    """The value of `KEY` in a file that is not sealed yet."""
    return b"0" * (_DIGEST + _COLUMN * columns)


def write_checksums(path: Path) -> None:
    """Fill in the checksums of a finished file that was written with `room_for` them."""
    with path.open("rb+") as file:
        columns = b"".join(b"%08x" % value for value in _column_checksums(file, pq.read_metadata(file)).values())
        start, footer = _footer(file)
        place = _PLACE.search(footer)
        assert place is not None  # whoever writes the file leaves room
        value = _digest(footer[: place.start(1) + _DIGEST] + columns + footer[place.end(1) :], place.start(1)) + columns
        file.seek(start + place.start(1))
        file.write(value)


def checked_metadata(file: BinaryIO) -> tuple[pq.FileMetaData, bool]:
    """What a file says of itself, and whether that is checked: files of earlier versions have no checksums.

    Raises:
        DamagedError: the footer is not as it was written.
    """
    place, _ = _find_checksums(file)
    try:
        metadata = read_footer(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedError(str(error)) from None
    return metadata, place is not None


def check_columns(file: BinaryIO, metadata: pq.FileMetaData, names: Iterable[str]) -> None:
    """Compare the bytes of some columns with their checksums; of a file whose metadata are checked.

    Raises:
        DamagedError: names the first column that differs.
    """
    place, _ = _find_checksums(file)
    if place is None:
        raise DamagedError("it has no checksums")
    digits = place[1][_DIGEST:].decode()
    wanted = {
        name: digits[at : at + _COLUMN]
        for name, at in zip(_columns(metadata), range(0, len(digits), _COLUMN), strict=True)
    }
    for name, value in _column_checksums(file, metadata, set(names)).items():
        if f"{value:08x}" != wanted[name]:
            raise DamagedError(f"column {name!r} does not match its checksum")


def _find_checksums(file: BinaryIO) -> tuple[re.Match[bytes] | None, bytes]:
    """Where the checksums stand in the footer, None in a file of an earlier version; and the footer."""
    _, footer = _footer(file)
    place = _PLACE.search(footer)
    if place is None:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            if whole.rfind(KEY) >= 0:
                raise DamagedError("its footer is not where it should be")
        return None, footer
    if _digest(footer, place.start(1)) != place[1][:_DIGEST]:
        raise DamagedError("its footer does not match its checksum")
    return place, footer


def _footer(file: BinaryIO) -> tuple[int, bytes]:
    """Where it starts, and its bytes with those that close the file."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END))
    end = file.read(_END)
    length = int.from_bytes(end[:4], "little")
    if end[4:] != MAGIC or length + _END + len(MAGIC) > size:
        raise DamagedError("it does not end as a Parquet file does")
    start = size - _END - length
    file.seek(start)
    return start, file.read()


def _digest(footer: bytes, at: int) -> bytes:
    return hashlib.sha256(footer[:at] + b"0" * _DIGEST + footer[at + _DIGEST :]).hexdigest().encode()


def _columns(metadata: pq.FileMetaData) -> list[str]:
    """Names of the columns; each of a sweep's is one in the file too, a list as well as a number."""
    return [metadata.schema.column(number).path.partition(".")[0] for number in range(metadata.num_columns)]


def _column_checksums(file: BinaryIO, metadata: pq.FileMetaData, names: set[str] | None = None) -> dict[str, int]:
    """Name -> CRC-32C of a column's bytes in all row groups, of all columns or some."""
    checksums: dict[str, int] = {}
    for number, name in enumerate(_columns(metadata)):
        if names is None or name in names:
            checksums[name] = 0
            for group in range(metadata.num_row_groups):
                column = metadata.row_group(group).column(number)
                file.seek(column.dictionary_page_offset or column.data_page_offset)
                checksums[name] = _extended(checksums[name], file, column.total_compressed_size)
    return checksums


def _extended(checksum: int, file: BinaryIO, size: int) -> int:
    while size:
        data = file.read(min(size, _CHUNK))
        if not data:
            raise DamagedError("it ends before its footer says so")
        checksum, size = google_crc32c.extend(checksum, data), size - len(data)
    return checksum
