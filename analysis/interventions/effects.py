"""effect_map: what each window of seconds does for a class through each head and each branch, by intervention.

Up to its contexts every head works alone. So one edited pass up to the contexts, with a window knocked out or patched
in all heads of a branch, gives the contexts of each head's cell and of the branch's. What follows is done for frames
whose contexts changed. All is exact but `attribution`: one gradient by the contexts, times their change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from analysis.attention.segments import WINDOW
from analysis.explanations.explanation import class_position
from analysis.explanations.incremental.after_attention import AfterAttention
from analysis.explanations.stream import Stream
from analysis.gmsa_view import attention_block
from analysis.interventions.edits import EditError, KnockOut, Number, Patch, Seconds
from analysis.interventions.running import EditRun
from analysis.interventions.sites import Site
from gmsa_models.attention import AttentionBlock, Contexts
from gmsa_models.attention.stages import staged_pass
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.evaluating import evaluating
from gmsa_models.recompute import pooled_from

__all__ = ["DIRECTIONS", "Unit", "effect_edits", "effect_map", "effect_units", "taken_spans", "windows_of"]

DIRECTIONS = ("noising", "denoising")
ROWS = 4096  # frames that go through what follows the contexts together


@dataclass(frozen=True)
class Unit:
    """One branch of a block, or one head of it.

    Attributes:
        branch: of the block.
        head: as it stands among all heads of the layer; None: all heads of the branch.
    """

    branch: str
    head: int | None = None

    def site(self, stream: str, layer: int, quantity: str) -> Site:
        """Where it is."""
        return Site(stream, quantity, layer, self.branch, () if self.head is None else (self.head,))


def effect_units(block: AttentionBlock) -> tuple[Unit, ...]:
    """Every branch of a block and every head of each."""
    heads = {branch: block.heads_of(branch) for branch in block.branches}
    return tuple(Unit(branch, head) for branch, own in heads.items() for head in (None, *range(own.start, own.stop)))


def windows_of(clip: Clip, seconds: Number = WINDOW) -> tuple[Seconds, ...]:
    """Windows of one length that cover a clip; the last may be shorter.

    Raises:
        EditError: windows shorter than a frame.
    """
    if seconds < clip.frame_seconds:
        raise EditError(f"windows of {seconds:g} s; expected at least one frame, {clip.frame_seconds:g} s")
    end = clip.frames * clip.frame_seconds
    return tuple((start, min(start + seconds, end)) for start in np.arange(0, end - 1e-9, seconds).tolist())


def effect_edits(
    site: Site, spans: Sequence[Seconds], source: Clip | str | None = None
) -> tuple[KnockOut | Patch, ...]:
    """Edits that take some spans of keys from a unit: knock-out at its weights, or patches at its values.

    Args:
        site: of `Unit.site`, of "weights" for knock-out and "values" for patches.
        spans: in seconds.
        source: of patches; None: knock-out.
    """
    if source is None:
        return tuple(KnockOut(site, keys=span) for span in spans)
    return tuple(Patch(site, source, span) for span in spans)


def taken_spans(window: Seconds, direction: str, end: float) -> tuple[Seconds, ...]:
    """What a cell takes from its unit: the window (noising), or all but the window (denoising).

    Args:
        window: in seconds.
        direction: of `DIRECTIONS`.
        end: of the clip, in seconds.
    """
    if direction == "noising":
        return (window,)
    return tuple(span for span in ((0.0, window[0]), (window[1], end)) if span[0] < span[1])


def effect_map(
    model: GMSAClassifier,
    clip: Clip,
    target: SupportsIndex | str,
    *,
    windows: Sequence[Seconds] | None = None,
    source: Clip | str | None = None,
    layer: int = 0,
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
        layer: which encoder layer.

    Returns:
        Over (direction, modality, unit, window): `effect`, the logit after less before (above 0 where a window, given
        back, speaks for the class; below 0 where, taken away, it did), and `attribution`, the same to first order;
        `error` is attribution less effect. `clean` is the logit of the pass as it is, `base` (modality, unit) that of
        the pass in which denoising starts. Units have coordinates `branch` and `head` (-1: all), windows `start` and
        `stop`.

    Raises:
        GateError: the control, which has no attention.
        EditError: a window without frames, or a source that does not fit.

    Source:
        Zhang and Nanda, "Towards best practices of activation patching in language models", 2024; Nanda, "Attribution
        patching", 2023.
    """
    run, position = EditRun(model, [clip]), class_position(model, target)
    chosen = windows_of(run.clips[0]) if windows is None else tuple(windows)
    units = effect_units(attention_block(model, next(iter(model.encoders)), layer))
    with evaluating(model, widen=True):
        clean = float(run.clean.logits[0, position])
        parts = [_StreamEffects(run, stream, layer, position, source) for stream in model.encoders]
        found = [part.of(chosen, units) for part in parts]
    values = {name: np.stack([each[name] for each in found], 1) for name in ("effect", "attribution")}
    dims = ("direction", "modality", "unit", "window")
    return xr.Dataset(
        {name: (dims, value) for name, value in values.items()}
        | {
            "error": (dims, values["attribution"] - values["effect"]),
            "clean": ((), clean),
            "base": (("modality", "unit"), clean + np.stack([each["base"] for each in found])),
        },
        {
            "direction": list(DIRECTIONS),
            "modality": list(model.encoders),
            "branch": ("unit", [unit.branch for unit in units]),
            "head": ("unit", [-1 if unit.head is None else unit.head for unit in units]),
            "start": ("window", np.array([start for start, _ in chosen], dtype=float)),
            "stop": ("window", np.array([stop for _, stop in chosen], dtype=float)),
        },
        {"clip": clip.id, "target": position, "layer": layer, "intervention": _name_of(source)},
    )


