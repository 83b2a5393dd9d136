"""A record from a view: the parts asked for on one set of coordinates, and what it says of model, clip and software."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr

from analysis.errors import RecordError
from analysis.record.labelled import Variables, nothing
from analysis.record.progress import RecordProgress
from analysis.record.variables import CLIP_PARTS, DEFAULT_PARTS, LAYER_PARTS, PARTS, coordinates
from analysis.view import TraceView, features_sha256, type_name
from gmsa_models.data.clip import Clip
from gmsa_models.data.spaces import spaces_to_dict
from gmsa_models.errors import UnknownNameError
from gmsa_models.evaluating import standard_contexts
from gmsa_models.masks import neighbourhood_to_dict

__all__ = ["RECORD_VERSION", "check_parts", "record_of"]

RECORD_VERSION = 2  # 1: GateAtt's local `gate` was averaged over every key, also where the local map is 0
SOFTWARE = ("gmsa-workbench", "torch", "numpy", "xarray")
ALL_LAYERS = "all"


def record_of(
    view: TraceView,
    *,
    layer: int = 0,
    layers: Sequence[int] | str | None = None,
    parts: Sequence[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """The record of a view of one clip, by whatever model; see `analysis.inspect_clip`.

    Args:
        view: of one clip.
        layer: which layer, from 0.
        layers: several of them, or "all": parts of a layer then have `layer` as their first dimension, if these are
            more than one.
        parts: of `PARTS`; default: `DEFAULT_PARTS`. Those that the view cannot fill are left out.
        progress: called as parts are made, with the steps done and their number, which is
            `analysis.record.progress.STEPS`; the part "explanation" tells of itself elsewhere.

    Raises:
        RecordError (a ValueError): a view of several clips; layers that the model lacks.
        KeyError: a part that is not in `PARTS`.
    """
    names, numbers = check_parts(parts), _numbers(view, layer, layers)
    clip = view.one
    variables: dict[str, xr.DataArray] = {}
    steps = RecordProgress(view, names, len(numbers), progress)
    for name in names:
        with standard_contexts():
            if name in CLIP_PARTS:
                variables |= CLIP_PARTS[name](view)
            else:
                variables |= _over_layers([_of_layer(view, name, number, steps) for number in numbers])
    always = {"modality", "frame", *(["layer"] if len(numbers) > 1 else [])}
    used = always.union(*(array.dims for array in variables.values()))
    coords = {name: array for name, array in coordinates(view, numbers).items() if set(array.dims) <= used}
    record = xr.Dataset(variables, coords)
    # An object, because fixed-width text has no place in the Zarr format yet.
    model = xr.DataArray(np.array(view.model.name, dtype=object))
    steps.finish()
    return record.assign_coords(model=model).assign_attrs(_of_model(view, numbers[0]) | _of_clip(view) | {
        "frame_seconds": float(clip.frame_seconds), "clip_frames": view.whole[0].frames, "software": _software(),
    })  # fmt: skip


def _of_layer(view: TraceView, name: str, number: int, steps: RecordProgress) -> Variables:
    with steps.part(name):
        return LAYER_PARTS[name](view, number)


def check_parts(parts: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the parts asked for.

    Raises:
        UnknownNameError: one that is not in `PARTS`.
    """
    names = DEFAULT_PARTS if parts is None else tuple(parts)
    if unknown := [name for name in names if name not in PARTS]:
        raise UnknownNameError(f"unknown part {unknown[0]!r} of a record; known: {', '.join(PARTS)}")
    return names


def _numbers(view: TraceView, layer: int, layers: Sequence[int] | str | None) -> tuple[int, ...]:
    """Which layers, at least one, rising."""
    if layers is None:
        numbers: tuple[int, ...] = (layer,)
    elif layer:
        raise RecordError(f"layer {layer} and layers {layers!r}; give one of the two")
    elif isinstance(layers, str):
        if layers != ALL_LAYERS:
            raise RecordError(f"layers is {layers!r}; expected {ALL_LAYERS!r} or numbers of layers")
        numbers = tuple(range(view.layer_count))
    else:
        numbers = tuple(layers)
    if not numbers or list(numbers) != sorted(set(numbers)):
        raise RecordError(f"layers is {layers!r}; expected at least one number, rising, none twice")
    for number in numbers:
        view.check_layer(number)
    return numbers


def _over_layers(each: list[Variables]) -> Variables:
    """The variables of several layers as one array each, along `layer`; of one layer as they are."""
    if len(each) == 1:
        return each[0]
    joined = {}
    for name in dict.fromkeys(name for variables in each for name in variables):
        like = next(variables[name] for variables in each if name in variables)
        empty = xr.full_like(like, nothing(like))
        values = np.stack([variables.get(name, empty).values for variables in each])
        joined[name] = xr.DataArray(values, dims=("layer", *like.dims), attrs=like.attrs)
    return joined


def _of_model(view: TraceView, layer: int) -> dict[str, str | int | float]:
    """Which model; configs as JSON, since NetCDF attributes are flat."""
    attributes: dict[str, Any] = {"record_version": RECORD_VERSION, **view.model.attributes}
    attributes |= {
        "computed_in": type_name(view.logits),
        "layer": layer,
        "vocabulary": view.vocabulary.dataset,
    }
    pattern = view.chosen or view.own
    return attributes | (
        {} if pattern is None else {"neighbourhood_config": json.dumps(neighbourhood_to_dict(pattern))}
    )


def _of_clip(view: TraceView) -> dict[str, str]:
    """Which clip; lists as JSON."""
    clip, vocabulary = view.whole[0], view.vocabulary
    names: Callable[[int], str] = vocabulary.name if view.labelled else "label {}".format
    return (
        {
            "clip": clip.id,
            "source": clip.source,
            "features_sha256": features_sha256(clip),
            "dataset": clip.dataset,
            "feature_spaces": json.dumps(spaces_to_dict(clip.spaces)),
            "labels": json.dumps(list(clip.labels)),
            "label_names": json.dumps([names(label) for label in clip.labels], ensure_ascii=False),
        }
        | ({"alignment": clip.alignment} if clip.alignment else {})
        | _times(view.one)
    )


def _times(clip: Clip) -> dict[str, str]:
    """When the picture of each frame came on the screen, and when shots start, where the clip is of a video file."""
    seconds = {"frame_times": clip.frame_times, "shots": clip.shots}
    return {name: json.dumps([round(each, 6) for each in values]) for name, values in seconds.items() if values}


@cache
def _software() -> str:
    return json.dumps({"python": platform.python_version()} | {name: version(name) for name in SOFTWARE})
