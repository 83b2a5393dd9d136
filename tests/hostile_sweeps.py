"""Folders of sweeps from elsewhere: small files that are expensive to read, or that say what is not so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hostile_tables import NOISE, many_labels, one_text

from analysis.sweep import checksums

Make = Callable[[Path], object]
PROVENANCE = {
    "format_version": 1, "models": {"a": "0" * 64}, "versions": {}, "videos": 1, "left_out": {},
    "data": {"name": "a.tfrecord", "bytes": 1, "fingerprint": "f", "source_id": "s"},
    "settings": {"analyses": ["scores"], "neighbourhood": {}, "batch_size": 1, "memory": 1 << 28, "device": "cpu"},
}  # fmt: skip


def sweep(
    rows: int = 1, columns: dict[str, object] | None = None, made: object = PROVENANCE, **options: object
) -> Make:
    """A folder of one table of alike rows, with columns or provenance changed; its checksums are right."""

    def make(folder: Path) -> None:
        folder.mkdir()
        texts = {name: pa.array([name[:1]] * rows) for name in ("video", "shard")}
        plain = {"model": pa.array(["a"] * rows), "model_sha256": pa.array(["0"] * rows)} | texts
        table = pa.table(
            plain | {"position": np.zeros(rows, np.int64), "labels": many_labels(rows, 0)} | (columns or {})
        )
        path = folder / "part0.parquet"
        with pq.ParquetWriter(path, table.schema, compression="zstd", store_schema=False, **options) as writer:
            writer.write_table(table, row_group_size=1 << 20)
            said = made | {"checksums": True} if isinstance(made, dict) else made
            writer.add_key_value_metadata({b"gmsa_sweep": json.dumps(said)})
            writer.add_key_value_metadata({checksums.KEY: checksums.room_for(len(table.schema))})
        checksums.write_checksums(path)

    return make


def said(**about: object) -> Make:
    """A provenance with some of its parts changed."""
    return sweep(made=PROVENANCE | about)


DATA, SETTINGS = PROVENANCE["data"], PROVENANCE["settings"]
SWEEPS: dict[str, tuple[Make, str, str]] = {
    "one text of a megabyte in every row": (
        sweep(20_000, {"video": one_text(20_000, 1_000_000)}), "SweepError", "column 'video' has texts of"
    ),
    "one text of 100,000 characters in every row": (
        sweep(3_000, {"video": one_text(3_000, 100_000), "position": NOISE}), "SweepError", "'video' has texts of 3000"
    ),
    "a page of 250 MB": (
        sweep(1, {"video": pa.array(["x" * 250_000_000])}, use_dictionary=False, data_page_size=1 << 30),
        "SweepError", "'video': a page unpacks to 2500000",
    ),
    "texts that grow": (
        sweep(3_000, {"video": pa.array(["x" * 100_000] * 3_000)}, use_dictionary=False, data_page_size=1 << 30,
              column_encoding={"video": "DELTA_BYTE_ARRAY"}),
        "SweepError", "'video': the page at byte .* has encoding 7; not read",
    ),
    "thirty million labels": (sweep(5, {"labels": many_labels(5, 6_000_000)}), "SweepError", "'labels.*unpack"),
    "four million rows": (sweep(4_000_000), "SweepError", "all unpack to"),
    "four million rows whose places rise": (
        sweep(4_000_000, {"position": np.arange(4_000_000)}), "SweepError", "its rows take"
    ),
    "texts in lists": (
        sweep(2, {"labels": pa.array([["x"], ["y"]])}), "SweepError", "column 'labels' is of list<"
    ),
    "a place that is text": (sweep(2, {"position": pa.array(["a", "b"])}), "SweepError", "'position' is of string"),
    "a provenance that is a list": (sweep(made=[1]), "SweepError", "was not written by a sweep"),
    "a provenance that nests deeply": (
        said(settings=SETTINGS | {"x": json.loads("[" * 300 + "]" * 300)}, models=[]), "SweepError", "its models are"
    ),
    "a model whose hash is a number": (said(models={"a": 3}), "SweepError", "its model 'a' is 3; expected text"),
    "data without a name": (said(data={"fingerprint": "f", "bytes": 1}), "SweepError", "name"),
    "demo videos that are none": (said(data=DATA | {"fingerprint": "demo:x"}), "SweepError", "its data are"),
    "analyses that are a number": (said(settings={"analyses": 3}), "SweepError", "its analyses are 3"),
}  # fmt: skip