class _StreamEffects:
    """Effects in one block of one stream."""

    def __init__(self, run: EditRun, stream: str, layer: int, position: int, source: Clip | str | None) -> None:
        self.run, self.stream, self.layer, self.source = run, stream, layer, source
        self.clean, self.block = run.clean_pass(stream, layer), attention_block(run.model, stream, layer)
        self.hidden, self.weights = run.hidden(stream, layer), Stream(run.model, stream, position)
        self.last = layer == len(self.weights.encoder.layers) - 1

    def of(self, windows: Sequence[Seconds], units: Sequence[Unit]) -> dict[str, np.ndarray]:
        """`effect` and `attribution` (direction, unit, window); `base` (unit): its logit less the clean one."""
        clean = self.clean.contexts
        end = self.run.clock.frames * self.run.clock.seconds
        emptied = {branch: self._edited(branch, [(0.0, end)]) for branch in self.block.branches}
        bases = [self._cell(unit, emptied[unit.branch]) for unit in units]
        base = self._change(clean, bases)
        slopes = {"noising": self._slopes([clean]) * len(units), "denoising": self._slopes(bases)}
        effects = np.zeros((len(DIRECTIONS), len(units), len(windows)), dtype=np.float64)
        first_order = np.zeros_like(effects)
        for place, window in enumerate(windows):
            for number, direction in enumerate(DIRECTIONS):
                spans = taken_spans(window, direction, end)
                edited = {branch: self._edited(branch, spans) for branch in self.block.branches}
                cells = [self._cell(unit, edited[unit.branch]) for unit in units]
                starts = [clean] * len(units) if direction == "noising" else bases
                effects[number, :, place] = self._change(clean, cells) - (0 if direction == "noising" else base)
                first_order[number, :, place] = [
                    sum(float((slope[branch] * (cell[branch] - start[branch])).sum()) for branch in cell)
                    for slope, cell, start in zip(slopes[direction], cells, starts, strict=True)
                ]
        return {"effect": effects, "attribution": first_order, "base": base}

    def _edited(self, branch: str, spans: Sequence[Seconds]) -> Contexts:
        """Contexts with spans of keys taken from all heads of a branch."""
        quantity = "weights" if self.source is None else "values"
        site = Site(self.stream, quantity, self.layer, branch)
        edit = self.run.plan(effect_edits(site, spans, self.source)).of_layer(self.stream, self.layer)
        return staged_pass(self.block, self.clean.inputs, None, edit, self.clean).contexts

    def _cell(self, unit: Unit, edited: Contexts) -> Contexts:
        """Contexts with one head, or all of a branch, as edited. A gate of maps sees a head's own maps alone."""
        if unit.head is None:
            return edited
        contexts = {}
        for branch, own in self.clean.contexts.items():
            heads = self.block.heads_of(branch)
            contexts[branch] = own
            if heads.start <= unit.head < heads.stop and edited[branch] is not own:
                contexts[branch] = own.clone()
                contexts[branch][:, unit.head - heads.start] = edited[branch][:, unit.head - heads.start]
        return contexts

    def _change(self, clean: Contexts, cells: Sequence[Contexts]) -> Float[np.ndarray, " cells"]:
        """Logit of each cell less the clean one."""
        if not self.last:
            whole = self._logits(_stacked([clean, *cells]))
            return (whole[1:] - whole[0]).double().cpu().numpy()
        places, rows = self._changed_rows(clean, cells)
        count, changes = self.hidden.shape[1], np.zeros(len(cells))
        if not len(rows):
            return changes
        after = AfterAttention(self.weights)
        shares = self._shares(after, clean, torch.arange(count, device=rows.device))
        for part in torch.arange(len(rows), device=rows.device).split(ROWS):
            some = {
                branch: torch.cat(
                    [
                        cells[cell][branch][0, :, rows[part][places[part] == cell]]
                        for cell in places[part].unique_consecutive().tolist()
                    ],
                    1,
                )[None]
                for branch in clean
            }
            moved = self._shares(after, some, rows[part]) - shares[rows[part]]
            changes += np.bincount(places[part].cpu(), moved.double().cpu(), len(cells))
        return changes / count

    def _changed_rows(self, clean: Contexts, cells: Sequence[Contexts]) -> tuple[Tensor, Tensor]:
        """Cell and frame of each row of contexts that is not the clean one."""
        changed = torch.zeros(len(cells), self.hidden.shape[1], dtype=torch.bool, device=self.hidden.device)
        for place, cell in enumerate(cells):
            for branch, own in clean.items():
                if cell[branch] is not own:
                    changed[place] |= (cell[branch] != own).any(3).any(1)[0]
        places, rows = changed.nonzero().unbind(1)
        return places, rows

    def _shares(self, after: AfterAttention, contexts: Contexts, rows: Tensor) -> Float[Tensor, " rows"]:
        return after(self.hidden[0, rows] + self.block.output_from(contexts)[0])

    def _logits(self, contexts: Contexts) -> Float[Tensor, " cells"]:
        output = self.block.output_from(contexts)[:, None]
        pooled = pooled_from(self.run.model, self.stream, self.layer, self.hidden, output, None)
        return pooled[:, 0] @ self.weights.weights

    def _slopes(self, contexts: Sequence[Contexts]) -> list[Contexts]:
        """Gradient of the logit by the contexts of each."""
        with torch.enable_grad():
            leaves = {branch: each.detach().requires_grad_() for branch, each in _stacked(contexts).items()}
            gradients = torch.autograd.grad(self._logits(leaves).sum(), list(leaves.values()))
        return [
            {branch: each[place : place + 1] for branch, each in zip(leaves, gradients, strict=True)}
            for place in range(len(contexts))
        ]


def _stacked(contexts: Sequence[Contexts]) -> dict[str, Tensor]:
    return {branch: torch.cat([each[branch] for each in contexts]) for branch in contexts[0]}


def _name_of(source: Clip | str | None) -> str:
    if source is None:
        return "knock-out"
    return f"patch from {source.id if isinstance(source, Clip) else source}"
