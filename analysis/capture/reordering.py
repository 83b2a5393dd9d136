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
    return True
