"""The file of a record: written whole, and opened with everything in it checked. Without torch."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import xarray as xr

from figures.files import whole
from figures.record_probe import survives

NEWEST_VERSION = 1  # of `record_version`, as `analysis.record` writes it
# What every record has, of one model or several.
COORDINATES = ("model", "modality", "frame")
TEXTS = ("clip", "features_sha256")
LISTS = ("labels",)
NUMBERS = ("frame_seconds", "clip_frames")
# The dimensions of what views draw, where a record has it; one of several models has `model` ahead.
DIMENSIONS = {
    "attention": ("modality", "branch", "head", "query", "key"),
    "neighbourhood": ("query", "key"),
    "similarity": ("modality", "query", "key"),
    "profile": ("modality", "branch", "frame"),
    "gate": ("modality", "branch", "frame"),
    "gradient_norm": ("modality", "query", "key"),
    "sensitivity": ("modality", "frame"),
    "score": ("class",),
}
# How much a file's bytes may become in memory. Attention that is mostly NaN packs well; nothing honest packs like this.
_BYTES_A_BYTE, _ALLOWANCE, _A_TEXT = 64, 1 << 26, 64
_MOST_VARIABLES, _LONGEST_METADATA = 1000, 1 << 20
_TRAILER, _BLOCK = b"\ngmsa record, crc32c ", 1 << 20
_HDF5 = b"\x89HDF\r\n\x1a\n"
# Ways of packing that run no code of the file's choosing.
_CODECS = frozenset({"bytes", "blosc", "crc32c", "gzip", "vlen-utf8", "zstd"})
_AGAIN = "write the record again (gmsa inspect, analysis.inspect_clip)"
# First bytes of files that are given by mistake -> what they are.
_OTHER_FORMATS = {
    b"\x1f\x8b": "a gzip file: unpack it first (gunzip)",
    b"PK\x03\x04": "a zip file: unpack it first (unzip)",
    b"CDF": "a NetCDF file of the classic format; records are NetCDF-4",
    b"PAR1": "a Parquet file",
}


class RecordFileError(ValueError):
    """A record's file that cannot be used; the message names it, what is wrong, and what can be done."""


class NotARecordError(RecordFileError):
    """Another kind of file, or data that `inspect_clip` did not make."""


class DamagedRecordFileError(RecordFileError):
    """It cannot be read to its end, or claims more than its bytes can hold."""


class NewerRecordError(RecordFileError):
    """Written by a later version of this software."""


def save_record(record: xr.Dataset, path: str | Path) -> Path:
    """Write a record to one compressed NetCDF file, which appears whole or not at all.

    A checksum of its bytes follows the last of them, where NetCDF readers do not look.
    """
    path = Path(path)
    packed = {name: {"zlib": True, "complevel": 1} for name, value in record.items() if value.dtype.kind == "f"}
    with whole(path) as temporary:
        record.to_netcdf(temporary, engine="h5netcdf", encoding=packed)
        checksum = _checksum(temporary, temporary.stat().st_size)
        with temporary.open("ab") as file:
            file.write(_TRAILER + checksum)
    return path


def open_record(path: str | Path) -> xr.Dataset:
    """Read a record that was saved as NetCDF or Zarr, into memory; the file is closed again.

    `xarray.open_dataset` opens the same files; this also checks that one is a record, whole, of a version that is
    known, and that it does not claim more memory than its bytes can fill. Nothing outside the file is followed or run.

    Args:
        path: of `gmsa inspect`, or of a record's `to_netcdf` or `to_zarr`; of one model or of several.

    Returns:
        The record, as `analysis.inspect_clip` or `analysis.combine_models` made it.

    Raises:
        FileNotFoundError: no such file.
        NotARecordError: another kind of file; an attribute, coordinate or dimension that every record has is missing.
        DamagedRecordFileError: cut short, changed, or claiming more than it holds.
        NewerRecordError: of a later version.
    """
    path = Path(path)
    read = _reader(path)
    try:
        record = read(path)
    except RecordFileError:
        raise
    except Exception as error:  # what xarray, h5netcdf, h5py and zarr make of damage is no closed list
        reason = (str(error).splitlines() or [""])[0][:200]
        raise DamagedRecordFileError(f"{path}: damaged ({type(error).__name__}: {reason}); {_AGAIN}") from error
    _check_version(path, record.attrs)
    _check_parts(path, record)
    return record


def _reader(path: Path) -> Callable[[Path], xr.Dataset]:
    mode = os.stat(path).st_mode  # without opening: opening a pipe would wait for a writer
    if stat.S_ISDIR(mode):
        if (path / "zarr.json").is_file():
            return _read_zarr
        raise NotARecordError(f"{path}: is a directory and not Zarr (it has no zarr.json); expected a record's file")
    if not stat.S_ISREG(mode):
        raise NotARecordError(f"{path}: is a pipe or device; save it to a file first")
    with path.open("rb") as file:
        start = file.read(8)
    if start == _HDF5:
        return _read_netcdf
    found = next((what for magic, what in _OTHER_FORMATS.items() if start.startswith(magic)), f"begins with {start!r}")
    raise NotARecordError(f"{path}: not a record ({found}); expected NetCDF-4 or Zarr that `gmsa inspect` wrote")


