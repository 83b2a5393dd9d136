"""GateAtt with some of its frames replaced, for many choices of them one after another.

How: docs/concepts/explanations.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gmsa_models.attention import GateAtt
from gmsa_models.masks import padded_neighbours

__all__ = ["GatedMasks"]

Frames = Float[Tensor, "frames dim"]
FrameMask = Bool[Tensor, " frames"]
Choices = Bool[Tensor, "choices frames"]
Maps = Float[Tensor, "heads query key"]
Rows = Float[Tensor, "heads query"]
LocalLogits = Float[Tensor, "choices heads query near"]
Indices = Int[Tensor, " places"]

# Steps after which all sums are made anew, so that rounding does not add up.
FRESH = 64
# A row of which less than this share of its largest sum is left is made anew.
LEFT = 1e-2
# So is one with a key whose logit is this much above the largest that the row had.
ABOVE = 10.0
# Keys that are added one by one; a matrix product of so few takes longer.
FEW = 3


@dataclass
class _Sums:
    """Sums of some queries.

    Attributes:
        shift: what was subtracted from a row's logits: their largest, when the row was made.
        weights: e = exp(logit - shift), not divided by anything.
        total: its sums over keys.
        summed: sum_k e_ik W_kj of the global gate.
    """

    shift: Rows
    weights: Maps
    total: Rows
    summed: Maps


@dataclass
class _Live:
    """What is carried from one choice of frames to the next.

    Attributes:
        kept: True where the clip's own frame is.
        sums: of every query.
        most: the largest that `sums.total` was since the row was made.
        minus_local: -sum_k A_ik W_kj of the local gate.
    """

    kept: FrameMask
    sums: _Sums
    most: Rows
    minus_local: Maps

    def copy(self) -> _Live:
        """The same, that can be changed."""
        own = lambda each: each.clone(memory_format=torch.contiguous_format)  # noqa: E731
        sums = _Sums(*(own(getattr(self.sums, each.name)) for each in fields(_Sums)))
        return _Live(self.kept, sums, own(self.most), own(self.minus_local))

    def put(self, queries: Indices, sums: _Sums) -> None:
        """Rows made anew."""
        for each in fields(_Sums):
            getattr(self.sums, each.name).index_copy_(1, queries, getattr(sums, each.name))
        self.most.index_copy_(1, queries, sums.total)


@dataclass
class _Step:
    """From the choice before, or the first, to the next.

    Attributes:
        kept: the next.
        again: whether it starts from the first choice.
        keys: frames that change.
        columns: their logits as keys, by key, head and query.
        rows: their sums as queries.
        near: queries that have one of them for a neighbour.
        minus_local: rows of these.
    """

    kept: FrameMask
    again: bool
    keys: Int[Tensor, " keys"]
    columns: Float[Tensor, "keys heads query"]
    rows: _Sums
    near: Int[Tensor, " near"]
    minus_local: Float[Tensor, "heads near key"]


class GatedMasks:
    """Contexts of a GateAtt block for one choice of frames after another.

    Args:
        block: in evaluation mode.
        own: what the block is given of the clip's frames.
        other: of the frames that replace them.
    """

    def __init__(self, block: GateAtt, own: Frames, other: Frames) -> None:
        frames = len(own)
        query, key, value = block.project(torch.stack([own, other]))
        self._own_value, self._other_value = value
        # logits[a, b]: queries of the clip (a = 0) or of the baseline (1), keys likewise.
        logits = (query * query.shape[-1] ** -0.5)[:, None] @ key[None].mT
        # By key and by query: what is looked up lies together. Those of the clip, then those of the baseline.
        self._by_key = logits.permute(1, 4, 0, 2, 3).flatten(0, 1).contiguous()
        self._by_query = logits.permute(0, 3, 1, 2, 4).flatten(0, 1).contiguous()
        self._near = block.mask(own[None])
        self._neighbours, present = padded_neighbours(self._near)
        self._pairs = (torch.arange(frames, device=own.device)[:, None] * frames + self._neighbours).flatten()
        near_logits = logits.flatten(3)[..., self._pairs].unflatten(3, present.shape)
        self._near_logits = near_logits.masked_fill(~present, -torch.inf)
        self._gate_global = block.gate_global[:frames, :frames].contiguous()
        self._gate_local = block.gate_local[:frames, :frames].contiguous()
        self._gate = torch.empty_like(self._gate_global)
        self._live: _Live | None = None
        self._first: _Live | None = None
        self._steps = 0

    def contexts(self, kept: Choices) -> Float[Tensor, "choices frames wide"]:
        """What the block's output projection is given, its heads joined, for some choices.

        Args:
            kept: True where the clip's own frame stays.
        """
        local = self._local(kept)
        value = torch.where(kept[:, None, :, None], self._own_value, self._other_value)
        contexts = torch.empty_like(value)
        for step, *of_choice in zip(self._plan(kept, local), local, value, contexts, strict=True):
            self._blend(self._moved(step), *of_choice)
        return contexts.transpose(1, 2).flatten(2)

    def _blend(
        self,
        live: _Live,
        local: Float[Tensor, "heads query near"],
        value: Float[Tensor, "heads key head_dim"],
        contexts: Float[Tensor, "heads query head_dim"],
    ) -> None:
        """Write the contexts of one choice to `contexts`."""
        sums = live.sums
        scale = sums.total.reciprocal()[..., None]
        local = (local * sums.total[..., None]).flatten(1)
        of_heads = (live.minus_local, sums.summed, sums.weights, scale, local, value, contexts)
        # Head by head, so that a map stays in the cache from one operation to the next.
        for of_head in zip(*(each.unbind() for each in of_heads), strict=True):
            minus_local, summed, weights, by, of_pairs, values, out = of_head
            gate = torch.addcmul(minus_local, summed, by, out=self._gate).sigmoid_()
            of_pairs -= of_pairs * gate.view(-1).index_select(0, self._pairs)
            gate.mul_(weights).view(-1).index_add_(0, self._pairs, of_pairs)
            torch.mm(gate, values, out=out)
        contexts *= scale

    def _plan(self, kept: Choices, local: LocalLogits) -> Iterator[_Step | _Live]:
        """For each choice the step to it, or what there is to carry where too much changes for a step."""
        if self._first is None:
            self._first = self._made(kept[0], local[0])
        before = torch.cat([(self._live or self._first).kept[None], kept[:-1]])
        far, far_from_first = (
            (4 * (kept != each).sum(1) > kept.shape[1]).tolist() for each in (before, self._first.kept)
        )
        again, made, steps = [], [], self._steps if self._live else FRESH
        for one, other in zip(far, far_from_first, strict=True):
            recomputed = one or steps >= FRESH
            made.append(recomputed and other)
            again.append(recomputed and not other)
            steps = 0 if recomputed else steps + 1
        self._steps = steps
        start = torch.where(torch.tensor(again, device=kept.device)[:, None], self._first.kept, before)
        changes = (kept != start) & ~torch.tensor(made, device=kept.device)[:, None]
        choice, keys = changes.nonzero().unbind(1)
        columns, rows = self._looked_up(self._by_key, kept, choice, keys), self._rows(kept, choice, keys)
        of_near, near = ((changes.to(self._gate) @ self._near.T.to(self._gate)) > 0).nonzero().unbind(1)
        minus_local = self._minus_local(local[of_near, :, near], near)
        ends, near_ends = (torch.bincount(each, minlength=len(kept)).tolist() for each in (choice, of_near))
        parts = zip(
            keys.split(ends),
            columns.split(ends),
            *(getattr(rows, each.name).split(ends, 1) for each in fields(_Sums)),
            near.split(near_ends),
            minus_local.split(near_ends, 1),
            strict=True,
        )
        for at, (frames, column, *row, close, below) in enumerate(parts):
            if made[at]:
                yield self._made(kept[at], local[at])
            else:
                yield _Step(kept[at], again[at], frames, column, _Sums(*row), close, below)

    def _made(self, kept: FrameMask, local: Float[Tensor, "heads query near"]) -> _Live:
        queries = torch.arange(len(kept), device=kept.device)
        sums = self._rows(kept[None], torch.zeros_like(queries), queries)
        minus_local = self._minus_local(local.transpose(0, 1), queries)
        return _Live(kept, sums, sums.total, minus_local).copy()  # each map by itself, row after row

    def _moved(self, step: _Step | _Live) -> _Live:
        if isinstance(step, _Live):
            self._live = step
            return step
        if step.again or self._live is None:
            assert self._first is not None  # the plan of the first choices made it
            self._live = self._first.copy()
        if len(step.keys):
            self._change(self._live, step)
        return self._live

    def _change(self, live: _Live, step: _Step) -> None:
        """Take some keys for others, and some queries."""
        sums, keys = live.sums, step.keys
        above = step.columns.permute(1, 2, 0) - sums.shift[..., None]
        again = (above > ABOVE).any(-1)
        new = above.clamp_(max=ABOVE).exp_()
        added = new - sums.weights.index_select(2, keys)
        sums.weights.index_copy_(2, keys, new)
        sums.total += added.sum(-1)
        torch.maximum(live.most, sums.total, out=live.most)
        again = (again | (sums.total < LEFT * live.most)).any(0)
        if len(keys) <= FEW:
            for at, key in enumerate(keys.tolist()):
                sums.summed.addcmul_(added[..., at, None], self._gate_global[key])
        else:
            sums.summed.baddbmm_(added, self._gate_global.index_select(0, keys).expand(len(added), -1, -1))
        live.kept = step.kept
        live.put(keys, step.rows)
        if bool(again.index_fill_(0, keys, False).any()):
            queries = again.nonzero()[:, 0]
            live.put(queries, self._rows(step.kept[None], torch.zeros_like(queries), queries))
        live.minus_local.index_copy_(1, step.near, step.minus_local)

    def _rows(self, kept: Choices, choice: Indices, queries: Indices) -> _Sums:
        """Sums of some queries, each of one of the choices."""
        logits = self._looked_up(self._by_query, kept, choice, queries)
        shift = logits.amax(-1)
        weights = logits.sub_(shift[..., None]).exp_()
        rows = (shift, weights, weights.sum(-1), weights @ self._gate_global)
        return _Sums(*(each.transpose(0, 1) for each in rows))

    @staticmethod
    def _looked_up(
        logits: Float[Tensor, "twice 2 heads frames"], kept: Choices, choice: Indices, frames: Indices
    ) -> Float[Tensor, "places heads frames"]:
        """Logits of some frames with every other, as both are in one of the choices."""
        kept = kept[choice]
        place = frames + len(logits) // 2 * ~kept.take_along_dim(frames[:, None], 1)[:, 0]
        selected = logits.index_select(0, place)
        return torch.where(kept[:, None], selected[:, 0], selected[:, 1])

    def _local(self, kept: Choices) -> LocalLogits:
        """The local branch's attention weights."""
        own, other = self._near_logits
        of_query = torch.where(kept[:, None, None, :, None], own, other)
        return torch.where(kept[:, self._neighbours][:, None], of_query[:, 0], of_query[:, 1]).softmax(-1)

    def _minus_local(self, local: Float[Tensor, "queries heads near"], queries: Indices) -> Maps:
        rows = local.new_zeros(*local.shape[:2], len(self._near))
        rows.scatter_(2, self._neighbours[queries][:, None].expand_as(local), local)
        return (rows @ self._gate_local).neg_().transpose(0, 1)
