"""Whether automatic derivatives of a function are those of its numbers: by finite differences along one direction."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["derivative_gap"]

Frames = Float[Tensor, "frames dim"]

# By how much, of the size of what moves, both may differ before they are derivatives of two functions.
BOUNDS = {torch.float64: 1e-3, torch.float32: 2e-2, torch.float16: 0.1, torch.bfloat16: 0.2}
UNSURE = 3.0  # units of what a step of half the length changes, in which the differences themselves are not sure


def derivative_gap(function: Callable[[Frames], Frames], inputs: Frames, seed: int = 0) -> float:
    """How far automatic derivatives are from finite differences, along one random direction.

    Half of the frames, drawn at random, move. What the other half of the output's frames does is compared by itself: it
    is what frames hand to each other, which may be little beside what each keeps of itself. Both halves are compared by
    two numbers: the part along the differences themselves, and along random signs.

    Args:
        function: from frames to frames, differentiable.
        inputs: X.
        seed: of the direction, the half and the signs.

    Returns:
        The largest gap in units of the size of what moves, less what the differences are not sure of themselves, the
        lesser of two directions and halves; 0 where it is within the bound of the type (`BOUNDS`), so that anything
        above 0 is of two functions. A kink beside one direction is not beside the other.
    """
    gap = _gap_along(function, inputs, seed)
    return min(gap, _gap_along(function, inputs, seed + 1)) if gap else gap


def _gap_along(function: Callable[[Frames], Frames], inputs: Frames, seed: int) -> float:
    """The same along the direction of one seed."""
    generator = torch.Generator().manual_seed(seed)
    inputs = inputs.detach()
    moving = torch.randperm(len(inputs), generator=generator) < max(1, len(inputs) // 2)
    direction = torch.randn(inputs.shape, generator=generator).to(inputs) * moving[:, None].to(inputs)
    spread = float(inputs.float().std().nan_to_num()) or 1.0
    step = spread * torch.finfo(inputs.dtype).eps ** (1 / 3)
    with torch.no_grad():
        coarse, fine = (_difference(function, inputs, direction, each) for each in (step, step / 2))
    sides = [side for side in (moving, ~moving) if bool(side.any())]
    signs = (torch.randint(2, fine.shape, generator=generator) * 2 - 1).to(fine)
    leaf = inputs.clone().requires_grad_()
    with torch.enable_grad():
        outputs = function(leaf)
    gaps = [0.0]
    for side in sides:
        kept = side[:, None].to(fine)
        moved, unsure = fine * kept, float(((coarse - fine) * kept).norm())
        size = float(moved.norm())
        if not size > UNSURE * unsure:
            continue  # nothing moves, or where it moves to is not sure
        for cotangent in (moved / size, signs * kept):
            (product,) = torch.autograd.grad(outputs, leaf, cotangent.to(outputs.dtype), retain_graph=True)
            automatic = float((product.to(direction).double() * direction.double()).sum())
            expected = float((cotangent.double() * moved.double()).sum())
            gap = (abs(automatic - expected) - UNSURE * unsure) / size
            gaps.append(gap if gap > BOUNDS.get(inputs.dtype, max(BOUNDS.values())) else 0.0)
    return max(gaps)


def _difference(function: Callable[[Frames], Frames], inputs: Frames, direction: Frames, step: float) -> Frames:
    """The central difference; float64, in which nothing is lost."""
    ahead, behind = (function(inputs + sign * step * direction).detach().double() for sign in (1, -1))
    return (ahead - behind) / (2 * step)