def _checksum(path: Path, size: int) -> bytes:
    """CRC-32C of the first `size` bytes of a file, as hex."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(min(_BLOCK, size - file.tell())):
            crc = google_crc32c.extend(crc, block)
    return b"%08x" % crc


def _check_checksum(path: Path) -> bool:
    """Whether a file has a checksum; one that it does not match is an error before a library looks inside."""
    end = len(_TRAILER) + 8
    with path.open("rb") as file:
        size = max(0, file.seek(0, os.SEEK_END) - end)
        file.seek(size)
        trailer = file.read(end)
    if not trailer.startswith(_TRAILER):
        return False
    if trailer[-8:] != _checksum(path, size):
        raise DamagedRecordFileError(f"{path}: its {size} bytes do not match their checksum: damaged; {_AGAIN}")
    return True


def _read_netcdf(path: Path) -> xr.Dataset:
    if not _check_checksum(path) and not survives(path):
        raise DamagedRecordFileError(f"{path}: damaged so that the HDF5 library crashes or hangs on it; {_AGAIN}")
    with h5py.File(path) as file:
        _check_claims(path, path.stat().st_size, _netcdf_sizes(path, file))
    with xr.open_dataset(path, engine="h5netcdf") as opened:
        return opened.load()


def _netcdf_sizes(path: Path, file: h5py.File) -> Iterator[int]:
    """Bytes that each variable, or one chunk of it, becomes in memory."""
    for name in file:
        link = file.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink) or file.get(name, getclass=True) is not h5py.Dataset:
            raise NotARecordError(
                f"{path}: {name!r:.100} is a group or a link to elsewhere; a record has variables only"
            )
        variable = file[name]
        if variable.external or variable.is_virtual:
            raise NotARecordError(f"{path}: variable {name!r:.100} lies in another file; a record has all in one")
        width = _A_TEXT if variable.dtype.kind == "O" else variable.dtype.itemsize
        yield width * max(prod(variable.shape or ()), prod(variable.chunks or ()))


def _read_zarr(path: Path) -> xr.Dataset:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    _check_claims(path, size, _zarr_sizes(path))
    return xr.open_zarr(path, consolidated=False, zarr_format=3).load()


def _zarr_sizes(path: Path) -> Iterator[int]:
    """Bytes that each array, or one chunk of it, becomes in memory."""
    if link := next((file for file in path.rglob("*") if file.is_symlink()), None):
        raise NotARecordError(f"{path}: {link.name!r:.100} is a link; a record has all in one folder")
    for about in sorted(path.glob("*/zarr.json")):
        if about.stat().st_size > _LONGEST_METADATA:
            raise DamagedRecordFileError(
                f"{path}: {about.parent.name!r:.100} has a zarr.json of over a mebibyte; {_AGAIN}"
            )
        array = json.loads(about.read_bytes())
        if odd := [codec["name"] for codec in array["codecs"] if codec["name"] not in _CODECS]:
            known = ", ".join(sorted(_CODECS))
            raise NotARecordError(f"{path}: {about.parent.name!r:.100} is packed by {odd[0]!r:.100}; known: {known}")
        chunk = array["chunk_grid"]["configuration"]["chunk_shape"]
        yield _A_TEXT * max(prod(array["shape"]), prod(chunk)) // (1 if array["data_type"] == "string" else 8)


def _check_claims(path: Path, size: int, claims: Iterator[int]) -> None:
    claimed, limit = 0, _BYTES_A_BYTE * size + _ALLOWANCE
    for number, bytes_claimed in enumerate(claims, start=1):
        claimed += bytes_claimed
        if number > _MOST_VARIABLES or claimed > limit or bytes_claimed < 0:
            raise DamagedRecordFileError(
                f"{path}: {size} bytes that claim {number} variables of {claimed} bytes or more; at most "
                f"{_MOST_VARIABLES} and {limit} are read; {_AGAIN}"
            )


def _check_version(path: Path, attributes: dict[str, Any]) -> None:
    if "record_version" not in attributes:
        raise NotARecordError(f"{path}: not a record: it has no 'record_version'; {_AGAIN}")
    version = attributes["record_version"]
    try:
        whole_number = int(version) == version
    except (TypeError, ValueError, OverflowError):
        whole_number = False
    if not whole_number or version < 1:
        raise NotARecordError(
            f"{path}: record_version is {version!r:.100}; expected a whole number, 1 to {NEWEST_VERSION}; {_AGAIN}"
        )
    if version > NEWEST_VERSION:
        raise NewerRecordError(
            f"{path}: record version {version}; this software reads up to {NEWEST_VERSION}: upgrade gmsa-workbench, or "
            "write the record again with this one"
        )


def _check_parts(path: Path, record: xr.Dataset) -> None:
    """What every record has is there, and what views draw has the dimensions that they draw."""
    for name in COORDINATES:
        if name not in record.coords:
            raise NotARecordError(f"{path}: coordinate {name!r} is missing; {_AGAIN}")
    for name in (*TEXTS, *LISTS, *NUMBERS):
        if not _is_sound(name, record.attrs.get(name)):
            raise NotARecordError(f"{path}: attribute {name!r} is {record.attrs.get(name)!r:.100}; {_AGAIN}")
    for name, expected in DIMENSIONS.items():
        if name in record and tuple(dim for dim in record[name].dims if dim != "model") != expected:
            raise NotARecordError(
                f"{path}: variable {name!r} has dimensions {record[name].dims!r:.100}; expected {expected}; {_AGAIN}"
            )


def _is_sound(name: str, value: Any) -> bool:
    if name in NUMBERS:
        return not isinstance(value, str) and hasattr(value, "__float__") and 0 < float(value) < float("inf")
    if not isinstance(value, str):
        return False
    if name in TEXTS:
        return True
    try:
        return isinstance(json.loads(value), list)
    except (ValueError, RecursionError):
        return False
