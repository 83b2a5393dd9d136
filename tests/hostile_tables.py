"""Catalogues and `.npz` files that a small file makes expensive to read, made on the spot."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gmsa_models.data.catalog.table import SCHEMA

Make = Callable[[Path], object]


def catalogue(rows: int, columns: dict[str, object], **options: object) -> Make:
    """A catalogue of alike rows, some columns changed."""

    def make(path: Path) -> None:
        plain = {
            "id": pa.array(["a"] * rows), "shard": pa.array(["a.tfrecord"] * rows), "labels": pa.array([[1]] * rows),
            "dataset": pa.array([""] * rows), "spaces": pa.array([""] * rows),
        }  # fmt: skip
        plain |= {name: np.zeros(rows, np.int64) for name in ("shard_bytes", "record", "offset", "length")}
        plain |= {"frames": np.zeros(rows, np.int32)} | columns
        schema = pa.schema([(name, plain[name].type if name in ("id", "shard") else SCHEMA.field(name).type)
                            for name in SCHEMA.names], SCHEMA.metadata)  # fmt: skip
        pq.write_table(pa.table(plain, schema=schema), path, compression="zstd", **options)

    return make


def one_text(rows: int, length: int) -> pa.Array:
    """So many rows that are one text, which is there once."""
    return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array(["x" * length]))


NOISE = np.random.default_rng(0).integers(2**60, size=3_000)  # as large in the file as in memory


def many_labels(rows: int, each: int) -> pa.Array:
    return pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * each, np.zeros(rows * each, np.int64))


PARQUET: dict[str, tuple[Make, str, str]] = {
    "one id of a megabyte in every row": (
        catalogue(20_000, {"id": one_text(20_000, 1_000_000)}), "UnreadableError", "claims|says|texts of|20000 rows in"
    ),
    "one id of 100,000 characters in every row": (
        catalogue(3_000, {"id": one_text(3_000, 100_000), "record": NOISE}),
        "UnreadableError", "column 'id' has texts of 300000000 bytes",
    ),
    "a page of 250 MB": (
        catalogue(1, {"id": pa.array(["x" * 250_000_000])}, use_dictionary=False, data_page_size=1 << 30),
        "UnreadableError", "'id': a page unpacks to 2500000",
    ),
    "texts that grow": (
        catalogue(
            3_000, {"id": pa.array(["x" * 100_000] * 3_000)}, use_dictionary=False, data_page_size=1 << 30,
            column_encoding={"id": "DELTA_BYTE_ARRAY"},
        ),
        "UnreadableError", "'id': the page at byte .* has encoding 7; not read",
    ),
    "thirty million labels": (
        catalogue(5, {"labels": many_labels(5, 6_000_000)}), "UnreadableError", "'labels.*: unpacks to|labels"
    ),
    "four million rows": (catalogue(4_000_000, {}), "UnreadableError", "rows|unpacks to"),
}  # fmt: skip


def archive(**arrays: tuple[tuple[int, ...], str]) -> Make:
    """An `.npz` of zeros, packed without making them first; a shape and a type an array."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for name, (shape, dtype) in arrays.items():
                header = io.BytesIO()
                about = {"descr": dtype, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(header, about)
                with file.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    stream.write(header.getvalue())
                    left = int(np.prod(shape)) * np.dtype(dtype).itemsize
                    while left:
                        left -= stream.write(bytes(min(left, 1 << 20)))

    return make


VECTORS = {
    "id": ((3,), "<U4"), "mean_rgb": ((3, 4), "|u1"), "mean_audio": ((3, 2), "|u1"), "labels": ((0,), "<i8"),
    "label_offsets": ((4,), "<i8"),
}  # fmt: skip
NPZ: dict[str, tuple[Make, str, str]] = {
    "an array that nobody needs": (
        archive(**VECTORS, other=((600_000_000,), "|u1")),
        "ContentError",
        "id '' occurs 3 times",
    ),
    "vectors of 600 MB": (
        archive(**VECTORS | {"mean_rgb": ((3, 200_000_000), "|u1")}),
        "ContentError",
        "claims .* bytes of arrays",
    ),
}
TABLES: dict[str, tuple[Make, str, str]] = {
    "an array of 600 MB": (
        archive(tables=((), "<U9"), x=((600_000_000,), "|u1")),
        "DamagedError",
        "claims .* bytes of arrays",
    ),
}
