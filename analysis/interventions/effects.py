"""effect_map: what each window of seconds does for a class through each head and each branch, by intervention.

Up to its contexts every head works alone. So the contexts of a branch without a window, or with that window alone, give
those of each head's cell and of the branch's. What follows is done for frames whose contexts changed. All is exact but
`attribution`: one gradient by the contexts, times their change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, SupportsIndex

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from analysis.explanations.explanation import class_position
from analysis.explanations.incremental.after_attention import AfterAttention
from analysis.explanations.stream import Stream, check_layers
from analysis.gmsa_view import attention_block
from analysis.interventions.cells import DIRECTIONS, Unit, effect_edits, effect_units, windows_of
from analysis.interventions.edits import Seconds
from analysis.interventions.folded_rows import FoldedRows, PreparedRows
from analysis.interventions.layer_windows import LayerWindow, attribute_of, layer_window_effects, layers_of
from analysis.interventions.running import EditRun
from analysis.interventions.sites import Site
from analysis.interventions.window_contexts import ChangedContexts, HeadRows, Rows, WindowContexts, Windows
from gmsa_models.attention import Contexts
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.evaluating import standard_contexts
from gmsa_models.recompute import pooled_from

__all__ = ["attribution_agreement", "effect_map"]

UnitContexts = dict[str, Float[Tensor, "units heads rows head_dim"]]
UnitWindows = Float[Tensor, "units windows"]


def effect_map(
    model: GMSAClassifier,
    clip: Clip,
    target: SupportsIndex | str,
    *,
    windows: Sequence[Seconds] | None = None,
    source: Clip | str | None = None,
    layer: LayerWindow = 0,
) -> xr.Dataset:
    """The change of a class's logit when a window of seconds is taken from, or left alone to, each head and branch.

    A cell is a window of keys in one unit: "noising" takes it from the pass as it is; "denoising" gives it back to a
    pass in which the unit has no window at all. Taken away are the edges to the window's frames, before the softmax
    (knock-out), or their values, in place of which stand those of `source` (patching).

    Args:
        model: with attention; left as it is.
        clip: cut to the model's longest.
        target: the class, by its position among the model's outputs or by its name.
        windows: in seconds; None: of 10 s. Those of denoising need not cover the clip.
        source: None: knock-out. Else values are patched: from another clip, as long at least, at the same seconds;
            "mean": the clip's mean value of each head; "zero".
        layer: which encoder layer; or the first and the last of a window of layers, in all of which a cell takes its
            seconds from the unit.

    Returns:
        Over (direction, modality, unit, window): `effect`, the logit after less before (above 0 where a window, given
        back, speaks for the class; below 0 where, taken away, it did), and of one layer `attribution`, the same to
        first order; `error` is attribution less effect. `clean` is the logit of the pass as it is, `base` (modality,
        unit) that of the pass in which denoising starts. Units have coordinates `branch` and `head` (-1: all), windows
        `start` and `stop`.

    Raises:
        ArgumentError: the control, which has no attention; layers that the model lacks.
        EditError: a window without frames, or a source that does not fit.

    Source:
        Zhang and Nanda, "Towards best practices of activation patching in language models", 2024; Nanda, "Attribution
        patching", 2023.
    """
    run, position = EditRun(model, [clip]), class_position(model, target)
    chosen = windows_of(run.clips[0]) if windows is None else tuple(windows)
    first = next(iter(model.encoders))
    layers = layers_of(layer, len(model.encoders[first].layers))
    units = effect_units(*(attention_block(model, first, number) for number in layers))
    clean = float(run.clean.logits[0, position])
    if len(layers) > 1:
        effect, base = layer_window_effects(run, position, chosen, units, layers, source)
        values = {"effect": effect}
    else:
        with standard_contexts():
            parts = [_StreamEffects(run, stream, layers.start, position, source) for stream in model.encoders]
            effects = [part.of(chosen, units) for part in parts]
        values = {name: np.stack([each[name] for each in effects], 1) for name in ("effect", "attribution")}
        values["error"] = values["attribution"] - values["effect"]
        base = np.stack([each["base"] for each in effects])
    dims = ("direction", "modality", "unit", "window")
    return xr.Dataset(
        {name: (dims, value) for name, value in values.items()}
        | {"clean": ((), clean), "base": (("modality", "unit"), clean + base)},
        {
            "direction": list(DIRECTIONS),
            "modality": list(model.encoders),
            "branch": ("unit", [unit.branch for unit in units]),
            "head": ("unit", [-1 if unit.head is None else unit.head for unit in units]),
            "start": ("window", np.array([start for start, _ in chosen], dtype=float)),
            "stop": ("window", np.array([stop for _, stop in chosen], dtype=float)),
        },
        {"clip": clip.id, "target": position, "layer": attribute_of(layers), "intervention": _name_of(source)},
    )


def attribution_agreement(effects: xr.Dataset) -> pd.DataFrame:
    """How far the first order agrees with the exact effects, a row a direction and modality.

    Args:
        effects: of `effect_map`.

    Returns:
        Columns `correlation` (Pearson, over units and windows; NaN where either side is constant), `largest_error` and
        `largest_effect` (logits), and `same_sign`: the share of the cells with any effect that have the sign of it.
    """
    rows = {}
    for direction in effects["direction"].to_numpy():
        for modality in effects["modality"].to_numpy():
            one = effects.sel(direction=direction, modality=modality)
            exact, first = (one[name].to_numpy().ravel() for name in ("effect", "attribution"))
            moved, varied = exact != 0, exact.std() > 0 and first.std() > 0
            rows[str(direction), str(modality)] = {
                "correlation": float(np.corrcoef(exact, first)[0, 1]) if varied else float("nan"),
                "largest_error": float(np.abs(first - exact).max()),
                "largest_effect": float(np.abs(exact).max()),
                "same_sign": float((np.sign(exact) == np.sign(first))[moved].mean()) if moved.any() else float("nan"),
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["direction", "modality"])


@dataclass(frozen=True)
class _Start:
    """Where the cells of a branch begin: the clean pass (noising), or each unit's pass without any key (denoising).

    The units are the branch, then each of its heads.

    Attributes:
        contexts: of each unit, or one for all.
        before: of the branches that change, what their heads hand on in the branch's own pass, and in the head's.
        slopes: gradient of the logit by them, in the branch's pass.
        head_slopes: the same, of each head in its own.
        rest: what the way from contexts to the logit keeps of the start.
    """

    contexts: UnitContexts
    before: dict[str, HeadRows]
    slopes: dict[str, HeadRows]
    head_slopes: dict[str, HeadRows]
    rest: Any


class _StreamEffects:
    """Effects in one block of one stream."""

    def __init__(self, run: EditRun, stream: str, layer: int, position: int, source: Clip | str | None) -> None:
        self.run, self.stream, self.layer = run, stream, layer
        self.clean, self.block = run.clean_pass(stream, layer), attention_block(run.model, stream, layer)
        self.hidden, self.weights = run.hidden(stream, layer), Stream(run.model, stream, position)
        patched = None if source is None else self._patched(source)
        self.contexts = WindowContexts(self.block, self.clean, patched)
        encoder = self.weights.encoder
        check_layers(encoder)
        if layer < len(encoder.layers) - 1:
            self.way: _Way = _WholeWay(self)
        elif encoder.layers[layer].norm_first and self.block.gated != "outputs":
            self.way = _FoldedWay(self)
        else:
            self.way = _RowWay(self)

    def of(self, windows: Sequence[Seconds], units: Sequence[Unit]) -> dict[str, np.ndarray]:
        """`effect` and `attribution` (direction, unit, window); `base` (unit): its logit less the clean one."""
        shape = (len(DIRECTIONS), len(units), len(windows))
        effects, first_order, base = np.zeros(shape), np.zeros(shape), np.zeros(len(units))
        for branch in self.block.branches:
            places = [place for place, unit in enumerate(units) if unit.branch == branch]
            emptied = self.contexts.emptied(branch)
            starts = self._clean_start(), self._emptied_start(emptied)
            base[places] = _numbers(self.way.logits(starts[1]) - self.way.logits(starts[0]))
            spans = [self.run.clock.span(window) for window in windows]
            cells = [self._cells(starts, branch, some, emptied) for some in self.contexts.groups(branch, spans)]
            exact, first = (_numbers(torch.cat(each, -1)) for each in zip(*cells, strict=True))
            effects[:, places], first_order[:, places] = exact, first
        return {"effect": effects, "attribution": first_order, "base": base}

    def _cells(
        self,
        starts: tuple[_Start, _Start],
        branch: str,
        windows: Windows,
        emptied: dict[str, HeadRows],
    ) -> tuple[Float[Tensor, "directions units windows"], Float[Tensor, "directions units windows"]]:
        """Effects of some windows in both directions, and the same to first order."""
        exact, first = [], []
        for start, changed in zip(starts, self.contexts.changes(branch, windows, emptied), strict=True):
            steps = {name: each - start.before[name][:, changed.rows] for name, each in changed.contexts.items()}
            exact.append(self.way.change(start, changed, steps))
            first.append(_first_order(start, changed, steps))
        return torch.stack(exact), torch.stack(first)

    def logits(self, contexts: UnitContexts) -> Float[Tensor, " units"]:
        """The logit from contexts of all frames, without the classifier's bias."""
        output = self.block.output_from(contexts)[:, None]
        pooled = pooled_from(self.run.model, self.stream, self.layer, self.hidden, output, None)
        return pooled[:, 0] @ self.weights.weights

    def _patched(self, source: Clip | str) -> Contexts:
        """Values of each branch when all are patched."""
        end = self.run.clock.frames * self.run.clock.seconds
        values = {}
        for branch in self.block.branches:
            edits = effect_edits(Site(self.stream, "values", self.layer, branch), [(0.0, end)], source)
            plan = self.run.plan(edits).of_layer(self.stream, self.layer)
            values[branch] = plan(branch, "values", self.clean.projected[2][:, self.block.heads_of(branch)])
        return values

    def _clean_start(self) -> _Start:
        contexts = dict(self.clean.contexts)
        before = self.contexts.start
        slopes = {branch: each[0] for branch, each in self._slopes(contexts).items()}
        return _Start(contexts, before, slopes, slopes, self.way.prepare(contexts))

    def _emptied_start(self, emptied: dict[str, HeadRows]) -> _Start:
        count = len(next(iter(emptied.values())))
        contexts = _with_changes(self.clean.contexts, emptied, slice(None))
        slopes = self._slopes(contexts)
        heads = torch.arange(count, device=self.hidden.device)
        return _Start(
            contexts,
            emptied,
            {branch: slopes[branch][0] for branch in emptied},
            {branch: slopes[branch][heads + 1, heads] for branch in emptied},
            self.way.prepare(contexts),
        )

    def _slopes(self, contexts: UnitContexts) -> UnitContexts:
        """Gradient of each unit's logit by its contexts."""
        with torch.enable_grad():
            leaves = {branch: each.detach().clone().requires_grad_() for branch, each in contexts.items()}
            gradients = torch.autograd.grad(self.logits(leaves).sum(), list(leaves.values()))
        return {branch: each.contiguous() for branch, each in zip(leaves, gradients, strict=True)}


