"""GateOp's blend in few passes over memory, with its gradient by hand; `GateOp.trace` is the plain form of it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gmsa_models.attention.kernels.second_derivative import refuse_second_derivative

__all__ = ["GatedOutput", "gated_output"]

Rows = Float[Tensor, "rows dim"]
Weight = Float[Tensor, "dim dim"]


def gated_output(
    context_global: Float[Tensor, "batch frames dim"],
    context_local: Float[Tensor, "batch frames dim"],
    output_global: Weight,
    output_local: Weight,
    gate_global: Weight,
    gate_local: Weight,
    bias: Float[Tensor, " dim"] | None,
) -> Float[Tensor, "batch frames dim"]:
    """Y = R_g * (O_g W^og) + R_l * (O_l W^ol) + b.

    Args:
        context_global: O_g.
        context_local: O_l.
        output_global: W^og as a `Linear` stores it: (out, in).
        output_local: W^ol, likewise.
        gate_global: W_g^g, likewise.
        gate_local: W_g^l, likewise.
        bias: b, or None.

    Returns:
        Y. It can be differentiated once; for more, and for torch.func, take `GateOp.trace`.

    Source:
        Equations 7 to 9.
    """
    dtype = context_global.dtype
    weights = [weight.to(dtype) for weight in (output_global, output_local, gate_global, gate_local)]
    bias = None if bias is None else bias.to(dtype)
    with torch.autocast(context_global.device.type, enabled=False):
        rows = GatedOutput.apply(context_global.flatten(0, 1), context_local.flatten(0, 1), *weights, bias)
    return rows.view_as(context_global)


class GatedOutput(torch.autograd.Function):
    """The blend of equations 7 to 9, on rows.

    A softmax over a pair is the sigmoid of the difference, so with z = O_g W_g^g - O_l W_g^l and R = sigmoid(z),
    R_g = R, R_l = 1 - R, and Y = Y_l + R * (Y_g - Y_l) + b.
    """

    @staticmethod
    def forward(
        ctx: Any,
        context_g: Rows,
        context_l: Rows,
        output_g: Weight,
        output_l: Weight,
        gate_g: Weight,
        gate_l: Weight,
        bias: Float[Tensor, " dim"] | None,
    ) -> Rows:
        """Y; products are summed where they lie, so that three matrices are made instead of nine."""
        gate = (context_g @ gate_g.T).addmm_(context_l, gate_l.T, alpha=-1).sigmoid_()
        branch_l = context_l @ output_l.T
        difference = (context_g @ output_g.T).sub_(branch_l)
        ctx.save_for_backward(context_g, context_l, output_g, output_l, gate_g, gate_l, gate, difference)
        output = branch_l.addcmul_(gate, difference)
        return output if bias is None else output.add_(bias)

    @staticmethod
    def backward(ctx: Any, grad: Rows) -> tuple[Tensor | None, ...]:
        """dY_g = R dY, dY_l = dY - R dY, dz = (Y_g - Y_l) R (1 - R) dY; frozen weights have none."""
        refuse_second_derivative()
        context_g, context_l, output_g, output_l, gate_g, gate_l, gate, difference = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        grad_g = grad * gate
        grad_l = grad - grad_g
        grad_z = grad * difference
        torch.ops.aten.sigmoid_backward.grad_input(grad_z, gate, grad_input=grad_z)
        return (
            (grad_g @ output_g).addmm_(grad_z, gate_g),
            (grad_l @ output_l).addmm_(grad_z, gate_l, alpha=-1),
            grad_g.T @ context_g if wanted[2] else None,
            grad_l.T @ context_l if wanted[3] else None,
            grad_z.T @ context_g if wanted[4] else None,
            (grad_z.T @ context_l).neg_() if wanted[5] else None,
            grad.sum(0) if wanted[6] else None,
        )
