"""What the closed form of GateOp and GateOpScales needs of one clip, and of a few of its frames as queries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.sensitivity.closed_form.constants import GateOpTables

__all__ = ["GLOBAL", "LOCAL", "GateOpClip", "Tile", "gate_op_clip", "gate_op_tile", "matrices_of", "move"]

Heads = Float[Tensor, "heads frames head_dim"]

# The global branch, and the first local one; all from that one on are local.
GLOBAL, LOCAL = 0, 1


def matrices_of(branch: int) -> tuple[int, int]:
    """Where W^o and W_g of a branch are; see `GateOpTables`."""
    return 2 * branch, 2 * branch + 1


@dataclass(frozen=True)
class GateOpClip:
    """Maps, projections and gates of one clip; "branch" is global, then each local one.

    Attributes:
        weights: A of each branch.
        query: q.
        key: k, around its mean over frames.
        value: v, around its mean over frames: rows of all maps sum to 1, so no difference v - o changes.
        contexts: o = A v of that v.
        factors: R and E of each branch, what scales the rows of the matrices of `GateOpTables`; E = R (Y^b - sum R Y),
            so with two branches (R_g, E, R_l, -E).
        directions: w_i^m . w_i^n.
    """

    weights: Float[Tensor, "branch heads query key"]
    query: Heads
    key: Heads
    value: Heads
    contexts: Float[Tensor, "branch heads frames head_dim"]
    factors: Float[Tensor, "matrix frames dim"]
    directions: Float[Tensor, "frames heads heads"]

    @property
    def heads(self) -> int:
        """M."""
        return self.query.shape[0]


@dataclass(frozen=True)
class Tile:
    """A run of queries i, with the keys that any of them attends to in a local branch.

    Attributes:
        rows: which frames the queries are.
        near: those keys.
        weights, query, contexts, factors, directions: as in `GateOpClip`, of these queries.
        near_weights: weights on the near keys.
        outputs: B_i^b o_i^b.
        moved: W_s^m v_j^m of the near keys j, for each of the matrices W_s.
    """

    rows: slice
    near: Int[Tensor, " near"]
    weights: Float[Tensor, "branch heads rows key"]
    near_weights: Float[Tensor, "branch heads rows near"]
    query: Float[Tensor, "heads rows head_dim"]
    contexts: Float[Tensor, "branch heads rows head_dim"]
    factors: Float[Tensor, "matrix rows dim"]
    directions: Float[Tensor, "rows heads heads"]
    outputs: Float[Tensor, "branch heads rows dim"]
    moved: Float[Tensor, "matrix heads near dim"]


def gate_op_clip(
    weights: Float[Tensor, "branch heads query key"], query: Heads, key: Heads, value: Heads, tables: GateOpTables
) -> GateOpClip:
    """Equations 5 to 8, and what follows from them for one clip."""
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
    near = weights[LOCAL:].flatten(0, 2).any(0).nonzero().squeeze(1)
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
    vectors: Float[Tensor, "branch heads rows head_dim"],
    factors: Float[Tensor, "matrix rows dim"],
    tables: GateOpTables,
) -> Float[Tensor, "branch heads rows dim"]:
    """B_i^bm x_i^bm for some queries i."""
    moved = vectors.new_empty(*vectors.shape[:3], factors.shape[2])
    for branch, (branch_vectors, target) in enumerate(zip(vectors, moved, strict=True)):
        first, second = matrices_of(branch)
        torch.matmul(branch_vectors, tables.matrices[first], out=target)
        target.mul_(factors[first]).addcmul_(branch_vectors @ tables.matrices[second], factors[second])
    return moved


def _factors(contexts: Float[Tensor, "branch frames dim"], tables: GateOpTables) -> Float[Tensor, "matrix frames dim"]:
    """R and E of each branch. The block's output bias is the same in all branches and leaves E alone."""
    matrices = tables.matrices.flatten(1, 2)
    outputs, logits = contexts @ matrices[0::2], contexts @ matrices[1::2]
    gates = logits.softmax(0)
    # Around one branch's outputs, so that the difference of two that are alike loses no figures.
    outputs = outputs - outputs[:1]
    shared = gates * (outputs - (gates * outputs).sum(0))
    return torch.stack([gates, shared], 1).flatten(0, 1)
