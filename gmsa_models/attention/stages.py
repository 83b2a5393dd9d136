"""The pass of an attention block, stage by stage, each open to an edit.

project -> logits -> weights -> gates -> contexts -> output; gates that weigh outputs are made after the contexts. Every
block takes this one path and says in its members (`block.py`) what its own stages are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gmsa_models.attention.functions import Frames, Heads, Valid, attention_logits, join_heads, logits_to_weights

if TYPE_CHECKING:
    from gmsa_models.attention.block import AttentionBlock, BlockTrace
    from gmsa_models.trace import LayerTrace

__all__ = [
    "NO_EDIT",
    "QUANTITIES",
    "WHOLE",
    "AnyGates",
    "BlockEdit",
    "CleanPass",
    "Contexts",
    "Maps",
    "StagedPass",
    "staged_pass",
]

Contexts = dict[str, Float[Tensor, "batch _ frames head_dim"]]
Maps = dict[str, Float[Tensor, "batch _ query key"]]
AnyGates = dict[str, Float[Tensor, "batch ..."]]

# What a block computes, in the order of computation, of each branch; those of `WHOLE` have the branch "".
# "neighbourhood" is N as (query, key), or (batch, query, key) where clips differ, of each
# local branch; "mask" the edges of each head, (1 or batch, heads, query, key), all True in the global branch, padding
# not in it; "gate" of the branch "" is R_g, and R_l = 1 - R_g; of more than two branches each local one has its own,
# and what is left of 1 goes to those that are not changed, in proportion.
QUANTITIES = (
    "input", "queries", "keys", "values", "neighbourhood", "mask", "logits", "weights", "gate", "contexts", "output"
)  # fmt: skip
WHOLE = ("input", "gate", "output")
_OF_WEIGHTS = ("queries", "keys", "mask", "logits", "weights")


@runtime_checkable
class BlockEdit(Protocol):
    """What is changed, or watched, in a block's pass."""

    def __call__(self, branch: str, quantity: str, value: Tensor) -> Tensor:
        """What the pass goes on with in place of `value`: `value` itself where nothing is changed."""

    def touches(self, branch: str, quantities: Collection[str]) -> bool:
        """Whether it changes or watches one of the quantities of a branch."""


class _NoEdit:
    def __call__(self, branch: str, quantity: str, value: Tensor) -> Tensor:
        return value

    def touches(self, branch: str, quantities: Collection[str]) -> bool:
        return False


NO_EDIT = _NoEdit()


class CleanPass:
    """A block's pass without edits, from which an edited one takes what lies before its edits.

    Args:
        block: the block.
        inputs: X, what it is given.
        valid: True where a frame is real; None: everywhere.
        traced: its trace of these inputs.
    """

    def __init__(
        self, block: AttentionBlock, inputs: Frames, valid: Valid | None, traced: LayerTrace | BlockTrace
    ) -> None:
        self.block, self.inputs, self.valid, self.trace = block, inputs, valid, traced
        self._logits: Maps = {}

    @cached_property
    def projected(self) -> tuple[Heads, Heads, Heads]:
        """Queries, keys and values of every head."""
        return self.block.project(self.inputs)

    def logits(self, branch: str) -> Float[Tensor, "batch heads query key"]:
        """Attention logits of a branch; kept, as many edits need them."""
        if branch not in self._logits:
            query, key, _ = (each[:, self.block.heads_of(branch)] for each in self.projected)
            self._logits[branch] = attention_logits(query, key)
        return self._logits[branch]

    @cached_property
    def contexts(self) -> Contexts:
        """What its heads hand on."""
        return self.block.contexts(self.trace)


@dataclass(frozen=True)
class StagedPass:
    """What the stages of a block came to.

    Attributes:
        neighbourhood: N, of several local branches the union; None without one.
        masks: N of each local branch.
        weights: A of each branch.
        values: V as each branch has it.
        gates: R of each branch; empty without gates.
        maps: of each branch, whose product with its values are its contexts.
        contexts: what the heads of each branch hand on.
        combined: the combined map under that name; empty in a block without one.
        joined: contexts of all heads, which the output is made of; None where gates weigh outputs.
        output: Y.
        branch_outputs: see `BlockTrace`.
    """

    neighbourhood: Bool[Tensor, "*clips query key"] | None
    masks: dict[str, Bool[Tensor, "*clips query key"]]
    weights: Maps
    values: Contexts
    gates: AnyGates
    maps: Maps
    contexts: Contexts
    combined: Maps
    joined: Heads | None
    output: Frames
    branch_outputs: dict[str, Frames]


