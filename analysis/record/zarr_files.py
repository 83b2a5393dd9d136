"""What a record in Zarr's format may be: metadata and heads of chunks, checked before zarr reads a value."""

from __future__ import annotations

import json
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from analysis.errors import RecordError
from analysis.record.remedy import AGAIN, quoted
from gmsa_models.data.claims import DECODED, LONGEST_METADATA, Claims, claimed, width

__all__ = ["check_zarr"]

ABOUT = "zarr.json"
MOST_FILES, DEEPEST = 1 << 15, 32
_TYPES = frozenset({"bool", "string"}) | {
    f"{kind}{bits}" for kind, widths in (("int", (8, 16, 32, 64)), ("uint", (8, 16, 32, 64)), ("float", (16, 32, 64)))
    for bits in widths
}  # fmt: skip
# How xarray and zarr pack arrays: values to bytes by one of these, then at most one of those, then perhaps a checksum.
_SERIALIZERS = {"string": "vlen-utf8"}
_COMPRESSORS = frozenset({"blosc", "gzip", "zstd"})
_PIECE = 1 << 20  # bytes of a stream that are unpacked at a time
_ZSTD_MAGIC, _GZIP = b"\x28\xb5\x2f\xfd", 31  # `wbits` of zlib for gzip's frame


def check_zarr(path: Path) -> None:
    """Refuse what no record has, and what would take more memory than the bytes of the folder can hold.

    Args:
        path: a folder with a `zarr.json`.

    Raises:
        RecordError: links, groups inside, codecs or types that records do not have; sizes that do not fit, in what the
            metadata says or in a chunk.
    """
    files = list(_files(path))
    try:
        claims = Claims(sum(size for _, size in files))
        about = [file for file, _ in files if file.name == ABOUT]
        if sum(file.stat().st_size for file in about) > LONGEST_METADATA:
            raise ValueError(f"its {ABOUT} files have over {LONGEST_METADATA} bytes")
        _check_group(path, _read(path / ABOUT))
        for file in about:
            if file.parent != path:
                _check_array(file.parent, _read(file), claims)
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, zlib.error) as error:
        reason = str(error) if type(error) is ValueError else f"damaged ({type(error).__name__}: {error!s:.200})"
        raise RecordError(f"{path}: {reason}; {AGAIN}") from None


def _files(path: Path) -> Iterator[tuple[Path, int]]:
    """Every file and its size; folders may hold folders and ordinary files, nothing else."""
    for number, file in enumerate(path.rglob("*")):
        mode = file.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise RecordError(f"{path}: {quoted(file.name)} is a link; a record has all in one folder")
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise RecordError(f"{path}: {quoted(file.name)} is a pipe or device; a record has ordinary files only")
        if number >= MOST_FILES:
            raise RecordError(f"{path}: over {MOST_FILES} files; {AGAIN}")
        if stat.S_ISREG(mode):
            yield file, file.lstat().st_size


def _read(file: Path) -> dict[str, Any]:
    place = f"{ABOUT} of {quoted(file.parent.name)}"
    try:
        about = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON: {error!s:.200}") from None
    if not isinstance(about, dict) or about.get("zarr_format") != 3:
        raise ValueError(f"{place} is damaged, or not of Zarr's format 3")
    if not _is_shallow(about):
        raise ValueError(f"{place} nests deeper than {DEEPEST}")
    return about


def _is_shallow(value: object) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return True
    return False


def _parts(value: object) -> Sequence[object]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()


def _check_group(path: Path, about: Mapping[str, Any]) -> None:
    if about.get("node_type") != "group" or not isinstance(about.get("attributes", {}), dict):
        raise RecordError(f"is an array or damaged, not a group of arrays; {AGAIN}")


def _check_array(folder: Path, about: Mapping[str, Any], claims: Claims) -> None:
    name = quoted(folder.name)
    if about.get("node_type") != "array":
        raise RecordError(f"{name} is a group; a record has variables only")
    kind = about["data_type"]
    if not isinstance(kind, str) or kind not in _TYPES:
        raise RecordError(f"{name} has values of type {quoted(kind)}; known: {', '.join(sorted(_TYPES))}")
    if unexpected := DECODED & set(about.get("attributes", {})):
        raise RecordError(f"{name} has the attribute {min(unexpected)!r}; records are not packed that way")
    shape, chunk = _shape(about)
    if kind == "string" and len(str(about["fill_value"])) > width("O", 0):
        raise RecordError(f"{name} is filled with a text of {len(str(about['fill_value']))} characters")
    dtype = np.dtype(object if kind == "string" else kind)
    try:
        claims.add(claimed(width(dtype.kind, dtype.itemsize), shape, chunk))
    except ValueError as error:
        raise ValueError(f"{name} has {error}") from None
    compressor, checked = _codecs(name, about, kind)
    for file in folder.rglob("*"):
        if file.is_file() and file.name != ABOUT:
            data = file.read_bytes()
            _check_chunk(name, data[:-4] if checked else data, compressor, dtype, prod(chunk), claims)


