"""What the payload says in words: the clip, the models, and the colours everything is drawn in."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.colors import Colormap, LinearSegmentedColormap

from analysis.record.branches import local_branches
from analysis.record.edits import record_edits, without_edited
from analysis.statistics.line_verdicts import NO_OP
from figures.inspector.limits import LEFT_OUT
from figures.inspector.records import model_name
from figures.panels.predictions import predictions_note
from figures.style import BRANCHES, DIFFERENCE, EXCLUDED, SIMILARITY, WEIGHTS, branch_styles, model_style
from gmsa_models.data.spaces import AUDIOSET

__all__ = ["describe_clip", "describe_explanations", "describe_model", "describe_style", "web_address"]

# On a dark page the middle of a difference must be dark; hues as in `DIFFERENCE`.
_DARK_DIFFERENCE = ["#cdbcff", "#7d5cc4", "#3a2a63", "#17191f", "#5c3208", "#c56a16", "#ffc27a"]
# Measures of a head's map that stand in its title.
_PATTERNS = {"verticality": "verticality", "attention_relative_entropy": "entropy"}
# Measures of an explanation that stand beside its curve.
FAITHFULNESS = {"deletion": "deletion", "insertion": "insertion", "evidence_auc": "finds evidence, AUC"}
_DARK_BRANCHES = {"global": "#c39af0", "local": "#5ad1b6", "combined": "#b0b0b0"}
_DARK_LOCAL = ("#6db8ee", "#f08cb8", "#e0bd4a", "#a9cf6b", "#b3a6ff")


def describe_clip(records: list[xr.Dataset]) -> dict[str, Any]:
    """Id, labels, classes, known segments and where to read or watch it; plain values, fit for JSON."""
    record = records[0]
    attributes = record.attrs
    frame_seconds = float(attributes.get("frame_seconds", 1.0))
    origin = (str(attributes.get("clip", "")), str(attributes.get("source", "")))
    return {
        "id": str(attributes.get("clip", "")),
        "argument": shlex.quote(_source_of(*origin) or origin[0]),
        "python": _python_of_clip(*origin),
        "frames": record.sizes["frame"],
        "clip_frames": int(attributes.get("clip_frames", record.sizes["frame"])),
        "frame_seconds": frame_seconds,
        "labels": _json_list(attributes.get("label_names")),
        "foreign": predictions_note(record),
        "url": web_address(attributes.get("source_url")) or _youtube_address(attributes),
        "classes": _classes(records),
        "segments": _segments(record),
        "left_out": str(attributes.get(LEFT_OUT, "")),
    }


def describe_model(record: xr.Dataset, layers: tuple[int, ...]) -> dict[str, Any]:
    """Name, kind, branches, modalities, heads, and which class each of its scores is of.

    Args:
        record: of one layer of the model.
        layers: all that there are of it.
    """
    name = model_name(record)
    return {
        "name": name,
        "label": model_style(name).label,
        "argument": shlex.quote(str(record.attrs.get("checkpoint_path", without_edited(name)))),
        "edits": list(record_edits(record.attrs)),
        "python": _python_of_record(record, layers),
        "load": _python_of_model(record),
        "kind": str(record.attrs.get("attention_kind", "")),
        "sha256": str(record.attrs.get("checkpoint_sha256", "")),
        "layer": int(record.attrs.get("layer", 0)),
        "modalities": [str(one) for one in record["modality"].values],
        "branches": _branches(record),
        "local": list(local_branches(record)),
        "heads": record.sizes.get("head", 0),
        "classes": [int(one) for one in record["class"].values] if "class" in record.coords else [],
        "patterns": _patterns(record),
        "lines": _lines(record),
    } | describe_explanations(record)


def _branches(record: xr.Dataset) -> list[str]:
    """Names of the branches that this layer has maps of; of a record without maps all that it names."""
    names = [str(one) for one in record["branch"].values] if "branch" in record.coords else []
    if "attention" not in record or not record.sizes["frame"]:
        return names
    attention = record["attention"]
    present = attention.notnull().any([dim for dim in attention.dims if dim != "branch"]).values
    return [name for name, here in zip(names, present, strict=True) if here]


def describe_explanations(record: xr.Dataset) -> dict[str, Any]:
    """Which methods explain a class, with how faithful each is in words, and which class."""
    return {
        "explanations": _explanations(record),
        "explained": str(record["explanation"].attrs.get("class_name", "")) if "explanation" in record else "",
    }


def describe_style(branches: Iterable[str] = ()) -> dict[str, Any]:
    """Colours: tables (256, 3) of the colour maps for a light and a dark page, and single colours as CSS takes them.

    Args:
        branches: all that the records have.
    """
    styles = branch_styles((*BRANCHES, *branches))
    others = [name for name in styles if name not in BRANCHES]
    dark = _DARK_BRANCHES | {name: _DARK_LOCAL[place % len(_DARK_LOCAL)] for place, name in enumerate(others)}
    return {
        "tables": dict(_tables()),
        "excluded": {"light": EXCLUDED, "dark": "#34373f"},
        "branches": {"light": {name: style.colour for name, style in styles.items()}, "dark": dark},
    }


def web_address(value: object) -> str:
    """The address if it is one of the web (http or https), else an empty text: nothing else may become a link."""
    text = str(value or "")
    try:
        parts = urlsplit(text)
    except ValueError:  # "http://[x" is neither an address nor an error of the record
        return ""
    return text if parts.scheme in ("http", "https") and parts.netloc else ""


def _youtube_address(attributes: Mapping[str, Any]) -> str:
    """Where a clip of AudioSet can be watched; ids of YouTube-8M are no addresses: they are anonymised."""
    clip = str(attributes.get("clip", ""))
    public = attributes.get("dataset") == AUDIOSET and re.fullmatch(r"[\w-]{11}", clip, re.ASCII)
    return f"https://www.youtube.com/watch?v={clip}" if public else ""


def _patterns(record: xr.Dataset) -> dict[str, str]:
    """What each head's map is like, in words, by "modality/branch/head"; of the measures that the record has."""
    texts: dict[str, list[str]] = {}
    for name, words in _PATTERNS.items():
        if name not in record:
            continue
        values = record[name].transpose("modality", "branch", "head").values
        modalities, branches = record["modality"].values, record["branch"].values
        for modality, branch, head in np.argwhere(np.isfinite(values)):
            key = f"{modalities[modality]}/{branches[branch]}/{head}"
            texts.setdefault(key, []).append(f"{words} {values[modality, branch, head]:.2f}")
    return {key: " · ".join(each) for key, each in texts.items()}


