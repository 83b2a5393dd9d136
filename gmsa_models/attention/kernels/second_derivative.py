"""Gradients written by hand can be taken once; this says so where more is asked."""

from __future__ import annotations

import torch

from gmsa_models.errors import GMSAError

__all__ = ["SecondDerivativeError", "refuse_second_derivative"]


class SecondDerivativeError(GMSAError, RuntimeError):
    """A derivative of a derivative was asked of a gradient written by hand."""


def refuse_second_derivative() -> None:
    """Raise if a graph of the gradient is being built.

    torch's `once_differentiable` is not enough: `autograd.grad` walks past it, and the part of a second derivative
    that goes through here would be missing without a word.

    Raises:
        SecondDerivativeError: the gradient is taken with `create_graph=True`.
    """
    if torch.is_grad_enabled():
        raise SecondDerivativeError(
            "the forward pass of a block with a local branch can be differentiated once, and create_graph=True was "
            "given; differentiate what `trace(batch, grad=True)` or the block's `trace` returns instead"
        )
