"""Records as folders of Zarr and as HDF5 files whose attributes are anything."""

from __future__ import annotations

import contextlib
import json
import tempfile
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np
import xarray as xr
from fuzz_target import Target, plain

from analysis.errors import RecordError
from analysis.record.files import open_record, save_record

__all__ = ["ATTRIBUTES", "RECORD", "ZARR", "tiny_record"]


def tiny_record() -> xr.Dataset:
    """A record of two classes and two frames."""
    text = {"clip": "a", "source": "c", "features_sha256": "b", "labels": "[3]", "label_names": '["Food"]'}
    return xr.Dataset(
        {"score": ("class", [0.5, 0.25])},
        {
            "class": [3, 4],
            "class_name": ("class", ["Food", "Car"]),
            "model": "m",
            "modality": ("modality", ["audio"]),
            "frame": ("frame", [0.0, 1.0]),
        },
        {"record_version": 1, "frame_seconds": 1.0, "clip_frames": 2} | text,
    )


def _record_seeds() -> list[bytes]:
    """A small record, without the checksum that would keep every mutant out, and with it."""
    with tempfile.TemporaryDirectory() as folder:
        saved = save_record(tiny_record(), Path(folder) / "saved.nc")
        return [b"f" + _netcdf_bytes(), b"f" + saved.read_bytes()]


# Zarr: parts with an empty line between them; each is a path inside the folder, a line's end, and what the file holds

_BETWEEN = b"\n\n"


@lru_cache
def _zarr_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "x.zarr"
        record = tiny_record()
        texts = {name: each.astype(object) for name, each in record.coords.items() if each.dtype.kind == "U"}
        record.assign_coords(texts).to_zarr(saved, zarr_format=3, consolidated=False)
        return {str(path.relative_to(saved)): path.read_bytes() for path in saved.rglob("*") if path.is_file()}


def _write_zarr(path: Path, data: bytes) -> None:
    """The files of a saved record, those that the fuzzer names with what it says instead."""
    files = dict(_zarr_files())
    for part in data.split(_BETWEEN):
        name, _, content = part.partition(b"\n")
        if (text := name.decode(errors="replace")) in files:
            files[text] = content
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


def _zarr_seeds() -> list[bytes]:
    """Each metadata file alone, without spaces, and all of the record's together."""
    parts = [
        name.encode() + b"\n" + json.dumps(json.loads(content)).encode()
        for name, content in _zarr_files().items()
        if name.endswith("zarr.json")
    ]
    return [*parts, _BETWEEN.join(parts)]


# HDF5: lines of variable, attribute, kind and value, with NUL between them

_KINDS = {
    b"s": lambda value: value.decode(errors="replace"),
    b"b": np.bytes_,
    b"i": lambda value: np.int64(int(value[:18] or b"0")),
    b"f": lambda value: np.float64(value[:40] or b"0"),
    b"a": lambda value: np.frombuffer(value[: len(value) // 4 * 4], np.float32),
    b"u": lambda value: np.frombuffer(value, np.uint8),
    b"t": lambda value: [part.decode(errors="replace") for part in value.split(b"\x01")],
    b"e": lambda value: h5py.Empty(np.dtype("f4")),
}


@lru_cache
def _netcdf_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tiny_record().to_netcdf(Path(folder) / "x.nc", engine="h5netcdf")
        return (Path(folder) / "x.nc").read_bytes()


def _write_attributes(path: Path, data: bytes) -> None:
    """A record with attributes set; lines that h5py refuses to write are left out."""
    path.write_bytes(_netcdf_bytes())
    with h5py.File(path, "r+") as file:
        for line in data.split(b"\n")[:64]:
            variable, name, kind, value = (line.split(b"\0", 3) + [b""] * 4)[:4]
            place = variable.decode(errors="replace") or "/"
            if kind[:1] not in _KINDS:
                continue
            with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError, OSError, RuntimeError):
                file[place].attrs[name.decode(errors="replace")] = _KINDS[kind[:1]](value)


def _attribute_seeds() -> list[bytes]:
    given = [
        (b"", b"record_version", b"i", b"2"),
        (b"", b"labels", b"s", b"[3, 404]"),
        (b"", b"weights_type", b"s", b"float32"),
        (b"score", b"units", b"s", b"1"),
        (b"score", b"valid_range", b"t", b"a\x01b"),
        (b"score", b"lane_reference", b"f", b"0.5"),
        (b"frame", b"units", b"s", b"s"),
        (b"class_name", b"long_name", b"b", b"name"),
        (b"", b"bytes", b"u", b"abc"),
        (b"", b"seconds", b"a", b"\0\0\x80\x3f"),
        (b"", b"nothing", b"e", b""),
    ]
    lines = [b"\0".join(each) for each in given]
    return [b"", *lines, b"\n".join(lines[:6])]


ZARR = Target(".zarr", _write_zarr, open_record, _zarr_seeds, (RecordError,), slowest=10)
ATTRIBUTES = Target(".nc", _write_attributes, open_record, _attribute_seeds, (RecordError,), slowest=60)
RECORD = Target(".nc", plain, open_record, _record_seeds, (RecordError,), slowest=60)
