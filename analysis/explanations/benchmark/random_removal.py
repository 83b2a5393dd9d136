"""Random removal with a bound: what F-Fidelity asks of an explanation instead of the removal of all that it names.

Removing every frame of an explanation is removing much, and how much tells a large explanation from a small one, and an
input from those that the model knows. So of the highest frames a random share is removed, and never more than a bound.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.explanations.faithfulness import Replacer

__all__ = ["REMOVAL_MEASURES", "random_removal"]

REMOVAL_MEASURES = ("fidelity_plus", "fidelity_minus")
SIZES = (0.1, 0.2, 0.3, 0.4, 0.5)  # of the explanation, shares of the frames
SHARE, BOUND = 0.5, 0.1  # of the frames in question, of all frames


def random_removal(
    replacer: Replacer, values: Float[Tensor, " frames"], samples: int, seed: int = 0, sizes: Sequence[float] = SIZES
) -> dict[str, float]:
    """How far the class's probability falls, on average, without a few of the highest frames, and of the others.

    Of the k highest frames half are drawn and replaced, but at most a tenth of the clip ("fidelity_plus": large for a
    faithful explanation), and likewise of those that are not among them ("fidelity_minus": small). Means over samples
    and over explanations of several sizes k. Which ranks are drawn depends on the seed and the clip alone, so that
    explanations are compared on the same draws.

    Args:
        replacer: of the clip and the class; by what it replaces frames is its own.
        values: one number a frame; of equal ones the earlier frame is the higher.
        samples: of each size, at least 1.
        seed: of the draws, with the clip's id.
        sizes: of the explanation, shares of the frames.

    Source:
        F-Fid+ and F-Fid- of Zheng et al., "F-Fidelity: A Robust Framework for Faithfulness Evaluation of Explainable
        AI", ICLR 2025, with its share and bound, but without the model's fine-tuning on inputs with parts removed.
    """
    frames = replacer.frames
    order = values.double().nan_to_num(nan=-torch.inf).argsort(descending=True, stable=True)
    generator = torch.Generator().manual_seed(zlib.crc32(replacer.clip.id.encode(), seed))
    sides = [(0, max(1, math.ceil(size * frames))) for size in sizes]
    parts = [sides, [(stop, frames) for _, stop in sides]]
    kept = torch.ones(len(parts), len(sizes), samples, frames, dtype=torch.bool)
    for rows, ranges in zip(kept, parts, strict=True):
        for row, (start, stop) in zip(rows, ranges, strict=True):
            _remove(row, order[start:stop], frames, generator)
    logits = replacer.logits(torch.cat([torch.ones(1, frames, dtype=torch.bool), kept.flatten(0, 2)]))
    probability = logits.double().sigmoid()
    falls = (probability[0] - probability[1:]).reshape(kept.shape[:3]).mean((1, 2))
    return dict(zip(REMOVAL_MEASURES, falls.tolist(), strict=True))


def _remove(kept: Bool[Tensor, "samples frames"], candidates: Tensor, frames: int, generator: torch.Generator) -> None:
    """Take some of the candidates out of each sample, in place."""
    count = min(math.ceil(SHARE * len(candidates)), math.ceil(BOUND * frames))
    for row in kept:
        row[candidates[torch.randperm(len(candidates), generator=generator)[:count]]] = False
