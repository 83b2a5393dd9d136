"""Running edits: one edited pass with its trace, or the logits of many, which share what comes before their edits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.gmsa_view import attention_block
from analysis.interventions.edit_texts import checked_edits
from analysis.interventions.edits import Edit, EditError
from analysis.interventions.named_clips import clips_beside
from analysis.interventions.plan import Clock, EditPlan
from analysis.interventions.sites import Site
from gmsa_models.attention import CleanPass, Frames
from gmsa_models.attention.stages import staged_pass
from gmsa_models.classifier import GMSAClassifier, mean_over_valid
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Clip
from gmsa_models.evaluating import evaluating, standard_contexts
from gmsa_models.feeding import Inputs, check_fits
from gmsa_models.recompute import pooled_from
from gmsa_models.trace import AttentionTrace, Stage

__all__ = ["EditRun", "logits_with", "run_with"]

# Frames times edits that go through the feed-forward together: enough to fill the arithmetic, small enough to cache.
ROWS = 8192


def run_with(
    model: GMSAClassifier,
    clips: Clip | Sequence[Clip],
    edits: Iterable[Edit | str] = (),
    *,
    watch: Iterable[Site | str] = (),
    grad: bool = False,
) -> AttentionTrace:
    """One pass with edits.

    Args:
        model: on any device; left as it is. Its replica in evaluation mode runs, in float32 where it is in half
            precision.
        clips: one, or several with frames of one length in seconds; cut to the model's longest. Spans of edits are
            seconds of each.
        edits: made together, in the order of computation; see `EditPlan.of`. A text is read by `parse_edit`.
        watch: sites whose values the trace keeps as it is after the edits: see `site_value`.
        grad: keep the graph; see `GMSAClassifier.trace`.

    Returns:
        The trace of the edited pass. Without edits, that of `model.trace`.

    Raises:
        SiteError: a site that the model lacks.
        EditError: an edit that does not fit the clip, or two that replace the same values.
        UnfitClipError: a clip that does not fit the model.
    """
    run = EditRun(model, [clips] if isinstance(clips, Clip) else list(clips))
    return run.trace(edits, watch, grad)


def logits_with(
    model: GMSAClassifier, clip: Clip, edit_lists: Sequence[Iterable[Edit | str]]
) -> Float[Tensor, "edit_lists classes"]:
    """Logits of one clip after each of many lists of edits.

    All start from one clean pass: stages before the first edit, and the other modalities, are taken from it.

    Args:
        model, clip: see `run_with`.
        edit_lists: any number; a row of the result each.

    Raises:
        As `run_with`.
    """
    return EditRun(model, [clip]).logits(edit_lists)[:, 0]


class EditRun:
    """Clips ready for any number of edits.

    Args:
        model, clips: see `run_with`.
    """

    def __init__(self, model: GMSAClassifier, clips: Sequence[Clip]) -> None:
        if not clips:
            raise EditError("edits of no clips; expected at least one")
        if len({clip.frame_seconds for clip in clips}) > 1:
            raise EditError(
                "edits are in seconds, and these clips have frames of different lengths; run them one by one"
            )
        self._original = model
        self.clips = [clip.cut(model.config.max_frames) for clip in clips]
        for clip in self.clips:
            check_fits(clip, Inputs.of(model, labels=False))
        with evaluating(model, widen=True) as replica:
            weight = next(replica.parameters())
            batch = Batch.from_clips(self.clips, tuple(model.config.modalities))
            self.batch = batch.to(weight.device, weight.dtype)
            self.model = replica.bound_to(self.batch)
        self.valid = None if self.batch.full else self.batch.valid
        self.clock = Clock(self.batch.valid.shape[1], self.clips[0].frame_seconds, self.valid)
        self._sources: dict[tuple[int, Site], Tensor] = {}
        self._passes: dict[tuple[str, int], CleanPass] = {}

    def plan(self, edits: Iterable[Edit | str], watch: Iterable[Site | str] = ()) -> EditPlan:
        """The edits made ready for these clips."""
        made = checked_edits(edits, clips_beside(self.clips[0]))
        return EditPlan.of(self.model, made, self.clock, self._source, watch)

    def trace(
        self, edits: Iterable[Edit | str] = (), watch: Iterable[Site | str] = (), grad: bool = False
    ) -> AttentionTrace:
        """One pass with edits; see `run_with`."""
        plan = self.plan(edits, watch)
        with standard_contexts():
            trace = self.model.trace(self.batch, grad, plan)
        return replace(trace, watched=dict(plan.watched))

    @cached_property
    def clean(self) -> AttentionTrace:
        """The pass without edits."""
        with standard_contexts():
            return self.model.trace(self.batch)

    def logits(self, edit_lists: Sequence[Iterable[Edit | str]]) -> Float[Tensor, "edit_lists batch classes"]:
        """Logits after each of many lists of edits; see `logits_with`."""
        plans = [self.plan(edits) for edits in edit_lists]
        with standard_contexts():
            pooled = {name: [each] * len(plans) for name, each in self.clean.pooled.items()}
            for name in pooled:
                for place, value in self._pooled(name, plans):
                    pooled[name][place] = value
            if not plans:
                return self.clean.logits[None][:0]
            return self.model.classifier(torch.cat([torch.stack(each) for each in pooled.values()], -1))

    def clean_pass(self, stream: str, layer: int) -> CleanPass:
        """The unedited pass of one attention block."""
        if (stream, layer) not in self._passes:
            block, traced = attention_block(self.model, stream, layer), self.clean.layer(stream, layer)
            self._passes[stream, layer] = CleanPass(block, traced.recorded("input"), self.valid, traced)
        return self._passes[stream, layer]

    def hidden(self, stream: str, layer: int) -> Frames:
        """What an encoder layer is given in the clean pass."""
        if layer:
            return self.clean.layer(stream, layer - 1).recorded("encoded")
        return self.model.encoders[stream].embed(self.batch.features[stream])

    def _pooled(self, stream: str, plans: Sequence[EditPlan]) -> Iterable[tuple[int, Tensor]]:
        """Pooled vectors of a stream for the plans that change it."""
        inside: dict[int, list[int]] = {}
        for place, plan in enumerate(plans):
            if stream not in plan.streams:
                continue
            layer = plan.first_layer(stream)
            if 0 <= layer < len(self.model.encoders[stream].layers) and plan.inside(stream, layer):
                inside.setdefault(layer, []).append(place)
            else:
                yield place, self._resumed(stream, plan)
        for layer, places in inside.items():
            at_once = max(1, ROWS // self.batch.valid.numel())
            for start in range(0, len(places), at_once):
                some = places[start : start + at_once]
                yield from zip(some, self._finished(stream, layer, [plans[place] for place in some]), strict=True)

    def _finished(self, stream: str, layer: int, plans: Sequence[EditPlan]) -> Float[Tensor, "plans batch dim"]:
        """Pooled vectors after changes in one block, what follows the block done for all together."""
        clean, block = self.clean_pass(stream, layer), attention_block(self.model, stream, layer)
        outputs = torch.stack(
            [staged_pass(block, clean.inputs, self.valid, plan.of_layer(stream, layer), clean).output for plan in plans]
        )
        return pooled_from(self.model, stream, layer, self.hidden(stream, layer), outputs, self.valid)

    def _resumed(self, stream: str, plan: EditPlan) -> Float[Tensor, "batch dim"]:
        """The pooled vector after any changes, from the first layer that they reach."""
        first = plan.first_layer(stream)
        if first < 0:
            return self.model.trace_stream(self.batch, stream, self.valid, edit=plan)[1]
        encoder = self.model.encoders[stream]
        if first >= len(encoder.layers):
            return plan(Stage(stream, None, "", "pooled"), self.clean.pooled[stream])
        hidden = self.hidden(stream, first)
        for number in range(first, len(encoder.layers)):
            traced = encoder.layers[number].trace(hidden, self.valid, False, plan.of_layer(stream, number))
            hidden = traced.recorded("encoded")
        return plan(Stage(stream, None, "", "pooled"), mean_over_valid(encoder.norm(hidden), self.valid))

    def _source(self, site: Site, clip: object) -> Tensor:
        if not isinstance(clip, Clip):
            raise EditError(f"a patch from {clip!r}; expected a clip")
        if clip.frame_seconds != self.clock.seconds:
            raise EditError(
                f"a patch from a clip with frames of {clip.frame_seconds:g} s; these are of {self.clock.seconds:g} s"
            )
        key = id(clip), replace(site, heads=())
        if key not in self._sources:
            traced = run_with(self._original, clip, watch=[key[1]])
            self._sources[key] = traced.watched[site.stage]
        return self._sources[key]
