"""The file of a record: written whole, and opened with everything in it checked. Without torch."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import xarray as xr

from analysis.errors import RecordError
from analysis.record.contents import NEWEST_VERSION, check_contents, check_version
from analysis.record.remedy import AGAIN, quoted
from analysis.record.zarr_files import check_zarr
from gmsa_models.data.atomic import replaced_when_done
from gmsa_models.data.hdf5_probes import refusal

__all__ = ["NEWEST_VERSION", "open_record", "save_record"]

_TRAILER, _BLOCK = b"\ngmsa record, crc32c ", 1 << 20
_HDF5 = b"\x89HDF\r\n\x1a\n"
# First bytes of files that are given by mistake -> what they are.
_OTHER_FORMATS = {
    b"\x1f\x8b": "a gzip file: unpack it first (gunzip)",
    b"PK\x03\x04": "a zip file: unpack it first (unzip)",
    b"CDF": "a NetCDF file of the classic format; records are NetCDF-4",
    b"PAR1": "a Parquet file",
}


def save_record(record: xr.Dataset, path: str | Path) -> Path:
    """Write a record to one compressed NetCDF file, which appears whole or not at all.

    A checksum of its bytes follows the last of them, where NetCDF readers do not look.
    """
    path = Path(path)
    packed = {name: {"zlib": True, "complevel": 1} for name, value in record.items() if value.dtype.kind == "f"}
    with replaced_when_done(path) as temporary:
        record.to_netcdf(temporary, engine="h5netcdf", encoding=packed)
        checksum = _checksum(temporary, temporary.stat().st_size)
        with temporary.open("ab") as file:
            file.write(_TRAILER + checksum)
    return path


def open_record(path: str | Path) -> xr.Dataset:
    """Read a record that was saved as NetCDF or Zarr, into memory; the file is closed again.

    `xarray.open_dataset` opens the same files; this also checks that one is a record, whole, of a version that is
    known, that it does not claim more memory than its bytes can fill, and that its values are such as views can draw.
    Nothing outside the file is followed or run.

    Args:
        path: of `gmsa inspect`, or of a record's `to_netcdf` or `to_zarr`; of one model or of several.

    Returns:
        The record, as `analysis.inspect_clip` or `analysis.combine_models` made it.

    Raises:
        FileNotFoundError: no such file.
        RecordError: another kind of file; an attribute, coordinate or dimension that every record has is missing; a
            value out of its range; cut short, changed, or claiming more than it holds; of a later version.
    """
    path = Path(path)
    read = _reader(path)
    try:
        record = read(path)
    except RecordError:
        raise
    except Exception as error:  # what xarray, h5netcdf, h5py and zarr make of damage is no closed list
        reason = (str(error).splitlines() or [""])[0][:200]
        reason = reason if reason.isprintable() else quoted(reason)
        raise RecordError(f"{path}: damaged ({type(error).__name__}: {reason}); {AGAIN}") from error
    check_version(path, record.attrs)
    check_contents(path, record)
    return record


def _reader(path: Path) -> Callable[[Path], xr.Dataset]:
    mode = os.stat(path).st_mode  # without opening: opening a pipe would wait for a writer
    if stat.S_ISDIR(mode):
        if (path / "zarr.json").is_file():
            return _read_zarr
        raise RecordError(f"{path}: is a directory and not Zarr (it has no zarr.json); expected a record's file")
    if not stat.S_ISREG(mode):
        raise RecordError(f"{path}: is a pipe or device; save it to a file first")
    with path.open("rb") as file:
        start = file.read(8)
    if start == _HDF5:
        return _read_netcdf
    description = next(
        (what for magic, what in _OTHER_FORMATS.items() if start.startswith(magic)), f"begins with {start!r}"
    )
    raise RecordError(f"{path}: not a record ({description}); expected NetCDF-4 or Zarr that `gmsa inspect` wrote")


def _checksum(path: Path, size: int) -> bytes:
    """CRC-32C of the first `size` bytes of a file, as hex."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(min(_BLOCK, size - file.tell())):
            crc = google_crc32c.extend(crc, block)
    return b"%08x" % crc


def _check_checksum(path: Path) -> None:
    """Refuse a file that does not match its checksum, if it has one, before a library looks inside."""
    end = len(_TRAILER) + 8
    with path.open("rb") as file:
        size = max(0, file.seek(0, os.SEEK_END) - end)
        file.seek(size)
        trailer = file.read(end)
    if trailer.startswith(_TRAILER) and trailer[-8:] != _checksum(path, size):
        raise RecordError(f"{path}: its {size} bytes do not match their checksum: damaged; {AGAIN}")


def _read_netcdf(path: Path) -> xr.Dataset:
    """A checksum says that a file is as it was written, not that who wrote it meant well: all are probed."""
    _check_checksum(path)
    if wrong := refusal(path):
        raise RecordError(f"{path}: {wrong}; {AGAIN}")
    with xr.open_dataset(path, engine="h5netcdf", decode_times=False) as opened:
        return opened.load()


def _read_zarr(path: Path) -> xr.Dataset:
    check_zarr(path)
    return xr.open_zarr(path, consolidated=False, zarr_format=3, decode_times=False).load()
