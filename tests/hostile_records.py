"""Saved records that a small file makes expensive to read, made on the spot: one a way, with words of the error."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import h5py
import numpy as np

from analysis.record.files import open_record
from gmsa_models.data import hdf5_probes

Make = Callable[[Path], object]
FOUND = Path(__file__).parent / "fuzz/found/record"


def open_to_the_end(path: Path) -> None:
    """Open a record, and end the process that read it first, so that its memory counts."""
    try:
        open_record(path)
    finally:
        hdf5_probes.end_all()


def open_within_a_second(path: Path) -> None:
    """The same with less processor time allowed: what hangs takes all of it, however much that is."""
    hdf5_probes._SECONDS = 1  # of the forked process that reads this file alone
    open_to_the_end(path)


def zstd_zeros(size: int) -> bytes:
    """A zstd frame of zeros: blocks of 128 KiB, four bytes each."""
    block = 1 << 17
    sizes = [block] * (size // block) + ([size % block] if size % block else [])
    last = len(sizes) - 1
    blocks = b"".join(((each << 3) | 2 | (at == last)).to_bytes(3, "little") + b"\0" for at, each in enumerate(sizes))
    return b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + blocks


def deflated_zeros(mebibytes: int, wbits: int = 15) -> bytes:
    """Zeros packed by deflate, made from one mebibyte that stands there many times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    start = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    one = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + one * (mebibytes - 1) + packer.flush()


def with_checksum(path: Path) -> None:
    """What `save_record` appends: the file is as it was written, whoever wrote it."""
    data = path.read_bytes()
    path.write_bytes(data + b"\ngmsa record, crc32c %08x" % google_crc32c.value(data))


# HDF5


def hdf5(fill: Callable[[h5py.File], object]) -> Make:
    """A file with a right checksum."""

    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            fill(file)
        with_checksum(path)

    return make


def bombed(file: h5py.File) -> None:
    """A chunk of 40 bytes that unpacks to 1.5 GiB."""
    made = file.create_dataset("score", (10,), "f4", chunks=(10,), compression="gzip")
    made.id.write_direct_chunk((0,), deflated_zeros(1536))


def long_texts(file: h5py.File) -> None:
    """60,000 texts that are each the one in the file."""
    file.create_dataset("class_name", (60_000,), h5py.string_dtype(), fillvalue="x" * 60_000)


def widened(file: h5py.File) -> None:
    """Bytes that become numbers of eight."""
    made = file.create_dataset("score", (3 << 20,), "i1", chunks=(1 << 20,))
    made.attrs["scale_factor"] = 0.5


def filled(file: h5py.File) -> None:
    made = file.create_dataset("score", (60 << 20,), "i1", chunks=(1 << 20,))
    made.attrs["_FillValue"] = np.int8(3)


def many_chunks(file: h5py.File) -> None:
    file.create_dataset("score", (1 << 22,), "u1", chunks=(1,))


def many_attributes(file: h5py.File) -> None:
    file["score"] = np.zeros(3, "f4")
    for number in range(2000):
        file["score"].attrs[f"a{number}"] = 1


def scale_offset(file: h5py.File) -> None:
    file.create_dataset("score", (1000,), "i4", chunks=(10,), scaleoffset=4)


def hanging(path: Path) -> None:
    path.write_bytes((FOUND / "hdf5-hangs").read_bytes()[1:])
    with_checksum(path)


NETCDF: dict[str, tuple[Make, str, str]] = {
    "a chunk that unpacks to 1.5 GiB": (hdf5(bombed), "RecordError", "damaged|more memory"),
    "60,000 long texts": (hdf5(long_texts), "RecordError", "claim|more memory|memory allocation failed"),
    "numbers that widen": (hdf5(widened), "RecordError", "'scale_factor'; values are not packed that way here"),
    "numbers that widen by a fill value": (hdf5(filled), "RecordError", "bytes that claim"),
    "four million chunks": (hdf5(many_chunks), "RecordError", "'score' has 4194304 chunks; at most"),
    "two thousand attributes": (hdf5(many_attributes), "RecordError", "has 2000 attributes; at most 100"),
    "a filter that records do not use": (hdf5(scale_offset), "RecordError", r"packed by HDF5 filters \[6\]"),
}
HANGING: dict[str, tuple[Make, str, str]] = {
    "damage on which the library hangs": (hanging, "RecordError", "crashes or hangs"),
}

