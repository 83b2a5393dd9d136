"""Panels over time: what a record draws there by its own word, gates, and the segments that are known."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.record.branches import local_branches
from analysis.record.lanes import chosen_dimensions, lane_values, record_lanes
from figures.panels.common import fitted_legend
from figures.panels.maps import time_edges
from figures.style import (
    BACKGROUND,
    EVENT,
    EVENT_ALPHA,
    REFERENCE,
    LineDashes,
    LineStyle,
    branch_styles,
    ground,
    model_style,
    on_ground,
)
from figures.texts import brief, fit, plain, shorten, text_points
from gmsa_models.branches import COMBINED, GLOBAL

__all__ = [
    "LABEL_POINTS",
    "MOST_LANES",
    "PlacedLabel",
    "draw_gates",
    "draw_lane",
    "draw_segments",
    "gate_legend",
    "lane_legend",
    "lines_of",
    "place_labels",
]

LINES: tuple[LineDashes, ...] = ("-", (0, (3, 1)))  # of a record, and of the one that it is compared with
MODALITY_COLOURS = ("#222222", "#858585", "#1b4f9c", "#d55e00")
LEAST_GATE_REACH = 0.05  # the axis of gates shows at least 0.45 to 0.55
LABEL_POINTS, LONGEST_LABEL, MOST_LANES = 6.5, 26, 5


def draw_lane(axes: Axes, records: Sequence[xr.Dataset], name: str, chosen: Mapping[str, str], inches: float) -> None:
    """A variable over time as its lane says: a line a branch, or a label of what other dimensions it has.

    Args:
        axes: of the panel.
        records: one a model; the second one's lines are dashed. One of them at least has the variable.
        name: of the variable.
        chosen: labels by dimension, see `lines_of`.
        inches: height of the panel, which its name and units must fit.
    """
    _shade_events(axes, records[0])
    lane = next(record_lanes(one)[name] for one in records if name in one)
    if lane.reference is not None:
        axes.axhline(lane.reference, color=on_ground(REFERENCE), linewidth=0.6, zorder=1)
    named: dict[str, Any] = {}
    styles = _styles_of(records)
    for record, line in zip(records, LINES, strict=False):
        for place, (labels, values) in enumerate(lines_of(record, name, chosen)):
            branch = labels.get("branch")
            line_style = _line_style(place, line) if branch is None else _branch_line_style(styles[branch], line)
            drawn = axes.stairs(values, time_edges(record), baseline=None, **line_style)
            named |= {} if set(labels) <= {"branch"} else {plain(" ".join(labels.values())): drawn}
    if named:
        axes.add_artist(Legend(axes, named.values(), named.keys(), fontsize=6, loc="upper right"))
    axes.set_ylim(lane.least, lane.most)
    words = [brief(chosen.get("modality", "")), plain(lane.name), f"({plain(lane.units)})" if lane.units else ""]
    room, size = 72 * inches, mpl.rcParams["axes.labelsize"]
    axes.set_ylabel("\n".join(fit(each, room, size) for each in words if each))
    _over_time(axes, records[0])


def lines_of(record: xr.Dataset, name: str, chosen: Mapping[str, str]) -> list[tuple[dict[str, str], np.ndarray]]:
    """Lines of a record's variable over time.

    Args:
        record: of one model.
        name: of a variable that has a lane; without it there are no lines.
        chosen: label of each dimension of `analysis.record.lanes.CHOSEN`; the variable's first where it is not said.

    Returns:
        Of each line its labels by dimension, and its values (frame); no line of NaN alone.
    """
    if name not in record:
        return []
    curves = lane_values(record[name], record_lanes(record)[name])
    for dimension in chosen_dimensions(curves):
        labels = [str(label) for label in curves[dimension].values]
        if (wanted := chosen.get(dimension) or labels[0]) not in labels:
            return []
        curves = curves.isel({dimension: labels.index(wanted)})
    dimensions = [str(dimension) for dimension in curves.dims[:-1]]
    names = itertools.product(*([str(label) for label in curves[each].values] for each in dimensions))
    lines = zip(names, curves.values.reshape(-1, curves.sizes["frame"]), strict=True)
    return [
        (dict(zip(dimensions, labels, strict=True)), values) for labels, values in lines if np.isfinite(values).any()
    ]


def _styles_of(records: Sequence[xr.Dataset]) -> dict[str, LineStyle]:
    """Styles of all branches of the records."""
    return branch_styles(str(name) for one in records if "branch" in one.coords for name in one["branch"].values)


def _branch_line_style(style: LineStyle, line: LineDashes) -> dict[str, Any]:
    first = line == "-"
    return {
        "color": style.colour,
        "linestyle": style.line if first else line,
        "linewidth": 1.1 if first else 0.8,
        "zorder": 2 if style.label in (GLOBAL, COMBINED) else 3,
    }


def _line_style(place: int, line: LineDashes) -> dict[str, Any]:
    return {"color": on_ground(MODALITY_COLOURS[place % len(MODALITY_COLOURS)]), "linestyle": line}


def draw_gates(axes: Axes, records: Sequence[xr.Dataset]) -> None:
    """Mean gate of the local branch, a line a modality; `analysis.attention.gates.mean_gates` says over what.

    Of several local branches the sum; `draw_lane` draws each.
    """
    _shade_events(axes, records[0])
    axes.axhline(0.5, color=on_ground(REFERENCE), linewidth=0.6, zorder=1)
    for record, line in zip(records, LINES, strict=False):
        if "gate" not in record:
            continue
        for modality, colour in zip(record["modality"].values, MODALITY_COLOURS, strict=False):
            values = _local_gate(record).sel(modality=modality).values
            axes.stairs(values, time_edges(record), baseline=None, color=on_ground(colour), linestyle=line)
    gates = [_local_gate(one).values for one in records if "gate" in one]
    reach = min(0.5, 1.15 * max(LEAST_GATE_REACH, *(float(abs(each - 0.5).max()) for each in gates)))
    axes.set_ylim(0.5 - reach, 0.5 + reach)
    axes.set_ylabel("local gate\n(mean)")
    _over_time(axes, records[0])


def _local_gate(record: xr.Dataset) -> xr.DataArray:
    return record["gate"].sel(branch=list(local_branches(record))).sum("branch", skipna=False)


@dataclass(frozen=True)
class PlacedLabel:
    """Name of a segment and where it stands.

    Attributes:
        text: the name, shortened.
        seconds: middle of the text.
        lane: 0 = next to the segments.
    """

    text: str
    seconds: float
    lane: int


def place_labels(record: xr.Dataset, width_inches: float) -> list[PlacedLabel]:
    """Names of the known segments, side by side where they fit, else in lanes one under the other.

    Args:
        record: with or without segments.
        width_inches: of the panel; texts are measured against it.

    Returns:
        The labels; those that would need more than `MOST_LANES` lanes are left out.
    """
    if "segment" not in record.dims:
        return []
    edges = time_edges(record)
    start, end = float(edges[0]), float(edges[-1])
    a_point = (end - start) / (width_inches * 72)
    free = [start] * MOST_LANES  # where each lane's next label may begin
    placed = []
    for row in sorted(range(record.sizes["segment"]), key=lambda row: float(record["segment_start"][row])):
        text = shorten(plain(record["segment_label"].values[row]), LONGEST_LABEL)
        if not text:
            continue
        width = text_points(text, LABEL_POINTS) * a_point
        middle = float(record["segment_start"][row] + record["segment_end"][row]) / 2
        left = min(max(middle - width / 2, start), max(end - width, start))
        lane = next((lane for lane in range(MOST_LANES) if free[lane] <= left), None)
        if lane is not None:
            free[lane] = left + width + 6 * a_point
            placed.append(PlacedLabel(text, left + width / 2, lane))
    return placed


def draw_segments(axes: Axes, record: xr.Dataset, labels: Sequence[PlacedLabel]) -> None:
    """A strip of the known segments: sand where something is known to be shown, its name beneath; else grey."""
    lanes = 1 + max((label.lane for label in labels), default=-1)
    for start, end, label in _segments(record):
        colour = on_ground(EVENT if label else BACKGROUND)
        axes.axvspan(start, end, lanes / (lanes + 1), 1.0, facecolor=colour, edgecolor=ground())
    for placed in labels:
        axes.text(placed.seconds, -placed.lane - 0.5, placed.text, fontsize=LABEL_POINTS, ha="center", va="center")
    axes.set_ylim(-lanes, 1)
    axes.set_yticks([])
    axes.set_ylabel("segments", rotation=0, ha="right", va="center")
    axes.yaxis.set_label_coords(-0.02, 1 - 0.5 / (lanes + 1))
    axes.spines["left"].set_visible(False)
    _over_time(axes, record)


def _segments(record: xr.Dataset) -> list[tuple[float, float, str]]:
    if "segment" not in record.dims:
        return []
    names = ("segment_start", "segment_end", "segment_label")
    return list(zip(*(record[name].values.tolist() for name in names), strict=True))


def _shade_events(axes: Axes, record: xr.Dataset) -> None:
    for start, end, label in _segments(record):
        if label:
            axes.axvspan(
                start, end, facecolor=on_ground(EVENT), edgecolor=ground(), alpha=EVENT_ALPHA, linewidth=0.6, zorder=0
            )


def lane_legend(axes: Axes, records: Sequence[xr.Dataset], names: Collection[str], inches: float, **where: Any) -> None:
    """What the lines of `draw_lane` are: a colour a branch; of two models, beneath them, solid and dashed."""
    showing = [one for one in records if any(name in one for name in names)]
    styles = sorted(_styles_of(showing).values(), key=lambda style: (style.label == COMBINED) - (style.label == GLOBAL))
    colours = [_line(style.label, style.colour, style.line, 1.1) for style in styles]
    models = [
        _line(model_style(record["model"].item()).label, on_ground(MODALITY_COLOURS[0]), line, width)
        for record, line, width in zip(records, LINES, (1.1, 0.8), strict=False)
        if len(records) > 1 and any(record is one for one in showing)
    ]
    if not (colours or models):
        return
    columns = max(len(colours), len(models))
    filled = [*colours, *[_line(" ", "none")] * (columns - len(colours))] if models else colours
    # A legend is filled column after column: a branch, and a model beneath it.
    pairs = [one for column in range(columns) for one in (filled[column : column + 1] + models[column : column + 1])]
    fitted_legend(axes, pairs, columns, inches, borderaxespad=0, **where)


def gate_legend(axes: Axes, records: Sequence[xr.Dataset], inches: float, **where: Any) -> None:
    """What the lines of `draw_gates` are: a colour a modality; solid and dashed are the models of `lane_legend`."""
    named = dict.fromkeys(brief(name) for one in records if "gate" in one for name in one["modality"].values)
    lines = [_line(name, on_ground(colour)) for name, colour in zip(named, MODALITY_COLOURS, strict=False)]
    fitted_legend(axes, lines, len(lines), inches, borderaxespad=0, **where)


def _line(label: str, colour: str, line: LineDashes = "-", width: float = 1.1) -> Line2D:
    return Line2D([], [], color=colour, linestyle=line, linewidth=width, label=label)


def _over_time(axes: Axes, record: xr.Dataset) -> None:
    edges = time_edges(record)
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 3, 5, 6, 10]))
