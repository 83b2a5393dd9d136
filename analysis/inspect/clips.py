"""From a GMSA model and clips to records: everything that the model saw, as one labelled data set a clip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import SupportsIndex

import xarray as xr

from analysis.errors import RecordError
from analysis.explanations.class_explanations import ClassExplanations, explain_class
from analysis.explanations.explanation import class_position
from analysis.explanations.faithfulness import CURVE_POINTS
from analysis.gmsa_view import view_clips
from analysis.inspect.edited import edited_view
from analysis.interventions.edit_texts import checked_edits
from analysis.interventions.edits import Edit
from analysis.interventions.named_clips import clips_beside
from analysis.record.assemble import check_parts, record_of
from analysis.view import TraceView
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.evaluating import evaluation_replica
from gmsa_models.masks import Neighbourhood

__all__ = ["explained_view", "inspect_clip", "inspect_clips"]


def inspect_clip(
    model: GMSAClassifier,
    clip: Clip,
    *,
    edits: Iterable[Edit | str] = (),
    neighbourhood: Neighbourhood | None = None,
    layer: int = 0,
    layers: Sequence[int] | str | None = None,
    parts: Sequence[str] | None = None,
    certify: bool = False,
    target: SupportsIndex | str | None = None,
    methods: Sequence[str] | None = None,
    curve_points: int | None = CURVE_POINTS,
    explanation_progress: Callable[[int, int], None] = lambda done, total: None,
    record_progress: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """Everything that a model saw in a clip, as one data set: the record from which all views are drawn.

    Dimensions: `layer` (only where several are asked for), `modality`, `branch` (only those that the model's block
    has), `head`, `query` (the frame that attends: the row), `key` (the frame attended to), `frame`, `class`, `segment`,
    `check` (of certificates). Frames are labelled by the second of the video at which they start. What the model lacks
    is absent. Floating-point variables are float32, but seconds float64; NaN says "there is none". Where the clip's
    labels are of another data set than the model's classes, `label` and `segment_class` are absent.

    Args:
        model: on any device, in any floating-point type. It is computed in that type, and in float32 if that is half
            precision (bfloat16 or float16), from the same weights: what the model itself computes differs by the
            rounding of its type. Attributes `weights_type` and `computed_in` name both.
        clip: its frames beyond the model's `max_frames` are left out, and `clip_frames` says how many it had.
        edits: what is changed in the pass, see `analysis.run_with`. The record is then of the edited pass: its `model`
            is `NAME@edited`, its attribute `edits` says what was changed, as texts that `edits` takes again (but for
            the values of tensors), and gradient norms are of blocks in which nothing was changed.
        neighbourhood: analyse by these N_i; default: the model's own. The attention weights are the model's either way.
        layer: which encoder layer, from 0.
        layers: several encoder layers, or "all", in place of `layer`. Where these are more than one, what is of a layer
            (attention, profiles, patterns, gates, contributions, certificates, sensitivity) has `layer` as its first
            dimension; a record of one layer has none.
        parts: of `PARTS`; default: `DEFAULT_PARTS`, which are all but "certificate" and "explanation".
        certify: check every map too, whatever the parts: adds "certificate".
        target: the class that the part "explanation" explains, by its position or name; None: the most probable.
        methods: that the part "explanation" has: keys of `EXPLANATIONS`, of which those that do not apply to the model
            are left out; None: all.
        curve_points: parts of the curves by which its faithfulness is measured; None: every frame. See
            `analysis.explanations.faithfulness.curve_counts`.
        explanation_progress: called as the part "explanation" goes on, with the steps done and their number; see
            `explanation_steps`. Calls come one at a time, from any thread.
        record_progress: called as all other parts are made, see `analysis.record.assemble.record_of`.

    Returns:
        The record. `to_netcdf` and `to_zarr` save it whole; its attributes say which checkpoint (`checkpoint_name` as
        the card has it, `checkpoint_sha256`, and `checkpoint_path` of one that is not in the zoo), clip and software.
        The coordinate `model` is what the model is called beside others: `model.origin["name"]`.

    Raises:
        RecordError (a ValueError): a layer the model lacks, or both `layer` and `layers`; checks or explanations of an
            edited pass, which are of the model as it is.
        EditError, SiteError (ValueErrors): edits that do not fit the model or the clip.
        KeyError: a part that is not in `PARTS`, or a method that is not in `EXPLANATIONS`.
        ArgumentError (a ValueError): none of the methods applies to the model.
        UnfitClipError (a ValueError): a modality that the clip lacks, or features of another width or space.
    """
    made, names = checked_edits(edits, clips_beside(clip)), _part_names(parts, certify)
    if made:
        if wrong := [name for name in ("certificate", "explanation") if name in names]:
            raise RecordError(f"the part {wrong[0]!r} of a pass with edits; it is of the model as it is: leave one out")
        view = edited_view(model, clip, made, chosen=neighbourhood)
        return record_of(view, layer=layer, layers=layers, parts=names, progress=record_progress)
    return next(
        inspect_clips(
            model, [clip], neighbourhood=neighbourhood, layer=layer, layers=layers, parts=parts, certify=certify,
            target=target, methods=methods, curve_points=curve_points, explanation_progress=explanation_progress,
            record_progress=record_progress,
        )
    )  # fmt: skip


def inspect_clips(
    model: GMSAClassifier,
    clips: Iterable[Clip],
    *,
    batch_size: int = 1,
    neighbourhood: Neighbourhood | None = None,
    layer: int = 0,
    layers: Sequence[int] | str | None = None,
    parts: Sequence[str] | None = None,
    certify: bool = False,
    target: SupportsIndex | str | None = None,
    methods: Sequence[str] | None = None,
    curve_points: int | None = CURVE_POINTS,
    progress: Callable[[int], None] = lambda records: None,
    explanation_progress: Callable[[int, int], None] = lambda done, total: None,
    record_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[xr.Dataset]:
    """A record a clip, in order, made as they are asked for; clips go through the model `batch_size` at a time.

    Args:
        clips: any iterable; it is read no further ahead than one batch.
        batch_size: clips a pass; padding changes no record beyond rounding.
        progress: called after each record with 1.
        model, neighbourhood, layer, layers, parts, certify, target, methods, curve_points: see `inspect_clip`.
        explanation_progress, record_progress: likewise; the steps are those of each record.

    Raises:
        ValueError: a batch size below 1; and as `inspect_clip`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
    names = _part_names(parts, certify)
    position = None if target is None else class_position(model, target)
    waiting = iter(clips)
    while batch := list(islice(waiting, batch_size)):
        view = view_clips(model, batch, chosen=neighbourhood)
        for one in explained_view(model, view, position, methods, curve_points, explanation_progress).each():
            yield record_of(one, layer=layer, layers=layers, parts=names, progress=record_progress)
            progress(1)


def explained_view(
    model: GMSAClassifier,
    view: TraceView,
    target: int | None,
    methods: Sequence[str] | None,
    points: int | None,
    progress: Callable[[int, int], None],
) -> TraceView:
    """A view that can explain a class of each of its clips: what its part "explanation" is made of.

    Args:
        model: that the view is of.
        target: position of the class; None: the most probable of each clip.
        methods, points, progress: see `explain_class`.
    """

    def explanations(one: TraceView) -> ClassExplanations:
        return explain_class(evaluation_replica(model, widen=True), one, target, progress, methods, points)

    return replace(view, capabilities=replace(view.capabilities, explanations=explanations))


def _part_names(parts: Sequence[str] | None, certify: bool) -> tuple[str, ...]:
    names = check_parts(parts)
    return tuple(dict.fromkeys((*names, "certificate"))) if certify else names
