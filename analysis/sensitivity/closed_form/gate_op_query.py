"""GateOp, frame i as its own query: what |J_ii|^2 has beyond the form of every other |J_ij|^2.

The term: docs/concepts/frame_sensitivity.md.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.chunking import chunks
from analysis.sensitivity.closed_form.constants import GateOpTables
from analysis.sensitivity.closed_form.gate_op_state import GLOBAL, GateOpClip, Tile, matrices_of, move

__all__ = ["as_query"]

# Frames whose Y and inner vectors go through the caches together: one frame at D = 1024 in float32, many at D = 128.
CACHE_BYTES = 2**22
# Y L with L lower triangular is taken this many columns at a time, skipping the zeros of L above them.
COLUMNS = 64


def as_query(
    clip: GateOpClip, tile: Tile, through_query: Float[Tensor, "rows dim dim"], tables: GateOpTables
) -> Float[Tensor, " rows"]:
    """|J_ii|^2 less what the first line of J_ii gives alone; `through_query` is room for Y of the tile."""
    # J_ii has sum_b A_ii^b B_i^b (v_i^m - o_i^b) (w_i^m)^T, and (w_i^m)^T (W_Q)^T / sqrt(d) = turned.
    own = tile.weights[..., tile.rows].diagonal(dim1=2, dim2=3)
    vectors = own.unsqueeze(-1) * (clip.value[:, tile.rows] - tile.contexts)
    through_key = move(vectors, tile.factors, tables).sum(0).permute(1, 2, 0)
    turned = torch.bmm(tile.query, tables.key_query.flatten(2)).permute(1, 2, 0)
    total = torch.zeros_like(through_query[:, 0, 0])
    rows, dim, _ = through_query.shape
    for part in chunks(rows, CACHE_BYTES, dim * (dim + tile.weights.shape[3]) * through_query.element_size()):
        _fill(through_query[part], clip, tile, part, tables)
        total[part] = 2 * ((through_query[part] @ turned[part]) * through_key[part]).sum((1, 2))
        total[part] += _alone(through_query[part], tables.query_factor)
    return total + 2 * _against_paths(own, tile.factors, through_query, tables)


def _fill(
    through_query: Float[Tensor, "part dim dim"], clip: GateOpClip, tile: Tile, part: slice, tables: GateOpTables
) -> None:
    """Put Y of some queries of a tile into `through_query`: a sum over branches of products of two factors."""
    columns = through_query.unflatten(2, (clip.heads, -1)).transpose(1, 2)
    for branch in range(len(tile.weights)):
        left, right = _factored(clip, tile, part, branch, tables)
        for index, room in enumerate(columns):
            torch.baddbmm(room, left[index].transpose(1, 2), right[index], beta=min(branch, 1), out=room)


def _factored(
    clip: GateOpClip, tile: Tile, part: slice, branch: int, tables: GateOpTables
) -> tuple[Float[Tensor, "part heads inner dim"], Float[Tensor, "part heads inner head_dim"]]:
    """The two factors of a branch's product, by whichever are the smaller."""
    if branch == GLOBAL:
        return _many_keys(clip, tile, part, GLOBAL, slice(None), tables)
    # A local branch lets these queries attend to fewer keys than the tile does.
    keys = tile.near_weights[branch, :, part].any(0).any(0).nonzero().squeeze(1)
    if len(keys) < clip.key.shape[2]:
        return _few_keys(clip, tile, part, branch, keys)
    return _many_keys(clip, tile, part, branch, tile.near[keys], tables)


def _many_keys(
    clip: GateOpClip, tile: Tile, part: slice, branch: int, keys: slice | Int[Tensor, " keys"], tables: GateOpTables
) -> tuple[Float[Tensor, "part heads head_dim dim"], Float[Tensor, "part heads head_dim head_dim"]]:
    """B_i^b, transposed, and S_i^b, whose sum is over `keys`."""
    first, second = matrices_of(branch)
    scales = tile.factors[:, part, None, None]
    outputs = (scales[first] * tables.matrices[first]).addcmul_(scales[second], tables.matrices[second])
    weights, contexts = tile.weights[branch, :, part].transpose(0, 1), tile.contexts[branch, :, part].transpose(0, 1)
    inner = (clip.value[:, keys] - contexts.unsqueeze(2)).mul_(weights[:, :, keys].unsqueeze(-1))
    return outputs, inner.transpose(2, 3) @ clip.key[:, keys]


def _few_keys(
    clip: GateOpClip, tile: Tile, part: slice, branch: int, keys: Int[Tensor, " few"]
) -> tuple[Float[Tensor, "part heads few dim"], Float[Tensor, "part heads few head_dim"]]:
    """A_ik B_i (v_k - o_i) of a local branch, transposed, and k_k: fewer keys than d, so fewer products than by S."""
    first, second = matrices_of(branch)
    scales = tile.factors[:, part, None, None]
    span = _as_slice(keys)
    moved = (scales[first] * tile.moved[first][:, span]).addcmul_(scales[second], tile.moved[second][:, span])
    moved -= tile.outputs[branch, :, part].transpose(0, 1).unsqueeze(2)
    moved *= tile.near_weights[branch, :, part][..., keys].transpose(0, 1).unsqueeze(-1)
    return moved, clip.key[:, tile.near[keys]].expand(len(moved), -1, -1, -1)


def _as_slice(keys: Int[Tensor, " keys"]) -> slice | Int[Tensor, " keys"]:
    """The same places; where they are one run, as a slice, which copies nothing."""
    first, last = int(keys[0]), int(keys[-1])
    return slice(first, last + 1) if last - first + 1 == len(keys) else keys


def _against_paths(
    own: Float[Tensor, "branch heads chunk"],
    factors: Float[Tensor, "matrix chunk dim"],
    through_query: Float[Tensor, "chunk dim dim"],
    tables: GateOpTables,
) -> Float[Tensor, " chunk"]:
    """<sum_b A_ii^b B_i^b W_V^m, Y_i W_Q> / sqrt(d); `own` is A_ii."""
    products = (through_query.transpose(0, 1) @ tables.path_query_rows).unflatten(2, (len(factors), -1))
    return torch.einsum("xcsm,scx,smc->c", products, factors, own.repeat_interleave(2, 0))


def _alone(through_query: Float[Tensor, "part dim dim"], factor: Float[Tensor, "dim dim"]) -> Float[Tensor, " part"]:
    """|Y_i W_Q|^2 / d = |Y_i L|^2, L lower triangular: its columns in blocks, and in each first the full part of L."""
    total = torch.zeros_like(through_query[:, 0, 0])
    rows = through_query.flatten(0, 1)
    for start in range(0, len(factor), 4 * COLUMNS):
        stop = start + 4 * COLUMNS
        block = rows[:, stop:] @ factor[stop:, start:stop]
        for first in range(start, min(stop, len(factor)), COLUMNS):
            columns = slice(first, first + COLUMNS)
            block[:, first - start : first - start + COLUMNS].addmm_(rows[:, first:stop], factor[first:stop, columns])
        total += torch.linalg.vector_norm(block.unflatten(0, (len(total), -1)), dim=(1, 2)).square()
    return total
