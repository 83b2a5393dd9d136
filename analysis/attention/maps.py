"""Attention maps on their support: where weight may lie, and each query's weights as shares of what it gives out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gmsa_models.attention import BlockTrace
from gmsa_models.branches import in_order
from gmsa_models.errors import ArgumentError
from gmsa_models.trace import LayerTrace

__all__ = ["AttentionRows", "MaskedMap", "attention_rows", "attention_support", "layer_maps"]


@dataclass(frozen=True)
class MaskedMap:
    """Heads of a branch that share one mask.

    Attributes:
        first_head: where the first of them stands among all heads of the layer.
        weights: attention weights after the softmax.
        neighbourhood: True where the query may attend to the key; None: everywhere.
    """

    first_head: int
    weights: Float[Tensor, "batch heads query key"]
    neighbourhood: Bool[Tensor, "*clips query key"] | None


@dataclass(frozen=True)
class AttentionRows:
    """Maps whose rows are shares of 1, with their support.

    Attributes:
        shares: the weights of each query divided by their sum; 0 in the rows of padded queries.
        support: True where weight may lie.
    """

    shares: Float[Tensor, "*batch heads query key"]
    support: Bool[Tensor, "*batch query key"]

    @property
    def counts(self) -> Float[Tensor, "*batch 1 query"]:
        """|N_i|: how many keys each query may attend to, with an axis for the heads."""
        return self.support.sum(-1).unsqueeze(-2).to(self.shares.dtype)

    @property
    def uniform(self) -> Float[Tensor, "*batch 1 query key"]:
        """Uniform attention over the same support."""
        support = self.support.to(self.shares.dtype)
        return (support / support.sum(-1, keepdim=True).clamp(min=1)).unsqueeze(-3)

    def of_queries(self, values: Float[Tensor, "*batch heads query"]) -> Float[Tensor, "*batch heads query"]:
        """The same values, NaN at padded queries."""
        return torch.where(self.support.any(-1).unsqueeze(-2), values, torch.nan)


def attention_support(
    weights: Float[Tensor, "*batch heads query key"],
    neighbourhood: Bool[Tensor, "*_"] | None = None,
    valid: Bool[Tensor, "*_"] | None = None,
) -> Bool[Tensor, "*batch query key"]:
    """Where weight may lie: inside the neighbourhood, from a real frame to a real frame.

    Args:
        weights: the maps; only their shape and device are used.
        neighbourhood: True where the query may attend to the key, of all clips or of each; None: everywhere.
        valid: True where a frame is real; None: everywhere.

    Raises:
        ArgumentError: query and key frames differ in number, or a mask has another size.
    """
    *batch, _, query, key = weights.shape
    if query != key:
        raise ArgumentError(f"weights have {query} query and {key} key frames; expected the same frames on both axes")
    support = torch.ones(*batch, query, key, dtype=torch.bool, device=weights.device)
    if neighbourhood is not None:
        if neighbourhood.shape not in ((query, key), (*batch, query, key)):
            raise ArgumentError(f"neighbourhood has shape {tuple(neighbourhood.shape)}; expected {(query, key)}")
        support = support & neighbourhood.to(weights.device)
    if valid is not None:
        if valid.shape != (*batch, query):
            raise ArgumentError(f"valid has shape {tuple(valid.shape)}; expected {(*batch, query)}")
        support = support & valid.unsqueeze(-1) & valid.unsqueeze(-2)
    return support


def attention_rows(
    weights: Float[Tensor, "*batch heads query key"],
    neighbourhood: Bool[Tensor, "*_"] | None = None,
    valid: Bool[Tensor, "*_"] | None = None,
) -> AttentionRows:
    """Each query's weights as shares of their sum.

    After a softmax the sum is 1 and nothing changes. The rows of a gated map (GateAtt, combined) need not sum to 1;
    as shares they say where the attention goes, not how much of it the gates let through.

    Args:
        weights: attention weights, >= 0; half precision is widened to float32.
        neighbourhood: True where the query may attend to the key, of all clips or of each; None: everywhere.
        valid: True where a frame is real; None: everywhere.

    Raises:
        ArgumentError: as `attention_support`; and a weight that is negative, not finite, or lies outside the support,
            or a real query without any weight. The message names the first.
    """
    support = attention_support(weights, neighbourhood, valid)
    weights = weights.float() if weights.dtype in (torch.float16, torch.bfloat16) else weights
    allowed = support.unsqueeze(-3)
    if not bool((weights.amin() >= 0) & (weights.amax() < torch.inf)):  # two quick passes, NaN seen by both
        _refuse((weights < 0) | ~weights.isfinite(), "is negative or not finite; expected a weight, at least 0")
    _refuse((weights != 0) & ~allowed, "lies outside the mask or on padding; expected exactly 0")
    total = weights.sum(-1, keepdim=True)
    _refuse((total == 0) & allowed.any(-1, keepdim=True), "is the query's, and so is every other: all are 0")
    return AttentionRows(weights / torch.where(total > 0, total, 1.0), support)


def layer_maps(layer: LayerTrace | BlockTrace) -> dict[str, tuple[MaskedMap, ...]]:
    """The maps of a traced layer, branch by branch, cut where the mask changes between heads."""
    return {branch: tuple(_parts(layer, branch)) for branch in in_order(layer.weights)}


def _parts(layer: LayerTrace | BlockTrace, branch: str) -> Iterator[MaskedMap]:
    weights, start = layer.weights[branch], 0
    for group in layer.head_groups[branch]:
        part = weights if group.count == weights.shape[1] else weights[:, start : start + group.count]
        yield MaskedMap(group.first, part, group.mask)
        start += group.count


def _refuse(bad: Bool[Tensor, "*batch heads query _"], problem: str) -> None:
    if not bool(bad.any()):
        return
    *batch, head, query, key = bad.nonzero()[0].tolist()
    where = f" of batch entry {tuple(batch)}" if batch else ""
    raise ArgumentError(f"head {head}{where}: the weight of query {query} on key {key} {problem}")
