"""Edits of any PyTorch module: its attention calls, as `analysis.capture` records them, are changed while it runs.

A site is named as in a GMSA model, by the streams and layers of `analysis.inspect_module`, as
"attention/0/global/weights". There are edges (weights), values and contexts of each call, and the input, of which
frames can be dropped. What a module does elsewhere has no site: gates, neighbourhoods, pooling.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, SupportsIndex

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from analysis.capture import AttentionCall, capture
from analysis.capture.adapter import Inputs
from analysis.capture.layout import Layout
from analysis.capture.maps import TokenMaps
from analysis.explanations.input_steps import explained_tensor, module_steps, replaced_tensor
from analysis.interventions.call_edits import CallEdit, TokenClock
from analysis.interventions.cells import DIRECTIONS, Unit, taken_spans
from analysis.interventions.edit_texts import checked_edits
from analysis.interventions.edits import DropFrames, Edit, EditError, KnockOut, Number, Patch, ScaleHead, Seconds
from analysis.interventions.layer_windows import LayerWindow, attribute_of, layers_of, unit_edits
from analysis.interventions.map_uses import MapUses
from analysis.interventions.plan import EditPlan
from analysis.interventions.sites import Site, SiteTable
from analysis.module_arguments import check_kinds
from analysis.module_heads import join_heads
from analysis.module_runs import evaluating_module
from analysis.module_scores import warn_of_activation
from analysis.module_sites import call_module, check_arguments
from analysis.module_view import logits_of, streams_of, view_module
from gmsa_models.errors import ArgumentError
from gmsa_models.trace import Stage

__all__ = ["ModuleRun", "module_effect_map", "run_module_with"]

QUANTITIES = ("values", "weights", "contexts")  # of each call, in the order of computation
# What can be made on a module, and where.
POSSIBLE: dict[type, tuple[str, ...]] = {
    KnockOut: ("weights",), Patch: ("values", "contexts"), ScaleHead: ("contexts",), DropFrames: ("input",)
}  # fmt: skip
REACHED = 1e-4  # of the largest logit: how far logits may move where nothing of dropped frames reaches them


@dataclass(frozen=True)
class ModuleRun:
    """One pass with edits.

    Attributes:
        output: what the module returned.
        watched: stage of a site -> its value after the edits, (1, heads, frames, numbers).
    """

    output: Any
    watched: Mapping[Stage, Tensor]


@dataclass(frozen=True)
class _Place:
    """Which heads of which layer a call has; `heads`: of the layer."""

    stream: str
    layer: int
    heads: int
    first: int


class EditedModule:
    """A module and one input, ready for any number of edits.

    Args:
        module, inputs, layout, streams: see `run_module_with`.
        frame_seconds, steps: see `run_module_with`.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Inputs,
        layout: Layout | Mapping[str, Layout | None] | None = None,
        streams: Mapping[str, str] | None = None,
        frame_seconds: Number = 1.0,
        steps: Tensor | None = None,
    ) -> None:
        check_kinds(streams=streams, steps=steps)
        check_arguments(module, inputs)
        self.module, self.inputs, self.layout, self.steps = module, inputs, layout, steps
        with evaluating_module(module), torch.no_grad():
            with capture(module, reduce="frames", layout=layout) as captured:
                self.output = call_module(module, inputs)
            joined = join_heads(module, inputs, captured, self.output)
        self.shared = captured.shared
        self._alone: set[str] = set()  # calls whose maps are known to be used in their product alone
        self.axes = {call.name: call.axes for call in captured if call.axes is not None}
        self.calls = streams_of(joined.captured, streams)
        self.places = dict(self._places(joined.members))
        self.table = SiteTable(dict(self._sites()))
        first = next(iter(self.calls.values()))[0]
        self.clock = TokenClock(first.frame_map.weights.shape[-1], frame_seconds)

    def run(self, edits: Iterable[Edit | str] = (), watch: Iterable[Site | str] = ()) -> ModuleRun:
        """One pass with edits; see `run_module_with`."""
        plan = self._plan(edits, watch)
        self._check_uses(plan)
        output = self._pass(plan, self.inputs)
        if plan.dropped:
            self._check_dropped(plan, output)
        return ModuleRun(output, dict(plan.watched))

    def _places(self, members: Mapping[str, Sequence[AttentionCall]]) -> Iterable[tuple[str, _Place]]:
        for stream, calls in self.calls.items():
            for layer, call in enumerate(calls):
                first = 0
                for each in members[call.name]:
                    yield each.name, _Place(stream, layer, call.shape[1], first)
                    first += each.shape[1]

    def _sites(self) -> Iterable[tuple[Site, range]]:
        for stream, calls in self.calls.items():
            yield Site(stream, "input"), range(0)
            for layer, call in enumerate(calls):
                yield from ((Site(stream, each, layer, "global"), range(call.shape[1])) for each in QUANTITIES)

    def _plan(self, edits: Iterable[Edit | str], watch: Iterable[Site | str]) -> EditPlan:
        made = checked_edits(edits)
        watched = [Site.parse(each) if isinstance(each, str) else each for each in watch]
        plan = EditPlan.of(self.table, made, self.clock, None, watched)
        for edit in made:
            if edit.place.quantity not in POSSIBLE.get(type(edit), ()):
                raise EditError(f"{type(edit).__name__} at {edit.site} cannot be made on a module; {_listed_edits()}")
        if wrong := [site for site in watched if site.quantity not in POSSIBLE[Patch]]:
            raise EditError(f"{wrong[0]} cannot be watched in a module; values and contexts can")
        return plan

    def _pass(self, plan: EditPlan, inputs: Inputs) -> Any:
        def rewrite(call: AttentionCall, maps: TokenMaps, result: Tensor) -> None:
            if call.axes is not None and (place := self.places.get(call.name)) is not None:
                shared = self.shared.get(call.name, ())
                heads = place.heads, place.first, shared
                CallEdit(plan, place.stream, place.layer, call, maps, call.axes, *heads).write(result)

        watching = capture(self.module, reduce="frames", layout=self.layout, rewrite=rewrite, axes=self.axes)
        with evaluating_module(self.module), torch.no_grad(), watching:
            return call_module(self.module, inputs)

    def _check_uses(self, plan: EditPlan) -> None:
        """Refuse to change a map that is used elsewhere too, say for a gate, where it would keep its numbers.

        Raises:
            EditError: what the module returns is made of such a map, or moves by it, though what its call returned is
                the same.
        """
        names = [
            name
            for name, place in self.places.items()
            if _changes_map(plan, place) and name not in self._alone and name not in self.shared
        ]
        if not names:
            return
        uses = self._uses
        for name in names:
            if function := uses.followed_elsewhere(name):
                raise EditError(self._used_elsewhere(name, f"by {function} it reaches what the module returns"))
        if uses.moved_elsewhere(names) == 0:
            self._alone.update(names)
            return
        for name in names:
            if moved := uses.moved_elsewhere([name]):
                reach = f"other numbers there alone move what the module returns by {moved:.2g} of its largest number"
                raise EditError(self._used_elsewhere(name, reach))
            self._alone.add(name)

    def _used_elsewhere(self, name: str, reach: str) -> str:
        return (
            f"{name or type(self.module).__name__}: its map is used elsewhere than in its product with the values (in "
            f"a gate, say): {reach}, so that an edit of edges would reach a part of what the map does; none is made. "
            "ScaleHead, and Patch of values or contexts, can be made"
        )

    @cached_property
    def _uses(self) -> MapUses:
        return MapUses(self.module, self.inputs)

    def _check_dropped(self, plan: EditPlan, output: Any) -> None:
        """Refuse to drop frames that reach the logits by another way than attention, say a mean over frames.

        Raises:
            EditError: the logits move when the dropped frames of the input are others.
        """
        steps = self.steps
        if steps is None:
            view = view_module(self.module, self.inputs, layout=self.layout, scored=False)
            steps = module_steps(self.inputs, self.clock.frames, view.capabilities.frame_tokens)
        dropped = torch.zeros(self.clock.frames, dtype=torch.bool)
        for spans in plan.dropped.values():
            for span in spans:
                dropped[span] = True
        if bool(dropped.all()):
            raise EditError("every frame is dropped; at least one must be left")
        values = explained_tensor(self.inputs, self.clock.frames, steps)
        mask = dropped[steps.cpu()].to(values.device)
        others = torch.where(mask, values.mean() - 2 * values, values)
        known, moved = (
            logits_of(self.module, each, False)
            for each in (
                output,
                self._pass(replace(plan, watch=frozenset()), replaced_tensor(self.inputs, values, others)),
            )
        )
        reached = float((moved - known).abs().max())
        if not reached <= REACHED * max(1.0, float(known.abs().max())):
            raise EditError(
                f"the dropped frames still move the logits by {reached:.3g}: {type(self.module).__name__} uses them "
                "elsewhere than in attention (a mean over frames, a convolution), so that they cannot be dropped; "
                "KnockOut takes out the edges to them"
            )