class _Way(Protocol):
    """From contexts to the logit."""

    def prepare(self, contexts: UnitContexts) -> Any:
        """What is kept of a start."""

    def logits(self, start: _Start) -> Float[Tensor, " units"]:
        """The logit of each unit's start."""

    def change(
        self, start: _Start, changed: ChangedContexts, steps: dict[str, HeadRows]
    ) -> Float[Tensor, "units windows"]:
        """The logit of each unit after the change of each window less before."""


class _WholeWay:
    """All frames through all that follows: later layers mix them."""

    def __init__(self, part: _StreamEffects) -> None:
        self.part = part

    def prepare(self, contexts: UnitContexts) -> Float[Tensor, " units"]:
        return self.part.logits(contexts)

    def logits(self, start: _Start) -> Float[Tensor, " units"]:
        return start.rest

    def change(
        self, start: _Start, changed: ChangedContexts, steps: dict[str, HeadRows]
    ) -> Float[Tensor, "units windows"]:
        after, place = [], 0
        for count in changed.counts:
            some = slice(place, place + count)
            own = {branch: each[:, some] for branch, each in changed.contexts.items()}
            after.append(self.part.logits(_with_changes(start.contexts, own, changed.rows[some])))
            place += count
        return torch.stack(after, 1) - start.rest[:, None]


