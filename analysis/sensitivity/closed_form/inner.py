"""Rows of frame Jacobian norms from inner vectors, for blocks with one output matrix.

Symbols and form: docs/concepts/frame_sensitivity.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.chunking import chunks
from analysis.sensitivity.closed_form.constants import PlainTables

__all__ = ["row_chunks", "squared_rows"]

Inner = Float[Tensor, "rows key heads head_dim"]
RowMaps = Float[Tensor, "rows key heads"]
Queries = Float[Tensor, "heads rows head_dim"]
Keys = Float[Tensor, "heads key head_dim"]

# Queries together at most: enough for matrix products; more, and at demo size their arrays leave the caches.
QUERIES = 24


def squared_rows(
    inner: Inner, weights: RowMaps, rows: Int[Tensor, " rows"], query: Queries, key: Keys, tables: PlainTables
) -> Float[Tensor, "rows key"]:
    """Squared norms |J_ij|^2 of some queries i against every key j.

    Args:
        inner: u_ij of those queries.
        weights: A_ij of those queries.
        rows: which frames the queries are.
        query: q of those queries.
        key: k of every frame.
        tables: of the block.
    """
    squared = ((weights @ tables.path_gram) * weights).sum(-1)
    directions = torch.einsum("mra,manb,nrb->rmn", query, tables.key_gram, query)
    for head in range(len(key)):
        squared += 2 * _pairs_of_head(head, inner, weights, directions, query, tables)
    here = torch.arange(len(rows), device=rows.device)
    squared[here, rows] += _as_query(inner, inner[here, rows], weights[here, rows], query, key, tables)
    return squared


def row_chunks(
    query: Float[Tensor, "heads frames head_dim"], max_bytes: int, rows: Int[Tensor, " rows"] | None = None
) -> Iterator[Int[Tensor, " chunk"]]:
    """The queries to be taken together so that they take about `max_bytes`; default: all of them, in order."""
    heads, frames, head_dim = query.shape
    # As large as u, six arrays in the making of u and in `squared_rows`; as large as one head's S and C, three a head.
    bytes_each = (6 * frames + 3 * head_dim) * heads * head_dim * query.element_size()
    rows = torch.arange(frames, device=query.device) if rows is None else rows
    return (rows[part] for part in chunks(len(rows), min(max_bytes, QUERIES * bytes_each), bytes_each))


def _pairs_of_head(
    head: int,
    inner: Inner,
    weights: RowMaps,
    directions: Float[Tensor, "rows heads heads"],
    query: Queries,
    tables: PlainTables,
) -> Float[Tensor, "rows key"]:
    """Half of the terms of |J|^2 that hold u of this head and A of any, or u of this head and of one up to it."""
    # (W_O^n)^T P_m w_i^n of every m, multiplied by A_ij^m.
    paths = (query[head] @ tables.path_key[head].flatten(1)).unflatten(1, tables.path_key.shape[2:])
    # C_mn (w_i^m . w_i^n), multiplied by u_ij^m; the head's pair with itself counts half of a pair's two orders.
    factors = directions[:, : head + 1, head].clone()
    factors[:, head] *= 0.5
    gram = factors[:, :, None, None] * tables.output_gram[: head + 1, :, head]
    products = torch.baddbmm(weights @ paths, inner[:, :, : head + 1].flatten(2), gram.flatten(1, 2))
    return (products * inner[:, :, head]).sum(-1)


def _as_query(
    inner: Inner,
    inner_own: Float[Tensor, "rows heads head_dim"],
    weights_own: Float[Tensor, "rows heads"],
    query: Queries,
    key: Keys,
    tables: PlainTables,
) -> Float[Tensor, " rows"]:
    """What frame i adds to |J_ii|^2 as query, with S_i^m = sum_k u_ik^m (k_k^m)^T: alone, and against the rest."""
    sums = [inner[:, :, head].transpose(1, 2) @ key[head] for head in range(len(key))]
    total = torch.zeros_like(weights_own[:, 0])
    for head, own in enumerate(sums):
        path = tables.path_query[head].permute(0, 2, 1).flatten(0, 1)
        total += ((own.flatten(1) @ path) * weights_own).sum(1)
        left = torch.einsum("rma,mab->rmb", inner_own, tables.output_gram[:, :, head])
        right = torch.einsum("mra,mab->rmb", query, tables.key_query[:, :, head])
        total += ((left @ own) * right).sum((1, 2))
        total += _pairs_of_sums(head, sums, tables)
    return 2 * total


def _pairs_of_sums(
    head: int, sums: list[Float[Tensor, "rows head_dim head_dim"]], tables: PlainTables
) -> Float[Tensor, " rows"]:
    """Half of <W_O^m S^m W_Q^m, W_O^n S^n W_Q^n> / d, both orders, for this n and every m up to it."""
    total = torch.zeros_like(sums[0][:, 0, 0])
    for other in range(head + 1):
        moved = tables.output_gram[other, :, head] @ sums[head] @ tables.query_gram[head, :, other]
        total.add_((moved * sums[other]).sum((1, 2)), alpha=0.5 if other == head else 1.0)
    return total
