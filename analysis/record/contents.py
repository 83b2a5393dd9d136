"""What every record has, checked once a file has been read: version, attributes, dimensions, ranges. Without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analysis.errors import RecordError
from analysis.record.lanes import CONTROL, record_lanes
from analysis.record.remedy import AGAIN, quoted

__all__ = ["MODEL_ATTRIBUTES", "NEWEST_VERSION", "check_contents", "check_drawable", "check_version"]

NEWEST_VERSION = 2  # of `record_version`, as `analysis.record.assemble` writes it
# What every record has, of one model or several.
TEXTS = ("clip", "source", "features_sha256")
LISTS = {"labels": int, "label_names": str}
OPTIONAL_LISTS = {"edits": str}
NUMBERS = ("frame_seconds", "clip_frames")
# What a record has where it applies: the attribute, of one model's, is a variable along `model` in one of several.
OPTIONAL_TEXTS = (
    "checkpoint_name", "attention_kind", "checkpoint_sha256", "vocabulary", "weights", "no_predictions", "sampling",
    "alignment",
)  # fmt: skip
# Lists of numbers that a record of a video file has, and how many; None: any number.
OPTIONAL_NUMBERS = {"video_span": 2, "frame_times": None, "shots": None}
# Attributes of a record of one model, which are variables along `model` in one of several.
MODEL_ATTRIBUTES = (
    "checkpoint_name", "checkpoint_path", "checkpoint_sha256", "model_config", "attention_kind", "neighbourhood_config",
    "edits",
)  # fmt: skip
# Coordinates along themselves; the first two, and `model`, are always there.
TEXT_COORDINATES = ("modality", "branch", "explainer", "measure", "check")
NUMBER_COORDINATES = ("frame", "query", "key", "head", "class", "layer")
# The dimensions of what views draw, where a record has it; one of several models has `model` ahead, and then `layer`
# what is of a layer (`LAYERED`) in one of several layers.
DIMENSIONS = {
    "attention": ("modality", "branch", "head", "query", "key"),
    "attention_outside": ("modality", "branch", "head", "query"),
    "neighbourhood": ("query", "key"),
    "branch_neighbourhood": ("branch", "query", "key"),
    "similarity": ("modality", "query", "key"),
    "profile": ("modality", "branch", "frame"),
    "head_profile": ("modality", "branch", "head", "frame"),
    "gate": ("modality", "branch", "frame"),
    "gradient_norm": ("modality", "query", "key"),
    "gradient_norm_error": ("modality", "query", "key"),
    "sensitivity": ("modality", "frame"),
    "score": ("class",),
    "label": ("class",),
    "class_name": ("class",),
    "explanation": ("explainer", "modality", "frame"),
    "faithfulness": ("explainer", "measure"),
    "certificate": ("modality", "branch", "check"),
    "segment_start": ("segment",),
    "segment_end": ("segment",),
    "segment_kind": ("segment",),
    "segment_label": ("segment",),
    "segment_origin": ("segment",),
    "segment_class": ("segment", "class"),
}
LAYERED = frozenset(
    {
        "attention", "attention_outside", "profile", "head_profile", "gate", "gradient_norm", "gradient_norm_error",
        "sensitivity", "certificate",
    }
)  # fmt: skip
TEXT_VARIABLES = frozenset({"class_name", "segment_kind", "segment_label", "segment_origin"})
# What a variable always has beside it.
NEEDS = {
    "score": ("class", "class_name"),
    "attention": ("branch", "head", "query", "key"),
    "branch_neighbourhood": ("branch", "query", "key"),
    "profile": ("branch",),
    "explanation": ("explainer",),
    "faithfulness": ("explainer", "measure"),
    "certificate": ("branch", "check"),
    "segment_start": ("segment_end", "segment_kind", "segment_label"),
}
# What the overview of a record draws -> the part of `analysis.inspect_clip` that it comes with.
OVERVIEW = {"score": "score", "label": "label", "similarity": "similarity"}
OVERVIEW_WITH_ATTENTION = {"profile": "profile", "head_profile": "profile"}
# Least and largest values; NaN says "there is none", where rounding may pass the ends by `ROUNDING`.
_LARGEST = float(np.finfo(np.float32).max)
RANGES: dict[str, tuple[float, float]] = {
    "attention": (0.0, 1.0),
    "attention_outside": (0.0, 1.0),
    "gate": (0.0, 1.0),
    "sensitivity": (0.0, 1.0),
    "score": (0.0, 1.0),
    "similarity": (-1.0, 1.0),
    "profile": (0.0, _LARGEST),
    "head_profile": (0.0, _LARGEST),
    "gradient_norm": (0.0, _LARGEST),
    "gradient_norm_error": (0.0, _LARGEST),
}
ROUNDING = 0.01  # of half precision and sums of it


def check_version(path: Path, attributes: Mapping[str, Any]) -> None:
    """Refuse a record of a version that is not known.

    Raises:
        RecordError: it has none; of a later version.
    """
    if "record_version" not in attributes:
        raise RecordError(f"{path}: not a record: it has no 'record_version'; {AGAIN}")
    version = attributes["record_version"]
    try:
        whole_number = int(version) == version
    except (TypeError, ValueError, OverflowError):
        whole_number = False
    if not whole_number or version < 1:
        raise RecordError(
            f"{path}: record_version is {quoted(version)}; expected a whole number, 1 to {NEWEST_VERSION}; {AGAIN}"
        )
    if version > NEWEST_VERSION:
        raise RecordError(
            f"{path}: record version {version}; this software reads up to {NEWEST_VERSION}: upgrade gmsa-workbench, or "
            "write the record again with this one"
        )


def check_contents(path: Path, record: xr.Dataset) -> None:
    """Refuse a record that lacks what views read, or has values that they cannot draw.

    Raises:
        RecordError: names the attribute, coordinate or variable.
    """
    for check in (_check_attributes, _check_coordinates, _check_dimensions, _check_texts, _check_lanes, _check_values):
        if wrong := check(record):
            raise RecordError(f"{path}: {wrong}; {AGAIN}")


def check_drawable(record: xr.Dataset, what: str) -> None:
    """Refuse a record that was made of too few parts for the overview of `gmsa inspect`.

    Args:
        record: of one model.
        what: the record's name in a message.

    Raises:
        RecordError: names what it lacks.
    """
    needed = OVERVIEW | (OVERVIEW_WITH_ATTENTION if "attention" in record else {})
    if "no_predictions" in record.attrs:  # a model without a classifier
        needed = {name: part for name, part in needed.items() if name not in ("score", "label")}
    if missing := [name for name in needed if name not in record.variables]:
        raise RecordError(
            f"{what}: has no {missing[0]!r}, which the overview draws; write it with the part {needed[missing[0]]!r} "
            "(analysis.inspect_clip makes all of them by default)"
        )


def _check_attributes(record: xr.Dataset) -> str:
    attributes = record.attrs
    for name in (*TEXTS, *LISTS, *NUMBERS):
        if not _is_sound(name, attributes.get(name)):
            return f"attribute {name!r} is {quoted(attributes.get(name))}"
    if "edits" in attributes and not _is_sound("edits", attributes["edits"]):
        return f"attribute 'edits' is {quoted(attributes['edits'])}; expected a list of texts"
    for name in OPTIONAL_TEXTS:
        if name in attributes and not _is_plain(attributes[name]):
            return f"attribute {name!r} is {quoted(attributes[name])}; expected text without control characters"
    for name, count in OPTIONAL_NUMBERS.items():
        if name in attributes and not _is_list_of_numbers(attributes[name], count):
            return f"attribute {name!r} is {quoted(attributes[name])}; expected a list of {count or 'some'} numbers"
    if not _is_number(attributes.get("layer", 0)):
        return f"attribute 'layer' is {quoted(attributes['layer'])}; expected a number"
    return ""


def _is_sound(name: str, value: Any) -> bool:
    if name in NUMBERS:
        return bool(_is_number(value) and value > 0)
    if not isinstance(value, str):
        return False
    if name in TEXTS:
        return name == "source" or _is_plain(value)
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return False
    kind = (LISTS | OPTIONAL_LISTS)[name]
    return isinstance(parsed, list) and all(type(one) is kind and (kind is int or _is_plain(one)) for one in parsed)


def _is_list_of_numbers(text: object, count: int | None) -> bool:
    """Whether a text is a list of numbers in JSON, of so many, or of any number for None."""
    try:
        values = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return False
    return isinstance(values, list) and count in (None, len(values)) and all(map(_is_number, values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and bool(np.isfinite(float(value)))


def _is_plain(text: object) -> bool:
    """Whether it is text without control characters, which a terminal would obey when it is printed."""
    return isinstance(text, str) and CONTROL.search(text) is None


def _check_coordinates(record: xr.Dataset) -> str:
    for name in ("model", "modality", "frame"):
        if name not in record.coords:
            return f"coordinate {name!r} is missing"
    if "layer" in record.dims and "layer" not in record.coords:
        return "coordinate 'layer' is missing, along which variables are"
    if record["model"].dims not in ((), ("model",)):
        return f"coordinate 'model' has dimensions {quoted(record['model'].dims)}"
    for name in (*TEXT_COORDINATES, *NUMBER_COORDINATES):
        if name not in record.variables:
            continue
        values = record[name]
        if values.dims != (name,) or (name in NUMBER_COORDINATES and values.dtype.kind not in "fiu"):
            return f"coordinate {name!r} has dimensions {quoted(values.dims)} and type {values.dtype!s:.100}"
        if len(set(values.values.tolist())) < values.size:
            return f"coordinate {name!r} has a value twice"
        if name in NUMBER_COORDINATES and not np.isfinite(values.values).all():
            return f"coordinate {name!r} has a value that is not finite"
        if name == "layer" and (values.dtype.kind not in "iu" or not (values.values >= 0).all() or not values.size):
            return f"coordinate 'layer' has {quoted(values.values.tolist())}; expected whole numbers of at least 0"
    frames = record["frame"].values
    return "" if len(frames) and (np.diff(frames) > 0).all() else "coordinate 'frame' does not rise, or is empty"


def _check_dimensions(record: xr.Dataset) -> str:
    for name, expected in DIMENSIONS.items():
        if name not in record.variables:
            continue
        allowed = [expected, *([("layer", *expected)] if name in LAYERED and "layer" in record.coords else [])]
        if tuple(dim for dim in record[name].dims if dim != "model") not in allowed:
            return f"variable {name!r} has dimensions {quoted(record[name].dims)}; expected {allowed[-1]}"
    for name, needs in NEEDS.items():
        if name in record.variables and (missing := [each for each in needs if each not in record.variables]):
            return f"variable {missing[0]!r} is missing, which {name!r} needs"
    if len({record.sizes[dim] for dim in ("frame", "query", "key") if dim in record.sizes}) > 1:
        return f"frames differ in number: {quoted(dict(record.sizes))}"
    return ""


def _check_texts(record: xr.Dataset) -> str:
    for name, values in record.variables.items():
        if values.dtype.kind in "fiub":
            if name in TEXT_VARIABLES or name in TEXT_COORDINATES or name == "model":
                return f"variable {name!r} is {values.dtype}; expected text"
        elif name in DIMENSIONS and name not in TEXT_VARIABLES:
            return f"variable {name!r} is {values.dtype!s:.100}; expected numbers"
        elif unexpected := [text for text in values.values.ravel().tolist() if not _is_plain(text)]:
            return f"variable {quoted(name)} has {quoted(unexpected[0])}; expected text without control characters"
    return ""


def _check_lanes(record: xr.Dataset) -> str:
    try:
        record_lanes(record)
    except RecordError as error:
        return str(error)
    return ""


def _check_values(record: xr.Dataset) -> str:
    for name in dict.fromkeys([*DIMENSIONS, *record_lanes(record)]):
        if name not in record.variables or name in TEXT_VARIABLES:
            continue
        values = record[name].values
        least, most = RANGES.get(name, (-_LARGEST, _LARGEST))
        with np.errstate(over="ignore"):
            outside = (values < least - ROUNDING) | (values > most * (1 + ROUNDING)) | np.isinf(values)
        if outside.any():
            return f"variable {name!r} has {float(values[outside][0]):g}; expected values in [{least:g}, {most:g}]"
    if "score" in record and "model" not in record["score"].dims and np.isnan(record["score"].values).any():
        return "variable 'score' has NaN; expected a probability of each class"
    return ""
