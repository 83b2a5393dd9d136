"""Baselines: what stands for "no information" in place of a clip's frames."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.explanations.stream import stream_inputs
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError

__all__ = ["baseline_inputs"]

Frames = Float[Tensor, "frames width"]
Other = Float[Tensor, "others width"] | None


def mean_frame(frames: Frames, other: Other) -> Frames:
    """The clip's own mean frame, at every frame: what is there on average, and nothing of when."""
    return frames.mean(0, keepdim=True).expand_as(frames).contiguous()


def zero(frames: Frames, other: Other) -> Frames:
    """0 in dequantised units, the middle of the range [-2, 2] that features are stored in."""
    return torch.zeros_like(frames)


def other_video(frames: Frames, other: Other) -> Frames:
    """The frames of another video, over and over where it is shorter."""
    if other is None:
        raise ArgumentError("baseline 'video' needs another clip; give it as `other`")
    return other[torch.arange(len(frames)) % len(other)]


BASELINES: dict[str, Callable[[Frames, Other], Frames]] = {
    "mean": mean_frame,
    "zero": zero,
    "video": other_video,
}


def baseline_inputs(model: GMSAClassifier, clip: Clip, baseline: str, other: Clip | None = None) -> dict[str, Frames]:
    """Frames of every modality that stand for "no information" about this clip.

    Args:
        model: whose type and device the result has.
        clip: decides how many frames.
        baseline: a key of `BASELINES`.
        other: the other video of "video".

    Raises:
        ArgumentError: an unknown baseline, or "video" without one.
    """
    if baseline not in BASELINES:
        raise ArgumentError(f"baseline {baseline!r} is unknown; known: {', '.join(BASELINES)}")
    others = {} if other is None else stream_inputs(model, other)
    return {name: BASELINES[baseline](frames, others.get(name)) for name, frames in stream_inputs(model, clip).items()}
