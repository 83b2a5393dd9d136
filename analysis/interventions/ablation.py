"""Ablation: what a model says without a head or without a branch of its attention.

What is taken away. Each head of each branch hands on a context, one vector a frame (`gmsa_models.recompute`): A V, in
GateAtt with its gate in it. Ablating a head replaces its contexts in all its branches, ablating a branch those of all
its heads, and what follows from contexts is computed again: output projection, GateOp's gates (they read contexts),
residual, feed-forward, later layers, pooling, classifier. What lies before stays: maps, GateAtt's gates (they read
maps), the other modality. The three ways are in `KINDS`.

An ablation is a list of edits (`edits_of`): patches of contexts, or a forced gate. Here contexts come from one trace of
each clip, and the edits of every ablation start there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.gmsa_view import attention_block
from analysis.interventions.edits import Edit, ForceGate, Patch
from analysis.interventions.plan import Clock, EditPlan
from analysis.interventions.sites import Site
from gmsa_models.attention import AttentionBlock, Contexts, Gates
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.errors import ArgumentError
from gmsa_models.recompute import BlockState, logits_from

__all__ = [
    "Ablation",
    "ContextMeans",
    "ablated_contexts",
    "ablated_logits",
    "all_ablations",
    "by_block",
    "summed_contexts",
]

KINDS: dict[str, str] = {
    "mean": "contexts are replaced by their mean over a data set: what they say of this video is gone",
    "zero": "contexts are replaced by 0: the branch's or the head's share of the output is gone",
    "shut": "the branch's gate is 0 and those of the others add to 1, everywhere: the others are all there is",
}
UNITS = ("branch", "head")
# Frames times copies that go through the feed-forward together: enough to fill the arithmetic, small enough to cache.
ROWS = 8192


@dataclass(frozen=True)
class Ablation:
    """What is taken away, and how.

    Attributes:
        modality: whose attention block.
        kind: a key of `KINDS`.
        branch: that branch, as "global"; None: every branch that the head has.
        head: as it stands among all heads of the layer; None: every head.
        layer: which encoder layer.
    """

    modality: str
    kind: str
    branch: str | None = None
    head: int | None = None
    layer: int = 0

    @property
    def unit(self) -> str:
        """What it takes away: "branch", "head", "head of a branch", or "block" where that is everything."""
        if self.head is None:
            return "block" if self.branch is None else "branch"
        return "head" if self.branch is None else "head of a branch"


@dataclass(frozen=True)
class ContextMeans:
    """Mean contexts of a data set: what mean-ablation puts in place of a video's own.

    Attributes:
        values: (modality, branch) -> one vector a head; every real frame counts alike.
        videos, frames: how many they are the mean of.
        layer: of which encoder layer.
    """

    values: Mapping[tuple[str, str], Float[Tensor, "heads head_dim"]]
    videos: int
    frames: int
    layer: int = 0


def all_ablations(
    model: GMSAClassifier,
    kinds: Sequence[str] = tuple(KINDS),
    units: Sequence[str] = UNITS,
    layer: int = 0,
) -> tuple[Ablation, ...]:
    """Every branch and every head of every modality, in every way that the model's block has.

    Args:
        model: with attention.
        kinds: of `KINDS`; "shut" gives nothing where there are no gates, and nothing for heads.
        units: "branch", "head" or both.
        layer: which encoder layer.

    Raises:
        ArgumentError: an unknown kind or unit; the control, which has no attention.
    """
    _check_known("kind", kinds, KINDS)
    _check_known("unit", units, UNITS)
    ablations = []
    for modality in model.encoders:
        block = attention_block(model, modality, layer)
        chosen: list[tuple[str | None, int | None]] = []
        chosen += [(branch, None) for branch in block.branches] if "branch" in units else []
        chosen += [(None, head) for head in range(block.heads)] if "head" in units else []
        for branch, head in chosen:
            ways = [kind for kind in kinds if kind != "shut" or (branch is not None and block.gated)]
            ablations += [Ablation(modality, kind, branch, head, layer) for kind in ways]
    return tuple(ablations)


def edits_of(model: GMSAClassifier, ablation: Ablation, means: ContextMeans | None = None) -> tuple[Edit, ...]:
    """An ablation as edits: what `run_with` takes.

    Args:
        model: with that block.
        ablation: of `KINDS`.
        means: for kind "mean".

    Raises:
        ArgumentError: a branch, head or kind that the block lacks, or means that are missing.
    """
    block = attention_block(model, ablation.modality, ablation.layer)
    _check(block, ablation, means)
    if ablation.kind == "shut":
        return (ForceGate(Site(ablation.modality, "gate", ablation.layer), 0, _branch_of(ablation)),)
    patches = []
    for branch in (ablation.branch,) if ablation.branch else block.branches:
        own, heads = block.heads_of(branch), () if ablation.head is None else (ablation.head,)
        if ablation.head is None or own.start <= ablation.head < own.stop:
            mean = means.values[ablation.modality, branch][:, None] if means and ablation.kind == "mean" else "zero"
            patches.append(Patch(Site(ablation.modality, "contexts", ablation.layer, branch, heads), mean))
    return tuple(patches)


def ablated_contexts(
    model: GMSAClassifier, state: BlockState, ablation: Ablation, means: ContextMeans | None = None
) -> tuple[Contexts, Gates | None]:
    """Contexts after an ablation, and GateOp's gates where the ablation sets them.

    Args:
        model: the model.
        state: of the ablation's block in a pass.
        ablation: of that block.
        means: for kind "mean".

    Returns:
        Contexts and gates for the block's `output_from`; gates None where they follow from the contexts.

    Raises:
        ArgumentError: a branch, head or kind that the block lacks, or means that are missing.
    """
    edits = edits_of(model, ablation, means)
    if ablation.kind == "shut":
        return state.shut[_branch_of(ablation)]
    plan = EditPlan.of(model, edits, Clock(state.hidden.shape[1], 1, state.valid))
    change = plan.of_layer(state.modality, state.layer)
    return {branch: change(branch, "contexts", each) for branch, each in state.contexts.items()}, None


def ablated_logits(
    model: GMSAClassifier, state: BlockState, ablations: Sequence[Ablation], means: ContextMeans | None = None
) -> Float[Tensor, "ablations batch classes"]:
    """Logits of the clips of a pass after each ablation of one attention block, many ablations at a time.

    Args:
        model: in evaluation mode, if it has dropout.
        state: of the block.
        ablations: at least one, all of that block.
        means: for kind "mean".

    Raises:
        ArgumentError: an ablation of another block, or one that the block lacks; means that are missing.
    """
    if foreign := [one for one in ablations if (one.modality, one.layer) != (state.modality, state.layer)]:
        raise ArgumentError(f"{foreign[0]} is not of layer {state.layer} of {state.modality!r}")
    block = attention_block(model, state.modality, state.layer)
    at_once = max(1, ROWS // state.hidden[..., 0].numel())
    parts = []
    for start in range(0, len(ablations), at_once):
        outputs = [
            block.output_from(*ablated_contexts(model, state, one, means)) for one in ablations[start : start + at_once]
        ]
        parts.append(logits_from(model, state, torch.stack(outputs)))
    return torch.cat(parts)


def summed_contexts(state: BlockState) -> dict[str, Float[Tensor, "heads head_dim"]]:
    """Sum of each head's contexts over the real frames of the clips of a pass, in float64, by branch."""
    sums = {}
    for branch, context in state.contexts.items():
        kept = context if state.valid is None else context.masked_fill(~state.valid[:, None, :, None], 0.0)
        sums[branch] = kept.double().sum((0, 2))
    return sums