# Zarr


def zarr(chunk: Callable[[], bytes] | bytes | None = None, **about: object) -> Make:
    """A record of one array, `score`, with some of its metadata changed and one chunk."""

    def make(path: Path) -> None:
        (path / "score" / "c").mkdir(parents=True)
        group = {"zarr_format": 3, "node_type": "group", "attributes": {"record_version": 1}}
        (path / "zarr.json").write_text(json.dumps(group))
        (path / "score" / "zarr.json").write_text(json.dumps(array(**about)))
        if chunk is not None:
            (path / "score" / "c" / "0").write_bytes(chunk if isinstance(chunk, bytes) else chunk())

    return make


def array(**about: object) -> dict[str, object]:
    """Metadata as zarr writes it: ten numbers in one chunk."""
    return {
        "zarr_format": 3, "node_type": "array", "shape": [10], "data_type": "float32", "fill_value": 0.0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [BYTES, ZSTD], "attributes": {}, "dimension_names": ["class"], "storage_transformers": [],
    } | about  # fmt: skip


def chunks_of(size: int) -> dict[str, object]:
    return {"name": "regular", "configuration": {"chunk_shape": [size]}}


def packed(data: bytes) -> bytes:
    from numcodecs import Zstd

    return bytes(Zstd().encode(data))


def piped(path: Path) -> None:
    zarr()(path)
    os.mkfifo(path / "score" / "c" / "0")


BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
ZSTD = {"name": "zstd", "configuration": {"level": 0, "checksum": False}}
GZIP = {"name": "gzip", "configuration": {"level": 5}}
TEXT = {"data_type": "string", "fill_value": "", "codecs": [{"name": "vlen-utf8", "configuration": {}}, ZSTD]}
WIDE = {"name": "fixed_length_utf32", "configuration": {"length_bytes": 1 << 28}}
SHARDING = {
    "name": "sharding_indexed",
    "configuration": {"chunk_shape": [1], "codecs": [BYTES], "index_codecs": [BYTES], "index_location": "end"},
}

ZARR: dict[str, tuple[Make, str, str]] = {
    "packed twice": (
        zarr(lambda: packed(zstd_zeros(3 << 29)), codecs=[BYTES, ZSTD, ZSTD]), "RecordError", "is packed by"
    ),
    "a chunk that unpacks to 1.5 GiB": (
        zarr(lambda: zstd_zeros(3 << 29)), "RecordError", "unpacks to 1610612736 bytes, not 40"
    ),
    "a chunk that gzip unpacks to 1 GiB": (
        zarr(lambda: deflated_zeros(1024, 31), codecs=[BYTES, GZIP]), "RecordError", "gzip stream|unpacks to"
    ),
    "a text of a quarter gibibyte a value": (
        zarr(data_type=WIDE, fill_value=""), "RecordError", "'score' has values of type .*fixed_length_utf32"
    ),
    "a fill of a megabyte": (
        zarr(**TEXT | {"shape": [60_000], "chunk_grid": chunks_of(60_000), "fill_value": "x" * 1_000_000}),
        "RecordError", "is filled with a text of 1000000 characters",
    ),
    "four million chunks": (
        zarr(data_type="uint8", fill_value=0, shape=[1 << 22], chunk_grid=chunks_of(1)),
        "RecordError", "'score' has 4194304 chunks; at most",
    ),
    "a chunk that is larger than its array": (
        zarr(chunk_grid=chunks_of(1 << 28)), "RecordError", "bytes that claim 1 variables"
    ),
    "a text chunk that says it has a thousand million": (
        zarr(lambda: packed((10**9).to_bytes(4, "little") + bytes(8)), **TEXT),
        "RecordError", "has 1000000000 texts, not 10",
    ),
    "shards": (zarr(codecs=[SHARDING]), "RecordError", "is packed by"),
    "JSON that nests deeply": (
        zarr(attributes=json.loads("[" * 300 + "]" * 300)), "RecordError", "nests deeper than 32"
    ),
    "numbers that widen": (
        zarr(data_type="int8", fill_value=0, attributes={"scale_factor": 2.0}), "RecordError", "'scale_factor'"
    ),
    "a pipe for a chunk": (piped, "RecordError", "is a pipe or device"),
}  # fmt: skip
