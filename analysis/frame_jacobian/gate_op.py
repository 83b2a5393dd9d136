"""Frame Jacobians of GateOp: two maps a head, and output matrices that change from frame to frame.

With the gates R_g, R_l of frame i and E = (Y_g - Y_l) R_g R_l, all vectors over output components,

    dY_i = B_i^g dO_i^g + B_i^l dO_i^l,
    B_i^g = diag(R_g) W^og + diag(E) W_g^g,    B_i^l = diag(R_l) W^ol - diag(E) W_g^l,

so the block is the plain one with 2 M heads, (branch, m), whose W_O^m is the d columns of B_i of that branch:

    J_ij = sum_bm A_ij^bm B_i^bm [W_V^m + (v_j^m - o_i^bm) (w_i^m)^T]
           + [i = j] sum_bm sum_k A_ik^bm B_i^bm (v_k^m - o_i^bm) (kappa_k^m)^T.

B_i is a sum of two constant matrices with rows scaled, diag(f_s) W_s; the factors f_s of the four matrices are
(R_g, E, R_l, -E). Sums over output components then are products, over components, of f_s f_t with tables that no
frame changes. The first line of J is here, the second in `gate_op_query`.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.frame_jacobian.chunking import chunks
from analysis.frame_jacobian.gate_op_query import as_query
from analysis.frame_jacobian.gate_op_state import GateOpClip
from analysis.frame_jacobian.tables import GateOpTables

# Queries whose local keys are taken together: enough for a matrix product, few enough to stay near the band.
TILE = 32
# The two matrices of each branch, global and local.
BRANCH_MATRICES = ((0, 1), (2, 3))


def squared_norms(clip: GateOpClip, tables: GateOpTables, max_bytes: int) -> Float[Tensor, "query key"]:
    """Squared Frobenius norms of the frame Jacobians of a GateOp block.

    Args:
        clip: maps, projections and factors of one clip; no frame is padding.
        tables: of the block.
        max_bytes: about the most that a chunk may take, beside the maps.

    Returns:
        (query, key). Rounding can leave a value that should be 0 slightly below it.

    Source:
        Differentiating equations 5 to 9.
    """
    squared = _values(clip, tables, max_bytes)
    _, heads, frames, head_dim = clip.contexts.shape
    dim = heads * head_dim
    # Vectors over components and over keys of every (branch, head), and the path products of every pair of them.
    bytes_each = (6 * 2 * heads * (dim + frames) + 8 * heads * heads) * squared.element_size()
    for rows in chunks(frames, max_bytes, bytes_each):
        squared[rows] += _rows(clip, rows, tables)
    squared.diagonal().add_(as_query(clip, tables, max_bytes))
    return squared


def _rows(clip: GateOpClip, rows: slice, tables: GateOpTables) -> Float[Tensor, "chunk key"]:
    """Every term of the first line but the values' own, C v against v, for the queries of a chunk."""
    weights, factors, contexts = clip.weights[:, :, rows], clip.factors[:, rows], clip.contexts[:, :, rows]
    paths = _path_grams(factors, tables)
    outputs = _outputs(contexts, factors, tables)
    total = torch.zeros_like(weights[0, 0])
    for head in range(clip.heads):
        directions = clip.directions[rows, :, head].T
        crossings = _crossings(head, clip.query[head, rows], directions, contexts, factors, tables)
        for branch in range(2):
            overlaps = torch.einsum("cx,bmcx->bmc", outputs[branch, head], outputs)
            constant = paths[:, branch, head].permute(1, 2, 0) - directions * overlaps
            crossing = crossings[branch]
            constant -= 2 * (crossing * contexts[branch, head]).sum(-1)
            term = crossing @ (2 * clip.value[head].T)
            term += constant.unsqueeze(-1)
            term *= weights
            total.addcmul_(term.sum((0, 1)), weights[branch, head])
    return total