def by_block(ablations: Sequence[Ablation]) -> Iterator[tuple[tuple[str, int], list[int]]]:
    """Modality and layer of each block that is ablated, and the places of its ablations."""
    places: dict[tuple[str, int], list[int]] = {}
    for place, one in enumerate(ablations):
        places.setdefault((one.modality, one.layer), []).append(place)
    yield from places.items()


def _branch_of(ablation: Ablation) -> str:
    """The branch that is shut; `_check` has seen that there is one."""
    if ablation.branch is None:
        raise ArgumentError(f"{ablation}: only a whole branch can be shut")
    return ablation.branch


def _check_known(what: str, names: Sequence[str], known: Sequence[str] | Mapping[str, str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ArgumentError(f"unknown {what} {unknown[0]!r}; known: {', '.join(known)}")


def _check(block: AttentionBlock, ablation: Ablation, means: ContextMeans | None) -> None:
    name, branches = type(block).__name__, block.branches
    _check_known("kind", [ablation.kind], KINDS)
    if ablation.branch is not None and ablation.branch not in branches:
        raise ArgumentError(f"{name} has no branch {ablation.branch!r}; it has {', '.join(branches)}")
    if ablation.head is not None and not 0 <= ablation.head < block.heads:
        raise ArgumentError(f"no head {ablation.head} in a block of {block.heads} heads")
    if ablation.kind == "shut" and (ablation.branch is None or ablation.head is not None or not block.gated):
        raise ArgumentError(f"{ablation}: only a whole branch of a block with gates can be shut; the block is {name}")
    if ablation.kind == "mean" and (means is None or means.layer != ablation.layer):
        available = "none" if means is None else f"those of layer {means.layer}"
        raise ArgumentError(
            f"{ablation} needs the mean contexts of layer {ablation.layer} over a data set; got {available}"
        )
