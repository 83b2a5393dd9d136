"""Clip: the frames of one video in hand. Without torch, which readers need not wait for."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, no_type_check

import numpy as np

from gmsa_models.data.errors import UnfitClipError, brief
from gmsa_models.data.spaces import LONGEST_NAME, FeatureSpace, is_name, same_labels
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.errors import GMSAError

__all__ = [
    "LARGEST_LABEL",
    "QUANTIZED_MAXIMUM",
    "QUANTIZED_MINIMUM",
    "Clip",
    "ClipError",
    "Segment",
    "dequantize",
    "quantize",
]

QUANTIZED_MAXIMUM, QUANTIZED_MINIMUM = 2.0, -2.0
LARGEST_LABEL = 999_999_999  # nine digits, as class tables are read
SAME_SECOND = 1e-6  # by which seconds that are one may differ: they are sums of floats
LATEST_SECOND, SHORTEST_FRAME, LONGEST_FRAME = 1e10, 1e-4, 1e6  # seconds; a Unix time has 1.8e9


class ClipError(GMSAError, ValueError):
    """A clip whose parts do not fit together; the message names the clip and the part."""


def dequantize(values: np.ndarray) -> np.ndarray:
    """Turn uint8 features back into floats in about [-2, 2].

    Args:
        values: uint8, any shape.

    Returns:
        float32 of the same shape: `x * 4 / 255 + 4 / 512 - 2`.

    Source:
        `Dequantize` of the YouTube-8M starter code (`utils.py`), with its default bounds 2 and -2.
    """
    span = QUANTIZED_MAXIMUM - QUANTIZED_MINIMUM
    floats = values.astype(np.float32)
    floats *= np.float32(span / 255.0)
    floats += np.float32(span / 512.0 + QUANTIZED_MINIMUM)
    return floats


def quantize(values: np.ndarray) -> np.ndarray:
    """The uint8 whose `dequantize` is nearest to each value, so the inverse of `dequantize`.

    Args:
        values: finite floats, any shape; those outside about [-2, 2] take the end of the range.
    """
    span = QUANTIZED_MAXIMUM - QUANTIZED_MINIMUM
    scaled = (values - np.float32(span / 512.0 + QUANTIZED_MINIMUM)) * np.float32(255.0 / span)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _labels(owner: str, labels: Any) -> tuple[int, ...]:
    """Labels as a tuple of int, from any sequence of whole numbers."""
    try:
        values = tuple(labels)
        if set(map(type, values)) <= {int} and not isinstance(labels, str | bytes):  # as records are read: no copy
            integers = values
        elif isinstance(labels, str | bytes) or any(isinstance(label, bool | np.bool_) for label in values):
            raise TypeError
        else:
            integers = tuple(map(operator.index, values))
    except TypeError:
        raise ClipError(f"{owner} has labels {brief(labels)}; expected a sequence of whole numbers") from None
    if integers and not 0 <= min(integers) <= max(integers) <= LARGEST_LABEL:
        raise ClipError(f"{owner} has labels from {min(integers)} to {max(integers)}; expected 0 to {LARGEST_LABEL}")
    return integers


def _number(owner: str, name: str, value: Any) -> float:
    """A float, from any real number of Python, numpy or torch."""
    if type(value) is float:
        return value
    try:
        if isinstance(value, str | bytes | bool | np.bool_):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ClipError(f"{owner}: {name} is {brief(value)}; expected a number") from None


def _array(owner: str, modality: str, values: Any) -> np.ndarray:
    """An array whose rows lie one after another, in the machine's order of bytes; the same one where it is so."""
    if type(values) is np.ndarray and values.dtype == np.uint8 and values.flags.c_contiguous:
        return values
    if isinstance(values, np.ma.MaskedArray):
        raise ClipError(f"{owner}: {modality!r} is a masked array; expected values throughout, without a mask")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ClipError(f"{owner}: {modality!r} is no array: {brief(str(error))}; expected (frames, dim)") from None
    if array.dtype.kind in "fu":
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array if array.flags.c_contiguous or array.ndim != 2 else np.ascontiguousarray(array)


