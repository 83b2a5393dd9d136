"""Frame Jacobians of GateAtt: the blended map A^m of head m is a function of the logits, row by row.

With e = (A_g - A_l) R_g R_l, element by element, and G_g = A_g W_g^g, G_l = A_l W_g^l the gates' logits,

    d A_ij' / d s_ij = A_g,ij [R_g,ij (j = j') - R_g,ij' A_g,ij' + e_ij' (W_g^g[j, j'] - G_g,ij')]
                     + A_l,ij [R_l,ij (j = j') - R_l,ij' A_l,ij' - e_ij' (W_g^l[j, j'] - G_l,ij')]

and with u_ij^m = sum_j' v_j'^m dA_ij'^m / ds_ij^m and the symbols of `tables`

    J_ij = sum_m A_ij^m P_m + W_O^m u_ij^m (w_i^m)^T + [i = j] sum_m sum_k W_O^m u_ik^m (kappa_k^m)^T.

Were A an ordinary softmax, u_ij would be A_ij (v_j - o_i), the plain form. Here rows of A do not sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.frame_jacobian.chunking import chunks
from analysis.frame_jacobian.tables import PlainTables

Heads = Float[Tensor, "heads frames head_dim"]
Maps = Float[Tensor, "heads query key"]
# One row of J's inner vectors: u_ij of the queries i of a chunk.
Inner = Float[Tensor, "chunk key heads head_dim"]


@dataclass(frozen=True)
class GatedMaps:
    """The maps of one clip: A_g, A_l, A, R_g, R_l and the gates' logits, each (heads, query, key); W_g is (key, key).

    Attributes:
        weights_global, weights_local: A_g and A_l.
        combined: A = R_g A_g + R_l A_l.
        gate_global, gate_local: R_g and R_l.
        logits_global, logits_local: A_g W_g^g and A_l W_g^l.
        mixing_global, mixing_local: W_g^g and W_g^l, cut to the clip.
    """

    weights_global: Maps
    weights_local: Maps
    combined: Maps
    gate_global: Maps
    gate_local: Maps
    logits_global: Maps
    logits_local: Maps
    mixing_global: Float[Tensor, "key key"]
    mixing_local: Float[Tensor, "key key"]


def gated_maps(
    weights_global: Maps, weights_local: Maps, mixing_global: Float[Tensor, "key key"], mixing_local: Float[Tensor, "key key"]
) -> GatedMaps:
    """Equations 3 and 4."""
    logits_global, logits_local = weights_global @ mixing_global, weights_local @ mixing_local
    gate = torch.sigmoid(logits_global - logits_local)
    rest = torch.sigmoid(logits_local - logits_global)
    return GatedMaps(
        weights_global=weights_global,
        weights_local=weights_local,
        combined=gate * weights_global + rest * weights_local,
        gate_global=gate,
        gate_local=rest,
        logits_global=logits_global,
        logits_local=logits_local,
        mixing_global=mixing_global,
        mixing_local=mixing_local,
    )


def squared_norms(
    maps: GatedMaps, query: Heads, key: Heads, value: Heads, tables: PlainTables, max_bytes: int
) -> Float[Tensor, "query key"]:
    """Squared Frobenius norms of the frame Jacobians of a GateAtt block.

    Args:
        maps: of one clip.
        query, key, value: of the same frames; no frame is padding.
        tables: of the block.
        max_bytes: about the most that a chunk of queries may take, beside the maps.

    Returns:
        (query, key). Rounding can leave a value that should be 0 slightly below it.

    Source:
        Differentiating equations 1 to 4.
    """
    heads, frames, head_dim = query.shape
    # As large as u (key x dim): u, e v of a head and W (e v), their sums, what meets u. As large as S: the sums, C.
    bytes_each = (6 * frames + 3 * head_dim) * heads * head_dim * query.element_size()
    squared = query.new_empty(frames, frames)
    for rows in chunks(frames, max_bytes, bytes_each):
        squared[rows] = _chunk(maps, rows, query[:, rows], key, value, tables)
    return squared


def _chunk(
    maps: GatedMaps, rows: slice, query: Heads, key: Heads, value: Heads, tables: PlainTables
) -> Float[Tensor, "chunk key"]:
    inner = torch.stack([_inner_vectors(maps, head, rows, value[head]) for head in range(len(value))], dim=2)
    weights = maps.combined[:, rows].permute(1, 2, 0)
    squared = ((weights @ tables.path_gram) * weights).sum(-1)
    directions = torch.einsum("mta,manb,ntb->tmn", query, tables.key_gram, query)
    for head in range(len(value)):
        squared += 2 * _pairs_of_head(head, inner, weights, directions, query, tables)
    frames = torch.arange(rows.start, rows.stop, device=query.device)
    here = torch.arange(len(frames), device=query.device)
    squared[here, frames] += _as_query(inner, inner[here, frames], weights[here, frames], query, key, tables)
    return squared


def _inner_vectors(
    maps: GatedMaps, head: int, rows: slice, value: Float[Tensor, "key head_dim"]
) -> Float[Tensor, "chunk key head_dim"]:
    """u_ij of one head for the queries of a chunk."""
    at = (head, rows)
    shared = (maps.weights_global[at] - maps.weights_local[at]) * maps.gate_global[at] * maps.gate_local[at]
    mixed = (shared.T.unsqueeze(-1) * value.unsqueeze(1)).flatten(1)
    total = torch.zeros(*shared.shape, value.shape[1], dtype=value.dtype, device=value.device)
    branches = (
        (maps.weights_global[at], maps.gate_global[at], maps.logits_global[at], maps.mixing_global, 1.0),
        (maps.weights_local[at], maps.gate_local[at], maps.logits_local[at], maps.mixing_local, -1.0),
    )
    for weights, gate, logits, mixing, sign in branches:
        # Keys that no query of the chunk attends to have u = 0 in this branch: most keys, in the local one.
        keys = weights.any(0).nonzero().squeeze(1)
        through_gate = (mixing[keys] @ mixed).unflatten(1, (len(shared), -1)).transpose(0, 1)
        own = gate[:, keys].unsqueeze(-1) * value[keys]
        common = (gate * weights + sign * shared * logits) @ value
        part = own.add_(through_gate, alpha=sign).sub_(common.unsqueeze(1)).mul_(weights[:, keys].unsqueeze(-1))
        total.index_add_(1, keys, part)
    return total


def _pairs_of_head(
    head: int,
    inner: Inner,
    weights: Float[Tensor, "chunk key heads"],
    directions: Float[Tensor, "chunk heads heads"],
    query: Float[Tensor, "heads chunk head_dim"],
    tables: PlainTables,
) -> Float[Tensor, "chunk key"]:
    """Half of the terms of |J|^2 that hold u of this head and A or u of another; with u, heads up to this one."""
    # (W_O^n)^T P_m w_i^n of every m, met by A_ij^m.
    paths = (query[head] @ tables.path_key[head].flatten(1)).unflatten(1, tables.path_key.shape[2:])
    # C_mn (w_i^m . w_i^n), met by u_ij^m; the head's pair with itself is half of what its two orders would be.
    factors = directions[:, : head + 1, head].clone()
    factors[:, head] *= 0.5
    gram = factors[:, :, None, None] * tables.output_gram[: head + 1, :, head]
    met = torch.baddbmm(weights @ paths, inner[:, :, : head + 1].flatten(2), gram.flatten(1, 2))
    return (met * inner[:, :, head]).sum(-1)


def _as_query(
    inner: Inner,
    inner_own: Float[Tensor, "chunk heads head_dim"],
    weights_own: Float[Tensor, "chunk heads"],
    query: Float[Tensor, "heads chunk head_dim"],
    key: Heads,
    tables: PlainTables,
) -> Float[Tensor, "chunk"]:
    """What frame i adds to |J_ii|^2 as query, by S_i^m = sum_k u_ik^m (k_k^m)^T: alone, and against the rest of J_ii."""
    sums = [inner[:, :, head].transpose(1, 2) @ key[head] for head in range(len(key))]
    total = torch.zeros_like(weights_own[:, 0])
    for head, own in enumerate(sums):
        path = tables.path_query[head].permute(0, 2, 1).flatten(0, 1)
        total += ((own.flatten(1) @ path) * weights_own).sum(1)
        left = torch.einsum("cma,mab->cmb", inner_own, tables.output_gram[:, :, head])
        right = torch.einsum("mca,mab->cmb", query, tables.key_query[:, :, head])
        total += ((left @ own) * right).sum((1, 2))
        total += _pairs_of_sums(head, sums, tables)
    return 2 * total


def _pairs_of_sums(head: int, sums: list[Float[Tensor, "chunk head_dim head_dim"]], tables: PlainTables) -> Tensor:
    """Half of <W_O^m S^m W_Q^m, W_O^n S^n W_Q^n> / d for this n and every m up to it."""
    total = 0.0
    for other in range(head + 1):
        moved = tables.output_gram[other, :, head] @ sums[head] @ tables.query_gram[head, :, other]
        total = total + (0.5 if other == head else 1.0) * (moved * sums[other]).sum((1, 2))
    return total

