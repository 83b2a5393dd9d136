"""What heads hand on when a window of keys is taken from them, or left alone to them: only the rows that change.

A query is changed where its mask holds a key of the window. Its context without the window is what is left of the clean
one, scaled anew; with the window alone, a softmax over the window. The edited pass (`staged_pass`) is the plain form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gmsa_models.attention import AttentionBlock, CleanPass, Contexts
from gmsa_models.masks import masked_softmax

__all__ = ["ChangedContexts", "HeadRows", "Rows", "WindowContexts"]

# A query that gives a window more than this is summed anew over its other keys: subtracting would lose digits.
MOST_TAKEN = 0.5

HeadRows = Float[Tensor, "heads rows head_dim"]
Rows = Int[Tensor, " rows"] | slice


@dataclass(frozen=True)
class ChangedContexts:
    """Contexts of some frames.

    Attributes:
        rows: which frames; a slice where all are.
        contexts: of each branch whose contexts have changed, of all its heads.
    """

    rows: Rows
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
        self.start = {branch: each[0] for branch, each in clean.contexts.items()}
        self.weights = {branch: clean.trace.weights[branch][0] for branch in block.branches}
        self.values = {branch: clean.projected[2][0, block.heads_of(branch)] for branch in block.branches}

    def emptied(self, branch: str) -> dict[str, HeadRows]:
        """Contexts of all frames when a branch has lost every key; of the branches that this changes."""
        if self.patched is not None:
            return {branch: self.start[branch] + self.maps[branch] @ self._replaced(branch)}
        if self.block.gated == "maps":
            return self._gated(branch, torch.zeros_like(self.weights[branch]), slice(None))
        return {branch: torch.zeros_like(self.start[branch])}

    def without(self, branch: str, window: slice) -> ChangedContexts:
        """When a branch has lost a window of keys."""
        rows = self._rows(branch, window)
        if self.patched is not None:
            change = self.maps[branch][:, rows, window] @ self._replaced(branch)[:, window]
            return ChangedContexts(rows, {branch: self.start[branch][:, rows] + change})
        if self.block.gated == "maps":
            return ChangedContexts(rows, self._gated(branch, self._weights_without(branch, window, rows), rows))
        part = self.weights[branch][:, rows, window]
        taken = part.sum(-1, keepdim=True)
        contexts = (self.start[branch][:, rows] - part @ self.values[branch][:, window]) / (1 - taken)
        for head, places in _by_head(taken[..., 0] > MOST_TAKEN):
            contexts[head, places] = self._rest(branch, head, window, _of(rows, places)) @ self.values[branch][head]
        return ChangedContexts(rows, {branch: contexts})

    def only(self, branch: str, window: slice, emptied: dict[str, HeadRows]) -> ChangedContexts:
        """When a branch has lost every key but a window's.

        Args:
            branch, window: which.
            emptied: of that branch.
        """
        rows = self._rows(branch, window)
        if self.patched is not None:
            change = self.maps[branch][:, rows, window] @ self._replaced(branch)[:, window]
            return ChangedContexts(rows, {branch: emptied[branch][:, rows] - change})
        logits = self.clean.logits(branch)[0][:, rows, window]
        mask = self._mask(branch)
        part = masked_softmax(logits, None if mask is None else mask[rows, window])
        if self.block.gated == "maps":
            weights = part.new_zeros(*part.shape[:2], self.weights[branch].shape[-1])
            weights[..., window] = part
            return ChangedContexts(rows, self._gated(branch, weights, rows))
        return ChangedContexts(rows, {branch: part @ self.values[branch][:, window]})

    @cached_property
    def maps(self) -> dict[str, Float[Tensor, "heads query key"]]:
        """The maps whose product with the values are the clean contexts."""
        maps = self.block.context_maps(self.clean.trace)
        return {branch: maps[branch][0] for branch in self.block.branches}

    def _replaced(self, branch: str) -> Float[Tensor, "heads frames head_dim"]:
        """What a patch adds to the values of a branch."""
        assert self.patched is not None
        return self.patched[branch][0] - self.values[branch]

    def _mask(self, branch: str) -> Bool[Tensor, "query key"] | None:
        return self.clean.trace.neighbourhood if branch == "local" else None

    def _rows(self, branch: str, window: slice) -> Rows:
        mask = self._mask(branch)
        return slice(None) if mask is None else mask[:, window].any(1).nonzero()[:, 0]

    def _weights_without(self, branch: str, window: slice, rows: Rows) -> Float[Tensor, "heads rows key"]:
        weights = self.weights[branch][:, rows].clone()
        taken = weights[..., window].sum(-1, keepdim=True)
        weights[..., window] = 0
        weights /= 1 - taken
        for head, places in _by_head(taken[..., 0] > MOST_TAKEN):
            weights[head, places] = self._rest(branch, head, window, _of(rows, places))
        return weights

    def _rest(self, branch: str, head: int, window: slice, rows: Tensor) -> Float[Tensor, "rows key"]:
        """Weights of some queries of a head without the window, from their logits."""
        logits, mask = self.clean.logits(branch)[0, head, rows], self._mask(branch)
        allowed = torch.ones_like(logits, dtype=torch.bool) if mask is None else mask[rows].clone()
        allowed[:, window] = False
        return masked_softmax(logits, allowed) * allowed

    def _gated(self, branch: str, weights: Float[Tensor, "heads rows key"], rows: Rows) -> dict[str, HeadRows]:
        """Contexts of some frames of a block whose gates weigh maps, from other maps of a branch."""
        maps = {name: weights[None] if name == branch else each[None, :, rows] for name, each in self.weights.items()}
        gated = self.block.gated_maps(maps, self.block.gates_of_maps(maps))
        return {name: (each @ self.values[name])[0] for name, each in gated.items()}


def _of(rows: Rows, places: Int[Tensor, " some"]) -> Int[Tensor, " some"]:
    """Some of the rows."""
    return places if isinstance(rows, slice) else rows[places]


def _by_head(wanted: Bool[Tensor, "heads rows"]) -> Sequence[tuple[int, Tensor]]:
    """Heads that have any, and their places."""
    return [(head, wanted[head].nonzero()[:, 0]) for head in wanted.any(1).nonzero()[:, 0].tolist()]