class _RowWay:
    """Only frames whose contexts have changed, in the last layer."""

    def __init__(self, part: _StreamEffects) -> None:
        self.part, self.after, self.frames = part, AfterAttention(part.weights), part.hidden.shape[1]

    def prepare(self, contexts: UnitContexts) -> Float[Tensor, "units frames"]:
        return self._shares(contexts, slice(None))

    def logits(self, start: _Start) -> Float[Tensor, " units"]:
        return start.rest.double().mean(1)

    def change(
        self, start: _Start, changed: ChangedContexts, steps: dict[str, HeadRows]
    ) -> Float[Tensor, "units windows"]:
        before = {branch: each[:, :, changed.rows] for branch, each in start.contexts.items()}
        after = self._shares(_with_changes(before, changed.contexts, slice(None)), changed.rows)
        return _window_sums(after - start.rest[:, changed.rows], changed) / self.frames

    def _shares(self, contexts: UnitContexts, rows: Rows | slice) -> Float[Tensor, "units rows"]:
        sums = self.part.hidden[:, rows] + self.part.block.output_from(contexts)
        return self.after(sums.flatten(0, 1)).unflatten(0, (len(sums), -1))


class _FoldedWay:
    """The same where the block's output is linear in its contexts and norms come first; see `FoldedRows`."""

    def __init__(self, part: _StreamEffects) -> None:
        self.part, self.after, self.frames = part, FoldedRows(part.weights, part.block), part.hidden.shape[1]

    def prepare(self, contexts: UnitContexts) -> tuple[PreparedRows, Float[Tensor, "starts frames"]]:
        """What the rows start from, and their shares."""
        prepared = self.after.prepare(self.part.hidden + self.part.block.output_from(contexts))
        return prepared, self.after.shares(prepared.clone())

    def logits(self, start: _Start) -> Float[Tensor, " units"]:
        return start.rest[1].double().mean(1)

    def change(
        self, start: _Start, changed: ChangedContexts, steps: dict[str, HeadRows]
    ) -> Float[Tensor, "units windows"]:
        prepared, shares = start.rest
        after = self.after.shares(self.after.moved(prepared, changed.rows, steps))
        return _window_sums(after - shares[:, changed.rows], changed) / self.frames


