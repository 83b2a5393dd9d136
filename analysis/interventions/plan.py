"""EditPlan: a list of edits made ready for one pass, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.interventions.edits import (
    DropFrames,
    Edit,
    EditError,
    ForceGate,
    KnockOut,
    MoveFrames,
    Number,
    Patch,
    ReplaceNeighbourhood,
    ScaleHead,
    Seconds,
)
from analysis.interventions.sites import Site, SiteTable, heads_at, matching_sites
from gmsa_models.attention import Valid
from gmsa_models.attention.stages import BlockEdit
from gmsa_models.classifier import GMSAClassifier, mean_over_valid
from gmsa_models.masks import Neighbourhood, neighbourhood_mask
from gmsa_models.trace import Stage

__all__ = ["Clock", "EditPlan"]

# Value of a site in a pass of the source clip: (site, clip) -> value of a batch of one.
SourceValues = Callable[[Site, object], Tensor]
Change = Callable[[Tensor], Tensor]
# From the value after the changes before it at the same stage, and the value before all of them.
StageChange = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Clock:
    """The frames of a pass.

    Attributes:
        frames: to so many the clips are padded.
        seconds: how long a frame is.
        valid: True where a frame is real; None: everywhere.
    """

    frames: int
    seconds: Number
    valid: Valid | None = None

    def span(self, seconds: Seconds | None) -> slice:
        """The frames that start in some seconds; None: all.

        Raises:
            EditError: no frame does.
        """
        if seconds is None:
            return slice(0, self.frames)
        first, stop = (min(self.frames, math.ceil(each / self.seconds - 1e-9)) for each in seconds)
        if first >= stop:
            raise EditError(
                f"no frame starts in {seconds[0]:g} to {seconds[1]:g} s; the clip has {self.frames} frames of "
                f"{self.seconds:g} s"
            )
        return slice(first, stop)


@dataclass(frozen=True)
class _Action:
    """One change at one stage.

    Attributes:
        edit: where it comes from.
        change: what is done to the value.
        sets: whether values are replaced, so that two at the same place are in each other's way.
        heads, frames: where, for that.
    """

    edit: Edit
    change: StageChange
    sets: bool
    heads: tuple[int, ...]
    frames: slice


@dataclass
class EditPlan:
    """Edits of one pass, ready to be made; a `PassEdit`.

    Attributes:
        actions: stage -> changes there, in the order in which they are made.
        dropped: stream -> frames that are as padding.
        watch: stages whose values are kept.
        watched: their values, once the pass has been there.
    """

    actions: dict[Stage, list[_Action]] = field(default_factory=dict)
    dropped: dict[str, list[slice]] = field(default_factory=dict)
    watch: frozenset[Stage] = frozenset()
    watched: dict[Stage, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: GMSAClassifier | SiteTable,
        edits: Iterable[Edit],
        clock: Clock,
        source: SourceValues | None = None,
        watch: Iterable[Site | str] = (),
    ) -> EditPlan:
        """Find the places of some edits in a model, and refuse those in each other's way.

        Args:
            model: decides which sites there are.
            edits: in any order: stages come in the order of computation; at one stage what replaces values comes
                first, then what takes away or scales.
            clock: the frames of the pass.
            source: gives the values that patches from clips need.
            watch: sites whose values are kept.

        Raises:
            SiteError: a site that the model lacks.
            EditError: an edit that does not fit the clip, or two that replace the same values.
        """
        places = [place for site in watch for place in matching_sites(model, site)]
        plan = cls(watch=frozenset(place.stage for place in places))
        for edit in edits:
            for site in matching_sites(model, edit.site):
                if isinstance(edit, DropFrames):
                    plan._drop(site.stream, edit, clock)
                else:
                    heads = site.heads or tuple(heads_at(model, site))
                    stage, action = _action(model, edit, site, heads, clock, source)
                    plan._add(stage, action)
        for actions in plan.actions.values():
            actions.sort(key=lambda action: not action.sets)
        return plan

    @property
    def streams(self) -> set[str]:
        """Streams in which something is changed."""
        return {stage.stream for stage in self.actions} | set(self.dropped)

    def first_layer(self, stream: str) -> int:
        """The first layer of a stream where something is changed; -1: before all layers, too large: after them."""
        if stream in self.dropped or Stage(stream, None, "", "input") in self.actions:
            return -1
        return min((stage.layer for stage in self.actions if stage.stream == stream and stage.layer is not None),
                   default=1 << 30)  # fmt: skip

    def inside(self, stream: str, layer: int) -> bool:
        """Whether all that is changed in a stream lies between the input and the output of one attention block."""
        places = [stage for stage in self.actions if stage.stream == stream]
        return stream not in self.dropped and all(
            stage.layer == layer and stage.quantity not in ("input", "encoded", "pooled") for stage in places
        )

    def __call__(self, stage: Stage, value: Tensor) -> Tensor:
        """The value after the changes at a stage."""
        before = value
        for action in self.actions.get(stage, ()):
            value = action.change(value, before)
        if stage in self.watch:
            self.watched[stage] = value
        return value

    def of_layer(self, modality: str, layer: int) -> BlockEdit:
        """The changes of one layer."""
        return _LayerPlan(self, modality, layer)

    def valid(self, modality: str, valid: Valid | None, frames: Float[Tensor, "batch frames _"]) -> Valid | None:
        """Frames that are real and not dropped.

        Raises:
            EditError: a clip none of whose frames is left.
        """
        if modality not in self.dropped:
            return valid
        kept = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device) if valid is None else valid.clone()
        for span in self.dropped[modality]:
            kept[:, span] = False
        if not kept.any(1).all():
            raise EditError(f"every frame of {modality!r} is dropped; at least one must be left")
        return kept

    def _drop(self, stream: str, edit: DropFrames, clock: Clock) -> None:
        self.dropped.setdefault(stream, []).append(clock.span(edit.at))

    def _add(self, stage: Stage, action: _Action) -> None:
        for other in self.actions.get(stage, ()):
            heads = not other.heads or not action.heads or set(other.heads) & set(action.heads)
            frames = max(other.frames.start, action.frames.start) < min(other.frames.stop, action.frames.stop)
            if other.sets and action.sets and heads and frames:
                raise EditError(
                    f"{_name(other.edit)} and {_name(action.edit)} replace the same values at {stage.quantity}"
                )
        self.actions.setdefault(stage, []).append(action)


@dataclass(frozen=True)
class _LayerPlan:
    plan: EditPlan
    modality: str
    layer: int

    def __call__(self, branch: str, quantity: str, value: Tensor) -> Tensor:
        return self.plan(Stage(self.modality, self.layer, branch, quantity), value)

    def touches(self, branch: str, quantities: Collection[str]) -> bool:
        stages = [Stage(self.modality, self.layer, branch, quantity) for quantity in quantities]
        return any(stage in self.plan.actions or stage in self.plan.watch for stage in stages)


def _name(edit: Edit) -> str:
    return f"{type(edit).__name__} at {edit.site}"


def _action(
    model: GMSAClassifier | SiteTable,
    edit: Edit,
    site: Site,
    heads: tuple[int, ...],
    clock: Clock,
    source: SourceValues | None,
) -> tuple[Stage, _Action]:
    stage, first = site.stage, next(iter(heads_at(model, site)), 0)
    places = tuple(head - first for head in heads)
    everywhere = slice(0, clock.frames)
    match edit:
        case KnockOut():
            queries, keys = clock.span(edit.queries), clock.span(edit.keys)
            stage = stage._replace(quantity="mask" if edit.renormalise else "weights")
            return stage, _Action(edit, partial(_without_edges, places, queries, keys), False, heads, queries)
        case ForceGate():
            span = clock.span(edit.at)
            stage, value = _gate_stage(model, edit, site)
            return stage, _Action(edit, partial(_filled, places, span, value), True, heads, span)
        case ReplaceNeighbourhood():
            mask = partial(_other_neighbourhood, edit.pattern)
            return stage, _Action(edit, mask, True, (), everywhere)
        case ScaleHead():
            span = clock.span(edit.at)
            return stage, _Action(edit, partial(_scaled, places, span, edit.factor), False, heads, span)
        case MoveFrames():
            order = _moved(edit, clock)
            return stage, _Action(edit, lambda frames, before: frames[:, order], True, (), everywhere)
        case Patch():
            span = slice(0, 1) if site.quantity == "pooled" else clock.span(edit.at)
            change = partial(_patched, places, span, _patch_value(edit, site, span, clock, source))
            return stage, _Action(edit, change, True, heads, span)
    raise EditError(f"{edit!r} is no edit; expected one of {', '.join(sorted(EDITS))}")


def _gate_stage(model: GMSAClassifier | SiteTable, edit: ForceGate, site: Site) -> tuple[Stage, Number]:
    """Where the gate of a branch is a number, and which: a block of two branches has the first one's gate alone."""
    stage, branch = site.stage, site.branch or edit.branch
    if isinstance(model, SiteTable) or stage.layer is None:
        raise EditError(f"{_name(edit)}: this model has no gates")
    block = model.encoders[stage.stream].layers[stage.layer].block
    if branch not in block.branches:
        raise EditError(f"{_name(edit)}: no branch {branch!r}; the layer has {', '.join(block.branches)}")
    if branch in block.gate_branches:
        return stage._replace(branch=branch), edit.value
    return stage._replace(branch=""), edit.value if branch == block.branches[0] else 1 - edit.value


