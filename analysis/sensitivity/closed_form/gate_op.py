"""Frame Jacobians of GateOp and GateOpScales: several maps a head, and output matrices that change from frame to frame.

Symbols and form: docs/concepts/frame_sensitivity.md.
"""

from __future__ import annotations

from functools import reduce
from operator import add

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.advance import advance
from analysis.chunking import chunks
from analysis.sensitivity.closed_form.constants import GateOpTables
from analysis.sensitivity.closed_form.gate_op_query import as_query
from analysis.sensitivity.closed_form.gate_op_state import (
    GLOBAL,
    LOCAL,
    GateOpClip,
    Tile,
    gate_op_tile,
    matrices_of,
    move,
)
from analysis.sensitivity.closed_form.gate_op_values import global_value_pairs, near_value_pairs

__all__ = ["squared_norms"]

# Queries taken together: enough for matrix products, few enough that their local keys stay near the band.
TILE = 50


def squared_norms(clip: GateOpClip, tables: GateOpTables, max_bytes: int) -> Float[Tensor, "query key"]:
    """Squared Frobenius norms of the frame Jacobians of a block that blends outputs.

    Args:
        clip: maps, projections and factors of one clip; no frame is padding.
        tables: of the block.
        max_bytes: about the most that a tile may take, beside the maps.

    Returns:
        (query, key). Rounding can leave a value that should be 0 slightly below it.

    Source:
        Differentiating equations 5 to 9.
    """
    squared = global_value_pairs(clip, tables, max_bytes)
    frames, dim = clip.factors.shape[1:]
    # Y of each query, see `as_query`, and vectors over components and over keys of every branch head.
    branches = len(clip.weights)
    bytes_each = (
        dim * (dim + 12 * branches * clip.heads) + 2 * branches * clip.heads * frames
    ) * squared.element_size()
    rows = list(chunks(frames, min(max_bytes, TILE * bytes_each), bytes_each))
    room = squared.new_empty(rows[0].stop, dim, dim)
    for part in rows:
        tile = gate_op_tile(clip, part, tables)
        squared[part] += _alone_and_crossed(clip, tile, tables)
        squared[part, tile.near] += near_value_pairs(tile)
        squared[part, part].diagonal().add_(as_query(clip, tile, room[: part.stop - part.start], tables))
        advance((part.stop - part.start) / frames)
    return squared


def _alone_and_crossed(clip: GateOpClip, tile: Tile, tables: GateOpTables) -> Float[Tensor, "rows key"]:
    """The first line of J alone, less the values' own pairs.

    A sum over pairs of branch heads (b, m) and (c, n) of

    A_ij^bm A_ij^cn [<B^bm W_V^m, B^cn W_V^n> + 2 (v_j^n - o_i^cn) . (B^cn)^T z - (w_i^m . w_i^n) (B o)^bm . (B o)^cn]
    with z = B^bm (W_V^m w_i^n - (w_i^m . w_i^n) o_i^bm), a vector over components.
    """
    paths = _path_grams(tile.factors, tables)
    total = torch.zeros_like(tile.weights[0, 0])
    near = torch.zeros_like(total[:, tile.near])
    for head in range(clip.heads):
        directions = tile.directions[:, :, head].T
        vectors = tile.query[head] @ tables.value_key[:, :, head].transpose(1, 2)
        vectors = move(vectors - directions.unsqueeze(-1) * tile.contexts, tile.factors, tables)
        for branch in range(len(clip.weights)):
            own = tile.outputs[branch, head]
            constant = paths[:, branch, head].permute(1, 2, 0) - directions * (tile.outputs * own).sum(-1)
            constant -= 2 * (vectors * own).sum(-1)
            # Two global maps meet at every key, any other two at the near ones.
            if branch == GLOBAL:
                total += _at_every_key(clip.value[head], head, vectors[GLOBAL], constant[GLOBAL], tile, tables)
            others = slice(LOCAL, None) if branch == GLOBAL else slice(None)
            near += _at_near_keys(head, branch, others, vectors[others], constant[others], tile)
    total[:, tile.near] += near
    return total


def _at_every_key(
    value: Float[Tensor, "key head_dim"],
    head: int,
    vectors: Float[Tensor, "heads rows dim"],
    constant: Float[Tensor, "heads rows"],
    tile: Tile,
    tables: GateOpTables,
) -> Float[Tensor, "rows key"]:
    """Head n of the global branch against every head of it: A^n A^m (constant + 2 v_j^n . (B^n)^T z)."""
    crossing = reduce(add, ((tile.factors[s] * vectors) @ tables.matrices[s, head].T for s in matrices_of(GLOBAL)))
    products = (crossing @ (2 * value).T).add_(constant.unsqueeze(-1)).mul_(tile.weights[GLOBAL])
    return products.sum(0).mul_(tile.weights[GLOBAL, head])


def _at_near_keys(
    head: int,
    branch: int,
    others: slice,
    vectors: Float[Tensor, "others heads rows dim"],
    constant: Float[Tensor, "others heads rows"],
    tile: Tile,
) -> Float[Tensor, "rows near"]:
    """Head n of one branch against every head of the `others`: A^n A^m (constant + 2 (B^n v_j^n) . z)."""
    near = tile.near_weights
    products = reduce(add, ((tile.factors[s] * vectors) @ tile.moved[s, head].T for s in matrices_of(branch)))
    products.mul_(2.0).add_(constant.unsqueeze(-1)).mul_(near[others])
    return products.sum((0, 1)).mul_(near[branch, head])


def _path_grams(
    factors: Float[Tensor, "matrix rows dim"], tables: GateOpTables
) -> Float[Tensor, "rows branch heads branch heads"]:
    """<B_i^bm W_V^m, B_i^cn W_V^n>, Frobenius, of some queries i."""
    count, heads = factors.shape[1], tables.path_rows.shape[-1]
    matrices = len(factors)
    grams = factors.new_zeros(count, matrices // 2, heads, matrices // 2, heads)
    for left in range(matrices):
        for right in range(matrices):
            products = (factors[left] * factors[right]) @ tables.path_rows[left, right].flatten(1)
            grams[:, left // 2, :, right // 2] += products.unflatten(1, (heads, heads))
    return grams
