"""Whether what a module returns can be what an activation is of: numbers that are probabilities already are not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from analysis.capture.operations import LOGARITHMS, SOFTMAXES
from analysis.errors import RecordWarning

__all__ = ["warn_of_activation"]

SUMS = 1e-3  # how far from 1 the sum of probabilities may be
_SIGMOIDS = {
    torch.sigmoid, torch.sigmoid_, torch.Tensor.sigmoid, torch.Tensor.sigmoid_, torch.special.expit, F.sigmoid,
}  # fmt: skip


def warn_of_activation(
    name: str, logits: Float[Tensor, "1 classes"], activation: str, again: Callable[[], Any] | None
) -> None:
    """Say so where an activation makes other numbers of a module's than its probabilities.

    Args:
        name: of the module.
        logits: what it returned.
        activation: "softmax" or "sigmoid".
        again: runs it once more, where all numbers are between 0 and 1; None: it cannot be run.

    Warns:
        RecordWarning: one class and a softmax, which is 1 whatever the module returns; probabilities, of which an
            activation is taken again.
    """
    values = logits.detach().double()
    if not values.numel() or not bool(values.isfinite().all()):
        return
    if values.shape[1] == 1 and activation == "softmax":
        _warn(
            f"{name} returns one number, whose softmax is 1 for every input: give activation='sigmoid' where it is the "
            "logit of one class"
        )
        return
    several = values.shape[1] > 1
    if activation == "sigmoid" and several and abs(float(values.exp().sum()) - 1) <= SUMS and bool((values <= 0).all()):
        _warn(f"{name} returns logarithms of probabilities that sum to 1: give activation='softmax', which leaves them")
    elif bool(((values >= 0) & (values <= 1)).all()):
        shares = several and abs(float(values.sum()) - 1) <= SUMS
        if shares or (again is not None and _is_squashed(again, logits)):
            _warn(
                f"{name} returns numbers from 0 to 1"
                + (" that sum to 1" if shares else ", of a sigmoid or softmax inside it")
                + f", and activation={activation!r} is taken of them as if they were logits, so that the scores are "
                "other probabilities than its own: let it return logits (their logarithm, or torch.logit of each)"
            )


def _warn(message: str) -> None:
    warnings.warn(message, RecordWarning, stacklevel=5)


class _Squashed(TorchFunctionMode):
    """Keeps what sigmoids and softmaxes gave of as many numbers as a result has."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.results: list[Tensor] = []
        self._count = count

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        squashes = func in _SIGMOIDS or (func in SOFTMAXES and func not in LOGARITHMS)
        if squashes and isinstance(result, Tensor) and result.numel() == self._count:
            self.results.append(result)
        return result


def _is_squashed(again: Callable[[], Any], logits: Tensor) -> bool:
    """Whether a sigmoid or softmax gave just these numbers."""
    seen = _Squashed(logits.numel())
    with torch.no_grad(), seen:
        again()
    return any(torch.equal(each.flatten(), logits.flatten()) for each in seen.results)
