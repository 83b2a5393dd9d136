"""Frames in groups: the segment that each lies in."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from gmsa_models.data.clip import Clip

__all__ = ["WINDOW", "frame_groups"]

WINDOW = 10.0  # seconds of a group where no segments are known


def frame_groups(clip: Clip) -> Int[Tensor, " frames"]:
    """The segment that each frame lies in, counted from 0; windows of 10 s where the clip has no segments.

    Frames between segments make groups of their own, one a gap.
    """
    seconds = torch.arange(clip.frames, dtype=torch.float64) * clip.frame_seconds
    if not clip.segments:
        return (seconds // WINDOW).long()
    edges = sorted({edge for segment in clip.segments for edge in (segment.start, segment.end)})
    place = torch.searchsorted(torch.tensor(edges, dtype=torch.float64), seconds, right=True)
    return torch.unique(place, return_inverse=True)[1]
