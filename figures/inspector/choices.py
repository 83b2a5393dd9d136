"""What can be shown of some records: the values that each trait may have, and the nearest view that exists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from analysis.record.layers import of_layer, record_layers
from figures.inspector.records import has_values, model_name
from gmsa_models.errors import ArgumentError

__all__ = ["ALL_HEADS", "FIXED", "LEFT", "NO_CLASS", "VIEW", "Choices", "ModelChoices"]

ALL_HEADS, NO_CLASS = -1, -1
# Traits that make up a view, in the order in which Python that reproduces it names them.
VIEW = ("frame", "modality", "layer", "branch", "head", "model", "against", "view", "scale", "class_", "span", "pinned",
        "theme", "left", "explanation")  # fmt: skip
# Variables that can stand beside the attention maps.
LEFT = {"similarity": "similarity", "gradient": "gradient_norm", "gate": "gate_map"}
# Traits whose values are the same whatever the records hold.
FIXED: dict[str, tuple[Any, ...]] = {
    "view": ("side", "difference"),
    "scale": ("linear", "log", "row"),
    "theme": ("auto", "light", "dark"),
    "pinned": (False, True),
}


@dataclass(frozen=True)
class ModelChoices:
    """What one layer of a model's record holds.

    Attributes:
        modalities: names, as in the record.
        heads: of each modality and branch that has maps; from 0.
        left: names in `LEFT` that each modality has.
        explanations: methods.
        classes: labels of the data set.
    """

    modalities: tuple[str, ...]
    heads: Mapping[tuple[str, str], tuple[int, ...]]
    left: Mapping[str, tuple[str, ...]]
    explanations: tuple[str, ...]
    classes: tuple[int, ...]

    def branches(self, modality: str) -> tuple[str, ...]:
        """Branches that have maps of a modality; none of a model without attention."""
        return tuple(branch for where, branch in self.heads if where == modality)


class Choices:
    """What the records of one clip hold, one record a model; `Scene.valid` in `js/state.js` follows the same rules.

    Args:
        records: of `split_records`.
    """

    def __init__(self, records: Sequence[xr.Dataset]) -> None:
        self.frames = records[0].sizes["frame"]
        self.models = {model_name(record): _layers_of_model(record) for record in records}

    def start(self) -> dict[str, Any]:
        """The view that an inspector starts with."""
        first = {"frame": 0, "head": 0, "model": next(iter(self.models)), "against": "", "class_": NO_CLASS}
        first |= {name: values[0] for name, values in FIXED.items()} | {"left": "similarity"}
        first |= {"layer": -1, "modality": "", "branch": "", "explanation": "", "span": [0, self.frames]}
        return self.nearest(first)

    def check(self, view: Mapping[str, Any]) -> None:
        """Refuse values that no record has.

        Args:
            view: traits by name; what is not given is not checked.

        Raises:
            ArgumentError: a name that is no trait of a view, or a value that these records do not have; the message
                says which there are.
        """
        if unknown := [name for name in view if name not in VIEW]:
            raise ArgumentError(f"unknown trait {unknown[0]!r} of the inspector; known: {', '.join(VIEW)}")
        for name, value in view.items():
            if name == "span":
                self._check_span(value)
            elif value not in (known := self._known(name)):
                raise ArgumentError(f"{name} is {value!r}; {self._expected(name, known)}")
        if view.get("against") and view["against"] == view.get("model"):
            raise ArgumentError(f"against is {view['against']!r}, the model shown; expected another, or ''")

    def nearest(self, view: Mapping[str, Any]) -> dict[str, Any]:
        """A view whose traits go together.

        Of the models as chosen: a layer or name (modality, branch, method) that the first one lacks becomes its first,
        a head that the branch lacks the nearest in number, a map beside it that is not there "similarity".

        Args:
            view: all traits by name; each of a value that `check` lets pass.

        Returns:
            All traits by name.
        """
        near = dict(view)
        layers = self.models[near["model"]]
        near["layer"] = near["layer"] if near["layer"] in layers else next(iter(layers))
        model = layers[near["layer"]]
        near["against"] = "" if near["against"] == near["model"] else near["against"]
        near["modality"] = _first_unless(near["modality"], model.modalities)
        near["branch"] = _first_unless(near["branch"], model.branches(near["modality"]))
        near["explanation"] = _first_unless(near["explanation"], model.explanations)
        heads = model.heads.get((near["modality"], near["branch"]), ())
        if near["head"] != ALL_HEADS:
            near["head"] = min(heads, key=lambda head: (abs(head - near["head"]), head), default=0)
        if near["left"] not in model.left.get(near["modality"], ()):
            near["left"] = "similarity"
        return near

    def _known(self, name: str) -> tuple[Any, ...] | range:
        """Every value that a trait may have in some record."""
        models = [model for layers in self.models.values() for model in layers.values()]
        if name in FIXED:
            return FIXED[name]
        if name == "frame":
            return range(max(1, self.frames))
        if name == "layer":
            return tuple(dict.fromkeys(layer for layers in self.models.values() for layer in layers))
        groups: list[Iterable[Any]]
        if name == "modality":
            groups = [model.modalities for model in models]
        elif name == "branch":
            groups = [model.branches(where) or ("",) for model in models for where in model.modalities or ("",)]
        elif name == "head":
            groups = [(0, ALL_HEADS), *(heads for model in models for heads in model.heads.values())]
        elif name == "class_":
            groups = [(NO_CLASS,), *(model.classes for model in models)]
        elif name == "left":
            groups = [("similarity",), *(names for model in models for names in model.left.values())]
        elif name == "explanation":
            groups = [model.explanations or ("",) for model in models]
        else:
            groups = [("",)] * (name == "against") + [tuple(self.models)]
        return tuple(dict.fromkeys(value for values in groups for value in values))

    def _expected(self, name: str, known: Sequence[Any]) -> str:
        if name == "frame":
            return f"these records have frames 0 to {known[-1]}"
        if name == "head":
            return f"these records have heads 0 to {max(known)}, and -1 for all"
        if name == "class_":
            return "expected -1, or a label of the data set that a model knows"
        return f"these records have {', '.join(map(repr, known))}"

    def _check_span(self, span: Sequence[int]) -> None:
        whole = len(span) == 2 and all(float(each).is_integer() for each in span)
        if not whole or not (0 <= span[0] < span[1] <= self.frames or (list(span) == [0, 0] and not self.frames)):
            raise ArgumentError(
                f"span is {list(span)}; expected the first frame and the one after the last, of 0 to {self.frames}"
            )


def _first_unless(value: str, known: Sequence[str]) -> str:
    """The value if it is known, else the first that is; "" where nothing is."""
    return value if value in known else next(iter(known), "")


def _layers_of_model(record: xr.Dataset) -> dict[int, ModelChoices]:
    return {layer: _choices_of_layer(of_layer(record, layer)) for layer in record_layers(record)}


def _choices_of_layer(record: xr.Dataset) -> ModelChoices:
    modalities = _names(record, "modality")
    return ModelChoices(
        modalities,
        _heads(record) if record.sizes["frame"] else {},
        {modality: _left(record, modality) if record.sizes["frame"] else () for modality in modalities},
        _names(record, "explainer") if "explanation" in record else (),
        tuple(int(label) for label in record["class"].values) if "class" in record.coords else (),
    )


def _heads(record: xr.Dataset) -> dict[tuple[str, str], tuple[int, ...]]:
    """Heads that have a map, by modality and branch."""
    if "attention" not in record:
        return {}
    maps = record["attention"].transpose("modality", "branch", "head", "query", "key").values
    by_stream = {
        (modality, branch): tuple(head for head in range(maps.shape[2]) if has_values(maps[row, column, head]))
        for row, modality in enumerate(_names(record, "modality"))
        for column, branch in enumerate(_names(record, "branch"))
    }
    return {place: heads for place, heads in by_stream.items() if heads}


def _left(record: xr.Dataset, modality: str) -> tuple[str, ...]:
    available = [name for name, variable in LEFT.items() if variable in record]
    return tuple(
        name
        for name in available
        if name == "similarity" or np.isfinite(record[LEFT[name]].sel(modality=modality).values).any()
    )


def _names(record: xr.Dataset, axis: str) -> tuple[str, ...]:
    return tuple(str(name) for name in record[axis].values) if axis in record.coords else ()
