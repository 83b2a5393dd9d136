"""What a Clip knows and YouTube-8M's features cannot say, as one more context feature of JSON.

`{"version": 1, "frame_seconds": s, "start_seconds": s, "segments": [[start, end, labels, scores, kind, origin], ...]}`.
JSON keeps Python's floats exactly, where a FloatList has float32.
"""

from __future__ import annotations

import json
import math
from typing import Any

from gmsa_models.data.clip import LARGEST_LABEL, Clip, Segment
from gmsa_models.data.errors import ExtensionError, brief

EXTENSION = "gmsa_clip"
VERSION = 1
_LONGEST = 1 << 20  # bytes of JSON; a montage has a few thousand


def encode_extension(clip: Clip, lossless: bool) -> bytes | None:
    """The extension of a clip, or None when the record says everything without it.

    Args:
        lossless: whether the record's own segment features already give the clip's segments back.
    """
    if lossless and clip.frame_seconds == 1.0 and clip.start_seconds == 0.0:
        return None
    content = {
        "version": VERSION,
        "frame_seconds": clip.frame_seconds,
        "start_seconds": clip.start_seconds,
        "segments": [[s.start, s.end, s.labels, s.scores, s.kind, s.origin] for s in clip.segments],
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def decode_extension(data: bytes) -> dict[str, Any]:
    """`frame_seconds`, `start_seconds` and `segments` of a Clip.

    Raises:
        ExtensionError: not the JSON described above, or of a newer version.
    """
    if len(data) > _LONGEST:
        raise ExtensionError(f"context feature {EXTENSION!r} has {len(data)} bytes; at most {_LONGEST} are read")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ExtensionError(f"context feature {EXTENSION!r} is not JSON: {error}") from None
    version = content.get("version") if isinstance(content, dict) else None
    if type(version) is not int or version != VERSION:
        raise ExtensionError(
            f"context feature {EXTENSION!r} has version {brief(version)}; this software reads {VERSION}"
        )
    try:
        seconds = _number(content["frame_seconds"])
        if seconds <= 0:
            raise ValueError(f"frame_seconds is {seconds}; expected more than 0")
        segments = tuple(_segment(*row) for row in content["segments"])
        return {"frame_seconds": seconds, "start_seconds": _number(content["start_seconds"]), "segments": segments}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ExtensionError(f"context feature {EXTENSION!r} cannot be read: {brief(error)}") from None


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
