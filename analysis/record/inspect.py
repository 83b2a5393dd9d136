"""The record: everything one model saw in one clip, as one labelled data set that needs neither torch nor the model."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import xarray as xr

from analysis.explanations.explanation import class_position
from analysis.record.variables import DEFAULT_PARTS, PARTS, coordinates
from analysis.view import ClipView, features_sha256, type_name, view_clips
from gmsa_models.checkpoints.files import ZOO
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.data.spaces import spaces_to_dict
from gmsa_models.evaluating import standard_contexts
from gmsa_models.masks import Neighbourhood, neighbourhood_to_dict

RECORD_VERSION = 2  # 1: GateAtt's local `gate` was averaged over every key, also where the local map is 0
SOFTWARE = ("gmsa-workbench", "torch", "numpy", "xarray")


class UnknownPartError(KeyError):
    """A part that records do not have; the message lists those they do."""

    def __str__(self) -> str:
        return str(self.args[0])


def inspect_clip(
    model: GMSAClassifier,
    clip: Clip,
    *,
    neighbourhood: Neighbourhood | None = None,
    layer: int = 0,
    parts: Sequence[str] | None = None,
    target: SupportsIndex | str | None = None,
    explanation_progress: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """Everything that a model saw in a clip, as one data set: the record from which all views are drawn.

    Dimensions: `modality`, `branch` (only those that the model's block has), `head`, `query` (the frame that attends:
    the row), `key` (the frame attended to), `frame`, `class`, `segment`, `check` (of certificates). Frames are labelled
    by the second of the video at which they start. What the model lacks is absent. Floating-point variables are
    float32, but seconds float64; NaN says "there is none". Where the clip's labels are of another data set than the
    model's classes, `label` and `segment_class` are absent.

    Args:
        model: on any device, in any floating-point type. It is computed in that type, and in float32 if that is half
            precision (bfloat16 or float16), from the same weights: what the model itself computes differs by the
            rounding of its type. Attributes `weights_type` and `computed_in` name both.
        clip: its frames beyond the model's `max_frames` are left out, and `clip_frames` says how many it had.
        neighbourhood: analyse by these N_i; default: the model's own. The attention weights are the model's either way.
        layer: which encoder layer, from 0.
        parts: keys of `PARTS`; default: `DEFAULT_PARTS`.
        target: the class that the part "explanation" explains, by its position or name; None: the most probable.
        explanation_progress: called as the part "explanation" goes on, with the steps done and their number; see
            `explanation_steps`. Calls come one at a time, from any thread.

    Returns:
        The record. `to_netcdf` and `to_zarr` save it whole; its attributes say which checkpoint (`checkpoint_name` as
        the card has it, `checkpoint_sha256`, and `checkpoint_path` of one that is not in the zoo), clip and software.
        The coordinate `model` is what the model is called beside others: `model.origin["name"]`.

    Raises:
        RecordError (a ValueError): a layer the model lacks.
        KeyError: a part that is not in `PARTS`.
        UnfitClipError (a ValueError): a modality that the clip lacks, or features of another width or space.
    """
    return next(
        inspect_clips(
            model, [clip], neighbourhood=neighbourhood, layer=layer, parts=parts, target=target,
            explanation_progress=explanation_progress,
        )
    )  # fmt: skip


def inspect_clips(
    model: GMSAClassifier,
    clips: Iterable[Clip],
    *,
    batch_size: int = 1,
    neighbourhood: Neighbourhood | None = None,
    layer: int = 0,
    parts: Sequence[str] | None = None,
    target: SupportsIndex | str | None = None,
    progress: Callable[[int], None] = lambda records: None,
    explanation_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[xr.Dataset]:
    """A record a clip, in order, made as they are asked for; clips go through the model `batch_size` at a time.

    Args:
        clips: any iterable; it is read no further ahead than one batch.
        batch_size: clips a pass; padding changes no record beyond rounding.
        progress: called after each record with 1.
        model, neighbourhood, layer, parts, target, explanation_progress: see `inspect_clip`; the steps are those of
            each record.

    Raises:
        ValueError: a batch size below 1; and as `inspect_clip`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
    names, weights_type = _check_parts(parts), type_name(next(model.parameters()))
    position = None if target is None else class_position(model, target)
    waiting = iter(clips)
    while batch := list(islice(waiting, batch_size)):
        for view, clip in zip(view_clips(model, batch, layer, neighbourhood), batch, strict=True):
            asked = replace(view, target=position, explanation_progress=explanation_progress)
            record = _assemble(asked, clip, names)
            yield record.assign_attrs(weights_type=weights_type)
            progress(1)


def _check_parts(parts: Sequence[str] | None) -> tuple[str, ...]:
    names = DEFAULT_PARTS if parts is None else tuple(parts)
    if unknown := [name for name in names if name not in PARTS]:
        raise UnknownPartError(f"unknown part {unknown[0]!r} of a record; known: {', '.join(PARTS)}")
    return names


def _assemble(view: ClipView, clip: Clip, parts: tuple[str, ...]) -> xr.Dataset:
    """Every part's variables on the same coordinates; only the dimensions that are used."""
    variables: dict[str, xr.DataArray] = {}
    for name in parts:
        with standard_contexts():
            variables |= PARTS[name](view)
    used = {"modality", "frame"}.union(*(array.dims for array in variables.values()))
    coords = {name: array for name, array in coordinates(view).items() if set(array.dims) <= used}
    record = xr.Dataset(variables, coords)
    return record.assign_coords(model=xr.DataArray(_text(_model_name(view.model)))).assign_attrs(
        _attributes(view, clip)
    )


def _attributes(view: ClipView, clip: Clip) -> dict[str, str | int | float]:
    """Which checkpoint, which clip, which software; lists and configs as JSON, since NetCDF attributes are flat."""
    origin, vocabulary = view.model.origin, view.vocabulary
    names = vocabulary.name if view.labelled else "label {}".format
    attributes = {
        "record_version": RECORD_VERSION,
        "checkpoint_name": str(view.model.card.get("name") or _model_name(view.model)),
        "attention_kind": view.model.config.attention,
        "model_config": json.dumps(view.model.config.to_dict()),
        "computed_in": type_name(view.trace.logits),
        "layer": view.layer,
        "vocabulary": vocabulary.dataset,
        "clip": clip.id,
        "source": clip.source,
        "features_sha256": features_sha256(clip),
        "dataset": clip.dataset,
        "feature_spaces": json.dumps(spaces_to_dict(clip.spaces)),
        "labels": json.dumps(list(clip.labels)),
        "label_names": json.dumps([names(label) for label in clip.labels], ensure_ascii=False),
        "frame_seconds": float(clip.frame_seconds),
        "clip_frames": view.clip_frames,
        "software": _software(),
    }
    if "sha256" in origin:
        attributes["checkpoint_sha256"] = origin["sha256"]
    if "path" in origin and Path(origin["path"]).parent != ZOO:  # a model of the zoo is found by its name, anywhere
        attributes["checkpoint_path"] = os.path.abspath(origin["path"])
    chosen = view.chosen or view.model.config.neighbourhood
    if chosen is not None:
        attributes["neighbourhood_config"] = json.dumps(neighbourhood_to_dict(chosen))
    return attributes


@cache
def _software() -> str:
    return json.dumps({"python": platform.python_version()} | {name: version(name) for name in SOFTWARE})


def _model_name(model: GMSAClassifier) -> str:
    return str(model.origin.get("name") or model.card.get("name") or "unnamed")


def _text(value: str) -> np.ndarray:
    # An object, because fixed-width text has no place in the Zarr format yet.
    return np.array(value, dtype=object)
