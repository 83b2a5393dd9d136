"""Clip: the frames of one video in hand; Batch: several clips, padded to one length, as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gmsa_models.data.vocabulary import Vocabulary

QUANTIZED_MAXIMUM, QUANTIZED_MINIMUM = 2.0, -2.0
LARGEST_LABEL = 999_999_999  # nine digits, as class tables are read
LATEST_SECOND, SHORTEST_FRAME, LONGEST_FRAME = 1e10, 1e-4, 1e6  # seconds; a Unix time has 1.8e9


class ClipError(ValueError):
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


def _check_labels(owner: str, labels: Sequence[int]) -> None:
    if labels and not 0 <= min(labels) <= max(labels) <= LARGEST_LABEL:
        raise ClipError(f"{owner} has labels from {min(labels)} to {max(labels)}; expected 0 to {LARGEST_LABEL}")


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
        if not self.start <= self.end:
            raise ClipError(f"a segment ends before it starts: {self.start} to {self.end} s")
        _check_labels("a segment", self.labels)
        if self.scores and len(self.scores) != len(self.labels):
            raise ClipError(f"a segment has {len(self.scores)} scores for {len(self.labels)} labels; expected as many")


@dataclass(frozen=True, eq=False)
class Clip:
    """The frames of one video. Two clips are equal only when they are the same object: arrays have no one equality.

    Attributes:
        id: the video's id.
        features: modality -> (frames, dim), uint8 (quantised) or floating point; every modality has the same frames.
        labels: data set label indices, as stored.
        frame_seconds: seconds a frame.
        start_seconds: where in the source video the first frame lies.
        segments: spans that are known (montage events, segment ratings).
        source: where the clip came from (`file#record`, or the recipe of a made clip).
    """

    id: str
    features: Mapping[str, np.ndarray]
    labels: tuple[int, ...] = ()
    frame_seconds: float = 1.0
    start_seconds: float = 0.0
    segments: tuple[Segment, ...] = field(default=(), repr=False)
    source: str = ""

    def __post_init__(self) -> None:
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
        _check_labels(f"clip {self.id!r}", self.labels)

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

    def floats(self, modality: str) -> np.ndarray:
        """Features of one modality as float32 (frames, dim), dequantised if they are stored as uint8."""
        if modality not in self.features:
            raise KeyError(f"clip {self.id!r} has no modality {modality!r}; it has {sorted(self.features)}")
        values = self.features[modality]
        return dequantize(values) if values.dtype == np.uint8 else values.astype(np.float32, copy=False)

    def cut(self, frames: int) -> Clip:
        """The first `frames` frames; the clip itself when it is no longer than that."""
        if frames >= self.frames:
            return self
        return replace(self, features={modality: values[:frames] for modality, values in self.features.items()})


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips padded to one length, as tensors.

    Attributes:
        features: modality -> (batch, frames, dim), dequantised; padded frames hold zeros.
        valid: (batch, frames), True where a frame is real. Real frames come first.
        labels: (batch, classes) of 0 and 1 in the order of a `Vocabulary`, or None.
        ids: one a clip.
        frame_seconds: one a clip.
    """

    features: dict[str, Float[Tensor, "batch frames _"]]
    valid: Bool[Tensor, "batch frames"]
    labels: Float[Tensor, "batch classes"] | None = None
    ids: tuple[str, ...] = ()
    frame_seconds: tuple[float, ...] = ()

    def __len__(self) -> int:
        return self.valid.shape[0]

    @property
    def full(self) -> bool:
        """True when no frame is padding."""
        return bool(self.valid.all())

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Batch:
        """The same batch on another device or with features in another floating-point type."""
        return replace(
            self,
            features={name: values.to(device=device, dtype=dtype) for name, values in self.features.items()},
            valid=self.valid.to(device=device),
            labels=None if self.labels is None else self.labels.to(device=device),
        )

    @classmethod
    def from_clips(
        cls,
        clips: Sequence[Clip],
        modalities: Sequence[str] | None = None,
        vocabulary: Vocabulary | None = None,
        max_frames: int | None = None,
    ) -> Batch:
        """Pad clips to the longest and stack them.

        Args:
            clips: at least one; each must have every modality asked for, with one width throughout.
            modalities: which to take, in order; default: those of the first clip.
            vocabulary: the classes that `labels` has columns for; None leaves `labels` None.
            max_frames: longer clips are cut to their first `max_frames` frames.

        Returns:
            float32 tensors on the CPU.

        Raises:
            ClipError: no clips, or widths that differ; names the clip.
            KeyError: a clip lacks a modality; names both.
        """
        if not clips:
            raise ClipError("a batch needs at least one clip, got none")
        clips = [clip if max_frames is None else clip.cut(max_frames) for clip in clips]
        names = tuple(modalities) if modalities is not None else tuple(clips[0].features)
        frames = max(clip.frames for clip in clips)
        valid = torch.zeros(len(clips), frames, dtype=torch.bool)
        for row, clip in enumerate(clips):
            valid[row, : clip.frames] = True
        return cls(
            features={name: _pad(clips, name, frames) for name in names},
            valid=valid,
            labels=None if vocabulary is None else _label_matrix(clips, vocabulary),
            ids=tuple(clip.id for clip in clips),
            frame_seconds=tuple(clip.frame_seconds for clip in clips),
        )


def _pad(clips: Sequence[Clip], modality: str, frames: int) -> Float[Tensor, "batch frames _"]:
    arrays = [clip.floats(modality) for clip in clips]
    width = arrays[0].shape[1]
    padded = torch.zeros(len(clips), frames, width, dtype=torch.float32)
    for row, (clip, array) in enumerate(zip(clips, arrays, strict=True)):
        if array.shape[1] != width:
            raise ClipError(
                f"clip {clip.id!r}: {modality!r} is {array.shape[1]} wide; clip {clips[0].id!r} has {width}"
            )
        padded[row, : clip.frames] = torch.from_numpy(array)
    return padded


def _label_matrix(clips: Sequence[Clip], vocabulary: Vocabulary) -> Float[Tensor, "batch classes"]:
    matrix = torch.zeros(len(clips), len(vocabulary), dtype=torch.float32)
    for row, clip in enumerate(clips):
        matrix[row, list(vocabulary.positions(clip.labels))] = 1.0
    return matrix
