"""Batch: several clips, padded to one length, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gmsa_models.data.clip import Clip, ClipError
from gmsa_models.data.vocabulary import Vocabulary

__all__ = ["Batch", "ShotFrames", "shots_of"]

ShotFrames = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips padded to one length, as tensors.

    Attributes:
        features: modality -> (batch, frames, dim), dequantised; padded frames hold zeros.
        valid: (batch, frames), True where a frame is real. Real frames come first.
        labels: (batch, classes) of 0 and 1 in the order of a `Vocabulary`, or None.
        ids: one a clip.
        frame_seconds: one a clip.
        shots: first frame of each shot, one tuple a clip, see `Clip.shot_frames`; empty: known of none.
    """

    features: dict[str, Float[Tensor, "batch frames _"]]
    valid: Bool[Tensor, "batch frames"]
    labels: Float[Tensor, "batch classes"] | None = None
    ids: tuple[str, ...] = ()
    frame_seconds: tuple[float, ...] = ()
    shots: ShotFrames = ()

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
            UnfitClipError: with a vocabulary, a clip's labels are of another data set.
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
            shots=shots_of(clips),
        )


def shots_of(clips: Sequence[Clip]) -> ShotFrames:
    """`Clip.shot_frames` of each clip; empty where they are known of none."""
    return tuple(clip.shot_frames for clip in clips) if any(clip.shots for clip in clips) else ()


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
        matrix[row, list(clip.positions(vocabulary))] = 1.0
    return matrix
