"""Parquet: catalogues of clips, and the tables and provenance of a sweep."""

from __future__ import annotations

import contextlib
import json
import tempfile
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_target import Target

from analysis.errors import SweepError
from analysis.sweep import checksums
from analysis.sweep.store import METADATA, UncheckedWarning, read_sweep
from gmsa_models import Clip, write_clips
from gmsa_models.data.catalog.catalog import build_catalog, read_catalog
from gmsa_models.data.catalog.table import SCHEMA
from gmsa_models.data.errors import UnreadableError

__all__ = ["CATALOGUE", "SWEEP"]

_MOST = 2**63 - 1


def _write_shard(folder: Path) -> Path:
    import numpy as np

    frames = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write_clips(folder / "a.tfrecord", [Clip(name, {"visual": frames}, (3,)) for name in ("a", "b")])
    return folder / "a.tfrecord"


def _read_catalogue(path: Path) -> None:
    for clip in read_catalog(path, lambda error: None):
        clip.seconds.sum()


def _integer(largest: int = _MOST) -> Callable[[bytes], int]:
    def read(text: bytes) -> int:
        with contextlib.suppress(ValueError):
            return max(-largest - 1, min(largest, int(text[:20])))
        return len(text)

    return read


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _labels(data: bytes) -> list[int]:
    return [_integer(2**31 - 1)(one) for one in data.split(b",") if one]


# Column -> how the fuzzer's bytes become a value of it; lines are rows, with NUL between the columns.
_COLUMNS: dict[str, Callable[[bytes], Any]] = {
    "id": _text, "shard": _text, "shard_bytes": _integer(), "record": _integer(), "offset": _integer(),
    "length": _integer(), "frames": _integer(2**31 - 1), "labels": _labels, "dataset": _text, "spaces": _text,
}  # fmt: skip


def _write_catalogue(path: Path, data: bytes) -> None:
    """The file as it stands, or rows of a catalogue; beside it lies the shard of the seeds."""
    _write_shard(path.parent)
    if data[:1] != b"r":
        path.write_bytes(data[1:])
        return
    rows = [(line.split(b"\0") + [b""] * len(_COLUMNS))[: len(_COLUMNS)] for line in data[1:].split(b"\n")]
    values = {name: [read(row[place]) for row in rows] for place, (name, read) in enumerate(_COLUMNS.items())}
    arrays = [pa.array(values[field.name], _plain(field.type)).cast(field.type) for field in SCHEMA]
    pq.write_table(pa.table(arrays, schema=SCHEMA), path)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _catalogue_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        build_catalog([_write_shard(Path(folder))], Path(folder) / "x.parquet")
        whole = (Path(folder) / "x.parquet").read_bytes()
        rows = pq.read_table(Path(folder) / "x.parquet").to_pylist()
    lines = [b"\0".join(_said(row[name]) for name in _COLUMNS) for row in rows]
    return [b"f" + whole, b"r" + b"\n".join(lines), b"r" + lines[0]]


def _said(value: Any) -> bytes:
    return ",".join(map(str, value)).encode() if isinstance(value, list) else str(value).encode()


# A sweep: the file as it stands, or what it says that it was made from, with right checksums

_PROVENANCE = {
    "format_version": 1, "models": {"a": "0" * 64}, "versions": {"torch": "2"}, "videos": 1, "left_out": {},
    "data": {"name": "a.tfrecord", "bytes": 1, "fingerprint": "f", "source_id": "s"},
    "settings": {"analyses": ["scores"], "neighbourhood": {}, "batch_size": 1, "memory": 1 << 28, "device": "cpu"},
    "checksums": True,
}  # fmt: skip


@lru_cache
def _table() -> pa.Table:
    texts = {name: pa.array(["a"]) for name in ("model", "model_sha256", "video", "shard")}
    return pa.table(texts | {"position": pa.array([0]), "labels": pa.array([[1, 2]]), "perr": pa.array([0.5])})


def _write_sweep(folder: Path, data: bytes) -> None:
    folder.mkdir()
    path = folder / "a.parquet"
    if data[:1] != b"r":
        path.write_bytes(data[1:])
        return
    with pq.ParquetWriter(path, _table().schema, write_page_checksum=True) as writer:
        writer.write_table(_table())
        made = data[1:].decode(errors="replace").replace("\0", " ")
        writer.add_key_value_metadata({METADATA: made, checksums.KEY: checksums.room_for(len(_table().schema))})
    checksums.write_checksums(path)


def _read_sweep(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UncheckedWarning)
        read_sweep(folder)


def _sweep_seeds() -> list[bytes]:
    made = b"r" + json.dumps(_PROVENANCE).encode()
    with tempfile.TemporaryDirectory() as folder:
        _write_sweep(Path(folder) / "x", made)
        return [b"f" + (Path(folder) / "x/a.parquet").read_bytes(), made]


CATALOGUE = Target(".parquet", _write_catalogue, _read_catalogue, _catalogue_seeds, (UnreadableError,), slowest=5)
SWEEP = Target(".sweep", _write_sweep, _read_sweep, _sweep_seeds, (SweepError,), slowest=5)