EDITS: Mapping[str, type] = {
    each.__name__: each
    for each in (KnockOut, Patch, ForceGate, ReplaceNeighbourhood, ScaleHead, DropFrames, MoveFrames)
}


def _region(value: Tensor, heads: Sequence[int], span: slice) -> tuple[slice | list[int], ...]:
    """Where heads and frames stand in a value: (batch, heads, frames, ...), (batch, frames, ...) or (batch, width)."""
    if value.ndim == 4:
        # A list and a slice: torch keeps the axes where they are.
        return (slice(None), list(heads), span)
    return (slice(None), span) if value.ndim == 3 else (slice(None),)


def _without_edges(heads: Sequence[int], queries: slice, keys: slice, value: Tensor, before: Tensor) -> Tensor:
    changed = value.clone(memory_format=torch.contiguous_format)
    for head in heads:
        changed[:, head, queries, keys] = 0
    return changed


def _filled(heads: Sequence[int], span: slice, number: Number, value: Tensor, before: Tensor) -> Tensor:
    changed = value.clone()
    changed[_region(value, heads, span)] = number
    return changed


def _scaled(heads: Sequence[int], span: slice, factor: Number, value: Tensor, before: Tensor) -> Tensor:
    region, changed = _region(value, heads, span), value.clone()
    changed[region] = factor * value[region]
    return changed


