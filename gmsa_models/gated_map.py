"""GateAtt's blend of two maps in few passes over memory, its gradient by hand; `GateAtt.explain` is the plain form."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

Map = Float[Tensor, "batch heads query key"]
GateWeight = Float[Tensor, "key key"]


def gated_map(weights_global: Map, weights_local: Map, gate_global: GateWeight, gate_local: GateWeight) -> Map:
    """A_m = R_g * A_g + R_l * A_l.

    Args:
        weights_global: A_g of every head.
        weights_local: A_l, 0 outside the neighbourhood.
        gate_global: W_g^g; its row is the key whose weight it takes, its column the key whose gate it opens.
        gate_local: W_g^l, likewise.

    Returns:
        The blended map. It can be differentiated once; for more, and for torch.func, take `GateAtt.explain`.

    Source:
        Equations 3 and 4.
    """
    dtype = weights_global.dtype
    with torch.autocast(weights_global.device.type, enabled=False):
        return GatedMap.apply(weights_global, weights_local.to(dtype), gate_global.to(dtype), gate_local.to(dtype))


class GatedMap(torch.autograd.Function):
    """Equations 3 and 4. A softmax over a pair is the sigmoid of the difference.

    With z = A_g W_g^g - A_l W_g^l and R = sigmoid(z): R_g = R, R_l = 1 - R and A = A_l + R * (A_g - A_l).
    """

    @staticmethod
    def forward(ctx, weights_g: Map, weights_l: Map, gate_g: GateWeight, gate_l: GateWeight) -> Map:
        """A; the two products are summed where they lie."""
        rows_g, rows_l = weights_g.flatten(0, 2), weights_l.flatten(0, 2)
        gate = (rows_g @ gate_g).addmm_(rows_l, gate_l, alpha=-1).sigmoid_().view_as(weights_g)
        ctx.save_for_backward(weights_g, weights_l, gate, gate_g, gate_l)
        return torch.lerp(weights_l, weights_g, gate)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Map) -> tuple[Map, Map, GateWeight, GateWeight]:
        """dz = dA * (A_g - A_l) * R (1 - R); the rest are products with it."""
        weights_g, weights_l, gate, gate_g, gate_l = ctx.saved_tensors
        grad_logit = torch.ops.aten.sigmoid_backward(grad * (weights_g - weights_l), gate).flatten(0, 2)
        grad_g = grad * gate
        grad_l = grad - grad_g
        grad_g.flatten(0, 2).addmm_(grad_logit, gate_g.T)
        grad_l.flatten(0, 2).addmm_(grad_logit, gate_l.T, alpha=-1)
        grad_gate_g = weights_g.flatten(0, 2).T @ grad_logit
        grad_gate_l = -(weights_l.flatten(0, 2).T @ grad_logit)
        return grad_g, grad_l, grad_gate_g, grad_gate_l
