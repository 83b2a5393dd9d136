"""One clip of a source, as each of several models sees it: what `gmsa inspect` is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
import xarray as xr

from analysis.explanations.class_explanations import ClassExplanations, ExplanationsStopped, explanation_steps
from analysis.explanations.faithfulness import CURVE_POINTS
from analysis.gmsa_view import view_clips
from analysis.inspect.clips import explained_view, inspect_clip
from analysis.interventions.edit_texts import edits_from_texts
from analysis.interventions.named_clips import named_clip
from analysis.record.assemble import record_of
from analysis.record.progress import STEPS
from analysis.record.variables import DEFAULT_PARTS
from analysis.view import TraceView
from gmsa_models.checkpoints.files import load
from gmsa_models.checkpoints.names import name_checkpoints, renamed
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.config import check_classifies
from gmsa_models.data.clip import Clip
from gmsa_models.data.errors import OnSkip
from gmsa_models.data.paths import skip_handler
from gmsa_models.data.sources import read_clips, with_dataset
from gmsa_models.data.spaces import check_known
from gmsa_models.errors import ArgumentError
from gmsa_models.feeding import Inputs, fitting
from gmsa_models.masks import Neighbourhood

__all__ = ["ExplainingStopped", "first_clip", "inspect_source"]


class ExplainingStopped(KeyboardInterrupt):
    """An interrupt while a class was being explained.

    Attributes:
        records: one a model, with the explanations that were made by then.
    """

    def __init__(self, records: list[xr.Dataset]) -> None:
        super().__init__("stopped while a class was being explained")
        self.records = records


def inspect_source(
    source: str | Clip,
    names: Sequence[str],
    device: torch.device,
    *,
    edits: Sequence[str] = (),
    certify: bool = False,
    explain: bool = False,
    methods: Sequence[str] | None = None,
    curve_points: int | None = CURVE_POINTS,
    target: str | None = None,
    neighbourhood: Neighbourhood | None = None,
    layer: int = 0,
    layers: Sequence[int] | str | None = None,
    dataset: str | None = None,
    on_error: str = "fail",
    on_skip: OnSkip | None = None,
    notify: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
    record_progress: Callable[[int, int], None] = lambda done, total: None,
    begin: Callable[[Sequence[GMSAClassifier], Clip], None] = lambda models, clip: None,
) -> list[xr.Dataset]:
    """Records of the first clip of a source, one a model; what they cannot share is refused before any is made.

    Args:
        source: as `read_clips` takes it; or a clip in hand.
        names: of models, or checkpoint files; each model is called as `name_checkpoints` says.
        device: where they run.
        edits: what is changed in a pass of its own of the first model, whose record comes behind the plain ones; texts
            of `analysis.interventions.edit_texts`, in which a clip is named as `read_clips` takes it, or
            by its id: of a demo video, or of a clip in the file of the source.
        certify: check every attention map too; not of the edited pass, which is not explained either.
        explain: explain a class too, the same by all models.
        methods, curve_points: by which methods, and how faithfulness is measured; see `inspect_clip`.
        target: which class, by name; default: the first model's likeliest. Explains it.
        neighbourhood, layer, layers: see `inspect_clip`; of every model.
        dataset: whose classes the clip's labels count, a published data set or a model's; default: as its file says.
        on_error, on_skip: see `read_clips`.
        notify: is told when the source holds more clips, and when a model is called otherwise than by its card.
        progress: called as the class is explained, with the steps done and their number, of all models together.
        record_progress: likewise, as the other parts of the records are made.
        begin: called with the models and the clip before records are made.

    Raises:
        ExplainingStopped: interrupted while the class was being explained; it holds the records with what was done.
        CheckpointError: a model given twice.
        UnknownNameError: `dataset` is neither published nor a model's.
        ArgumentError: a class that one of the models lacks.
        ValueError: no clip that all models take, or models that take different numbers of its frames.
        EditError, SiteError: edits that cannot be read, or do not fit.
    """
    made = edits_from_texts(edits, lambda name: named_clip(name, source))
    checkpoints = name_checkpoints(names)
    for line in renamed(checkpoints):
        notify(line)
    models = [load(each.path, device, name=each.name, sha256=each.sha256) for each in checkpoints]
    if dataset is not None:
        check_known(dataset, [model.vocabulary.dataset for model in models if model.vocabulary is not None])
    clip = first_clip(source, models, dataset, on_error, on_skip, notify, neighbourhood)
    _check_same_frames(models, clip)
    begin(models, clip)
    targets = _explained(models, clip, target) if explain or target else []
    steps = [explanation_steps(model, methods) for model in models]
    views = [view_clips(model, [clip], chosen=neighbourhood) for model in models]
    for place, wanted in enumerate(targets):
        report = _advance(steps, place, progress)
        views[place] = explained_view(models[place], views[place], wanted, methods, curve_points, report)
    chosen: dict[str, Any] = {"layer": layer, "layers": layers}
    parts = (*DEFAULT_PARTS, "certificate") if certify else DEFAULT_PARTS
    each = [STEPS] * (len(views) + bool(made))
    reports = [_advance(each, number, record_progress) for number in range(len(each))]
    edited = []
    if made:  # first, since edits may not fit
        options = {"neighbourhood": neighbourhood, "record_progress": reports.pop(0), **chosen}
        edited.append(inspect_clip(models[0], clip, edits=made, **options))
    records = [record_of(view, parts=parts, progress=reports.pop(0), **chosen) for view in views]
    place = 0
    try:
        if targets:
            progress(0, sum(steps))
        for place in range(len(targets)):
            # Of the view that the record is of: what both need, the gradient norms, is computed once.
            records[place] = _with_explanations(records[place], views[place])
    except ExplanationsStopped as stopped:
        if stopped.result.explanations:
            records[place] = _with_explanations(records[place], _with_result(views[place], stopped.result))
        raise ExplainingStopped(records + edited) from None
    except KeyboardInterrupt:
        raise ExplainingStopped(records + edited) from None
    return records + edited


def _with_explanations(record: xr.Dataset, view: TraceView) -> xr.Dataset:
    return record.assign(record_of(view, parts=["explanation"]).data_vars)


def _with_result(view: TraceView, result: ClassExplanations) -> TraceView:
    """The view with explanations that were made already."""
    return replace(view, capabilities=replace(view.capabilities, explanations=lambda _: result))


def _advance(steps: Sequence[int], place: int, progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Progress of one model, or record, as that of all together."""
    return lambda done, total: progress(sum(steps[:place]) + done, sum(steps))


