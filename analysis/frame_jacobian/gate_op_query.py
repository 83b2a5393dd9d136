"""GateOp, frame i as its own query: what |J_ii|^2 has beyond the form of every other |J_ij|^2.

With S_i^bm = sum_k A_ik^bm (v_k^m - o_i^bm) (k_k^m)^T the query's part of J_ii is Y_i W_Q / sqrt(d), where the columns
of head m in Y_i are sum_b B_i^bm S_i^bm. A frame costs two products of about D x D x D: they are most of a clip's cost,
and there is one for every frame, not for every pair.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.frame_jacobian.chunking import chunks
from analysis.frame_jacobian.gate_op_state import GateOpClip
from analysis.frame_jacobian.tables import GateOpTables

# Y L with L lower triangular, in this many parts: half of the zeros of L are skipped, and the products stay large.
PARTS = 4


def as_query(clip: GateOpClip, tables: GateOpTables, max_bytes: int) -> Float[Tensor, " frames"]:
    """|J_ii|^2 less what the first line of J_ii gives alone."""
    frames, dim = clip.factors.shape[1:]
    head_dim = dim // clip.heads
    # Y and a copy of parts of it; B and S of one head; u of one head.
    bytes_each = (2 * dim * dim + 4 * dim * head_dim + 3 * frames * head_dim) * clip.query.element_size()
    total = clip.query.new_empty(frames)
    for rows in chunks(frames, max_bytes, bytes_each):
        total[rows] = _chunk(clip, rows, tables)
    return total


def _chunk(clip: GateOpClip, rows: slice, tables: GateOpTables) -> Float[Tensor, " chunk"]:
    factors = clip.factors[:, rows]
    _, count, dim = factors.shape
    through_query = factors.new_empty(count, dim, dim)
    through_key = factors.new_empty(count, dim, clip.heads)
    for head, columns in enumerate(torch.arange(dim).chunk(clip.heads)):
        outputs = _output_matrices(factors, tables.matrices[:, :, head])
        sums, own = _sums(clip, head, rows)
        through_query[:, :, columns[0] : columns[-1] + 1] = outputs @ sums
        through_key[:, :, head] = (outputs @ own.unsqueeze(-1)).squeeze(-1)
    against = _against_paths(clip, rows, through_query, tables) + _against_keys(
        clip.query[:, rows], through_query, through_key, tables
    )
    return 2 * against + _alone(through_query, tables.query_factor)


def _output_matrices(
    factors: Float[Tensor, "matrix=4 chunk dim"], matrices: Float[Tensor, "matrix=4 dim head_dim"]
) -> Float[Tensor, "chunk dim both"]:
    """B_i^gm beside B_i^lm."""
    scaled = factors.unsqueeze(-1)
    count, dim, head_dim = factors.shape[1], *matrices.shape[1:]
    outputs = factors.new_empty(count, dim, 2 * head_dim)
    for branch in range(2):
        part = outputs[:, :, branch * head_dim : (branch + 1) * head_dim]
        torch.mul(scaled[2 * branch], matrices[2 * branch], out=part)
        part.addcmul_(scaled[2 * branch + 1], matrices[2 * branch + 1])
    return outputs


def _sums(
    clip: GateOpClip, head: int, rows: slice
) -> tuple[Float[Tensor, "chunk both head_dim"], Float[Tensor, "chunk both"]]:
    """S_i^gm above S_i^lm, and A_ii (v_i - o_i) likewise."""
    value, key = clip.value[head], clip.key[head]
    sums, own = [], []
    for branch in range(2):
        weights, contexts = clip.weights[branch, head, rows], clip.contexts[branch, head, rows]
        keys = weights.any(0).nonzero().squeeze(1)
        inner = (value[keys] - contexts.unsqueeze(1)) * weights[:, keys].unsqueeze(-1)
        sums.append(inner.transpose(1, 2) @ key[keys])
        own.append(weights[:, rows].diagonal().unsqueeze(-1) * (value[rows] - contexts))
    return torch.cat(sums, 1), torch.cat(own, 1)


def _against_paths(
    clip: GateOpClip, rows: slice, through_query: Float[Tensor, "chunk dim dim"], tables: GateOpTables
) -> Float[Tensor, " chunk"]:
    """<sum_bm A_ii^bm B_i^bm W_V^m, Y_i W_Q> / sqrt(d)."""
    own = clip.weights[:, :, rows, rows].diagonal(dim1=2, dim2=3)
    products = through_query.transpose(0, 1) @ tables.path_query_rows
    products = products.unflatten(2, (4, clip.heads))
    return torch.einsum("xcsm,scx,smc->c", products, clip.factors[:, rows], own.repeat_interleave(2, 0))


def _against_keys(
    query: Float[Tensor, "heads chunk head_dim"],
    through_query: Float[Tensor, "chunk dim dim"],
    through_key: Float[Tensor, "chunk dim heads"],
    tables: GateOpTables,
) -> Float[Tensor, " chunk"]:
    """<sum_bm A_ii^bm B_i^bm (v_i - o_i^bm) (w_i^m)^T, Y_i W_Q> / sqrt(d)."""
    turned = torch.einsum("mca,manb->cnbm", query, tables.key_query).flatten(1, 2)
    return ((through_query @ turned) * through_key).sum((1, 2))


def _alone(through_query: Float[Tensor, "chunk dim dim"], factor: Float[Tensor, "dim dim"]) -> Float[Tensor, " chunk"]:
    """|Y_i W_Q|^2 / d = |Y_i L|^2."""
    count, dim, _ = through_query.shape
    total = through_query.new_zeros(count)
    step = -(-dim // PARTS)
    for start in range(0, dim, step):
        part = through_query[:, :, start:].flatten(0, 1) @ factor[start:, start : start + step]
        total += part.square_().unflatten(0, (count, dim)).sum((1, 2))
    return total
