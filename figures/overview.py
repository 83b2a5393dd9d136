"""Overview: one clip as one model saw it, or as two did, on one page.

From the top: how alike the frames are and what three heads attend to; what each frame receives, branch by branch; the
gates; whatever else the record draws over time by its own word (`analysis.record.lanes`); the segments that are known;
beside them the predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.errors import RecordError
from analysis.record.edits import record_edits
from analysis.record.lanes import record_lanes
from analysis.record.layers import layers_text, of_layer
from figures.panels.common import TITLE_SHARE
from figures.panels.maps import choose_heads, draw_attention, draw_difference, draw_similarity
from figures.panels.predictions import draw_predictions, labels_text
from figures.panels.time import (
    PlacedLabel,
    draw_gates,
    draw_lane,
    draw_segments,
    gate_legend,
    lane_legend,
    lines_of,
    place_labels,
)
from figures.style import PAGE_WIDTH, model_style, use_style
from figures.styled_figure import StyledFigure
from figures.texts import brief, fit, fit_name, plain, short_number, text_points

__all__ = ["TimePanel", "draw"]

# Inches; a row of maps has its colour bars beneath it.
MAP_ROW, PROFILE_ROW, LINE_ROW, STRIP, LANE, PREDICTIONS = 2.25, 1.1, 0.8, 0.2, 0.13, 1.9
LEGEND_AND_AXIS, LEGEND_LINE, TITLE, MORE_TITLE_LINES, EDITS_LINE = 0.5, 0.14, 0.55, 0.32, 0.14
TIME_WIDTH, SCORE_WIDTH = 2.1, 1.0  # of the lower part, relative
STRIP_INCHES = 3.9  # width of a panel over time once its labels stand
WIDE_STRIP_INCHES = PAGE_WIDTH - 0.8  # of one without predictions beside it
GATE, SEGMENTS = "gate", "segments"  # drawn in ways of their own: the local gates of all modalities; known spans
MAP_POINTS = 92.0  # width of a map, and so of its title
LABELS = 104  # characters of the line of labels, so that what follows them stays
TITLE_POINTS, CLIP_SHARE = 8.5, 0.3  # of the page's title; at most so much of it is the clip's name


@dataclass(frozen=True)
class TimePanel:
    """A panel over time.

    Attributes:
        name: of the variable, or `SEGMENTS`.
        chosen: labels of its dimensions, see `lines_of`.
        height: inches.
    """

    name: str
    chosen: Mapping[str, str]
    height: float


def draw(record: xr.Dataset, against: xr.Dataset | None = None, top: int = 7, layer: int | None = None) -> Figure:
    """Draw the overview of a record, or of two records of one clip.

    Visual signs. Maps: the query is the row, the key the column; dark = much weight, grey = outside the neighbourhood;
    a colour bar that ends in a point is exceeded by 1 pair in 200. Profiles: 1 = what uniform attention over the
    branch's own mask gives a frame. Sand-coloured spans are known events, named under the last panel. Green bars with a
    check mark are labels that the clip has.

    Args:
        record: of `analysis.inspect_clip`, or opened from a file; any number of modalities, any block, any parts: what
            it was made without is left out.
        against: a second model's record of the same clip: dashed lines and predictions of its own; the maps are then
            one head of each model and the difference of the two.
        top: how many predictions to show; the clip's labels that are not among them follow with their rank.
        layer: which layer of records that hold several; None: the first. The title says which.

    Returns:
        A figure of page width.

    Raises:
        RecordError: the two records are of different clips, or of different frames of it; a layer that a record does
            not hold.
    """
    whole = [record] if against is None else [record, against]
    records = [of_layer(one, layer) for one in whole]
    _check_one_clip(records)
    with use_style():
        layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.045, hspace=0.0, wspace=0.0)
        figure = StyledFigure(layout=layout)
        _draw_title(figure, records, layers_text(whole, [layer] * len(whole)))
        seen = [one for one in records if "attention" in one]
        (_draw_with_attention if seen else _draw_without_attention)(figure, records, top)
    return figure


def _draw_with_attention(figure: Figure, records: list[xr.Dataset], top: int) -> None:
    modalities = [str(name) for name in records[0]["modality"].values]
    mapped = [one for one in records if "attention" in one]
    panels = _time_panels(records, modalities, STRIP_INCHES)
    scored = [one for one in records if "score" in one]
    legend = LEGEND_AND_AXIS + (LEGEND_LINE if len(records) > 1 else 0.0)
    below = max(sum(panel.height for panel in panels) + legend if panels else 0.0, PREDICTIONS * len(scored))
    titled = MAP_ROW + (MORE_TITLE_LINES if len(mapped) > 1 else 0.0)
    rows = [titled] * len(modalities) + ([below] if below else [])
    figure.set_size_inches(PAGE_WIDTH, _title_height(records) + sum(rows))
    grid = figure.add_gridspec(len(rows), 1, height_ratios=rows)
    for row, modality in enumerate(modalities):
        _draw_maps(figure, grid[row], mapped, modality)
    if not below:
        return
    lower = grid[len(modalities)].subgridspec(1, 2, width_ratios=[TIME_WIDTH, SCORE_WIDTH])
    if panels:
        over_time = lower[0].subgridspec(len(panels), 1, height_ratios=[panel.height for panel in panels])
        _draw_time(figure, [over_time[row] for row in range(len(panels))], records, panels, STRIP_INCHES)
    _draw_scores(figure, lower[1], scored, top)


def _draw_without_attention(figure: Figure, records: list[xr.Dataset], top: int) -> None:
    """The control, or a record without maps: similarity and predictions side by side, what is over time beneath."""
    modalities = [str(name) for name in records[0]["modality"].values]
    panels = _time_panels(records, modalities, WIDE_STRIP_INCHES)
    scored = [one for one in records if "score" in one]
    alike = modalities if "similarity" in records[0] else []
    heights = [max(MAP_ROW, PREDICTIONS * len(scored)), *(panel.height for panel in panels)]
    figure.set_size_inches(PAGE_WIDTH, _title_height(records) + sum(heights) + (LEGEND_AND_AXIS if panels else 0.0))
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    upper = grid[0].subgridspec(1, len(alike) + 1, width_ratios=[1.0] * len(alike) + [1.6])
    for column, modality in enumerate(alike):
        draw_similarity(figure.add_subplot(upper[column]), records[0], modality)
    _draw_scores(figure, upper[len(alike)], scored, top)
    if panels:
        _draw_time(figure, [grid[row + 1] for row in range(len(panels))], records, panels, WIDE_STRIP_INCHES)


def _draw_maps(figure: Figure, place: SubplotSpec, records: list[xr.Dataset], modality: str) -> None:
    """Similarity, which belongs to the clip, and three heads; of two models one head each, and their difference."""
    grid = place.subgridspec(1, 4)
    if "similarity" in records[0]:
        draw_similarity(figure.add_subplot(grid[0]), records[0], modality)
    showing = [one for one in records if modality in one["modality"]]
    heads = [(one, shown) for one in showing for shown in choose_heads(one, modality)[: 3 if len(showing) == 1 else 1]]
    for column, (record, shown) in enumerate(heads, start=1):
        axes = figure.add_subplot(grid[column])
        draw_attention(axes, record, modality, shown)
        if len(showing) > 1:
            _add_to_title(axes, fit_name(_name(record), MAP_POINTS))
    if len(showing) > 1:
        axes = figure.add_subplot(grid[3])
        draw_difference(axes, showing[0], showing[1], modality)
        axes.set_title(axes.get_title().replace(modality, brief(modality)).rpartition("\n")[2])
        first, second = map(_name, showing)
        _add_to_title(axes, fit_name(first, MAP_POINTS), fit_name(f"− {second}", MAP_POINTS))


def _add_to_title(axes: Axes, *lines: str) -> None:
    axes.set_title("\n".join([*lines, axes.get_title()]))


def _time_panels(records: list[xr.Dataset], modalities: list[str], width: float) -> list[TimePanel]:
    """What the records draw over time, from the top: a panel a modality, but one of all gates; then the segments."""
    lanes = {name: lane for one in records for name, lane in record_lanes(one).items() if lane.overview}
    panels = []
    for name in sorted(lanes, key=lambda name: lanes[name].order):
        showing = [one for one in records if name in one]
        height = PROFILE_ROW if any("branch" in one[name].dims for one in showing) else LINE_ROW
        of_clip = all("modality" not in one[name].dims for one in showing)
        if name == GATE and all(_branches_of(one[name]) <= 2 for one in showing):  # the two add to 1
            panels.append(TimePanel(GATE, {}, LINE_ROW))
            continue
        for chosen in [{}] if of_clip else [{"modality": modality} for modality in modalities]:
            if any(lines_of(one, name, chosen) for one in records):
                panels.append(TimePanel(name, chosen, height))
    strip = _strip_height(records[0], place_labels(records[0], width))
    return [*panels, *([TimePanel(SEGMENTS, {}, strip)] if strip else [])]


def _branches_of(gates: xr.DataArray) -> int:
    """How many branches have gates."""
    return int(gates.notnull().any([dim for dim in gates.dims if dim != "branch"]).sum())


def _draw_time(
    figure: Figure, places: list[SubplotSpec], records: list[xr.Dataset], panels: list[TimePanel], width: float
) -> None:
    """All panels on one time axis, one under the other."""
    drawn: list[Axes] = []
    for place, panel in zip(places, panels, strict=True):
        axes = figure.add_subplot(place, sharex=drawn[0] if drawn else None)
        drawn.append(axes)
        if panel.name == SEGMENTS:
            draw_segments(axes, records[0], place_labels(records[0], width))
        elif panel.name == GATE and not panel.chosen:
            draw_gates(axes, records)
            gate_legend(axes, records, STRIP_INCHES, loc="lower right", bbox_to_anchor=(1, 1.02))
        else:
            draw_lane(axes, records, panel.name, panel.chosen, panel.height)
        if panel.name == "profile":
            _draw_gini(axes, records, panel.chosen["modality"])
    names = {panel.name for panel in panels if panel.name != SEGMENTS and (panel.name != GATE or panel.chosen)}
    lane_legend(drawn[0], records, names, STRIP_INCHES, loc="lower left", bbox_to_anchor=(0, 1.13))
    for axes in drawn[:-1]:
        axes.tick_params(labelbottom=False)
    drawn[-1].set_xlabel("time (s)", labelpad=1)


def _draw_gini(axes: Axes, records: list[xr.Dataset], modality: str) -> None:
    """Of the first model that has profiles; of two models it says which line is meant."""
    for record, line in zip(records, ("solid", "dashed"), strict=False):
        if "profile_gini" in record and modality in record["modality"]:
            values = record["profile_gini"].sel(modality=modality)
            text = ", ".join(
                f"{branch} {short_number(float(values.sel(branch=branch)))}" for branch in record["branch"].values
            )
            which = f" ({line})" if len(records) > 1 else ""
            axes.set_title(f"Gini{which}: {text}", loc="right", fontsize=6.5, pad=2)
            return


def _draw_scores(figure: Figure, place: SubplotSpec, records: list[xr.Dataset], top: int) -> None:
    """Of records that have scores; nothing where none has."""
    grid = place.subgridspec(max(len(records), 1), 1)
    for row, record in enumerate(records):
        draw_predictions(figure.add_subplot(grid[row]), record, top, f"predictions of {_name(record)}")


def _draw_title(figure: Figure, records: list[xr.Dataset], layers: str) -> None:
    first, room = records[0], 72 * PAGE_WIDTH * TITLE_SHARE
    clip = fit_name(plain(first.attrs["clip"]), CLIP_SHARE * room, TITLE_POINTS)
    seconds = f"{round(first.sizes['frame'] * first.attrs['frame_seconds'], 2):g} s{layers}"
    left = room - text_points(f"{clip}:  and , {seconds}", TITLE_POINTS)
    names = " and ".join(fit_name(_name(record), left / len(records), TITLE_POINTS) for record in records)
    lines = [f"{clip}: {names}, {seconds}", fit(f"labels: {plain(labels_text(first, LABELS))}", room, TITLE_POINTS)]
    if edits := [text for record in records for text in record_edits(record.attrs)]:
        lines.append(fit(f"edited: {plain('; '.join(edits))}", room, TITLE_POINTS))
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=TITLE_POINTS)


def _title_height(records: list[xr.Dataset]) -> float:
    """Inches of the page's title; a line more where a pass was edited."""
    return TITLE + (EDITS_LINE if any(record_edits(record.attrs) for record in records) else 0.0)


def _strip_height(record: xr.Dataset, labels: Sequence[PlacedLabel]) -> float:
    """Inches of the segments' strip; 0 without segments."""
    if "segment" not in record.dims:
        return 0.0
    return STRIP + LANE * max((label.lane + 1 for label in labels), default=0)


def _name(record: xr.Dataset) -> str:
    return model_style(str(record["model"].item())).label


def _check_one_clip(records: list[xr.Dataset]) -> None:
    for what in ("clip", "features_sha256"):
        if len(values := {one.attrs[what] for one in records}) > 1:
            raise RecordError(f"two records in one overview differ in {what}: {sorted(values)}")
    if len(frames := {one.sizes["frame"] for one in records}) > 1:
        raise RecordError(f"two records in one overview differ in frames: {sorted(frames)}")