def _lines(record: xr.Dataset) -> dict[str, str]:
    """Heads whose maps have vertical lines, by "modality/branch/head": "line", or "no-op" of values near zero there."""
    if "line_count" not in record:
        return {}
    counts = record["line_count"].transpose("modality", "branch", "head")
    no_op = record["line_norm_ratio"].transpose(*counts.dims).values < NO_OP if "line_norm_ratio" in record else None
    lines: dict[str, str] = {}
    for modality, branch, head in np.argwhere(counts.values > 0):
        key = f"{counts['modality'].values[modality]}/{counts['branch'].values[branch]}/{head}"
        lines[key] = "no-op" if no_op is not None and no_op[modality, branch, head] else "line"
    return lines


def _explanations(record: xr.Dataset) -> dict[str, str]:
    """How faithful each explanation is, in words, by method; of the measures that the record has."""
    if "explanation" not in record:
        return {}
    texts = dict.fromkeys((str(name) for name in record["explainer"].values), "")
    if "faithfulness" not in record:
        return texts
    for method in texts:
        values = record["faithfulness"].sel(explainer=method)
        words = [(word, float(values.sel(measure=name))) for name, word in FAITHFULNESS.items()]
        texts[method] = " · ".join(f"{word} {value:.2f}" for word, value in words if math.isfinite(value))
    return texts


@cache
def _tables() -> Mapping[str, np.ndarray]:
    dark = LinearSegmentedColormap.from_list("difference-dark", _DARK_DIFFERENCE)
    maps = {
        "weights-light": mpl.colormaps[WEIGHTS],
        "weights-dark": mpl.colormaps[WEIGHTS.removesuffix("_r")],
        "difference-light": mpl.colormaps[DIFFERENCE],
        "difference-dark": dark,
        "similarity-light": mpl.colormaps[SIMILARITY],
        "similarity-dark": mpl.colormaps[SIMILARITY],
    }
    return {name: _table(each) for name, each in maps.items()}


def _table(colours: Colormap) -> np.ndarray:
    return np.round(255 * colours(np.linspace(0, 1, 256))[:, :3]).astype(np.uint8)


def _classes(records: list[xr.Dataset]) -> list[dict[str, Any]]:
    """Every class that a model knows, each once, by its label of the data set."""
    classes: dict[int, dict[str, Any]] = {}
    for record in records:
        if "class" not in record.coords:
            continue
        flags = record["label"].values if "label" in record else np.zeros(record.sizes["class"], bool)
        names = record["class_name"].values
        for label, name, flag in zip(record["class"].values, names, flags, strict=True):
            classes.setdefault(int(label), {"label": int(label), "name": str(name), "true": bool(flag)})
    return list(classes.values())


