"""Inputs of a module with other numbers wherever they carry frames, and the same masks and positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["other_inputs"]

WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
MASKED = -1e3  # scores at most this are those of a mask


def other_inputs(arguments: Any) -> Iterator[Any]:
    """The same arguments with other numbers, of all tensors that may carry frames; then of those of floats alone.

    A module may not run with other whole numbers, as where they say how long something is. Masks and positions stay,
    but where there is nothing else.

    Args:
        arguments: any tuples, lists and dictionaries.
    """
    tensors = [each for each in tree_leaves(arguments) if isinstance(each, Tensor) and each.numel()]
    content = [each for each in tensors if not _is_mask(each) and not _is_position(each)]
    content = content or [each for each in tensors if each.dtype in WHOLE][:1] or tensors
    floats = [each for each in content if each.is_floating_point()]
    yield _replaced(arguments, content)
    if floats and len(floats) < len(content):
        yield _replaced(arguments, floats)


def _replaced(arguments: Any, changed: list[Tensor]) -> Any:
    known = {id(each): _changed(each, number) for number, each in enumerate(changed)}
    return tree_map(lambda each: known.get(id(each), each), arguments)


def _is_mask(values: Tensor) -> bool:
    """Whether it has two numbers, as a mask has, and no axis of features: of tokens alone, or of tokens by tokens."""
    if values.is_complex():
        return False
    binary = (values == 0) | (values == 1)
    if values.is_floating_point():
        binary = binary | (values <= MASKED)
    if not bool(binary.all()):
        return False
    sizes = [size for size in values.shape if size > 1]
    if len(sizes) < 2 or values.unique().numel() < 2:
        return True
    table = values.reshape(-1, *sizes[-2:])
    return sizes[-2] == sizes[-1] and table.diagonal(dim1=1, dim2=2).unique().numel() == 1


def _is_position(values: Tensor) -> bool:
    """Whether whole numbers count up by 1, or are one alone."""
    if values.dtype not in WHOLE:
        return False
    return values.numel() == 1 or (values.shape[-1] > 1 and bool((values.diff(dim=-1) == 1).all()))


def _changed(values: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if values.dtype == torch.bool or (values.unique().numel() == 2 and bool(((values == 0) | (values == 1)).all())):
        order = torch.randperm(values.numel(), generator=generator).to(values.device)
        return values.flatten()[order].reshape(values.shape)
    if not (values.is_floating_point() or values.is_complex()):
        return values.min() + values.max() - values
    noise = torch.randn(values.shape, generator=generator).to(values)
    spread = float(values.detach().abs().float().std()) if values.numel() > 1 else 0.0
    return values.detach() + (spread if spread > 0 else 1.0) * noise