def _shape(about: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    grid = about["chunk_grid"]
    shape, chunk = about["shape"], grid["configuration"]["chunk_shape"]
    if grid["name"] != "regular" or about.get("storage_transformers") or len(shape) != len(chunk):
        raise RecordError(f"a chunk grid {quoted(grid)} for the shape {quoted(shape)}; a regular one is known")
    if not all(type(size) is int and size >= 0 for size in (*shape, *chunk)):
        raise ValueError(f"damaged: shape {quoted(shape)} in chunks {quoted(chunk)}")
    return shape, chunk


def _codecs(name: str, about: Mapping[str, Any], kind: str) -> tuple[str | None, bool]:
    """How chunks are packed, and whether a checksum follows; other ways than those of xarray and zarr are refused."""
    names = [codec["name"] for codec in about["codecs"]]
    expected, rest = _SERIALIZERS.get(kind, "bytes"), names[1:]
    checked = rest[-1:] == ["crc32c"]
    rest = rest[:-1] if checked else rest
    if names[:1] != [expected] or len(rest) > 1 or not _COMPRESSORS.issuperset(rest):
        known = f"{expected}, then one of {', '.join(sorted(_COMPRESSORS))}, then crc32c"
        raise RecordError(f"{name} is packed by {quoted(names)}; known: {known}")
    return (rest[0] if rest else None), checked


def _check_chunk(name: str, data: bytes, compressor: str | None, dtype: np.dtype, values: int, claims: Claims) -> None:
    """A chunk says itself what it becomes; that must be what the metadata says, and of text it must fit."""
    unpacked = _unpacked_size(data, compressor, claims.limit)
    if dtype.kind != "O":
        if unpacked != values * dtype.itemsize:
            raise ValueError(f"damaged: a chunk of {name} unpacks to {unpacked} bytes, not {values * dtype.itemsize}")
        return
    claims.add(4 * unpacked, variables=0)  # bytes a character of the widest kind
    texts = int.from_bytes(_unpacked(data, compressor)[:4], "little")
    if texts != values:
        raise ValueError(f"damaged: a chunk of {name} has {texts} texts, not {values}")


def _unpacked_size(data: bytes, compressor: str | None, limit: int) -> int:
    if compressor == "zstd":
        return _zstd_size(data)
    if compressor == "blosc":
        if len(data) < 16 or int.from_bytes(data[12:16], "little") != len(data):
            raise ValueError("damaged: a chunk is not what blosc writes")
        return int.from_bytes(data[4:8], "little")
    if compressor == "gzip":
        return _gzip_size(data, limit)
    return len(data)


def _gzip_size(data: bytes, limit: int) -> int:
    """What a stream becomes, counted piece by piece: its end says so only modulo 2^32, and may lie."""
    unpacker, size = zlib.decompressobj(_GZIP), 0
    while not unpacker.eof and size <= limit:
        piece = unpacker.decompress(data, _PIECE)
        if not piece and not unpacker.eof:
            break  # the stream is cut short
        size, data = size + len(piece), unpacker.unconsumed_tail
    if not unpacker.eof or unpacker.unused_data or size > limit:
        raise ValueError("damaged: a chunk is not one whole gzip stream, or of more bytes than are read")
    return size


def _zstd_size(data: bytes) -> int:
    """What a frame says that it becomes; RFC 8878, section 3.1.1.1."""
    flags = data[4] if len(data) > 4 else 0
    single, size = flags >> 5 & 1, (flags >> 5 & 1, 2, 4, 8)[flags >> 6]
    start = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    if data[:4] != _ZSTD_MAGIC or not size or len(data) < start + size:
        raise ValueError("damaged: a chunk is not a zstd frame that says its size")
    return int.from_bytes(data[start : start + size], "little") + (256 if size == 2 else 0)


def _unpacked(data: bytes, compressor: str | None) -> bytes:
    """The bytes of a chunk whose size has been checked."""
    from numcodecs import Blosc, GZip, Zstd

    if compressor is None:
        return data
    return bytes({"blosc": Blosc, "gzip": GZip, "zstd": Zstd}[compressor]().decode(data))
