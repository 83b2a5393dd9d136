"""Files of one's own features: .npy, .npz, HDF5 and Parquet."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_target import Target, plain

from gmsa_models.data.errors import UnreadableError
from gmsa_models.data.sources import read_clips

__all__ = ["HDF5", "NPY", "NPZ", "PARQUET", "read_whole"]

_BETWEEN = b"\n--\n"


def read_whole(path: Path) -> None:
    """Every clip that a file has; what cannot be read is left out."""
    for clip in read_clips(path, on_error="skip", on_skip=lambda error: None):
        clip.seconds.sum()


def _stream() -> np.ndarray:
    return np.arange(12, dtype=np.float32).reshape(3, 4)


def _made(write: Callable[[Path], object], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        write(path)
        return path.read_bytes()


def _npy(values: object) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(values))
    return out.getvalue()


def _write_npz(path: Path, data: bytes) -> None:
    """The file as it stands, or an archive of members: a name, a line's end, and its bytes."""
    if data[:1] != b"r":
        path.write_bytes(data[1:])
        return
    with zipfile.ZipFile(path, "w") as file:
        for part in data[1:].split(_BETWEEN)[:20]:
            name, _, content = part.partition(b"\n")
            file.writestr(name.decode(errors="replace").replace("\0", "") + ".npy", content)


def _npz_seeds() -> list[bytes]:
    one = {"visual": _stream(), "id": "a", "labels": [1, 2], "visual_space": "s", "frame_seconds": 0.5}
    many = {
        "visual": _stream(), "ids": ["a", "b"], "lengths": [1, 2], "labels": [[1], [-1]], "dataset": ["d", "d"],
        "align": "shortest",
    }  # fmt: skip
    framed = [
        b"r" + _BETWEEN.join(name.encode() + b"\n" + _npy(value) for name, value in each.items())
        for each in (one, many)
    ]
    return [b"f" + _made(lambda path: np.savez(path, **one), ".npz"), *framed]


def _npy_seeds() -> list[bytes]:
    return [b"f" + _npy(_stream()), b"f" + _npy(_stream().astype(np.uint8)), b"f" + _npy(np.asfortranarray(_stream()))]


def _hdf5_seeds() -> list[bytes]:
    def one(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file["visual"] = _stream()
            file.attrs.update(id="a", labels=[1, 2])

    def groups(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name in ("a", "b"):
                file.create_group(name)["audio"] = _stream()

    return [b"f" + _made(each, ".h5") for each in (one, groups)]


def _parquet_seeds() -> list[bytes]:
    table = pa.table({"id": ["a", "a", "b"], "visual": _stream().tolist(), "labels": [[1], [1], [2]]})

    def packed(path: Path) -> None:
        pq.write_table(table, path)

    def bare(path: Path) -> None:
        pq.write_table(table, path, compression="none", use_dictionary=False)

    return [b"f" + _made(each, ".parquet") for each in (packed, bare)]


NPY = Target(".npy", plain, read_whole, _npy_seeds)
NPZ = Target(".npz", _write_npz, read_whole, _npz_seeds)
HDF5 = Target(".h5", plain, read_whole, _hdf5_seeds, slowest=60)
PARQUET = Target(".parquet", plain, read_whole, _parquet_seeds, (UnreadableError,), slowest=5)  # or a catalogue
