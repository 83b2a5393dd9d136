"""Contexts of attention while frames are replaced one after another, at every step, without a pass a step.

How: docs/concepts/explanations.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from gmsa_models.attention import AttentionBlock
from gmsa_models.errors import ArgumentError, GMSAError
from gmsa_models.masks import padded_neighbours

__all__ = ["RunningContexts", "SmallWeightsError"]

HeadRows = Float[Tensor, "heads rows _"]
Values = Float[Tensor, "twice heads wider"]
Rows = Int[Tensor, " rows"]
Counts = Int[Tensor, " steps"]
Order = Int[Tensor, " frames"]

# Parts that are added up one after another; of more, blocks of so many.
BLOCK = 8
# Where all keys that are left weigh less than this share of the largest, quotients lose their figures.
SMALLEST = 1e-25


class SmallWeightsError(GMSAError, ArithmeticError):
    """Weights too small to divide by."""


@dataclass(frozen=True)
class _Neighbours:
    """Neighbours of every frame, in the order in which they are replaced.

    Attributes:
        mask: N, query by key.
        keys: where a frame has fewer neighbours than another, others behind them.
        near: which are neighbours.
        replaced: how many are, at every step.
    """

    mask: Bool[Tensor, "query key"]
    keys: Int[Tensor, "frames most"]
    near: Bool[Tensor, "frames most"]
    replaced: Int[Tensor, "steps frames"]

    @classmethod
    def of(cls, mask: Bool[Tensor, "query key"]) -> _Neighbours:
        return cls(mask, *padded_neighbours(mask), functional.pad(mask.T.long().cumsum(0), (0, 0, 1, 0)))


@dataclass(frozen=True)
class RunningContexts:
    """Every frame twice, the clip's own and then the baseline's, each in the order of replacement.

    Attributes:
        query, key: of the attention block, head by head, the key's on its side.
        value: likewise, frame by frame, with a column of ones behind it.
        neighbours: None without a local branch.
        alike: whether all of the baseline's frames are one and the same, as with a mean frame.
        global_heads, local_heads: which heads the branches have.
    """

    query: Float[Tensor, "heads twice head_dim"]
    key: Float[Tensor, "heads head_dim twice"]
    value: Values
    neighbours: _Neighbours | None
    alike: bool
    global_heads: slice
    local_heads: slice

    @classmethod
    def of(
        cls, block: AttentionBlock, inputs: Float[Tensor, "twice dim"], order: Order, alike: bool
    ) -> RunningContexts:
        """From what the block is given: frames of the clip and of the baseline, in this order."""
        count = len(order)
        query, key, value = (each[0] for each in block.project(inputs[None]))
        neighbours = None
        if block.local:
            mask = block.mask(inputs[None, :count])
            neighbours = _Neighbours.of(mask[order][:, order])
        return cls(
            query * query.shape[-1] ** -0.5,
            key.mT.contiguous(),
            functional.pad(value.transpose(0, 1), (0, 1), value=1.0),
            neighbours,
            alike,
            block.heads_of("global"),
            block.heads_of("local"),
        )

    def everywhere(self, rows: Rows, steps: Counts) -> Float[Tensor, "steps rows wide"]:
        """o(s) of the global branch for some queries at some steps, its heads joined.

        Args:
            rows: which of the frames, those of the baseline counted on from those of the clip.
            steps: how many frames are replaced at each, rising; at least one.

        Raises:
            SmallWeightsError: weights too small to divide by.
        """
        heads, count = self.global_heads, len(self.value) // 2
        weights = self._weights(self._logits(heads, rows))
        own, other = weights[..., :count], weights[..., count:].expand(-1, -1, count)
        # At the steps asked for, frames before the first are replaced and frames from the last on are the clip's own.
        first, last, value = int(steps[0]), int(steps[-1]), self.value[:, heads]
        of_head = value.transpose(0, 1)
        if self.alike:
            fixed = (first * other[..., :1]) * of_head[:, count : count + 1]
        else:
            fixed = other[..., :first] @ of_head[:, count : count + first]
        fixed = fixed + own[..., last:] @ of_head[:, last:count]
        between = steps.tolist()
        if len(between) == last - first + 1:
            replaced = value[count : count + 1] if self.alike else value[count + first : count + last]
            own, other = own[..., first:last], other[..., first:last]
            return _quotients(fixed, own, other, value[first:last, None], replaced[:, None])
        sums = fixed.new_empty(len(between), *fixed.transpose(0, 1).shape)
        _sum_between(own, of_head, between, sums)
        sums[-1] = fixed.transpose(0, 1)
        _add_later(sums)
        if self.alike:
            times = (steps[1:] - first).to(other)[:, None, None, None]
            sums[1:] += times * (other[..., 0].T[..., None] * value[count])
        else:
            replaced = torch.empty_like(sums[1:])
            _sum_between(other, of_head[:, count:], between, replaced)
            sums[1:] += replaced.cumsum(0)
        return _divided(sums)

    def near(self, rows: Rows, steps: Counts) -> tuple[Float[Tensor, "states rows wide"], Int[Tensor, "steps rows"]]:
        """o of the local branch by how many of the query's neighbours are replaced, and how many are at each step.

        Args:
            rows, steps: see `everywhere`.

        Raises:
            SmallWeightsError: weights too small to divide by.
            ArgumentError: a block without a local branch.
        """
        if (neighbours := self.neighbours) is None:
            raise ArgumentError("a block without a local branch has no neighbours")
        heads, count, value = self.local_heads, len(self.value) // 2, self.value
        place = rows % count
        keys, near = neighbours.keys[place], neighbours.near[place]
        others = keys[:, :1] * 0 + count if self.alike else keys + count
        logits = self._logits(heads, rows)
        own, other = (logits.take_along_dim(each[None], 2) for each in (keys, others))
        both = torch.stack([own, other.expand_as(own)], 2).masked_fill_(~near[:, None], -torch.inf)
        own, other = self._weights(both.flatten(2)).chunk(2, -1)
        values = (
            value[:, heads].index_select(0, each.T.flatten()).unflatten(0, each.T.shape)
            for each in (keys, others[:1] if self.alike else others)
        )
        fixed = value.new_zeros(len(own), len(rows), value.shape[-1])
        return _quotients(fixed, own, other, *values), neighbours.replaced[steps][:, place]

    def _logits(self, heads: slice, rows: Rows) -> HeadRows:
        """Of every key, or of the clip's and one of the baseline's where those are alike."""
        keys = len(self.value) // 2 + 1 if self.alike else len(self.value)
        return self.query[heads, rows] @ self.key[heads, :, :keys]

    @staticmethod
    def _weights(logits: HeadRows) -> HeadRows:
        return logits.sub_(logits.amax(-1, keepdim=True)).exp_()


def _quotients(
    fixed: Float[Tensor, "heads rows wider"],
    own: HeadRows,
    other: HeadRows,
    own_value: Float[Tensor, "keys _ heads wider"],
    other_value: Float[Tensor, "_ _ heads wider"],
) -> Float[Tensor, "states rows wide"]:
    """Contexts with the first 0, 1, ... of some keys replaced: sums of `fixed`, the keys left, and those replaced.

    The last column of the sums is the sum of the weights, as the last of each value is 1. Where all replaced keys are
    one and the same, `other_value` has one.

    Raises:
        SmallWeightsError: see the class.
    """
    heads, rows, keys = own.shape
    own, other = (each.permute(2, 1, 0).unsqueeze(-1) for each in (own, other))
    sums = fixed.new_empty(keys + 1, rows, heads, fixed.shape[-1])
    torch.mul(own, own_value, out=sums[:-1])
    sums[-1] = fixed.transpose(0, 1)
    _add_later(sums)
    if len(other_value) == 1:
        sums[1:].addcmul_(other.cumsum(0), other_value)
    else:
        replaced = (other * other_value).flip(0)
        _add_later(replaced)
        sums[1:] += replaced.flip(0)
    return _divided(sums)


def _sum_between(
    weights: HeadRows, values: Float[Tensor, "heads keys wider"], steps: list[int], out: Float[Tensor, "parts ..."]
) -> None:
    """Weighted sums of the keys from each step to the next, (rows, heads, wider) each."""
    for part, (start, stop) in zip(out, pairwise(steps), strict=False):
        part.copy_((weights[..., start:stop] @ values[:, start:stop]).transpose(0, 1))


def _divided(sums: Float[Tensor, "states rows heads wider"]) -> Float[Tensor, "states rows wide"]:
    """Sums of weighted values by the sum of the weights, the heads joined.

    Raises:
        SmallWeightsError: see `RunningContexts`.
    """
    if bool((sums[..., -1] < SMALLEST).any()):
        raise SmallWeightsError("the keys that are left weigh too little")
    *states, wider = sums.shape
    joined = sums.new_empty(*states, wider - 1)
    return torch.div(sums[..., :-1], sums[..., -1:], out=joined).flatten(2)


def _add_later(parts: Float[Tensor, "parts ..."]) -> None:
    """Add to each part all behind it, by blocks: few operations, which threads need not wait for each other to start.

    `cumsum` over a dimension that is not the last takes several times as long.
    """
    whole = len(parts) // BLOCK * BLOCK
    rest = parts[whole:]
    for at in range(len(rest) - 2, -1, -1):
        rest[at] += rest[at + 1]
    if not whole:
        return
    blocks = parts[:whole].unflatten(0, (-1, BLOCK))
    for at in range(BLOCK - 2, -1, -1):
        blocks[:, at] += blocks[:, at + 1]
    later = torch.cat([blocks[1:, 0], rest[:1]])
    _add_later(later)
    blocks[: len(later)] += later[:, None]
