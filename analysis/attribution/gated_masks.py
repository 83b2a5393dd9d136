"""GateAtt with some of its frames replaced, for many choices of them one after another.

A gate of GateAtt asks, of every pair of frames, for a sum over all keys: z_ij = sum_k e_ik W_kj / sum_k e_ik, e =
exp(logit). From one choice of frames to the next few keys change, so the sums are carried along: a changed key k adds
(e'_ik - e_ik) W_kj, a changed query has its row made anew. A pass costs frames^3 a head, a step frames^2.

Subtracting loses figures where what is left is small beside what was there, and exp may overflow where a new key weighs
far more than the largest of its row; such rows are made anew as well, and all of them after `FRESH` steps.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gmsa_models.attention import GateAtt
from gmsa_models.masks import neighbourhood_mask

Frames = Float[Tensor, "frames dim"]
Kept = Bool[Tensor, " frames"]
Maps = Float[Tensor, "heads query key"]
Rows = Float[Tensor, "heads query"]
Near = Float[Tensor, "heads query near"]
Places = Int[Tensor, " places"]

# Steps after which all sums are made anew, so that rounding does not add up.
FRESH = 64
# A row of which less than this share of its largest sum is left is made anew.
LEFT = 1e-2
# So is one with a key whose logit is this much above the largest that the row had.
ABOVE = 10.0
# Keys that are added one by one; a matrix product of so few takes longer.
FEW = 3


@dataclass
class _Live:
    """Sums of one choice of frames.

    Attributes:
        kept: True where the clip's own frame is.
        shift: what was subtracted from a row's logits: their largest, when the row was made.
        weights: e = exp(logit - shift), not divided by anything.
        total: its sums over keys; `most`: the largest they were since the row was made.
        summed: sum_k e_ik W_kj of the global gate.
        local: the local branch's attention weights.
        minus_local: -sum_k A_ik W_kj of the local gate.
    """

    kept: Kept
    shift: Rows
    weights: Maps
    total: Rows
    most: Rows
    summed: Maps
    local: Near
    minus_local: Maps

    def copy(self) -> _Live:
        """The same, that can be changed."""
        return _Live(*(getattr(self, each.name).clone() for each in fields(self)))


class GatedMasks:
    """Contexts of a GateAtt block for one choice of frames after another.

    Args:
        block: in evaluation mode.
        own: what the block is given of the clip's frames.
        other: of the frames that replace them.
    """

    def __init__(self, block: GateAtt, own: Frames, other: Frames) -> None:
        frames = len(own)
        query, key, self._value = block.project(torch.stack([own, other]))
        # logits[a, b]: queries of the clip (a = 0) or of the baseline (1), keys likewise.
        logits = (query * query.shape[-1] ** -0.5)[:, None] @ key[None].mT
        # By key and by query: what is looked up lies together. Those of the clip, then those of the baseline.
        self._by_key = logits.permute(1, 4, 0, 2, 3).flatten(0, 1).contiguous()
        self._by_query = logits.permute(0, 3, 1, 2, 4).flatten(0, 1).contiguous()
        self._near = neighbourhood_mask(block.neighbourhood, frames, own.device)
        # Neighbours of each query; where it has fewer than another, keys of no weight.
        there, keys = self._near.to(torch.int8).sort(dim=1, descending=True, stable=True)
        most = int(self._near.sum(1).max())
        self._neighbours = keys[:, :most]
        self._pairs = (torch.arange(frames, device=own.device)[:, None] * frames + self._neighbours).flatten()
        near_logits = logits.flatten(3)[..., self._pairs].unflatten(3, (frames, most))
        near_logits = near_logits.masked_fill(there[:, :most] == 0, -torch.inf)
        self._near_by_query = near_logits.permute(0, 3, 1, 2, 4).flatten(0, 1).contiguous()
        self._gate_global = block.gate_global[:frames, :frames].contiguous()
        self._gate_local = block.gate_local[:frames, :frames].contiguous()
        self._gate = torch.empty_like(self._gate_global)
        self._live: _Live | None = None
        self._first: _Live | None = None
        self._steps = 0

    def contexts(self, kept: Kept) -> Float[Tensor, "frames wide"]:
        """What the block's output projection is given, its heads joined.

        Args:
            kept: True where the clip's own frame stays.
        """
        live = self._move(kept)
        value = self._value[0].where(kept[:, None], self._value[1])
        scale, found = live.total.reciprocal()[..., None], torch.empty_like(value)
        local = live.local * live.total[..., None]
        # Head by head, so that a map stays in the cache from one operation to the next.
        of_heads = (live.minus_local, live.summed, scale, local.flatten(1), live.weights, value, found)
        for one in zip(*(each.unbind() for each in of_heads), strict=True):
            minus_local, summed, by, of_pairs, weights, own, out = one
            gate = torch.addcmul(minus_local, summed, by, out=self._gate).sigmoid_()
            of_pairs -= of_pairs * self._gate.view(-1).index_select(0, self._pairs)
            gate.mul_(weights).view(-1).index_add_(0, self._pairs, of_pairs)
            torch.mm(gate, own, out=out)
        return found.mul_(scale).transpose(0, 1).flatten(1)

    def _move(self, kept: Kept) -> _Live:
        """The sums of this choice, from those of the last one, or of the first, if few frames differ."""
        if self._live is None or self._steps >= FRESH or self._far(kept, self._live):
            if self._first is None or self._far(kept, self._first):
                self._live = self._made(kept)
                self._first = self._first or self._live.copy()
            else:
                self._live = self._first.copy()
            self._steps = 0
        changed = (kept != self._live.kept).nonzero()[:, 0]
        if len(changed):
            self._change(self._live, kept, changed)
            self._steps += 1
        return self._live

    def _far(self, kept: Kept, live: _Live) -> bool:
        return 4 * int((kept != live.kept).sum()) > len(kept)

    def _made(self, kept: Kept) -> _Live:
        queries = torch.arange(len(kept), device=kept.device)
        shift, weights, total = self._rows(kept, queries)
        local = self._local(kept, queries)
        minus_local = (self._local_rows(local, queries) @ self._gate_local).neg_()
        return _Live(kept, shift, weights, total, total.clone(), weights @ self._gate_global, local, minus_local)

    def _change(self, live: _Live, kept: Kept, changed: Places) -> None:
        """Take some keys for others, and some queries."""
        columns = self._by_key.index_select(0, _place(kept, changed))
        above = columns[:, 0].where(kept, columns[:, 1]).permute(1, 2, 0).contiguous().sub_(live.shift[..., None])
        again = (above > ABOVE).any(-1)
        new = above.clamp_(max=ABOVE).exp_()
        step = new - live.weights.index_select(2, changed)
        live.weights.index_copy_(2, changed, new)
        live.total += step.sum(-1)
        torch.maximum(live.most, live.total, out=live.most)
        again = (again | (live.total < LEFT * live.most)).any(0)
        if len(changed) <= FEW:
            for at, key in enumerate(changed.tolist()):
                live.summed.addcmul_(step[..., at, None], self._gate_global[key])
        else:
            live.summed.baddbmm_(step, self._gate_global[changed].expand(len(step), -1, -1))
        live.kept = kept
        self._renew(live, again.index_fill_(0, changed, True).nonzero()[:, 0])
        near = self._near[:, changed].any(1).nonzero()[:, 0]  # a frame is its own neighbour
        live.local[:, near] = self._local(kept, near)
        keys = self._near[near].any(0).nonzero()[:, 0]
        rows = self._local_rows(live.local, near).index_select(2, keys)
        live.minus_local[:, near] = (rows @ self._gate_local.index_select(0, keys)).neg_()

    def _renew(self, live: _Live, queries: Places) -> None:
        shift, weights, total = self._rows(live.kept, queries)
        live.shift[:, queries], live.weights[:, queries] = shift, weights
        live.total[:, queries] = live.most[:, queries] = total
        live.summed[:, queries] = weights @ self._gate_global

    def _rows(self, kept: Kept, queries: Places) -> tuple[Rows, Maps, Rows]:
        """Shift, weights and total of some queries."""
        rows = self._by_query.index_select(0, _place(kept, queries))
        logits = rows[:, 0].where(kept, rows[:, 1]).transpose(0, 1).contiguous()
        shift = logits.amax(-1)
        weights = logits.sub_(shift[..., None]).exp_()
        return shift, weights, weights.sum(-1)

    def _local(self, kept: Kept, queries: Places) -> Near:
        """The local branch's attention weights of some queries."""
        rows = self._near_by_query.index_select(0, _place(kept, queries))
        there = kept[self._neighbours[queries]][:, None]
        return torch.where(there, rows[:, 0], rows[:, 1]).transpose(0, 1).softmax(-1)

    def _local_rows(self, local: Near, queries: Places) -> Float[Tensor, "heads queries key"]:
        """Rows of the local map, 0 outside the neighbourhood."""
        rows = local.new_zeros(len(local), len(queries), len(self._near))
        return rows.scatter_(2, self._neighbours[queries].expand(len(local), -1, -1), local[:, queries])


def _place(kept: Kept, frames: Places) -> Places:
    """Where some frames lie, as they are now, among those of the clip and then those of the baseline."""
    return torch.where(kept[frames], frames, frames + len(kept))
