"""Frame Jacobians of Baseline, ShareAtt and Local: heads with one output matrix, each with its own map A^m.

Symbols and form: docs/concepts/frame_sensitivity.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.advance import advance
from analysis.sensitivity.closed_form.constants import HeadPairs, PlainTables
from analysis.sensitivity.closed_form.inner import row_chunks, squared_rows

__all__ = ["squared_norms"]

Heads = Float[Tensor, "heads frames head_dim"]
Maps = Float[Tensor, "heads query key"]

# Norms are expanded into inner products that can be far larger than what is left of them: where one frame has all
# the attention, the sum over k is a covariance of nearly nothing. Rows in which less than `CANCELLED` is left, or
# less than `LOST_DIGITS` times the unit of rounding, are taken again by `inner`, slower and with nothing to cancel.
CANCELLED = 1e-6
LOST_DIGITS = 1000


@dataclass(frozen=True)
class _Head:
    """Head n against every head m, frame by frame: vectors of n's width and inner products.

    Attributes:
        weights, value, key, context, mean_key: of head n itself; context is o, mean_key is sum_k A_ik k_k.
        values: C_nm v_k^m.
        contexts: C_nm o_i^m.
        keys: query_gram_nm k_k^m.
        mean_keys: query_gram_nm mean_key_i^m.
        queries: key_query^T q_i^m, so that queries_i^m . k_k^n = w_i^m . kappa_k^n.
        directions: w_i^m . w_i^n.
        crossings: (W_O^n)^T (P_m w_i^n - (w_i^m . w_i^n) W_O^m o_i^m): what v_j^n - o_i^n meets, but for its own kind.
    """

    weights: Float[Tensor, "query key"]
    value: Float[Tensor, "frames head_dim"]
    key: Float[Tensor, "frames head_dim"]
    context: Float[Tensor, "frames head_dim"]
    mean_key: Float[Tensor, "frames head_dim"]
    values: Heads
    contexts: Heads
    keys: Heads
    mean_keys: Heads
    queries: Heads
    directions: Float[Tensor, "heads frames"]
    crossings: Heads


def squared_norms(
    weights: Maps, query: Heads, key: Heads, value: Heads, tables: PlainTables, max_bytes: int
) -> Float[Tensor, "query key"]:
    """Squared Frobenius norms of the frame Jacobians of a plain block.

    Args:
        weights: attention weights after the softmax, all heads; every row sums to 1.
        query, key, value: of the same frames; no frame is padding.
        tables: of the block.
        max_bytes: about the most that a chunk of queries may take, beside the maps.

    Returns:
        (query, key). Rounding can leave a value that should be 0 slightly below it.

    Source:
        Differentiating equations 1 and 2 with Y = concat_m(A^m V^m) W_O.
    """
    # Rows of A sum to 1, so v_j - o_i, and sum_k A_ik (v_k - o_i) k_k, do not see a constant added to every value or
    # key. Around their means the numbers are smaller and cancel better.
    value, key = value - value.mean(1, keepdim=True), key - key.mean(1, keepdim=True)
    context, mean_key = weights @ value, weights @ key
    squared, scale = torch.zeros_like(weights[0]), torch.zeros_like(weights[0])
    for index in range(len(weights)):
        head = _head(index, weights, query, key, value, context, mean_key, tables)
        squared += _as_value_and_key(index, head, weights, tables.path_gram[index])
        squared.diagonal().add_(_as_query(index, head, weights, tables.path_query[index]))
        scale += _scale(index, head)
        advance(1 / len(weights))
    threshold = max(LOST_DIGITS * torch.finfo(squared.dtype).eps, CANCELLED)
    inexact = (squared < threshold * scale.square_()).any(1).nonzero().squeeze(1)
    for rows in row_chunks(query, max_bytes, inexact):
        maps = weights[:, rows].permute(1, 2, 0)
        inner = maps.unsqueeze(-1) * (value.transpose(0, 1) - context[:, rows].transpose(0, 1).unsqueeze(1))
        squared[rows] = squared_rows(inner, maps, rows, query[:, rows], key, tables)
    return squared


def _scale(index: int, head: _Head) -> Float[Tensor, "query key"]:
    """How long, about, the vectors are whose squares `squared_norms` adds and subtracts for this head."""
    values = (head.values[index] * head.value).sum(-1).clamp(min=0.0).sqrt()
    contexts = (head.contexts[index] * head.context).sum(-1).clamp(min=0.0).sqrt()
    keys = (head.keys[index] * head.key).sum(-1).clamp(min=0.0).sqrt()
    directions = head.directions[index].clamp(min=0.0).sqrt()
    scale = head.weights * (values + contexts.unsqueeze(-1)) * directions.unsqueeze(-1)
    scale.diagonal().add_(head.weights @ (values * keys))
    return scale


def _head(
    index: int,
    weights: Maps,
    query: Heads,
    key: Heads,
    value: Heads,
    context: Heads,
    mean_key: Heads,
    tables: PlainTables,
) -> _Head:
    directions = (_into(index, query, tables.key_gram) * query[index]).sum(-1)
    contexts = _into(index, context, tables.output_gram)
    paths = _out_of(query[index], tables.path_key[index])
    return _Head(
        weights=weights[index],
        value=value[index],
        key=key[index],
        context=context[index],
        mean_key=mean_key[index],
        values=_into(index, value, tables.output_gram),
        contexts=contexts,
        keys=_into(index, key, tables.query_gram),
        mean_keys=_into(index, mean_key, tables.query_gram),
        queries=_into(index, query, tables.key_query),
        directions=directions,
        crossings=paths - directions.unsqueeze(-1) * contexts,
    )


def _as_value_and_key(
    index: int, head: _Head, weights: Maps, path_gram: Float[Tensor, " heads"]
) -> Float[Tensor, "query key"]:
    """Pairs of this head with every head m, of the first line of J: A^m A^n [<P_m, P_n> + ...], summed over m."""
    overlap = (head.contexts * head.context).sum(-1)
    constant = path_gram.unsqueeze(-1) - 2 * (head.crossings * head.context).sum(-1) - head.directions * overlap
    lengths = (head.values * head.value).sum(-1)
    doubled = 2 * head.value.T
    total = torch.zeros_like(head.weights)
    for other in range(len(weights)):
        term = head.crossings[other] @ doubled
        term += constant[other].unsqueeze(-1)
        term.addcmul_(head.directions[other].unsqueeze(-1), lengths[other].unsqueeze(0))
        total.addcmul_(term, weights[other])
    return total.mul_(head.weights)


def _as_query(
    index: int, head: _Head, weights: Maps, path_query: Float[Tensor, "head_dim heads head_dim"]
) -> Float[Tensor, " frames"]:
    """What the second line of J adds to |J_ii|^2, with this head as its head: alone, and against the first line."""
    own = weights.diagonal(dim1=1, dim2=2)
    total = torch.zeros_like(head.weights)
    for other in range(len(weights)):
        values = head.values[other] @ head.value.T
        contexts = head.contexts[other] @ head.value.T
        if other <= index:
            # (m, n) and (n, m) give the same, and the sum is doubled below.
            pairs = values * (head.keys[other] @ head.key.T)
            total.addmm_(weights[other], pairs, alpha=0.5 if other == index else 1.0)
        values -= contexts
        values *= own[other].unsqueeze(-1)
        values *= head.queries[other] @ head.key.T
        contexts *= head.mean_keys[other] @ head.key.T
        total += values.sub_(contexts)
    return 2 * (total.mul_(head.weights).sum(1) + _at_contexts(head, own) + _against_paths(head, own, path_query))


def _at_contexts(head: _Head, own: Float[Tensor, "heads frames"]) -> Float[Tensor, " frames"]:
    """The terms of `_as_query` in which this head's sum over k collapses to o_i^n and mean_key_i^n."""
    contexts = (head.contexts * head.context).sum(-1)
    values = (head.values * head.context).sum(-1) - contexts
    mean_keys = (head.mean_keys * head.mean_key).sum(-1)
    queries = (head.queries * head.mean_key).sum(-1)
    return (0.5 * contexts * mean_keys - own * values * queries).sum(0)


def _against_paths(
    head: _Head, own: Float[Tensor, "heads frames"], path_query: Float[Tensor, "head_dim heads head_dim"]
) -> Float[Tensor, " frames"]:
    """<sum_m A_ii^m P_m, sum_k A_ik^n W_O^n (v_k^n - o_i^n) (kappa_k^n)^T>."""
    at_keys = (_out_of(head.value, path_query) * head.key).sum(-1)
    at_means = (_out_of(head.context, path_query) * head.mean_key).sum(-1)
    return (own * (at_keys @ head.weights.T - at_means)).sum(0)


def _into(index: int, vectors: Heads, table: HeadPairs) -> Heads:
    """x^m table_mn for every m and this n."""
    return vectors @ table[:, :, index]


def _out_of(
    vectors: Float[Tensor, "frames head_dim"], table: Float[Tensor, "head_dim heads head_dim"]
) -> Float[Tensor, "heads frames head_dim"]:
    """x^n table_nm for this n and every m."""
    return (vectors @ table.flatten(1)).unflatten(1, table.shape[1:]).transpose(0, 1)
