"""Frame lists of a SequenceExample <-> arrays of shape (frames, dim)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from gmsa_models.data.errors import brief
from gmsa_models.data.tfrecord.schema import DecodeError, Feature, FeatureList, parse
from gmsa_models.data.tfrecord.wire import MOST_FRAMES, frame_messages
from gmsa_models.errors import ContentError

__all__ = ["pack_frames", "unpack_frames"]

# Widths tried first, the most recently found one ahead. Real data sets have two or three; more are found as they come.
_widths: list[int] = [1024, 128]
_MOST_WIDTHS = 16


@lru_cache(maxsize=64)
def _frame_header(width: int) -> np.ndarray:
    """The bytes that stand before `width` bytes of features in a FeatureList, as protobuf itself writes them."""
    one = FeatureList()
    one.feature.add().bytes_list.value.append(bytes(width))
    encoded = one.SerializeToString()
    return np.frombuffer(encoded[: len(encoded) - width], np.uint8)


def pack_frames(values: np.ndarray) -> bytes:
    """Serialise (frames, dim) as a FeatureList: uint8 as one string a frame, floating point as one float list a frame.

    Args:
        values: uint8, or floating point, which is stored as float32.

    Raises:
        ContentError: a value that float32 cannot hold.
    """
    if values.dtype == np.uint8:
        header = np.broadcast_to(_frame_header(values.shape[1]), (len(values), len(_frame_header(values.shape[1]))))
        return np.concatenate([header, values], axis=1).tobytes()
    message = FeatureList()
    with np.errstate(over="ignore"):
        floats = values.astype(np.float32)
    if not np.isfinite(floats).all():
        raise ContentError(
            f"features as large as {np.abs(values).max()} do not fit float32, which a record stores", kind="frames"
        )
    for frame in floats:
        message.feature.add().float_list.value.extend(frame.tolist())
    return message.SerializeToString()


def unpack_frames(name: str, packed: bytes | memoryview) -> np.ndarray:
    """Parse a serialised FeatureList of equally wide frames.

    Args:
        name: of the list, for errors.
        packed: the FeatureList as it stands in the record.

    Returns:
        (frames, dim), uint8 for byte strings and float32 for float lists.

    Raises:
        ContentError: no frames, a frame of another width or kind, a value that is not finite, bytes that do not parse.
    """
    if not packed:
        raise ContentError(f"list {brief(name)} has 0 frames; at least one is needed", kind="frames")
    raw = np.frombuffer(packed, np.uint8)
    for width in _widths:
        values = _strip_headers(raw, width)
        if values is not None:
            return values
    values = _parse_frames(name, bytes(packed))
    if values.dtype == np.uint8 and values.shape[1] not in _widths:
        _widths.insert(0, values.shape[1])
        del _widths[_MOST_WIDTHS:]
    return values


def _strip_headers(raw: np.ndarray, width: int) -> np.ndarray | None:
    """Frames of exactly this width, or None when the bytes are anything else, or more frames than are read.

    Every header is compared, and a header says how long its frame is, so a match is a complete parse.
    """
    header = _frame_header(width)
    stride = len(header) + width
    if len(raw) % stride or len(raw) // stride > MOST_FRAMES:
        return None
    rows = raw.reshape(-1, stride)
    if not (rows[:, : len(header)] == header).all():
        return None
    return rows[:, len(header) :].copy()


def _parse_frames(name: str, packed: bytes) -> np.ndarray:
    frames: list[np.ndarray] = []
    try:
        for number, message in enumerate(frame_messages(packed)):
            frame = _parse_frame(name, number, parse(Feature, message))
            if frames and (frame.shape != frames[0].shape or frame.dtype != frames[0].dtype):
                raise ContentError(
                    f"list {brief(name)}, frame {number}: {_describe(frame)}; frame 0 has {_describe(frames[0])}",
                    kind="frames",
                )
            frames.append(frame)
    except (DecodeError, ContentError) as error:
        raise ContentError(f"list {brief(name)} is not a FeatureList: {error}", kind="frames") from None
    if not frames:
        raise ContentError(f"list {brief(name)} has 0 frames; at least one is needed", kind="frames")
    return np.stack(frames)


def _parse_frame(name: str, number: int, feature: Any) -> np.ndarray:
    kind = feature.WhichOneof("kind")
    if kind == "bytes_list" and len(feature.bytes_list.value) == 1 and feature.bytes_list.value[0]:
        return np.frombuffer(feature.bytes_list.value[0], np.uint8)
    if kind == "float_list" and len(feature.float_list.value):
        frame = np.array(feature.float_list.value, np.float32)
        if not np.isfinite(frame).all():
            at = int(np.flatnonzero(~np.isfinite(frame))[0])
            raise ContentError(
                f"list {brief(name)}, frame {number}: value {at} is {frame[at]}; expected finite numbers", kind="frames"
            )
        return frame
    raise ContentError(
        f"list {brief(name)}, frame {number}: holds {_contents(feature)}; expected one string of uint8 features, or "
        "floats",
        kind="frames",
    )


def _contents(feature: Any) -> str:
    kind = feature.WhichOneof("kind")
    if kind is None:
        return "nothing"
    values = getattr(feature, kind).value
    return "an empty string" if kind == "bytes_list" and len(values) == 1 else f"a {kind} of {len(values)}"


def _describe(frame: np.ndarray) -> str:
    return f"{len(frame)} {frame.dtype} values"
