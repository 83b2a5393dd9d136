"""What the closed form of GateOp needs of one clip, and of a few of its frames as queries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.sensitivity.closed_form.constants import GateOpTables

__all__ = ["BRANCH_MATRICES", "GLOBAL", "LOCAL", "GateOpClip", "Tile", "gate_op_clip", "gate_op_tile", "move"]

Heads = Float[Tensor, "heads frames head_dim"]
Maps = Float[Tensor, "heads query key"]

GLOBAL, LOCAL = 0, 1
# The two matrices of each branch; see `GateOpTables`.
BRANCH_MATRICES = ((0, 1), (2, 3))


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


@dataclass(frozen=True)
class Tile:
    """A run of queries i, with the keys that any of them attends to locally.

    Attributes:
        rows: which frames the queries are.
        near: those keys.
        weights, query, contexts, factors, directions: as in `GateOpClip`, of these queries.
        near_weights: weights on the near keys.
        outputs: B_i^b o_i^b.
        moved: W_s^m v_j^m of the near keys j, for each of the four matrices W_s.
    """

    rows: slice
    near: Int[Tensor, " near"]
    weights: Float[Tensor, "branch=2 heads rows key"]
    near_weights: Float[Tensor, "branch=2 heads rows near"]
    query: Float[Tensor, "heads rows head_dim"]
    contexts: Float[Tensor, "branch=2 heads rows head_dim"]
    factors: Float[Tensor, "matrix=4 rows dim"]
    directions: Float[Tensor, "rows heads heads"]
    outputs: Float[Tensor, "branch=2 heads rows dim"]
    moved: Float[Tensor, "matrix=4 heads near dim"]


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


def gate_op_tile(clip: GateOpClip, rows: slice, tables: GateOpTables) -> Tile:
    """The tile of some rows."""
    weights, contexts, factors = clip.weights[:, :, rows], clip.contexts[:, :, rows], clip.factors[:, rows]
    near = weights[LOCAL].any(0).any(0).nonzero().squeeze(1)
    return Tile(
        rows=rows,
        near=near,
        weights=weights,
        near_weights=weights[..., near],
        query=clip.query[:, rows],
        contexts=contexts,
        factors=factors,
        directions=clip.directions[rows],
        outputs=move(contexts, factors, tables),
        moved=clip.value[:, near] @ tables.matrices,
    )


def move(
    vectors: Float[Tensor, "branch=2 heads rows head_dim"],
    factors: Float[Tensor, "matrix=4 rows dim"],
    tables: GateOpTables,
) -> Float[Tensor, "branch=2 heads rows dim"]:
    """B_i^bm x_i^bm for some queries i."""
    moved = vectors.new_empty(*vectors.shape[:3], factors.shape[2])
    for branch_vectors, target, (first, second) in zip(vectors, moved, BRANCH_MATRICES, strict=True):
        torch.matmul(branch_vectors, tables.matrices[first], out=target)
        target.mul_(factors[first]).addcmul_(branch_vectors @ tables.matrices[second], factors[second])
    return moved


def _factors(
    contexts: Float[Tensor, "branch frames dim"], tables: GateOpTables
) -> Float[Tensor, "matrix=4 frames dim"]:
    """R_g, E, R_l and -E. The block's output bias is the same in both branches and leaves E alone."""
    output_global, logits_global, output_local, logits_local = (
        contexts[index // 2] @ matrix.flatten(0, 1) for index, matrix in enumerate(tables.matrices)
    )
    gate = torch.sigmoid(logits_global - logits_local)
    rest = torch.sigmoid(logits_local - logits_global)
    shared = (output_global - output_local) * gate * rest
    return torch.stack([gate, shared, rest, -shared])
