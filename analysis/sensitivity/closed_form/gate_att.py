"""Frame Jacobians of GateAtt: the blended map A^m of head m is a function of the logits, row by row.

Symbols and form: docs/concepts/frame_sensitivity.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.advance import advance
from analysis.sensitivity.closed_form.constants import PlainTables
from analysis.sensitivity.closed_form.inner import row_chunks, squared_rows

__all__ = ["GatedMaps", "gated_maps", "squared_norms"]

Heads = Float[Tensor, "heads frames head_dim"]
Maps = Float[Tensor, "heads query key"]


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
    weights_global: Maps,
    weights_local: Maps,
    mixing_global: Float[Tensor, "key key"],
    mixing_local: Float[Tensor, "key key"],
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
    heads, frames, _ = query.shape
    squared = query.new_empty(frames, frames)
    for rows in row_chunks(query, max_bytes):
        inner = torch.stack([_inner_vectors(maps, head, rows, value[head]) for head in range(heads)], dim=2)
        weights = maps.combined[:, rows].permute(1, 2, 0)
        squared[rows] = squared_rows(inner, weights, rows, query[:, rows], key, tables)
        advance(len(rows) / frames)
    return squared


def _inner_vectors(
    maps: GatedMaps, head: int, rows: Int[Tensor, " chunk"], value: Float[Tensor, "key head_dim"]
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
