"""What heads hand on when a window of keys is taken from them, or left alone to them: only the rows that change.

A query is changed where its mask holds a key of the window. Its context without the window is what is left of the clean
one, scaled anew; with the window alone, a softmax over the window. The edited pass (`staged_pass`) is the plain form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gmsa_models.attention import AttentionBlock, CleanPass, Contexts
from gmsa_models.masks import masked_softmax

__all__ = ["ChangedContexts", "HeadRows", "Rows", "WindowContexts", "Windows"]

# A query that gives a window more than this is summed anew over its other keys: subtracting would lose digits.
MOST_TAKEN = 0.5
# Of one that gives a window less than this, the weights have lost digits: the window's softmax is taken anew.
LEAST_TAKEN = 1e-30
# Numbers, of rows of all units, that windows which go through together make: an operation on few costs more than they.
NUMBERS_TOGETHER = 3 * 2**20

HeadRows = Float[Tensor, "heads rows head_dim"]
Rows = Int[Tensor, " rows"]
# Windows of keys, each with the frames whose queries may attend to it.
Windows = list[tuple[slice, Int[Tensor, " _"]]]


@dataclass(frozen=True)
class ChangedContexts:
    """Contexts of the frames that some windows change, window after window.

    Attributes:
        rows: which frames; one that several windows change is there several times.
        counts: how many are of each window.
        contexts: of each branch whose contexts have changed, of all its heads.
    """

    rows: Rows
    counts: list[int]
    contexts: dict[str, HeadRows]


class WindowContexts:
    """Contexts of one block, of one clip without padding, when a branch has lost a window of keys or all but it.

    Args:
        block: the block.
        clean: its pass without edits.
        patched: values that stand in the place of a branch's where they are taken; None: edges are taken out, before
            the softmax.
    """

    def __init__(self, block: AttentionBlock, clean: CleanPass, patched: Contexts | None) -> None:
        self.block, self.clean, self.patched = block, clean, patched
        self.start = {branch: each[0].contiguous() for branch, each in clean.contexts.items()}
        self.weights = {branch: clean.trace.weights[branch][0] for branch in block.branches}
        self.values = {branch: clean.projected[2][0, block.heads_of(branch)].contiguous() for branch in block.branches}

    def emptied(self, branch: str) -> dict[str, HeadRows]:
        """Contexts of all frames when a branch has lost every key; of the branches that this changes."""
        if self.patched is not None:
            return {branch: self.start[branch] + self.maps[branch] @ self._replaced(branch)}
        if self.block.gated == "maps":
            return self._gated(branch, torch.zeros_like(self.weights[branch]), self._every_row())
        return {branch: torch.zeros_like(self.start[branch])}

    def _rows(self, branch: str, window: slice) -> Rows:
        """The frames whose queries may attend to a window of keys."""
        mask = self._mask(branch)
        if mask is None:
            return self._every_row()
        return mask[:, window].any(1).nonzero()[:, 0]

    def groups(self, branch: str, spans: Iterable[slice]) -> Iterator[Windows]:
        """Windows with their rows, as many together as `NUMBERS_TOGETHER` allows."""
        most = NUMBERS_TOGETHER // self._numbers_of_row
        group: Windows = []
        for span in spans:
            rows = self._rows(branch, span)
            if group and sum(len(own) for _, own in group) + len(rows) > most:
                yield group
                group = []
            group.append((span, rows))
        if group:
            yield group

    def changes(
        self, branch: str, windows: Windows, emptied: dict[str, HeadRows]
    ) -> tuple[ChangedContexts, ChangedContexts]:
        """When a branch has lost a window of keys; and when it has lost every key but those.

        Args:
            branch: which.
            windows: of `groups`.
            emptied: of that branch.
        """
        rows, counts = torch.cat([rows for _, rows in windows]), [len(rows) for _, rows in windows]
        if self.patched is not None:
            maps, replaced = self._maps_by_key[branch], self._replaced(branch)
            change = torch.cat([maps[:, window][..., own].mT @ replaced[:, window] for window, own in windows], 1)
            both = {branch: self.start[branch][:, rows] + change}, {branch: emptied[branch][:, rows] - change}
        elif self.block.gated == "maps":
            both = self._gated_changes(branch, windows, rows)
        else:
            both = self._plain_changes(branch, windows, rows)
        without, only = (ChangedContexts(rows, counts, contexts) for contexts in both)
        return without, only

    def _plain_changes(
        self, branch: str, windows: Windows, rows: Rows
    ) -> tuple[dict[str, HeadRows], dict[str, HeadRows]]:
        weights, values = self._weights_by_key[branch], self._counted[branch]
        sums = torch.cat([weights[:, window][..., own].mT @ values[:, window] for window, own in windows], 1)
        handed, taken = sums[..., :-1], sums[..., -1:]
        without = (self.start[branch][:, rows] - handed).div_(1 - taken)
        only = handed / taken
        self._sum_anew(branch, windows, rows, taken[..., 0], (without, only), self.values[branch])
        return {branch: without}, {branch: only}

    def _gated_changes(
        self, branch: str, windows: Windows, rows: Rows
    ) -> tuple[dict[str, HeadRows], dict[str, HeadRows]]:
        without = self.weights[branch][:, rows]  # a copy
        only, taken, start = torch.zeros_like(without), without.new_empty(*without.shape[:2], 1), 0
        for window, own in windows:
            places = slice(start, start + len(own))
            part = without[:, places, window]
            taken[:, places] = part.sum(-1, keepdim=True)
            only[:, places, window] = part / taken[:, places]
            without[:, places, window] = 0
            start = places.stop
        without.div_(1 - taken)
        self._sum_anew(branch, windows, rows, taken[..., 0], (without, only), None)
        return self._gated(branch, without, rows), self._gated(branch, only, rows)

    def _sum_anew(
        self,
        branch: str,
        windows: Windows,
        rows: Rows,
        taken: Float[Tensor, "heads rows"],
        changed: tuple[Float[Tensor, "heads rows _"], Float[Tensor, "heads rows _"]],
        values: Float[Tensor, "heads frames _"] | None,
    ) -> None:
        """Write what lost digits from its logits: without a window that has nearly all, of one that has nearly nothing.

        Args:
            branch, windows, rows: see `changes`.
            taken: the weight of the windows.
            changed: without the window, and with it alone: weights times values, or weights.
            values: those of the branch; None where the weights are changed.
        """
        for lost, kept, result in zip((taken > MOST_TAKEN, taken < LEAST_TAKEN), (False, True), changed, strict=True):
            heads, places = lost.nonzero(as_tuple=True)
            if not len(heads):
                continue
            allowed = self._inside(windows, self.weights[branch].shape[-1])[places] == kept
            mask = self._mask(branch)
            allowed = allowed if mask is None else allowed & mask[rows[places]]
            weights = masked_softmax(self.clean.logits(branch)[0, heads, rows[places]], allowed) * allowed
            for head in heads.unique().tolist():
                own = heads == head
                result[head, places[own]] = weights[own] if values is None else weights[own] @ values[head]

    @property
    def _numbers_of_row(self) -> int:
        """How many numbers are made of a changed row: those of each unit; where gates weigh maps, maps."""
        heads, frames, _ = next(iter(self.start.values())).shape
        maps = len(self.start) * heads * frames if self.block.gated == "maps" else 0
        return (heads + 1) * self.clean.inputs.shape[2] + maps

    @cached_property
    def maps(self) -> dict[str, Float[Tensor, "heads query key"]]:
        """The maps whose product with the values are the clean contexts."""
        maps = self.block.context_maps(self.clean.trace)
        return {branch: maps[branch][0] for branch in self.block.branches}

    @cached_property
    def _counted(self) -> dict[str, Float[Tensor, "heads frames _"]]:
        """Values, and a 1 beside them: weights times these give what is handed on and the sum of the weights."""
        return {branch: torch.cat([each, torch.ones_like(each[..., :1])], -1) for branch, each in self.values.items()}

    @cached_property
    def _weights_by_key(self) -> dict[str, Float[Tensor, "heads key query"]]:
        """Keys before queries: those of a window lie together."""
        return {branch: each.mT.contiguous() for branch, each in self.weights.items()}

    @cached_property
    def _maps_by_key(self) -> dict[str, Float[Tensor, "heads key query"]]:
        """The same of `maps`."""
        return {branch: each.mT.contiguous() for branch, each in self.maps.items()}

    def _every_row(self) -> Rows:
        return torch.arange(self.clean.inputs.shape[1], device=self.clean.inputs.device)

    def _inside(self, windows: Windows, frames: int) -> Bool[Tensor, "rows key"]:
        """Whether a key is in the window of a row."""
        inside = torch.zeros(len(windows), frames, dtype=torch.bool, device=self.clean.inputs.device)
        for each, (window, _) in zip(inside, windows, strict=True):
            each[window] = True
        return inside.repeat_interleave(torch.tensor([len(rows) for _, rows in windows], device=inside.device), 0)

    def _replaced(self, branch: str) -> Float[Tensor, "heads frames head_dim"]:
        """What a patch adds to the values of a branch."""
        assert self.patched is not None
        return self.patched[branch][0] - self.values[branch]

    def _mask(self, branch: str) -> Bool[Tensor, "query key"] | None:
        return self.clean.trace.head_groups[branch][0].mask

    def _gated(self, branch: str, weights: Float[Tensor, "heads rows key"], rows: Rows) -> dict[str, HeadRows]:
        """Contexts of some frames of a block whose gates weigh maps, from other maps of a branch."""
        maps = {name: weights[None] if name == branch else each[None, :, rows] for name, each in self.weights.items()}
        gated = self.block.gated_maps(maps, self.block.gates_of_maps(maps))
        return {name: (each @ self.values[name])[0] for name, each in gated.items()}