def _other_neighbourhood(
    neighbourhood: Neighbourhood, mask: Bool[Tensor, "*clips query key"], before: Tensor
) -> Bool[Tensor, "query key"]:
    return neighbourhood_mask(neighbourhood, mask.shape[-1], mask.device)


def _patched(heads: Sequence[int], span: slice, source: Change, value: Tensor, before: Tensor) -> Tensor:
    region, changed = _region(value, heads, span), value.clone()
    changed[region] = source(before)[region].to(value)
    return changed


def _patch_value(edit: Patch, site: Site, span: slice, clock: Clock, source: SourceValues | None) -> Change:
    """From a site's value to the one that a patch takes its frames from, of the same shape."""
    if isinstance(tensor := edit.source, Tensor):
        return partial(_broadcast, site, tensor)
    if edit.source == "zero":
        return torch.zeros_like
    if edit.source == "mean":
        return partial(_mean_over_frames, clock.valid)
    if edit.source == "own":
        return partial(_shifted, edit, span, clock)
    if source is None:
        raise EditError(f"a patch at {site} from a clip; here only tensors, 'mean', 'zero' and 'own' can be used")
    other = source(site, edit.source)
    return partial(_from_clip, edit, site, span, clock, other)


def _broadcast(site: Site, tensor: Tensor, value: Tensor) -> Tensor:
    try:
        return torch.broadcast_to(tensor.to(value), value.shape)
    except RuntimeError:
        raise EditError(
            f"a patch at {site} of a tensor {tuple(tensor.shape)}; expected one that broadcasts to {tuple(value.shape)}"
        ) from None


def _mean_over_frames(valid: Valid | None, value: Tensor) -> Tensor:
    if value.ndim == 2:
        return value
    frames = value if value.ndim == 3 else value.transpose(1, 2).flatten(2)
    mean = mean_over_valid(frames, valid)[:, None]
    if value.ndim == 4:
        mean = mean.unflatten(2, (value.shape[1], -1)).transpose(1, 2)
    return mean.expand_as(value)


def _shifted(edit: Patch, span: slice, clock: Clock, value: Tensor) -> Tensor:
    second = edit.start or 0
    start, count = math.ceil(second / clock.seconds - 1e-9), span.stop - span.start
    if start + count > clock.frames:
        raise EditError(f"{count} frames from {second:g} s on; the clip ends at {clock.frames * clock.seconds:g} s")
    axis, changed = value.ndim - 2, value.clone()
    changed.narrow(axis, span.start, count).copy_(value.narrow(axis, start, count))
    return changed


def _from_clip(edit: Patch, site: Site, span: slice, clock: Clock, other: Tensor, value: Tensor) -> Tensor:
    if value.ndim == 2:
        return other.expand_as(value)
    axis, count = value.ndim - 2, span.stop - span.start
    start = span.start if edit.start is None else math.ceil(edit.start / clock.seconds - 1e-9)
    if start + count > other.shape[axis]:
        raise EditError(
            f"{count} frames from {start * clock.seconds:g} s on; the clip to patch from has {other.shape[axis]} frames"
        )
    if value.ndim == 4 and site.quantity in ("logits", "weights", "gate") and other.shape[-1] != value.shape[-1]:
        raise EditError(
            f"{site} from a clip of {other.shape[-1]} frames; this one has {value.shape[-1]}, and keys must match"
        )
    changed = value.clone()
    changed.narrow(axis, span.start, count).copy_(
        other.narrow(axis, start, count).expand_as(changed.narrow(axis, span.start, count))
    )
    return changed


def _moved(edit: MoveFrames, clock: Clock) -> list[int]:
    """Which frame of the clip stands where afterwards."""
    span, to = clock.span(edit.at), math.ceil(edit.to / clock.seconds - 1e-9)
    real = clock.frames if clock.valid is None else int(clock.valid.sum(1).min())
    count = span.stop - span.start
    if span.stop > real or to + count > real:
        raise EditError(
            f"{count} frames from {edit.at[0]:g} s moved to {edit.to:g} s; the clip ends at {real * clock.seconds:g} s"
        )
    order = [frame for frame in range(clock.frames) if not span.start <= frame < span.stop]
    return order[:to] + list(range(span.start, span.stop)) + order[to:]
