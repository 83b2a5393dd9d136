"""Which of the tensors that a module is given hold the frames, and which are masks, times, positions or biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

__all__ = ["frame_tensors", "tensors_given"]

MASKED = -1e3  # scores at most this are those of a mask


def tensors_given(arguments: Any) -> list[Tensor]:
    """The tensors of several axes among some arguments, each once, in their order.

    Args:
        arguments: any tuples, lists and dictionaries.
    """
    tensors = [each for each in tree_leaves(arguments) if isinstance(each, Tensor)]
    several = {id(each): each for each in tensors if not each.is_nested and each.ndim > 1}
    return list(several.values())


def frame_tensors(tensors: Sequence[Tensor], frames: int) -> list[Tensor]:
    """Those that hold the frames as far as sizes tell, floats first; several where these do not tell them apart.

    They are no masks; have an axis that is a multiple of the frames long; beside it an axis of features; and are not
    of frames by frames, as a bias is. Where no tensor is all of it, the first of these counts most.

    Args:
        tensors: of several axes.
        frames: time steps of the layout.
    """
    if len(tensors) < 2:
        return list(tensors)
    ranks = [_rank(each, frames) for each in tensors]
    best = [each for each, rank in zip(tensors, ranks, strict=True) if rank == min(ranks)]
    return sorted(best, key=lambda each: not each.is_floating_point())


def _rank(values: Tensor, frames: int) -> tuple[bool, ...]:
    """What speaks against a tensor, the weightiest first."""
    of_time = [axis for axis, size in enumerate(values.shape) if size % frames == 0 and (size > 1 or frames == 1)]
    time = next((axis for axis in of_time if axis), 0)
    features = any(size > 1 for axis, size in enumerate(values.shape) if axis not in (0, time))
    if not time and of_time:  # time first
        features = values.ndim > 2 or values.shape[-1] > 1
    square = values.shape[-1] == values.shape[-2] and values.ndim - 1 in of_time
    return _is_mask(values), not of_time, not features, square


def _is_mask(values: Tensor) -> bool:
    """Whether it has no other numbers than those of a mask."""
    if values.is_meta or values.is_complex():
        return False
    binary = (values == 0) | (values == 1)
    if values.is_floating_point():
        binary = binary | (values <= MASKED)
    return bool(binary.all())