def _segments(record: xr.Dataset) -> list[dict[str, Any]]:
    if "segment_start" not in record:
        return []
    start, end, kind, label = (record[f"segment_{name}"].values for name in ("start", "end", "kind", "label"))
    origin = record["segment_origin"].values if "segment_origin" in record else np.full(len(start), "")
    rated = record["segment_class"].transpose("segment", "class").values if "segment_class" in record else None
    classes = record["class"].values if rated is not None else np.empty(0)
    return [
        {
            "start": float(start[index]),
            "end": float(end[index]),
            "kind": str(kind[index]),
            "label": str(label[index]),
            "origin": str(origin[index]),
            "classes": [] if rated is None else [int(one) for one in classes[rated[index] == 1]],
        }
        for index in np.flatnonzero(np.isfinite(start))
    ]


def _json_list(value: object) -> list[str]:
    try:
        parsed = json.loads(str(value))
    except json.JSONDecodeError:
        return []
    return [str(one) for one in parsed] if isinstance(parsed, list) else []


def _source_of(clip: str, source: str) -> str:
    """What `read_clips` and `gmsa inspect` take to find the clip again; empty where it came from no file."""
    file = source.removesuffix(f"#{clip}")
    if clip and file and file != source:
        path = os.path.abspath(file) if os.path.exists(file) else file  # the text may be used elsewhere
        return f"{path}#{clip}"
    demo = re.fullmatch(r"demo-0*(\d+)", clip)
    return f"demo:{demo[1]}" if demo else ""


def _python_of_clip(clip: str, source: str) -> str:
    """A line of Python that reads the clip again."""
    if not (path := _source_of(clip, source)):
        return f"clip = ...  # {clip!r} came from no file ({source!r}): put the Clip here"
    return f"clip = next(iter(gmsa_models.read_clips({path!r})))"


def _python_of_record(record: xr.Dataset, layers: tuple[int, ...]) -> str:
    """Python that makes the record again from `clip`, by the same file of weights, or says that it has changed."""
    attributes = record.attrs
    if "video_span" in attributes:
        return _python_of_video(record, layers)
    inspect = [_python_of_model(record), "clip"]
    inspect += [f"edits={list(edits)!r}"] if (edits := record_edits(attributes)) else []
    if "explanation" in record:
        inspect.append('parts=[*DEFAULT_PARTS, "explanation"]')
        if "target" in record["explanation"].attrs:
            inspect.append(f"target={int(record['explanation'].attrs['target'])}")
    inspect += ["certify=True"] if "certificate" in record else []
    inspect += _python_of_layers(record, layers)
    chosen = json.loads(attributes.get("neighbourhood_config", "null"))
    if chosen and chosen != json.loads(attributes.get("model_config", "{}")).get("neighbourhood"):
        inspect.append(f"neighbourhood=gmsa_models.masks.neighbourhood_from_dict({chosen!r})")
    return f"inspect_clip({', '.join(inspect)})"


def _python_of_model(record: xr.Dataset) -> str:
    """Python that loads the model again."""
    attributes, name = record.attrs, without_edited(model_name(record))
    called = str(attributes.get("checkpoint_name", name))
    load = [repr(str(attributes.get("checkpoint_path", called)))]
    load += [f"name={name!r}"] if name != called else []
    load += [f"sha256={str(attributes['checkpoint_sha256'])!r}"] if "checkpoint_sha256" in attributes else []
    return f"gmsa_models.load({', '.join(load)})"


def _python_of_layers(record: xr.Dataset, layers: tuple[int, ...]) -> list[str]:
    """Arguments that choose the record's layers; none for the first layer alone."""
    if len(layers) > 1:
        return [f"layers={list(layers)}"]
    layer = int(record.attrs.get("layer", 0))
    return [f"layer={layer}"] if layer else []


def _python_of_video(record: xr.Dataset, layers: tuple[int, ...]) -> str:
    """Python that makes the record of a video file by a transformers model again."""
    attributes = record.attrs
    source = str(attributes.get("source", ""))
    path = os.path.abspath(source) if os.path.exists(source) else source
    inspect = [repr(path), repr(str(attributes.get("checkpoint_path", "")))]
    if "frame_times" in attributes:
        inspect.append(f"frames={len(json.loads(attributes['frame_times']))}")
    first, last = json.loads(attributes["video_span"])
    inspect.append(f"span=({float(first)!r}, {float(last)!r})")
    if chosen := json.loads(attributes.get("neighbourhood_config", "null")):
        inspect.append(f"neighbourhood=gmsa_models.masks.neighbourhood_from_dict({chosen!r})")
    if "explanation" in record:
        inspect.append(f"target={int(record['explanation'].attrs['target'])}")
    return f"inspect_video({', '.join(inspect + _python_of_layers(record, layers))})"
