"""Which frames are hidden: spans of neighbouring frames, of random place, the same in every stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

__all__ = ["hidden_spans"]


def hidden_spans(
    valid: Bool[Tensor, "batch frames"], share: float, span: int, seeds: Sequence[Sequence[int]]
) -> Bool[Tensor, "batch frames"]:
    """Hide spans of frames of each clip, until a share of its frames is hidden.

    The same frames are hidden in every stream, so that none can be read off another stream. Neighbouring frames are
    much alike: single hidden frames could be copied from their neighbours.

    Args:
        valid: True where a frame is real; real frames come first.
        share: of a clip's real frames, in (0, 1). At least one is hidden and at least one is not; of a clip of one
            frame none is.
        span: frames of a span, at least 1; spans may meet, and the last is cut to the share.
        seeds: of each clip.

    Returns:
        True where a frame is hidden, on the CPU.
    """
    hidden = np.zeros(tuple(valid.shape), bool)
    for row, frames, seed in zip(hidden, valid.sum(1).tolist(), seeds, strict=True):
        if frames > 1:
            _hide(row[:frames], min(max(1, round(share * frames)), frames - 1), span, np.random.default_rng(list(seed)))
    return torch.from_numpy(hidden)


def _hide(row: np.ndarray, count: int, span: int, random: np.random.Generator) -> None:
    """Mark `count` frames of a clip, in place."""
    while left := count - int(row.sum()):
        start = int(random.integers(len(row)))
        places = np.arange(start, min(start + span, len(row)))
        row[places[~row[places]][:left]] = True