def _check_same_frames(models: Sequence[GMSAClassifier], clip: Clip) -> None:
    taken = {model.origin["name"]: min(clip.frames, model.config.max_frames) for model in models}
    if len(set(taken.values())) > 1:
        counts = ", ".join(f"{name} the first {frames}" for name, frames in taken.items())
        raise ValueError(
            f"clip {clip.id!r} has {clip.frames} frames, of which {counts}; models are shown side by side over the "
            "same frames: leave --against out, or give models of the same max_frames"
        )


def _explained(models: Sequence[GMSAClassifier], clip: Clip, target: str | None) -> list[int]:
    """Output position of one class in each model: the one of that name, else the first model's likeliest."""
    first, *others = models
    for each in models:
        check_classifies(each.config, f"model {each.origin['name']!r}")
    if target is not None:
        position = _find(first, target)
    else:
        position = int(inspect_clip(first, clip, parts=("score",))["logit"].values.argmax())
    return [position, *(_same_class(first, position, other) for other in others)]


def _same_class(first: GMSAClassifier, position: int, other: GMSAClassifier) -> int:
    """Where another model has a class of the first: by its label in one data set, else by its name."""
    own, others = first.vocabulary, other.vocabulary
    if own is None and others is None:
        return position
    if own is not None and others is not None and own.dataset == others.dataset:
        positions = others.positions([own.indices[position]])
        if positions:
            return positions[0]
    return _find(other, f"class {position}" if own is None else own.names[position])


def _find(model: GMSAClassifier, class_name: str) -> int:
    name = model.origin["name"]
    if model.vocabulary is None:
        raise ArgumentError(
            f"model {name!r} does not say what its classes are, so {class_name!r} cannot be found in it"
        )
    try:
        return model.vocabulary.find(class_name)
    except ArgumentError as error:
        raise ArgumentError(f"model {name!r}: {error}; explain another class with --target") from None


def first_clip(
    source: str | Clip,
    models: Sequence[GMSAClassifier],
    dataset: str | None = None,
    on_error: str = "fail",
    on_skip: OnSkip | None = None,
    notify: Callable[[str], None] = print,
    chosen: Neighbourhood | None = None,
) -> Clip:
    """The first clip of a source that all of some models take.

    Args:
        source: as `read_clips` takes it; or a clip in hand.
        models: at least one.
        dataset, on_error, on_skip: see `read_clips`.
        notify: is told when the source holds more clips.
        chosen: a neighbourhood by which the clip is analysed.

    Raises:
        ValueError: there is none.
    """
    if isinstance(source, Clip):
        clips = with_dataset([source], dataset)
    else:
        clips = read_clips(source, on_error=on_error, on_skip=on_skip, dataset=dataset)
    for model in models:
        clips = fitting(clips, Inputs.of(model, False, chosen), skip_handler(on_error, on_skip))
    first = list(islice(clips, 2))
    if not first:
        raise ValueError(f"no clip in {source!r}")
    if len(first) > 1:
        notify(f"{source} holds more than one video; showing {first[0].id!r}, name another with {source}#ID")
    return first[0]
