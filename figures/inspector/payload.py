"""The payload: records as one block of bytes that the JavaScript reads, in a widget's trait or in an HTML file.

Its layout: docs/inspector_payload.md.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr

from analysis.record.branches import branch_mask, local_branches
from analysis.record.lanes import lane_values, record_lanes
from analysis.record.layers import of_layer, record_layers
from figures.inspector.header import describe_clip, describe_explanations, describe_model, describe_style
from figures.inspector.media import ClipMedia
from figures.inspector.records import has_values, model_name, split_records
from figures.inspector.strip import record_thumbnails, strip_colours
from gmsa_models.errors import ArgumentError

__all__ = ["PRECISIONS", "Arrays", "joined_parts", "pack", "pack_answer", "pack_explanation", "pack_in_parts"]

VERSION = 4
PRECISIONS = ("float32", "float16")


class Arrays:
    """Arrays under names, one after another in one block; of maps only those that are wanted (None: all)."""

    def __init__(self, precision: str, wanted: Collection[str] | None = None) -> None:
        self.precision, self.wanted = precision, wanted
        self.about: dict[str, Any] = {}
        self.blocks: dict[str, bytes] = {}
        self.later: set[str] = set()  # what a view may not need: maps, the copy of the video

    def add(self, name: str, values: np.ndarray, **coding: Any) -> None:
        """Store values as they are: uint8, float32 or float64."""
        self._append(name, values, values.tobytes(), str(values.dtype), **coding)

    def add_later(self, name: str, values: np.ndarray) -> None:
        """Store values that no first view needs, as they are."""
        self.later.add(name)
        self.add(name, values)

    def add_symmetric(self, name: str, values: np.ndarray) -> None:
        """Store a map by its lower triangle, or whole where it is not exactly symmetric."""
        if not np.array_equal(values, values.T, equal_nan=True):
            return self.add_map(name, values)
        triangle = np.tri(len(values), dtype=bool)
        if "triangle" not in self.about:
            self.add("triangle", triangle.astype(np.uint8))
        return self.add_map(name, values, ("triangle", triangle), symmetric=True)

    def add_map(
        self, name: str, values: np.ndarray, support: tuple[str, np.ndarray] | None = None, **coding: Any
    ) -> None:
        """Store a map of frames against frames, in the chosen precision, inside its support only, if it is wanted."""
        if not self.wants(name):
            return
        self.later.add(name)
        coding |= {} if support is None else {"support": support[0]}
        kept = np.ascontiguousarray(values if support is None else values[support[1]], np.float32)
        if self.precision == "float32":
            self._append(name, values, kept.tobytes(), "float32", **coding)
            return
        largest = float(np.nanmax(np.abs(kept), initial=0.0))
        exponent = 15 - math.ceil(math.log2(largest)) if largest > 0 else 0
        halves = np.ldexp(kept, exponent).astype("<f2")
        planes = halves.reshape(-1, 1).view(np.uint8).T
        self._append(name, values, planes.tobytes(), "float16", exponent=exponent, **coding)

    def wants(self, name: str) -> bool:
        """Whether a map is to be stored."""
        return self.wanted is None or name in self.wanted

    def add_fixed(self, name: str, values: np.ndarray) -> None:
        """Store a matrix in 16 bits a number: each row by its largest, which is off by 1 in 65,534 of that at most."""
        largest = np.abs(values).max(axis=1, initial=0.0)
        steps = np.where(largest > 0, largest / 32767, 1).astype(np.float32)
        self.add(f"{name}/steps", steps)
        whole = np.round(values / steps[:, None].astype(np.float64)).astype("<i2")
        planes = whole.reshape(-1, 1).view(np.uint8).T
        self._append(name, values, planes.tobytes(), "int16", steps=f"{name}/steps")

    def leave_to_engine(self, name: str, values: np.ndarray) -> None:
        """Store no numbers of a map: an engine of the page has them."""
        self.about[name] = {"type": "engine", "shape": values.shape, "offset": 0, "bytes": 0}

    def alias(self, name: str, same: str) -> None:
        """Let a name stand for an array that is there already."""
        self.about[name] = {"same": same}

    def parts(self, shown: set[str]) -> tuple[bytes, bytes]:
        """The blocks that a view with the maps `shown` needs, and the others; says where each is."""
        waits = self.later - {self.about.get(name, {}).get("same", name) for name in shown}
        first: list[bytes] = []
        rest: list[bytes] = []
        place = 0
        for name, block in sorted(self.blocks.items(), key=lambda item: item[0] in waits):
            self.about[name]["offset"] = place
            (rest if name in waits else first).append(block)
            place += len(block)
        return b"".join(first), b"".join(rest)

    def _append(self, name: str, values: np.ndarray, block: bytes, kind: str, **coding: Any) -> None:
        self.about[name] = {"type": kind, "shape": values.shape, "bytes": len(block)} | coding
        self.blocks[name] = block + bytes(-len(block) % 8)


def pack(
    inspected: xr.Dataset | Sequence[xr.Dataset],
    precision: str = "float32",
    media: ClipMedia | None = None,
    live: Collection[str] = (),
) -> bytes:
    """Records as one block of bytes.

    Args:
        inspected: as `split_records` takes it.
        precision: of maps: "float32", exactly what the record holds; or "float16", 11 bits (a relative error of at most
            0.05 percent for every value above a billionth of the map's largest). Curves and scores are float32 always.
        media: pictures of the clip.
        live: names of models whose passes an engine of the page makes: it has their combined maps, which are left out.

    Returns:
        The payload; see the module's first lines.

    Raises:
        ArgumentError: records that cannot stand together; an unknown precision.
    """
    return b"".join(pack_in_parts(inspected, precision, {}, media, live))


def pack_in_parts(
    inspected: xr.Dataset | Sequence[xr.Dataset],
    precision: str,
    view: Mapping[str, Any],
    media: ClipMedia | None = None,
    live: Collection[str] = (),
) -> tuple[bytes, bytes]:
    """The payload as two blocks of bytes: what a view needs (a tenth, of eight heads), and what it does not show yet.

    Args:
        inspected, precision, media, live: as of `pack`, and refused alike.
        view: traits of the widget, by name.

    Returns:
        The first part and the rest.
    """
    if precision not in PRECISIONS:
        raise ArgumentError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    records = split_records(inspected)
    arrays = Arrays(precision)
    arrays.add("seconds", np.asarray(records[0]["frame"].values, np.float64))
    style = describe_style(name for one in records if "branch" in one.coords for name in _names(one, "branch"))
    for name, table in style.pop("tables").items():
        arrays.add(f"colours/{name}", table)
    _add_clip(arrays, records)
    clip = describe_clip(records) | _add_media(arrays, records[0], media)
    models, layers = [], _layer_records(records)
    layers_of = {model_name(record): record_layers(record) for record in records}
    first_of = {model_name(record): index for index, record in reversed(list(enumerate(layers)))}
    for index, record in enumerate(layers):
        _add_model(arrays, f"{index}", record, f"{first_of[model_name(record)]}", model_name(record) in live)
        models.append(
            describe_model(record, layers_of[model_name(record)])
            | {"lanes": _add_lanes(arrays, f"{index}/lane", record)}
        )
    header = {"version": VERSION, "precision": precision, "clip": clip, "models": models} | style
    return joined_parts(header, arrays, _shown(layers, view))


def pack_answer(
    records: Sequence[xr.Dataset], name: str, edited: xr.Dataset, shown: Collection[str], precision: str = "float32"
) -> bytes:
    """What an edited pass changed, laid out as a payload: arrays under the names that the payload has them by.

    Args:
        records: of `split_records`, that the payload was packed of.
        name: of the model whose pass was edited.
        edited: record of the edited pass, of the same layers as the model's record; of any parts.
        shown: names of the maps that are sent.
        precision: of maps; see `pack`.

    Returns:
        The arrays, and `logits` and `probabilities` by class.
    """
    arrays = Arrays(precision, frozenset(shown))
    indices = [index for index, record in enumerate(_layer_records(list(records))) if model_name(record) == name]
    for index, record in zip(indices, _layer_records([edited]), strict=True):
        _add_model(arrays, f"{index}", record, f"{indices[0]}")
        _add_lanes(arrays, f"{index}/lane", record)
    for word, variable in (("logits", "logit"), ("probabilities", "score")):
        if variable in edited:
            arrays.add(word, edited[variable].values.astype(np.float32))
    return b"".join(joined_parts({"version": VERSION, "precision": precision}, arrays, arrays.later))


def pack_explanation(records: Sequence[xr.Dataset], name: str, explained: xr.Dataset) -> bytes:
    """Explanations of another class, laid out as a payload whose header has their lanes as of a model.

    Args:
        records: of `split_records`, that the payload was packed of.
        name: of the model that explains.
        explained: of `EditEngine.explanation`.
    """
    arrays, lanes = Arrays("float32"), list[dict[str, Any]]()
    for index, record in enumerate(_layer_records(list(records))):
        if model_name(record) == name:
            lanes = _add_lanes(arrays, f"{index}/lane", explained)
    header = {"version": VERSION, "precision": "float32", "lanes": lanes} | describe_explanations(explained)
    return b"".join(joined_parts(header, arrays, arrays.later))


def joined_parts(header: Mapping[str, Any], arrays: Arrays, shown: set[str]) -> tuple[bytes, bytes]:
    """A header and its arrays as two blocks: all that a view with the maps `shown` needs, and the other maps."""
    first, rest = arrays.parts(shown)
    whole = {**header, "first": len(first), "arrays": arrays.about}
    text = json.dumps(whole, ensure_ascii=False, allow_nan=False).encode()
    text += b" " * (-(len(text) + 4) % 8)
    return b"".join([struct.pack("<I", len(text)), text, first]), rest


def _layer_records(records: list[xr.Dataset]) -> list[xr.Dataset]:
    """One record a model and layer: the payload's models."""
    return [of_layer(record, layer) for record in records for layer in record_layers(record)]


def _shown_layer(records: list[xr.Dataset], name: str, layer: object) -> int:
    """Which of the payload's models a name stands for: its layer that is shown, else its first."""
    places = [index for index, record in enumerate(records) if model_name(record) == name]
    return next((place for place in places if record_layers(records[place]) == (layer,)), next(iter(places), -1))


def _shown(records: list[xr.Dataset], view: Mapping[str, Any]) -> set[str]:
    """Names of the maps that a view shows, of records of one layer each."""
    modality, names = view.get("modality", ""), [name for name in (view.get("model"), view.get("against")) if name]
    if len(names) == 2:  # a third beside them, where the page is wide enough
        names += [model_name(record) for record in records if model_name(record) not in names][:1]
    shown = {f"similarity/{modality}"}
    indices = [_shown_layer(records, str(name), view.get("layer")) for name in names]
    for index, record in enumerate(records):
        if index not in indices:
            continue
        shown |= {f"{index}/{view['left']}/{modality}"} if view.get("left") in ("gate", "gradient") else set()
        branches = _names(record, "branch") if "branch" in record.dims else []
        branch = view["branch"] if view.get("branch") in branches else next(iter(branches), "")
        heads = range(record.sizes.get("head", 0)) if view.get("head") == -1 else [view.get("head", 0)]
        shown |= {f"{index}/attention/{modality}/{branch}/{head}" for head in heads}
    return shown


def _add_clip(arrays: Arrays, records: list[xr.Dataset]) -> None:
    """What belongs to the clip: similarity, colours of the strip."""
    frames = records[0].sizes["frame"]
    for record in records:
        for modality in _names(record, "modality") if "similarity" in record and frames else []:
            if f"similarity/{modality}" not in arrays.about:
                values = record["similarity"].sel(modality=modality).values
                arrays.add_symmetric(f"similarity/{modality}", values)
                arrays.add(f"strip/{modality}", strip_colours(values))


def _add_media(arrays: Arrays, record: xr.Dataset, media: ClipMedia | None) -> dict[str, Any]:
    """Pictures and sound, of the clip's video or of the record itself; says what they are."""
    if media is None and "thumbnail" in record and record.sizes["frame"]:
        media = ClipMedia(record_thumbnails(record["thumbnail"].values))
    if media is None:
        return {}
    arrays.add("thumbnails", np.frombuffer(media.thumbnails.webp, np.uint8))
    if media.proxy is not None:
        arrays.add_later("proxy", np.frombuffer(media.proxy.webm, np.uint8))
    return media.described()


def _add_model(arrays: Arrays, prefix: str, record: xr.Dataset, first: str, live: bool = False) -> None:
    """What is of one layer of a model; `first`: prefix of the model's first layer, which the mask is stored with.

    `live`: an engine of the page makes the model's passes.
    """
    mask = record["neighbourhood"].values if "neighbourhood" in record else None
    if mask is not None and prefix != first:
        arrays.alias(f"{prefix}/neighbourhood", f"{first}/neighbourhood")
    elif mask is not None:
        arrays.add(f"{prefix}/neighbourhood", mask.astype(np.uint8))
    masks = _masks(record, f"{prefix}/neighbourhood")
    for branch, (name, values) in masks.items():
        if name == f"{prefix}/neighbourhood":
            continue
        if prefix != first:
            arrays.alias(name, f"{first}/neighbourhood/{branch}")
        else:
            arrays.add(name, values.astype(np.uint8))
    if "score" in record:
        arrays.add(f"{prefix}/score", record["score"].values.astype(np.float32))
    if not record.sizes["frame"]:
        return
    for name, variable in (("gradient", "gradient_norm"), ("gate", "gate_map")):
        for modality in _names(record, "modality") if variable in record else []:
            values = record[variable].sel(modality=modality).values
            if np.isfinite(values).any():
                arrays.add_map(f"{prefix}/{name}/{modality}", values)
    if "attention" in record:
        _add_attention(arrays, prefix, record["attention"], masks, live)


def _masks(record: xr.Dataset, whole: str) -> dict[str, tuple[str, np.ndarray]]:
    """Local branch -> the name that its neighbourhood is stored under, of one such branch `whole`, and the mask."""
    known = {branch: mask for branch in local_branches(record) if (mask := branch_mask(record, branch)) is not None}
    own = "branch_neighbourhood" in record
    return {branch: (f"{whole}/{branch}" if own else whole, mask) for branch, mask in known.items()}


def _add_lanes(arrays: Arrays, prefix: str, record: xr.Dataset) -> list[dict[str, Any]]:
    """Every line over time that has a number, under its labels; says how each lane is drawn, from the top."""
    described = []
    for name, lane in record_lanes(record).items():
        curves = lane_values(record[name], lane)
        values = curves.values.astype(np.float32)
        dimensions = [[str(dim), _names(curves, str(dim))] for dim in curves.dims[:-1]]
        for index in np.ndindex(values.shape[:-1]):
            if np.isfinite(values[index]).any():
                labels = (names[place] for (_, names), place in zip(dimensions, index, strict=True))
                arrays.add("/".join([prefix, name, *labels]), values[index])
        described.append({"variable": name, "dimensions": dimensions} | asdict(lane))
    return described


def _add_attention(
    arrays: Arrays, prefix: str, attention: xr.DataArray, masks: Mapping[str, tuple[str, np.ndarray]], live: bool
) -> None:
    """Every head that a branch has; a combined map that equals a branch's own (ShareAtt) is not stored again."""
    attention = attention.transpose("modality", "branch", "head", "query", "key")
    for row, modality in enumerate(_names(attention, "modality")):
        for head in range(attention.sizes["head"]):
            stored: dict[str, np.ndarray] = {}
            for column, branch in enumerate(_names(attention, "branch")):
                values, name = attention.values[row, column, head], f"{prefix}/attention/{modality}/{branch}/{head}"
                if not has_values(values) or not arrays.wants(name):
                    continue
                same = [other for other, other_values in stored.items() if np.array_equal(other_values, values)]
                if same:
                    arrays.alias(name, same[0])
                    continue
                if live and branch == "combined":
                    arrays.leave_to_engine(name, values)
                    continue
                support = None
                if branch in masks and not values[~masks[branch][1]].any():  # edits may go beyond it
                    support = masks[branch]
                arrays.add_map(name, values, support)
                stored[name] = values


def _names(labelled: xr.Dataset | xr.DataArray, dimension: str) -> list[str]:
    return [str(name) for name in labelled[dimension].values]
