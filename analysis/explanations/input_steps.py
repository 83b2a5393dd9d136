"""Which time step each number of a module's input is of: told by the sizes, and seen by what moves when it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.capture.adapter import Inputs
from analysis.capture.given import frame_tensors
from gmsa_models.errors import ArgumentError

__all__ = ["Steps", "Values", "explained_tensor", "module_steps", "replaced_tensor"]

Values = Float[Tensor, "*numbers"]
Steps = Int[Tensor, "*numbers"]
Tokens = Callable[[Inputs], Float[Tensor, "frames numbers"]]

_PROBED = 8  # time steps that are changed, at most


def module_steps(inputs: Inputs, count: int, tokens: Tokens | None = None) -> Steps:
    """The time step of each number of an input one of whose axes is time, a multiple of the time steps.

    Args:
        inputs: of one clip; of several arguments the one of `explained_tensor` is meant.
        count: of the time steps.
        tokens: what the module makes of other inputs, by time step; by it the axis is seen: where a part of it changes,
            the tokens of that time step do. None: it is the second axis, if no other is a multiple too.

    Returns:
        It broadcasts to the tensor.

    Raises:
        ArgumentError: no axis is, or which one is not known.
    """
    values = explained_tensor(inputs, count)
    axes = [axis for axis in range(1, values.ndim) if values.shape[axis] % count == 0]
    if tokens is None:
        axes = axes if axes == [1] else []
    elif count > 1:
        axes = [axis for axis in axes if _is_time(inputs, axis, count, tokens)]
    if not axes or (len(axes) > 1 and count > 1):
        raise ArgumentError(
            f"the input has shape {tuple(values.shape)}; which of it belongs to each of the {count} time steps is not "
            "known: give steps=, a tensor of their numbers of that shape, or one that broadcasts to it"
        )
    shape = [1] * values.ndim
    shape[axes[0]] = values.shape[axes[0]]
    return (torch.arange(shape[axes[0]]) // (shape[axes[0]] // count)).reshape(shape)


def _is_time(inputs: Inputs, axis: int, count: int, tokens: Tokens) -> bool:
    """Whether a change of a part of an axis is one of the tokens of its time step: most of it, or always most there."""
    values = explained_tensor(inputs, count)
    plain = tokens(inputs)
    length = values.shape[axis] // count
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(0)).to(values)
    noise *= float(values.std()) or 1.0
    probed = sorted({round(step * (count - 1) / (_PROBED - 1)) for step in range(_PROBED)})
    shares, first = [], []
    for step in probed:
        changed = values.clone()
        changed.narrow(axis, step * length, length).add_(noise.narrow(axis, step * length, length))
        moved = (tokens(replaced_tensor(inputs, values, changed)) - plain).double().square().sum(1)
        shares.append(float(moved[step] / moved.sum()))
        first.append(int(moved.argmax()) == step)
    share = sum(shares) / len(shares)
    return share > (1 + 1 / count) / 2 or (count > 3 and all(first) and share > 1.5 / count)


def explained_tensor(inputs: Inputs, count: int, steps: Tensor | None = None) -> Values:
    """Of the tensors of floats among the arguments the first that holds features of the frames, as far as sizes tell.

    Times, positions, masks and biases hold none; see `analysis.capture.given.frame_tensors`.

    Args:
        inputs: of one clip.
        count: of the time steps.
        steps: of its numbers, where they are given: a tensor to which they broadcast goes first.

    Returns:
        It; an empty one where there is none.
    """
    floats = [each for each in _arguments(inputs) if isinstance(each, Tensor) and each.is_floating_point()]
    fitting = [each for each in floats if steps is not None and _broadcasts(steps, each)] or floats
    axes = [each for each in fitting if each.ndim > 1 and not each.is_nested]
    return next(iter(frame_tensors(axes, count) or fitting), torch.empty(0))


def _broadcasts(steps: Tensor, values: Tensor) -> bool:
    sizes = zip(steps.shape[::-1], values.shape[::-1], strict=False)
    return steps.ndim == values.ndim and all(one in (1, other) for one, other in sizes)


def replaced_tensor(inputs: Inputs, old: Tensor, values: Tensor) -> Inputs:
    """The same arguments, with other values in place of a tensor among them."""
    if isinstance(inputs, Mapping):
        return {name: values if each is old else each for name, each in inputs.items()}
    return tuple(values if each is old else each for each in inputs) if isinstance(inputs, tuple) else values


def _arguments(inputs: Inputs) -> list[Any]:
    if isinstance(inputs, Mapping):
        return list(inputs.values())
    return list(inputs) if isinstance(inputs, tuple) else [inputs]
