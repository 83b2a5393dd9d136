"""Degraded explanations: made worse on purpose, in steps. A measure that does not rank them lower is of no use."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["DEGRADATIONS", "degraded_scores"]

FrameScores = Float[Tensor, " frames"]
Degradation = Callable[[FrameScores, FrameScores], FrameScores]


def _noisy(amount: float) -> Degradation:
    """Noise with so many times the standard deviation of the values."""
    return lambda values, noise: values + amount * values.std(correction=0) * noise


# In order: each has lost more of the explanation than the one before, and the last three all of it.
DEGRADATIONS: dict[str, Degradation] = {
    "noise-0.5": _noisy(0.5),
    "noise-1": _noisy(1.0),
    "noise-2": _noisy(2.0),
    "noise-4": _noisy(4.0),
    "shifted": lambda values, noise: values.roll(len(values) // 2),  # by half of the clip, round its end
    "constant": lambda values, noise: torch.zeros_like(values),
    "noise": lambda values, noise: noise,
}


def degraded_scores(name: str, values: FrameScores, clip_id: str, seed: int = 0) -> dict[str, FrameScores]:
    """An explanation and its degraded forms: `NAME+noise-1` and so on, a key of `DEGRADATIONS` behind the name.

    Args:
        name: of the explainer.
        values: one number a frame.
        clip_id: decides the noise, with the seed; the same for all forms.
        seed: of the noise.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(clip_id.encode(), seed))
    noise = torch.randn(len(values), generator=generator, dtype=torch.float64).to(values)
    return {f"{name}+{how}": function(values, noise) for how, function in DEGRADATIONS.items()}
