"""Video-level records of YouTube-8M: the mean over a video's frames, one vector a modality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmsa_models.data.errors import OnSkip, brief
from gmsa_models.data.paths import Source, expand, skip_handler
from gmsa_models.data.reader import Place, read_each
from gmsa_models.data.tfrecord.examples import read_context, read_id, read_labels, values_of
from gmsa_models.data.tfrecord.framing import RecordFile, decode_at
from gmsa_models.data.tfrecord.schema import DecodeError, Example, parse
from gmsa_models.data.tfrecord.wire import LARGE_RECORD
from gmsa_models.errors import ContentError

__all__ = ["VideoLevel", "decode_video_level", "read_video_level"]

# Feature of a record -> modality.
MEANS = {"mean_rgb": "visual", "mean_audio": "audio"}


@dataclass(frozen=True)
class VideoLevel:
    """One video as the mean of its frames.

    Attributes:
        id: the video's id.
        features: modality -> (dim,) float32, dequantised.
        labels: data set label indices.
    """

    id: str
    features: Mapping[str, np.ndarray]
    labels: tuple[int, ...]


def read_video_level(source: Source, *, on_error: str = "fail", on_skip: OnSkip | None = None) -> Iterator[VideoLevel]:
    """Every video-level record of some TFRecord files, in order.

    Args:
        source: a file, a glob, or a list of them.
        on_error: "fail" raises the first error; "skip" leaves out what cannot be read.
        on_skip: with "skip", called with each error; default: a warning.

    Raises:
        TFRecordError: a file or record that cannot be read; names file, record and offset.
        SourceNotFoundError: a path or glob that matches nothing (at once).
    """
    paths, handler = expand(source), skip_handler(on_error, on_skip)
    return (video for path in paths for video in read_each(path, RecordFile, _read, handler))


def decode_video_level(data: bytes) -> VideoLevel:
    """Read one Example.

    Raises:
        RecordError: not an Example, no mean, or values that are not finite.
    """
    if len(data) > LARGE_RECORD:
        raise ContentError(
            f"{len(data)} bytes for one vector a modality; at most {LARGE_RECORD} are read", kind="context feature"
        )
    try:
        context = read_context(parse(Example, data).features)
    except DecodeError as error:
        raise ContentError(f"is not an Example: {error}", kind="not an example") from None
    identity = read_id(context)
    features = {modality: _mean(context, name) for name, modality in MEANS.items() if name in context}
    if not features:
        raise ContentError(
            f"{brief(identity)} has none of {sorted(MEANS)}; for frame-level records use read_clips",
            kind="context feature",
        )
    return VideoLevel(identity, features, read_labels(context))


def _read(file: RecordFile, place: Place) -> VideoLevel:
    return decode_at(file, place, decode_video_level)


def _mean(context: dict[str, Any], name: str) -> np.ndarray:
    mean = np.array(values_of(context, name, float), np.float32)
    if not len(mean) or not np.isfinite(mean).all():
        raise ContentError(
            f"feature {name!r} has {len(mean)} values; expected at least one, all finite", kind="context feature"
        )
    return mean
