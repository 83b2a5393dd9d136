"""Lanes: how variables of a record say, in their attributes, that and how they are drawn over time. Without torch.

A variable with the attribute `lane` is drawn by the inspector, its HTML file and the overview. `lane = "line"`: its own
values along `frame`. `lane = "received"`: of pairs (query, key), the share of all values that each key has, times their
number, so that 1 is even. Of `CHOSEN` dimensions a view shows one label at a time; along any other there is a line a
label. What else a variable may say are the fields of `Lane`, each as `lane_` and its name; what it does not say is as
`Lane` has it, and its name and units are then `long_name` and `units`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import xarray as xr

from analysis.errors import RecordError
from analysis.record.remedy import quoted

__all__ = ["CONTROL", "EARLIER", "MOST_LINES", "Lane", "chosen_dimensions", "lane_values", "record_lanes"]

KINDS = {"line": ("frame",), "received": ("query", "key")}  # and the dimensions that become the time axis
CHOSEN = ("layer", "modality", "explainer", "head")
MOST_LINES, MOST_LANES = 12, 32  # of one lane, of one record
LONGEST_TEXT, LARGEST = 120, 1e30
HEIGHTS = (20, 400)  # pixels
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # a terminal obeys them


@dataclass(frozen=True)
class Lane:
    """How a variable is drawn over time.

    Attributes:
        kind: a key of `KINDS`.
        name: what stands beside it; None: the variable's `long_name`, else its name in the record.
        units: of its values; None: the variable's `units`.
        label: what its line is called where no dimension names it.
        reference: value at which a dotted line is drawn, None for none.
        least, most: ends of its axis; None: as the values shown are.
        height: in the inspector, pixels; more where its lines need it.
        order: place among the lanes, from the top; equal ones as in the record.
        overview: also drawn in the overview.
    """

    kind: str = "line"
    name: str | None = None
    units: str | None = None
    label: str = "value"
    reference: float | None = None
    least: float | None = None
    most: float | None = None
    height: int = 50
    order: float = 100.0
    overview: bool = True

    def attributes(self) -> dict[str, str | int | float]:
        """Attributes of a variable that say this."""
        changed = {name: value for name, default in _DEFAULTS.items() if (value := getattr(self, name)) != default}
        flat = {f"lane_{name}": int(value) if isinstance(value, bool) else value for name, value in changed.items()}
        return {"lane": self.kind} | flat


_DEFAULTS = {each.name: each.default for each in fields(Lane) if each.name != "kind"}  # attributes beside `lane`
_TEXTS = ("name", "units", "label")

# Variables of records that were written before variables said how they are drawn.
EARLIER = {
    "profile": Lane(name="attention received", units="1 = uniform", reference=1.0, least=0.0, height=64, order=10.0),
    "gate": Lane(name="gates", units="mean, 0 to 1", reference=0.5, order=20.0),
    "contribution": Lane(name="contribution", units="norm in the output", least=0.0, order=30.0, overview=False),
    "sensitivity": Lane(
        name="sensitivity S", units="1 = all local", label="S", reference=0.5, order=40.0, overview=False
    ),
    "gradient_norm": Lane(
        "received", "gradient received", "1 = even", "gradient", 1.0, least=0.0, order=50.0, overview=False
    ),
    "explanation": Lane(name="explanation", units="", reference=0.0, height=66, order=60.0, overview=False),
}


def record_lanes(record: xr.Dataset) -> dict[str, Lane]:
    """The variables of a record that are drawn over time, from the top.

    Args:
        record: of one model or of several.

    Returns:
        How each is drawn, by its name in the record.

    Raises:
        RecordError: attributes by which one cannot be drawn, or more than `MOST_LANES` of them.
    """
    lanes = {}
    for name, variable in record.data_vars.items():
        if "lane" in variable.attrs:
            lanes[str(name)] = _lane(str(name), variable)
        elif name in EARLIER:
            lanes[str(name)] = EARLIER[name]
    if len(lanes) > MOST_LANES:
        raise RecordError(f"{len(lanes)} variables have the attribute 'lane'; at most {MOST_LANES} are drawn")
    return dict(sorted(lanes.items(), key=lambda item: item[1].order))


def lane_values(variable: xr.DataArray, lane: Lane) -> xr.DataArray:
    """What is drawn of a variable: lines over frames.

    Args:
        variable: of a record of one model.
        lane: how it is drawn.

    Returns:
        Array (..., frame), the dimensions of which one is chosen first, in the order of `CHOSEN`.
    """
    if lane.kind == "received":
        total = variable.sum(("query", "key"), dtype=np.float64)
        received = variable.sum("query") * float(variable.sizes["key"]) / total.where(total > 0)
        variable = received.rename(key="frame")
    return variable.transpose(*chosen_dimensions(variable), ..., "frame")


def chosen_dimensions(variable: xr.DataArray) -> tuple[str, ...]:
    """Dimensions of which a view shows one label at a time."""
    return tuple(name for name in CHOSEN if name in variable.dims)


def _lane(name: str, variable: xr.DataArray) -> Lane:
    kind = variable.attrs["lane"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise RecordError(f"variable {quoted(name)}: attribute 'lane' is {quoted(kind)}; known: {', '.join(KINDS)}")
    _check_shape(name, variable, kind)
    names = {f"lane_{field}": field for field in _DEFAULTS}
    if unknown := [each for each in variable.attrs if str(each).startswith("lane_") and each not in names]:
        raise RecordError(f"variable {quoted(name)}: unknown attribute {quoted(unknown[0])}; known: {', '.join(names)}")
    names = {"long_name": "name", "units": "units"} | names  # the lane's own words go before the variable's
    lane = Lane(kind, name=name, units="")
    for attribute, field in names.items():
        if attribute in variable.attrs:
            value = variable.attrs[attribute]
            if expected := _expected(field, value):
                raise RecordError(
                    f"variable {quoted(name)}: attribute {attribute!r} is {quoted(value)}; expected {expected}"
                )
            lane = replace(lane, **{field: _plain_value(field, value)})
    if lane.least is not None and lane.most is not None and lane.least >= lane.most:
        raise RecordError(f"variable {quoted(name)}: 'lane_least' is {lane.least:g}; expected less than {lane.most:g}")
    return lane


def _expected(field: str, value: Any) -> str:
    """What a field must be where its value is not; "" where it is."""
    if field in _TEXTS:
        plain = isinstance(value, str) and len(value) <= LONGEST_TEXT and CONTROL.search(value) is None
        return "" if plain else f"text of at most {LONGEST_TEXT} characters, none of them a control character"
    number = isinstance(value, int | float | np.integer | np.floating)
    low, high = {"height": HEIGHTS, "overview": (0, 1)}.get(field, (-LARGEST, LARGEST))
    return "" if number and low <= value <= high else f"a number in [{low:g}, {high:g}]"


def _plain_value(field: str, value: Any) -> Any:
    if field in _TEXTS:
        return str(value)
    return {"height": int, "overview": bool}.get(field, float)(value)


def _check_shape(name: str, variable: xr.DataArray, kind: str) -> None:
    time = KINDS[kind]
    if {"frame", "query", "key"} & set(variable.dims) != set(time):
        raise RecordError(
            f"variable {quoted(name)}: dimensions {quoted(variable.dims)}; a lane of kind {kind!r} is of "
            f"{' and '.join(time)}"
        )
    if variable.dtype.kind not in "fiub":
        raise RecordError(f"variable {quoted(name)} is {variable.dtype!s:.100}; expected numbers, which a lane draws")
    others = [dim for dim in variable.dims if dim not in (*time, "model")]
    if unnamed := [dim for dim in others if dim not in variable.coords]:
        raise RecordError(
            f"variable {quoted(name)}: dimension {quoted(unnamed[0])} has no coordinate to name its lines"
        )
    lines = int(np.prod([variable.sizes[dim] for dim in others if dim not in CHOSEN], dtype=np.int64))
    if lines > MOST_LINES:
        raise RecordError(f"variable {quoted(name)}: {lines} lines in one lane; at most {MOST_LINES} are drawn")