def run_module_with(
    module: nn.Module,
    inputs: Inputs,
    edits: Iterable[Edit | str] = (),
    *,
    layout: Layout | Mapping[str, Layout | None] | None = None,
    streams: Mapping[str, str] | None = None,
    frame_seconds: Number = 1.0,
    steps: Tensor | None = None,
    watch: Iterable[Site | str] = (),
) -> ModuleRun:
    """One pass of any module with edits, as `run_with` makes one of a GMSA model.

    `KnockOut`, `ScaleHead` and `Patch` of values or contexts change the attention calls. Edits of all frames (None)
    hold for class tokens and registers too, those of seconds do not. `DropFrames` takes a frame out of every call of
    the streams named, and is an error where the module uses it elsewhere: a second pass with other numbers in its place
    must give the same logits.

    Args:
        module: any; run in evaluation mode without gradients, and left as it was.
        inputs: of one clip; see `inspect_module`.
        edits: made together; a text is read by `parse_edit`. Streams and layers are those of `inspect_module`, the
            branch is "global": "attention/0/global/weights[head 3]".
        layout, streams: see `inspect_module`.
        frame_seconds: of a time step, for the seconds of edits.
        steps: see `inspect_module`; for `DropFrames`.
        watch: sites of values or contexts whose values are kept, as a patch from another pass takes them.

    Raises:
        SiteError: a site that the module lacks; lists those it has.
        EditError: an edit that cannot be made on it.
        CaptureError, LayoutError, RecordError: see `inspect_module`.
    """
    return EditedModule(module, inputs, layout, streams, frame_seconds, steps).run(edits, watch)


