"""What the closed form of GateOp needs of one clip."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.frame_jacobian.tables import GateOpTables

Heads = Float[Tensor, "heads frames head_dim"]
Maps = Float[Tensor, "heads query key"]


@dataclass(frozen=True)
class GateOpClip:
    """Maps, projections and gates of one clip; "branch" is global, local.

    Attributes:
        weights: A_g and A_l.
        query: q.
        key: k, around its mean over frames.
        value: v, around its mean over frames: rows of both maps sum to 1, so no difference v - o changes.
        contexts: o = A v of that v.
        factors: (R_g, E, R_l, -E), what scales the rows of the four matrices of `GateOpTables`.
        directions: w_i^m . w_i^n.
    """

    weights: Float[Tensor, "branch=2 heads query key"]
    query: Heads
    key: Heads
    value: Heads
    contexts: Float[Tensor, "branch=2 heads frames head_dim"]
    factors: Float[Tensor, "matrix=4 frames dim"]
    directions: Float[Tensor, "frames heads heads"]

    @property
    def heads(self) -> int:
        """M."""
        return self.query.shape[0]


def gate_op_clip(
    weights_global: Maps, weights_local: Maps, query: Heads, key: Heads, value: Heads, tables: GateOpTables
) -> GateOpClip:
    """Equations 5 to 8, and what follows from them for one clip."""
    weights = torch.stack([weights_global, weights_local])
    factors = _factors((weights @ value).transpose(1, 2).flatten(2), tables)
    value, key = value - value.mean(1, keepdim=True), key - key.mean(1, keepdim=True)
    return GateOpClip(
        weights=weights,
        query=query,
        key=key,
        value=value,
        contexts=weights @ value,
        factors=factors,
        directions=torch.einsum("mta,manb,ntb->tmn", query, tables.key_gram, query),
    )


def _factors(
    contexts: Float[Tensor, "branch frames dim"], tables: GateOpTables
) -> Float[Tensor, "matrix=4 frames dim"]:
    """R_g, E, R_l and -E. The block's output bias is the same in both branches and leaves E alone."""
    output_global, logits_global, output_local, logits_local = (
        contexts[index // 2] @ matrix.flatten(1).T for index, matrix in enumerate(tables.matrices)
    )
    gate = torch.sigmoid(logits_global - logits_local)
    rest = torch.sigmoid(logits_local - logits_global)
    shared = (output_global - output_local) * gate * rest
    return torch.stack([gate, shared, rest, -shared])
