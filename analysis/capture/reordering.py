"""Functions of torch that may put the clips of a batch in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.capture.operations import JOINS, MOVES

__all__ = ["REORDERING", "may_reorder"]

_INDEXED = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}
# Position of the axes among the arguments, where that is not the default, the last one.
_AXES = {"roll": 2, "flip": 1, "index_select": 1, "gather": 1, "take_along_dim": 2, "sort": 1, "topk": 2, "msort": 9}
REORDERING = MOVES | JOINS | _INDEXED | {torch.take, torch.msort, torch._VF._pack_padded_sequence}


def may_reorder(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether one of these functions may do so by its arguments; parts, and what is of weights, stay in their order."""
    if function in _INDEXED:
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return not isinstance(args[0], nn.Parameter) and any(
            isinstance(each, Tensor | np.ndarray | list) for each in index
        )
    if function in JOINS:
        return kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else 0)) == 0
    place = _AXES.get(getattr(function, "__name__", ""))
    if place is None or not isinstance(args[0], Tensor):
        return True
    values = args[place:] if function.__name__ == "flip" else args[place : place + 1]
    axes = kwargs.get("dims", kwargs.get("dim", values[0] if len(values) == 1 else values))
    if isinstance(axes, int):
        axes = (axes,)
    if not axes:
        return function.__name__ in ("roll", "take_along_dim", "msort")
    # Clips are the first axis, or the second behind time.
    return any(axis % args[0].ndim < min(2, args[0].ndim - 1) for axis in axes)