def module_effect_map(
    module: nn.Module,
    inputs: Inputs,
    target: SupportsIndex,
    *,
    windows: Sequence[Seconds],
    source: str | None = None,
    layer: LayerWindow = 0,
    activation: str = "softmax",
    layout: Layout | Mapping[str, Layout | None] | None = None,
    streams: Mapping[str, str] | None = None,
    frame_seconds: Number = 1.0,
) -> xr.Dataset:
    """The change of a class's logit when a window is taken from, or left alone to, each stream and head of a module.

    The same as `effect_map` gives of a GMSA model, by a pass a cell: exact, and without attribution.

    Args:
        module, inputs, layout, streams, frame_seconds: see `run_module_with`.
        target: position of the class.
        windows, layer: see `effect_map`. A unit is NaN where a layer of the window lacks its head.
        source: None: knock-out; "mean" or "zero": what stands in place of the window's values.
        activation: see `inspect_module`; the logit is the log-odds where it is "softmax".

    Returns:
        Over (direction, modality, unit, window): `effect`; `clean` and `base` (modality, unit), as of `effect_map`.

    Raises:
        As `run_module_with`; ArgumentError: a class, layer or source that there is not.
    """
    edited = EditedModule(module, inputs, layout, streams, frame_seconds)
    clean = logits_of(module, edited.output, activation == "softmax")[0]
    warn_of_activation(
        type(module).__name__, logits_of(module, edited.output, False), activation, lambda: edited.run().output
    )
    position = _position(target, len(clean))
    layers = layers_of(layer, min(map(len, edited.calls.values())))
    if source not in (None, "mean", "zero"):
        raise ArgumentError(f"source is {source!r}; expected None, 'mean' or 'zero'")
    heads = max(call.shape[1] for calls in edited.calls.values() for call in calls[layers.start : layers.stop])
    units = [Unit("global", head) for head in (None, *range(heads))]
    effect = np.full((len(DIRECTIONS), len(edited.calls), len(units), len(windows)), np.nan)
    base = np.full((len(edited.calls), len(units)), np.nan)
    end = edited.clock.frames * frame_seconds

    def logit(stream: str, unit: Unit, spans: Sequence[Seconds]) -> float:
        output = edited.run(unit_edits(stream, unit, layers, spans, source)).output
        return float(logits_of(module, output, activation == "softmax")[0, position])

    for row, (stream, calls) in enumerate(edited.calls.items()):
        for place, unit in enumerate(units):
            if unit.head is not None and any(unit.head >= calls[each].shape[1] for each in layers):
                continue
            base[row, place] = logit(stream, unit, [(0.0, end)])
            starts = {"noising": float(clean[position]), "denoising": base[row, place]}
            for number, direction in enumerate(DIRECTIONS):
                for column, window in enumerate(windows):
                    spans = taken_spans(window, direction, end)
                    effect[number, row, place, column] = logit(stream, unit, spans) - starts[direction]
    return xr.Dataset(
        {
            "effect": (("direction", "modality", "unit", "window"), effect),
            "clean": ((), float(clean[position])),
            "base": (("modality", "unit"), base),
        },
        {
            "direction": list(DIRECTIONS),
            "modality": list(edited.calls),
            "branch": ("unit", [unit.branch for unit in units]),
            "head": ("unit", [-1 if unit.head is None else unit.head for unit in units]),
            "start": ("window", np.array([start for start, _ in windows], dtype=float)),
            "stop": ("window", np.array([stop for _, stop in windows], dtype=float)),
        },
        {
            "target": position,
            "layer": attribute_of(layers),
            "intervention": "knock-out" if source is None else f"patch from {source}",
        },
    )


def _changes_map(plan: EditPlan, place: _Place) -> bool:
    stages = (Stage(place.stream, place.layer, "global", each) for each in ("mask", "weights"))
    return place.stream in plan.dropped or any(each in plan.actions for each in stages)


def _position(target: SupportsIndex, classes: int) -> int:
    known = not isinstance(target, bool) and hasattr(target, "__index__")
    if not known or not 0 <= operator.index(target) < classes:
        raise ArgumentError(f"target is {target!r:.60}; the module has classes 0 to {classes - 1}")
    return operator.index(target)


def _listed_edits() -> str:
    each = [f"{kind.__name__} at {' or '.join(quantities)}" for kind, quantities in POSSIBLE.items()]
    return f"there are {', '.join(each)}"
