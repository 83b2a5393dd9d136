"""What a Clip knows and YouTube-8M's features cannot say, as one more context feature of JSON.

`{"version": 1, "frame_seconds": s, "start_seconds": s, "segments": [[start, end, labels, scores, kind, origin], ...],
"dataset": name, "spaces": {modality: {"name": name, "width": w, "rate": r, "weights": digest}, ...}, "alignment": text,
"frame_times": [s, ...], "shots": [s, ...]}`; all but the version may be left out, and of a space all but its name and
width. Without `dataset` and `spaces` a record is of what its form tells, see `records.py`. JSON keeps Python's floats
exactly, where a FloatList has float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from gmsa_models.data.clip import LARGEST_LABEL, Clip, Segment
from gmsa_models.data.errors import brief, is_plain
from gmsa_models.data.spaces import is_name, spaces_from_dict, spaces_to_dict
from gmsa_models.errors import ContentError

__all__ = ["EXTENSION", "decode_extension", "encode_extension"]

EXTENSION = "gmsa_clip"
VERSION = 1
_LONGEST = 1 << 20  # bytes of JSON; a montage has a few thousand
_SHORT = 1 << 10  # bytes of JSON that is kept decoded; without segments and times it has about a hundred


def encode_extension(clip: Clip, lossless: bool, meaning: dict[str, Any]) -> bytes | None:
    """The extension of a clip, or None when the record says everything without it.

    Args:
        lossless: whether the record's own segment features already give the clip's segments back.
        meaning: `dataset` and `spaces` that the record's form tells; what the clip has otherwise is written.
    """
    metadata = {name: value for name, value in _meaning(clip).items() if value != meaning[name]}
    metadata |= {"alignment": clip.alignment} if clip.alignment else {}
    metadata |= {"frame_times": clip.frame_times} if clip.frame_times else {}
    metadata |= {"shots": clip.shots} if clip.shots else {}
    if lossless and clip.frame_seconds == 1.0 and clip.start_seconds == 0.0 and not metadata:
        return None
    content = {
        "version": VERSION,
        "frame_seconds": clip.frame_seconds,
        "start_seconds": clip.start_seconds,
        "segments": [[s.start, s.end, s.labels, s.scores, s.kind, s.origin] for s in clip.segments],
    }
    if "spaces" in metadata:
        metadata["spaces"] = spaces_to_dict(metadata["spaces"])
    return json.dumps(content | metadata, separators=(",", ":"), allow_nan=False).encode()


def _meaning(clip: Clip) -> dict[str, Any]:
    return {"dataset": clip.dataset, "spaces": dict(clip.spaces)}


def decode_extension(data: bytes) -> dict[str, Any]:
    """What it says of a Clip, under the names of `Clip`.

    Raises:
        ContentError: not the JSON described above, or of a newer version.
    """
    if len(data) > _LONGEST:
        raise ContentError(
            f"context feature {EXTENSION!r} has {len(data)} bytes; at most {_LONGEST} are read",
            kind="gmsa_clip feature",
        )
    return dict(_decode_short(data) if len(data) <= _SHORT else _decode(data))


def _decode(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"context feature {EXTENSION!r} is not JSON: {error}", kind="gmsa_clip feature") from None
    version = content.get("version") if isinstance(content, dict) else None
    if type(version) is not int or version != VERSION:
        raise ContentError(
            f"context feature {EXTENSION!r} has version {brief(version)}; this software reads {VERSION}",
            kind="gmsa_clip feature",
        )
    try:
        return {name: read(content[name]) for name, read in _READERS.items() if name in content}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ContentError(
            f"context feature {EXTENSION!r} cannot be read: {brief(error)}", kind="gmsa_clip feature"
        ) from None


_decode_short = lru_cache(maxsize=64)(_decode)  # clips of one file often have the same


def _frame_seconds(value: Any) -> float:
    if (seconds := _number(value)) <= 0:
        raise ValueError(f"frame_seconds is {seconds}; expected more than 0")
    return seconds


def _segments(rows: Any) -> tuple[Segment, ...]:
    return tuple(_segment(*row) for row in rows)


def _dataset(value: Any) -> str:
    if not is_name(value):
        raise ValueError(f"dataset is {brief(value)}; expected a short name, plain text")
    return value


def _alignment(value: Any) -> str:
    if not is_plain(value):
        raise ValueError(f"alignment is {brief(value)}; expected plain text")
    return value


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(_number(each) for each in values)


def _segment(start: Any, end: Any, labels: Any, scores: Any, kind: Any, origin: Any) -> Segment:
    if not all(type(label) is int and 0 <= label <= LARGEST_LABEL for label in labels):
        raise ValueError(f"segment labels are {brief(labels)}; expected whole numbers of 0 to {LARGEST_LABEL}")
    if type(kind) is not str or type(origin) is not str:
        raise ValueError(f"segment kind and origin are {brief(kind)}, {brief(origin)}; expected text")
    return Segment(_number(start), _number(end), tuple(labels), tuple(_number(score) for score in scores), kind, origin)


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{brief(value)} is not a finite number")
    return float(value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "frame_seconds": _frame_seconds,
    "start_seconds": _number,
    "segments": _segments,
    "dataset": _dataset,
    "spaces": spaces_from_dict,
    "alignment": _alignment,
    "frame_times": _numbers,
    "shots": _numbers,
}