def _with_changes(
    contexts: Mapping[str, Float[Tensor, "starts heads frames head_dim"]],
    changed: dict[str, HeadRows],
    places: Rows | slice,
) -> dict[str, Float[Tensor, "units heads frames head_dim"]]:
    """Contexts of each unit after a change at some places: of the branch that of all heads, of each head its own."""
    count, result = len(next(iter(changed.values()))) + 1, {}
    for branch, own in contexts.items():
        result[branch] = own.expand(count, -1, -1, -1)
        if branch in changed:
            result[branch] = result[branch].clone(memory_format=torch.contiguous_format)
            result[branch][0, :, places] = changed[branch]
            for head, each in enumerate(changed[branch]):
                result[branch][head + 1, head, places] = each
    return result


def _first_order(start: _Start, changed: ChangedContexts, steps: dict[str, HeadRows]) -> UnitWindows:
    of_heads = _window_sums(_products(start.head_slopes, changed, steps), changed)
    if start.slopes is start.head_slopes:
        of_branch = of_heads
    else:
        of_branch = _window_sums(_products(start.slopes, changed, steps), changed)
    return torch.cat([of_branch.sum(0, keepdim=True), of_heads])


def _products(
    slopes: dict[str, Float[Tensor, "heads frames head_dim"]], changed: ChangedContexts, steps: dict[str, HeadRows]
) -> Float[Tensor, "heads rows"]:
    """Each head's slopes times its steps, summed over its context and over branches."""
    return torch.stack([(slopes[branch][:, changed.rows] * step).sum(-1) for branch, step in steps.items()]).sum(0)


def _window_sums(values: Float[Tensor, "units rows"], changed: ChangedContexts) -> UnitWindows:
    """The sum over the rows of each window, in double precision."""
    counts = torch.tensor(changed.counts, device=values.device)
    places = torch.arange(len(counts), device=values.device).repeat_interleave(counts)
    sums = values.new_zeros(len(values), len(counts), dtype=torch.float64)
    return sums.index_add_(1, places, values.double())


def _numbers(values: Float[Tensor, "*units"]) -> Float[np.ndarray, "*units"]:
    return values.double().cpu().numpy()


def _name_of(source: Clip | str | None) -> str:
    if source is None:
        return "knock-out"
    return f"patch from {source.id if isinstance(source, Clip) else source}"
