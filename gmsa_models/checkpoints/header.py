"""The head of a checkpoint file, read and checked before anything in the file is believed."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gmsa_models.data.errors import brief
from gmsa_models.errors import GMSAError

__all__ = [
    "CORRUPT",
    "FORMAT_VERSION",
    "MAXIMUM_HEADER_BYTES",
    "METADATA_KEY",
    "OTHER_CONFIG",
    "CheckpointError",
    "Header",
    "parse",
    "read",
]

# Raise it when an older reader would misread a newer file.
FORMAT_VERSION = 1
METADATA_KEY = "gmsa_models"
# A paper-size header is about 10 kB and class names add about 100 kB. JSON takes up to 35 times its bytes in memory.
MAXIMUM_HEADER_BYTES = 2 * 2**20
MOST_TENSORS = 2048  # a model of two modalities has about 20 a layer and modality
PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"})
# What to do about a checkpoint, by what is wrong with it.
OTHER_FILE = "give a file that gmsa_models.save wrote"
TRUNCATED = "fetch the file again"
HEADER = "damaged or made by hand: fetch the file again, or write it with gmsa_models.save"
CORRUPT = "fetch the file again, or write it with gmsa_models.save"
OTHER_CONFIG = "its config is of another model: write it again with gmsa_models.save"
# What each floating-point type of safetensors takes, in bytes.
DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


class CheckpointError(GMSAError, ValueError):
    """A checkpoint that is not there, or cannot be loaded or written; every error of `load` is one. Names the file.

    Attributes:
        advice: what to do; it ends the message.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice

    def __str__(self) -> str:
        return "; ".join(filter(None, (str(self.args[0]), self.advice)))


@dataclass(frozen=True)
class Header:
    """A checked header.

    Attributes:
        contents: `format_version`, `config`, `vocabulary`, `card`.
        shapes: shape of each tensor.
        checksum: of contents and tensors, see `checkpoints.checksum`; None in a file from before there was one.
    """

    contents: dict[str, Any]
    shapes: dict[str, torch.Size]
    checksum: object = None


def read(path: Path) -> Header:
    """Read and check the header of a checkpoint, reading no more than its bytes.

    Raises:
        CheckpointError: one of its kinds; see `checkpoints.load`.
    """
    try:
        return _read(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}; check it and its disk") from None


def parse(path: Path, data: bytes) -> Header:
    """Check the header of a checkpoint that is in memory. Args and Raises: as for `read`, which `path` is for."""
    return _parse_file(path, io.BytesIO(data), len(data))


def _read(path: Path) -> Header:
    with path.open("rb") as file:
        return _parse_file(path, file, path.stat().st_size)


def _parse_file(path: Path, file: io.BufferedIOBase, size: int) -> Header:
    start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    _check_kind(path, start, length, size)
    # The length is whatever the file claims, so it is compared with the file and a limit before it is read.
    if length > MAXIMUM_HEADER_BYTES:
        raise CheckpointError(
            f"{path}: claims a header of {length} bytes; at most {MAXIMUM_HEADER_BYTES} are accepted", advice=HEADER
        )
    if length > size - 8:
        raise CheckpointError(f"{path}: {size} bytes, but its header alone claims {length}", advice=TRUNCATED)
    text = file.read(length - 1)
    entries = _parse(path, start[8:] + text, "header")
    metadata = entries.pop("__metadata__", {})
    shapes = _check_entries(path, entries, data_bytes=size - 8 - length)
    contents = _contents(path, metadata)
    return Header(contents, shapes, contents.pop("checksum", None))


def _check_kind(path: Path, start: bytes, length: int, size: int) -> None:
    is_header = start[8:] == b"{"
    pickled = start[:2] == b"PK" or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05")
    if not is_header and (pickled or path.suffix.lower() in PICKLE_SUFFIXES):
        raise CheckpointError(
            f"{path}: a pickle, which can run any code when it is loaded, so it is refused. Make a checkpoint of its "
            f"tensors, which runs nothing: gmsa import {path} --like VARIANT --out name.safetensors; or in Python: "
            "model.load_state_dict(torch.load(path, weights_only=True)); gmsa_models.save(model, 'name.safetensors')"
        )
    if size < 9:
        raise CheckpointError(f"{path}: {size} bytes; a checkpoint starts with a header", advice=TRUNCATED)
    if not is_header:
        raise CheckpointError(f"{path}: not a safetensors file (starts with {start[:8]!r})", advice=OTHER_FILE)


def _parse(path: Path, text: Any, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the {what} is not JSON: {error}", advice=HEADER) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: the {what} is a JSON {type(value).__name__}; expected an object", advice=HEADER)
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; of a name that comes twice, readers differ in which they take."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name comes twice in one object")
    return values


def _check_entries(path: Path, entries: dict[str, Any], data_bytes: int) -> dict[str, torch.Size]:
    """Shapes of the tensors, which must tile the data exactly."""
    if len(entries) > MOST_TENSORS:
        raise CheckpointError(f"{path}: {len(entries)} tensors; at most {MOST_TENSORS} are read", advice=HEADER)
    shapes, spans = {}, []
    for name, entry in entries.items():
        try:
            shape, (begin, end), dtype = torch.Size(entry["shape"]), entry["data_offsets"], entry["dtype"]
            width = DTYPE_BYTES[dtype]
            whole = type(begin) is int and type(end) is int
            fits = whole and min(shape, default=0) >= 0 and begin >= 0 and end - begin == width * shape.numel()
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise CheckpointError(
                f"{path}: tensor {brief(name)} is described as {brief(entry)}: {brief(error)}", advice=HEADER
            ) from error
        if not fits:
            raise CheckpointError(
                f"{path}: tensor {brief(name)}: {brief(entry)} does not hold {brief(tuple(shape))} of {dtype}",
                advice=HEADER,
            )
        shapes[name] = shape
        spans.append((begin, end))
    _check_spans(path, sorted(spans), data_bytes)
    if len({entry["dtype"] for entry in entries.values()}) != 1:
        raise CheckpointError(
            f"{path}: {len(entries)} tensors; expected at least one, all of one floating-point type", advice=HEADER
        )
    return shapes


def _check_spans(path: Path, spans: list[tuple[int, int]], data_bytes: int) -> None:
    position = 0
    for begin, end in spans:
        if begin != position:
            raise CheckpointError(
                f"{path}: tensors overlap or leave a hole at byte {position} of the data", advice=HEADER
            )
        position = end
    if position > data_bytes:
        raise CheckpointError(
            f"{path}: holds {data_bytes} bytes of weights; its header says {position}", advice=TRUNCATED
        )
    if position < data_bytes:
        raise CheckpointError(
            f"{path}: {data_bytes - position} bytes after the last tensor belong to none", advice=HEADER
        )


def _contents(path: Path, metadata: object) -> dict[str, Any]:
    if not isinstance(metadata, dict) or METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{path}: safetensors, but without the {METADATA_KEY!r} metadata that gmsa_models.save writes; "
            "make one of its tensors: gmsa import FILE --like VARIANT --out name.safetensors",
            advice=OTHER_FILE,
        )
    contents = _parse(path, metadata[METADATA_KEY], f"{METADATA_KEY!r} metadata")
    version = contents.get("format_version")
    if type(version) is not int or version < 1:
        raise CheckpointError(
            f"{path}: format version {brief(version)}; expected a whole number, 1 to {FORMAT_VERSION}", advice=HEADER
        )
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {brief(version)}; this package reads up to {FORMAT_VERSION}. "
            "Upgrade gmsa-workbench"
        )
    return contents