def _path_grams(
    factors: Float[Tensor, "matrix chunk dim"], tables: GateOpTables
) -> Float[Tensor, "chunk branch heads branch heads"]:
    """<B_i^bm W_V^m, B_i^cn W_V^n>, Frobenius, for the queries i of a chunk."""
    count, heads = factors.shape[1], tables.path_rows.shape[-1]
    grams = factors.new_zeros(count, 2, heads, 2, heads)
    for left in range(4):
        for right in range(4):
            products = (factors[left] * factors[right]) @ tables.path_rows[left, right].flatten(1)
            grams[:, left // 2, :, right // 2] += products.unflatten(1, (heads, heads))
    return grams


def _outputs(
    vectors: Float[Tensor, "branch heads chunk head_dim"],
    factors: Float[Tensor, "matrix chunk dim"],
    tables: GateOpTables,
) -> Float[Tensor, "branch heads chunk dim"]:
    """B_i^bm x_i^bm for the queries i of a chunk."""
    return torch.stack(
        [
            sum(factors[s] * (vectors[branch] @ tables.matrices[s].permute(1, 2, 0)) for s in BRANCH_MATRICES[branch])
            for branch in range(2)
        ]
    )


def _crossings(
    head: int,
    query: Float[Tensor, "chunk head_dim"],
    directions: Float[Tensor, "heads chunk"],
    contexts: Float[Tensor, "branch heads chunk head_dim"],
    factors: Float[Tensor, "matrix chunk dim"],
    tables: GateOpTables,
) -> list[Float[Tensor, "branch heads chunk head_dim"]]:
    """(B_i^cn)^T B_i^bm (W_V^m w_i^n - (w_i^m . w_i^n) o_i^bm) of this n, for both branches c: one entry each."""
    paths = query @ tables.value_key[:, :, head].transpose(1, 2)
    outputs = _outputs(paths - directions.unsqueeze(-1) * contexts, factors, tables)
    return [sum((factors[s] * outputs) @ tables.matrices[s, :, head] for s in matrices) for matrices in BRANCH_MATRICES]


def _values(clip: GateOpClip, tables: GateOpTables, max_bytes: int) -> Float[Tensor, "query key"]:
    """A_ij^bm A_ij^cn (w_i^m . w_i^n) (B_i^bm v_j^m) . (B_i^cn v_j^n), summed over pairs (b, m), (c, n)."""
    frames, dim = clip.factors.shape[1:]
    total = torch.zeros_like(clip.weights[0, 0])
    everything = [(slice(None), slice(None))]
    near = _tiles(clip.weights[1].any(0))
    bytes_each = (4 * clip.heads + 12) * frames * total.element_size()
    for components in chunks(dim, max_bytes, bytes_each):
        factors = clip.factors[:, :, components]
        moved = clip.value @ tables.matrices[:, components].permute(0, 2, 3, 1)
        for left, right, tiles in ((0, 0, everything), (1, 1, near), (0, 1, near)):
            for rows, keys in tiles:
                total[rows, keys] += _value_pairs(clip, left, right, rows, keys, factors, moved)
    return total


def _value_pairs(
    clip: GateOpClip,
    left: int,
    right: int,
    rows: slice,
    keys: slice | Tensor,
    factors: Float[Tensor, "matrix frames part"],
    moved: Float[Tensor, "matrix heads frames part"],
) -> Float[Tensor, "chunk keys"]:
    """`_values` for pairs of a head of branch `left` with one of branch `right`, both orders, on one tile."""
    factors, moved = factors[:, rows], moved[:, :, keys]
    (a, b), (c, d) = BRANCH_MATRICES[left], BRANCH_MATRICES[right]
    same = left == right
    kinds = ((a, a), (a, b), (b, b)) if same else ((a, c), (a, d), (b, c), (b, d))
    scales = torch.cat([factors[s] * factors[t] for s, t in kinds], dim=1)
    left_weights, right_weights = clip.weights[left][:, rows][:, :, keys], clip.weights[right][:, rows][:, :, keys]
    total = torch.zeros_like(left_weights[0])
    for head in range(clip.heads):
        for other in range(head + 1 if same else clip.heads):
            products = [moved[s, head] * moved[t, other] for s, t in kinds]
            if same:
                products[1].addcmul_(moved[b, head], moved[a, other])
            pair = scales @ torch.cat(products, dim=1).T
            pair *= clip.directions[rows, head, other].unsqueeze(-1)
            pair *= left_weights[head]
            total.addcmul_(pair, right_weights[other], value=1.0 if same and head == other else 2.0)
    return total


def _tiles(support: Bool[Tensor, "query key"]) -> list[tuple[slice, Tensor]]:
    """Runs of queries, each with the keys that any of them attends to."""
    rows = [slice(start, start + TILE) for start in range(0, len(support), TILE)]
    return [(each, support[each].any(0).nonzero().squeeze(1)) for each in rows]