@no_type_check  # it takes more types than it holds, and checks them itself
@dataclass(frozen=True)
class Segment:
    """A span of a clip that is known to show something.

    Attributes:
        start: seconds from the clip's first frame, inclusive.
        end: seconds, exclusive.
        labels: data set labels of the span; empty for background.
        scores: one a label; 1 = the label is present, 0 = rated absent. Empty: all present.
        kind: "event", "background" or "rated" (YouTube-8M segment ratings).
        origin: id of the video the span was made from, if known.
    """

    start: float
    end: float
    labels: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    kind: str = "event"
    origin: str = ""

    def __post_init__(self) -> None:
        """Numbers of numpy become Python's, any sequence a tuple."""
        for name in ("start", "end"):
            object.__setattr__(self, name, _number("a segment", name, getattr(self, name)))
        object.__setattr__(self, "labels", _labels("a segment", self.labels))
        object.__setattr__(self, "scores", tuple(_number("a segment", "a score", each) for each in self.scores))
        if not self.start <= self.end:
            raise ClipError(f"a segment ends before it starts: {self.start} to {self.end} s")
        if self.scores and len(self.scores) != len(self.labels):
            raise ClipError(f"a segment has {len(self.scores)} scores for {len(self.labels)} labels; expected as many")


@no_type_check  # as Segment
@dataclass(frozen=True, eq=False)
class Clip:
    """The frames of one video. Two clips are equal only when they are the same object: arrays have no one equality.

    Attributes:
        id: the video's id.
        features: modality -> (frames, dim), uint8 (quantised) or floating point of any precision, which is kept until
            `floats` is asked for; every modality has the same frames. Rows are laid out one after another.
        labels: data set label indices, as stored.
        frame_seconds: seconds a frame.
        start_seconds: where in the source video the first frame lies.
        segments: spans that are known (montage events, segment ratings).
        source: where the clip came from (`file#record`, or the recipe of a made clip).
        dataset: whose classes `labels` count, as `Vocabulary.dataset`: "youtube-8m"; "": not said.
        spaces: modality -> the space that its features lie in, where that is known.
        alignment: what was cut so that modalities of different lengths became one, by which rule of `ALIGNMENTS`; "":
            nothing was.
        frame_times: of clips of a video file: second of `seconds`' clock at which the picture of each frame came on the
            screen, not later than the frame starts; empty where that is not known.
        shots: second of `seconds`' clock at which each shot of the video starts, in order, the first not later than the
            first frame; empty where they are not known.

    Numbers of numpy become Python's, any sequence a tuple, and an array is copied only where its rows do not lie one
    after another or its bytes are in another order than the machine's.
    """

    id: str
    features: Mapping[str, np.ndarray]
    labels: tuple[int, ...] = ()
    frame_seconds: float = 1.0
    start_seconds: float = 0.0
    segments: tuple[Segment, ...] = field(default=(), repr=False)
    source: str = ""
    dataset: str = ""
    spaces: Mapping[str, FeatureSpace] = field(default_factory=dict)
    alignment: str = ""
    frame_times: tuple[float, ...] = field(default=(), repr=False)
    shots: tuple[float, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        self._normalise()
        if not self.features:
            raise ClipError(f"clip {self.id!r}: no features; expected at least one modality of shape (frames, dim)")
        for modality, values in self.features.items():
            self._check_features(modality, values)
        lengths = {modality: len(values) for modality, values in self.features.items()}
        if len(set(lengths.values())) > 1:
            raise ClipError(f"clip {self.id!r}: modalities differ in frames: {lengths}")
        if self.frames == 0:
            raise ClipError(f"clip {self.id!r}: 0 frames; at least one is needed")
        if not (abs(self.start_seconds) <= LATEST_SECOND and SHORTEST_FRAME <= self.frame_seconds <= LONGEST_FRAME):
            raise ClipError(
                f"clip {self.id!r}: starts at {self.start_seconds} s, {self.frame_seconds} s a frame; expected a start "
                f"within {LATEST_SECOND:g} s, and {SHORTEST_FRAME:g} to {LONGEST_FRAME:g} s a frame"
            )
        self._check_meaning()

    def _normalise(self) -> None:
        owner = f"clip {self.id!r}"
        segments = tuple(self.segments)
        if unexpected := [each for each in segments if not isinstance(each, Segment)]:
            raise ClipError(f"{owner} has the segment {brief(unexpected[0])}; expected a Segment")
        values = {
            "features": {name: _array(owner, name, values) for name, values in self.features.items()},
            "labels": _labels(owner, self.labels),
            "frame_seconds": _number(owner, "frame_seconds", self.frame_seconds),
            "start_seconds": _number(owner, "start_seconds", self.start_seconds),
            "segments": segments,
            "spaces": dict(self.spaces),
            "frame_times": tuple(_number(owner, "a frame's time", each) for each in self.frame_times),
            "shots": tuple(_number(owner, "the start of a shot", each) for each in self.shots),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_meaning(self) -> None:
        if len(self.frame_times) not in (0, self.frames):
            raise ClipError(
                f"clip {self.id!r}: {len(self.frame_times)} frame_times for {self.frames} frames; expected as many, or "
                "none"
            )
        rises = all(before < after < math.inf for before, after in pairwise(self.shots))
        if self.shots and not (rises and -math.inf < self.shots[0] <= self.start_seconds + SAME_SECOND):
            raise ClipError(
                f"clip {self.id!r}: shots start at {brief(self.shots)} s; expected rising seconds, the first not later "
                f"than the first frame, at {self.start_seconds:g} s"
            )
        if not is_name(self.dataset):
            raise ClipError(
                f"clip {self.id!r}: dataset is {brief(self.dataset)}; expected a name of at most {LONGEST_NAME} "
                "characters, '' where it is not known whose labels these are"
            )
        for modality, space in self.spaces.items():
            if not isinstance(space, FeatureSpace) or modality not in self.features:
                raise ClipError(
                    f"clip {self.id!r}: {modality!r} has the feature space {brief(space)}; expected a FeatureSpace for "
                    f"one of {sorted(self.features)}"
                )
            if self.features[modality].shape[1] != space.width:
                raise ClipError(
                    f"clip {self.id!r}: {modality!r} is {self.features[modality].shape[1]} wide; its feature space is "
                    f"{space}"
                )

    def _check_features(self, modality: str, values: np.ndarray) -> None:
        if values.ndim != 2 or values.shape[1] == 0:
            raise ClipError(
                f"clip {self.id!r}: {modality!r} has shape {values.shape}; expected (frames, dim) with dim > 0"
            )
        if values.dtype == np.uint8:
            return
        if not np.issubdtype(values.dtype, np.floating):
            raise ClipError(f"clip {self.id!r}: {modality!r} is {values.dtype}; expected uint8 or floating point")
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            frame = int(np.flatnonzero(~finite)[0])
            raise ClipError(f"clip {self.id!r}: {modality!r} has a value in frame {frame} that is not finite")

    @property
    def frames(self) -> int:
        """Number of frames, the same in every modality."""
        return next(iter(self.features.values())).shape[0]

    @property
    def seconds(self) -> np.ndarray:
        """Start of each frame in seconds of the source video, shape (frames,)."""
        return self.start_seconds + self.frame_seconds * np.arange(self.frames)

    @property
    def shot_frames(self) -> tuple[int, ...]:
        """First frame of each shot in which a frame lies, in order, the first 0; empty where shots are not known."""
        if not self.shots:
            return ()
        shot_of = np.searchsorted(self.shots, self.seconds + SAME_SECOND, side="right")
        return (0, *(int(frame) + 1 for frame in np.flatnonzero(np.diff(shot_of))))

    def floats(self, modality: str) -> np.ndarray:
        """Features of one modality as float32 (frames, dim), dequantised if they are stored as uint8."""
        if modality not in self.features:
            raise KeyError(f"clip {self.id!r} has no modality {modality!r}; it has {sorted(self.features)}")
        values = self.features[modality]
        if values.dtype == np.uint8:
            return dequantize(values)
        # torch takes no array that must not be written to
        return values.astype(np.float32, copy=not values.flags.writeable)

    def positions(self, vocabulary: Vocabulary) -> tuple[int, ...]:
        """Output positions of the clip's labels that a vocabulary has; others are left out.

        Raises:
            UnfitClipError: the labels are of another data set than the vocabulary's classes.
        """
        if self.labels and not same_labels(self.dataset, vocabulary.dataset):
            raise UnfitClipError(
                f"{brief(self.source or self.id)}: its labels are of {self.dataset!r}, the model's classes of "
                f"{vocabulary.dataset!r}: they cannot be compared. Choose a model of {self.dataset!r}; or, if the "
                f"labels are of {vocabulary.dataset!r}, say so: `gmsa inspect` and `gmsa evaluate` take --dataset "
                f"{vocabulary.dataset}, and write_clips stores Clip(dataset={vocabulary.dataset!r})",
                kind="labels of another data set",
            )
        return vocabulary.positions(self.labels)

    def cut(self, frames: int) -> Clip:
        """The first `frames` frames; the clip itself when it is no longer than that."""
        if frames >= self.frames:
            return self
        features = {modality: values[:frames] for modality, values in self.features.items()}
        end = self.start_seconds + self.frame_seconds * frames
        shots = tuple(start for start in self.shots if start < end - SAME_SECOND)
        return replace(self, features=features, frame_times=self.frame_times[:frames], shots=shots)