def staged_pass(
    block: AttentionBlock,
    inputs: Frames,
    valid: Valid | None,
    edit: BlockEdit = NO_EDIT,
    clean: CleanPass | None = None,
) -> StagedPass:
    """Run a block.

    Args:
        block: the block.
        inputs: X.
        valid: True where a frame is real; None: everywhere.
        edit: called at every stage but "input", which lies before.
        clean: the pass of the same inputs without edits; None: everything is computed.
    """
    projected = block.project(inputs) if clean is None else clean.projected
    masks = {each: edit(each, "neighbourhood", block.mask(inputs, each)) for each in block.local_branches}
    weights, values = {}, {}
    for branch in block.branches:
        query, key, value = (each[:, block.heads_of(branch)] for each in projected)
        values[branch] = edit(branch, "values", value)
        if clean is None or edit.touches(branch, (*_OF_WEIGHTS, "neighbourhood")):
            weights[branch] = _weights(branch, query, key, masks.get(branch), valid, edit, clean)
        else:
            weights[branch] = clean.trace.weights[branch]
    gates = block.gates_of_maps(weights) if clean is None or not _same(weights, clean) else clean.trace.gates
    gates = _edited_gates(block, gates, edit) if block.gated == "maps" else {}
    maps = block.gated_maps(weights, gates)
    combined = {"combined": block.join_branches(maps)} if block.combined else {}
    if block.combined == "joined":  # the same numbers, so that the output can be differentiated by the combined map
        maps = {branch: combined["combined"][:, block.heads_of(branch)] for branch in block.branches}
    contexts = _contexts(block, weights, maps, values, gates, edit, clean)
    joined = block.join_branches(contexts) if block.gated != "outputs" else None
    if block.combined == "blended" and clean is None and not _touches_values(block, edit):
        joined = combined["combined"] @ projected[2]  # likewise
    gates = _edited_gates(block, block.gates_of_contexts(contexts), edit) if block.gated == "outputs" else gates
    output, branch_outputs = block.blend(contexts, gates) if joined is None else (block.output(join_heads(joined)), {})
    output = edit("", "output", output)
    return StagedPass(
        _union(masks), masks, weights, values, gates, maps, contexts, combined, joined, output, branch_outputs
    )


def _weights(
    branch: str,
    query: Heads,
    key: Heads,
    mask: Bool[Tensor, "*clips query key"] | None,
    valid: Valid | None,
    edit: BlockEdit,
    clean: CleanPass | None,
) -> Float[Tensor, "batch heads query key"]:
    query, key = edit(branch, "queries", query), edit(branch, "keys", key)
    allowed = mask = mask if mask is None or mask.ndim == 2 else mask[:, None]
    if edit.touches(branch, ("mask",)):
        frames = query.shape[2]
        pattern = mask if mask is not None else torch.ones(frames, frames, dtype=torch.bool, device=query.device)
        allowed = edit(branch, "mask", pattern.expand(len(pattern) if pattern.ndim == 4 else 1, query.shape[1], -1, -1))
    if clean is None or edit.touches(branch, ("queries", "keys")):
        logits = attention_logits(query, key)
    else:
        logits = clean.logits(branch)
    logits = edit(branch, "logits", logits)
    return edit(branch, "weights", logits_to_weights(logits, allowed, valid))


def _touches_values(block: AttentionBlock, edit: BlockEdit) -> bool:
    return any(edit.touches(branch, ("values", "contexts")) for branch in block.branches)


def _same(weights: Maps, clean: CleanPass) -> bool:
    return all(each is clean.trace.weights[branch] for branch, each in weights.items())


def _contexts(
    block: AttentionBlock,
    weights: Maps,
    maps: Maps,
    values: Contexts,
    gates: AnyGates,
    edit: BlockEdit,
    clean: CleanPass | None,
) -> Contexts:
    contexts = {}
    for branch in block.branches:
        if (
            clean is not None
            and weights[branch] is clean.trace.weights[branch]
            and not edit.touches(branch, ("values",))
            and (block.gated != "maps" or gates is clean.trace.gates)
        ):
            context = clean.contexts[branch]
        else:
            context = maps[branch] @ values[branch]
        contexts[branch] = edit(branch, "contexts", context)
    return contexts


def _edited_gates(block: AttentionBlock, gates: AnyGates, edit: BlockEdit) -> AnyGates:
    first, *others = block.branches
    stages = dict(zip((first, *others), block.gate_branches, strict=False))
    after = {branch: edit(stage, "gate", gates[branch]) for branch, stage in stages.items()}
    if all(gate is gates[branch] for branch, gate in after.items()):
        return gates
    if len(others) == 1:
        return {first: after[first], others[0]: 1 - after[first]}
    return dict(zip(block.branches, _adding_to_one(list(gates.values()), list(after.values())), strict=True))


def _adding_to_one(
    before: list[Float[Tensor, batch * rest]], after: list[Float[Tensor, batch * rest]]
) -> Float[Tensor, "branch batch *rest"]:
    """Gates of which some have been changed: these as they are, the others scaled to what is left of 1.

    Where the changed ones alone add to more than 1, or no other is above 0, the changed ones are scaled.
    """
    old, new = torch.stack(before), torch.stack(after)
    changed = old != new
    fixed, free = (new * changed).sum(0), (old * ~changed).sum(0)
    room = (1 - fixed).clamp(min=0.0) * (free > 0)
    others = room / free.where(free > 0, 1.0)
    scale = (1 - room) / fixed.where(fixed > 0, 1.0)
    even = torch.full_like(old, 1 / len(old))
    return torch.where((fixed > 0) | (room > 0), torch.where(changed, new * scale, old * others), even)


def _union(masks: Mapping[str, Bool[Tensor, "*clips query key"]]) -> Bool[Tensor, "*clips query key"] | None:
    first, *others = masks.values() or (None,)
    return reduce(torch.logical_or, others, first) if others and first is not None else first
