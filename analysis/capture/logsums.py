"""Scores less the logarithm of their sum of exponentials are the logarithm of a map, as log_softmax writes it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from analysis.capture.followed import TensorTable
from analysis.capture.operations import LOGSUMS, SAME, SUBTRACTIONS

__all__ = ["LogSums"]


class LogSums:
    """Logarithms of sums of exponentials, and of what, as long as they live."""

    def __init__(self) -> None:
        self._totals = TensorTable[tuple[Tensor, int]]()

    def __len__(self) -> int:
        return len(self._totals)

    def see(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
        """Take note of a call of torch; the axis of the keys of the logarithm of a map, if it makes one."""
        axis = self._normalised(func, args, result) if self._totals and isinstance(result, Tensor) else None
        if func in LOGSUMS and args and isinstance(result, Tensor):
            dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
            dim = dim[0] if isinstance(dim, tuple | list) and len(dim) == 1 else dim
            if type(dim) is int:
                self._totals[result] = (args[0], dim % args[0].ndim)
        return axis

    def _normalised(self, func: Any, args: tuple[Any, ...], result: Tensor) -> int | None:
        total = next((self._totals[each] for each in args if each in self._totals), None)
        if total is None:
            return None
        if func in SAME or func is torch.Tensor.__getitem__:
            self._totals[result] = total
        elif func in SUBTRACTIONS and args[0] is total[0] and result.shape == total[0].shape:
            return total[1]
        return None
