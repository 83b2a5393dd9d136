"""The inspector's view as a matplotlib figure: the same maps, scales, zoom and cursor, for print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from analysis.record.branches import branch_mask
from analysis.record.lanes import record_lanes
from analysis.record.layers import layers_text, of_layer, record_layers
from figures.inspector.choices import ALL_HEADS
from figures.inspector.records import has_values, model_name
from figures.panels.maps import QUANTILE, time_edges
from figures.panels.predictions import draw_predictions
from figures.panels.time import draw_lane, draw_segments, lane_legend, lines_of, place_labels
from figures.style import DIFFERENCE, EXCLUDED, PAGE_WIDTH, SIMILARITY, WEIGHTS, model_style, use_style
from figures.styled_figure import StyledFigure

__all__ = ["DrawnMap", "draw_view", "scaled"]

DECADES = 4  # of the log scale, as in the browser
LEFT = {  # trait `left` -> variable, title, colours
    "similarity": ("similarity", "similarity", SIMILARITY),
    "gradient": ("gradient_norm", "gradient norm", WEIGHTS),
    "gate": ("gate_map", "gate of the local branch", SIMILARITY),
}
SEGMENTS = "segments"  # stands for them among names of variables
CURSOR, PREDICTIONS = "#0a5ec2", 8
MAP_HEIGHT, LANE_HEIGHT, EXTRA, LEGEND_INCHES = 2.5, 1.0, 0.6, 3.5


@dataclass(frozen=True)
class DrawnMap:
    """Frames against frames.

    Attributes:
        title: what stands above it.
        values: (query, key), NaN where there is none; or None, and then the title says why.
        colours: name of a matplotlib colour map.
        head: from 0, or None for maps that belong to no head.
        branch: of the attention block, "" for other maps.
    """

    title: str
    values: np.ndarray | None
    colours: str
    head: int | None = None
    branch: str = ""


def draw_view(records: Sequence[xr.Dataset], view: Mapping[str, Any]) -> Figure:
    """Draw what the inspector shows: its maps with cursor and zoom, all that is drawn over time, predictions.

    Args:
        records: one a model, of one clip.
        view: the inspector's traits by name.

    Returns:
        A figure of page width in the house style, always on white.
    """
    by_name = {model_name(record): record for record in records}
    chosen = [by_name[name] for name in (view["model"], view["against"]) if name]
    layers = [view["layer"] if view.get("layer") in record_layers(one) else None for one in chosen]
    shown = [of_layer(one, layer) for one, layer in zip(chosen, layers, strict=True)]
    with use_style():
        figure = StyledFigure(layout="constrained")
        if not shown[0].sizes["frame"]:
            figure.text(0.5, 0.5, "no frames", ha="center")
            return figure
        groups = [group for group in [_left_maps(shown[0], view), *_attention_maps(shown, view)] if group]
        lanes = _lanes(shown, view)
        figure.set_size_inches(PAGE_WIDTH, MAP_HEIGHT + max(1.6, LANE_HEIGHT * len(lanes)) + EXTRA)
        grid = figure.add_gridspec(2, 1, height_ratios=[MAP_HEIGHT, max(1.6, LANE_HEIGHT * len(lanes))])
        upper = grid[0].subgridspec(1, max(1, len(groups)))
        for column, group in enumerate(groups):
            _draw_group(figure, upper[column], shown[0], group, view)
        _draw_lower(figure, grid[1], shown, lanes, view)
        names = " and ".join(model_style(model_name(record)).label for record in shown)
        title = f"{shown[0].attrs.get('clip', '')}: {names}, {view['modality']}{layers_text(chosen, layers)}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=8.5)
    return figure


def _left_maps(record: xr.Dataset, view: Mapping[str, Any]) -> list[DrawnMap]:
    name, title, colours = LEFT[view["left"]]
    if name not in record or view["modality"] not in record["modality"].values:
        return []
    return [DrawnMap(title, record[name].sel(modality=view["modality"]).values, colours)]


def _attention_maps(shown: Sequence[xr.Dataset], view: Mapping[str, Any]) -> list[list[DrawnMap]]:
    """A group of maps for each panel: one head, or all; one model, two, or their difference."""
    each = [_heads_of(record, view) for record in shown]
    if len(shown) < 2 or view["view"] == "side":
        return each
    if notes := [one for maps in each for one in maps if one.values is None]:
        return [notes[:1]]
    names = " − ".join(model_style(model_name(record)).label for record in shown)
    branches = [maps[0].branch for maps in each if maps]
    if len(set(branches)) > 1:  # weights over all frames less weights over neighbours say nothing of the models
        return [[DrawnMap(f"{names}\nno difference of {' and '.join(branches)}", None, DIFFERENCE)]]
    others = {one.head: one.values for one in each[1]}
    pairs = [(one, one.values, others.get(one.head)) for one in each[0]]
    return [
        [
            DrawnMap(f"{names}, {one.branch}", values - other, DIFFERENCE, one.head, one.branch)
            for one, values, other in pairs
            if values is not None and other is not None
        ]
    ]


def _heads_of(record: xr.Dataset, view: Mapping[str, Any]) -> list[DrawnMap]:
    """Maps of the branch that is shown, or of the model's first where it lacks that; a note where it lacks the head."""
    if "attention" not in record or view["modality"] not in record["modality"].values:
        return []
    branches = [str(name) for name in record["branch"].values]
    branch = view["branch"] if view["branch"] in branches else branches[0]
    maps = record["attention"].sel(modality=view["modality"], branch=branch)
    heads = [head for head in range(record.sizes["head"]) if view["head"] in (ALL_HEADS, head)]
    excluded = False if (mask := branch_mask(record, branch)) is None else ~mask
    title = f"{model_style(model_name(record)).label}, {branch}"
    each = {head: np.where(excluded, np.nan, maps.isel(head=head).values) for head in heads}
    weight_maps = [
        DrawnMap(title, values, WEIGHTS, head, branch) for head, values in each.items() if has_values(values)
    ]
    missing = "no maps" if view["head"] == ALL_HEADS else f"no head {view['head']}"
    return weight_maps or [DrawnMap(f"{title}\n{missing}", None, WEIGHTS)]


def _draw_group(
    figure: Figure, place: SubplotSpec, record: xr.Dataset, group: list[DrawnMap], view: Mapping[str, Any]
) -> None:
    columns = int(np.ceil(np.sqrt(len(group))))
    grid = place.subgridspec(-(-len(group) // columns), columns, wspace=0.02, hspace=0.02)
    for index, one in enumerate(group):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        if one.values is None:
            axes.set_title(one.title)
            axes.axis("off")
            continue
        image = _draw_map(axes, record, one.values, one.colours, view)
        if len(group) > 1:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title("" if one.head is None else f"head {one.head}", fontsize=6, pad=1)
            continue
        axes.set_title(one.title if one.head is None else f"{one.title}, head {one.head}")
        axes.set_xlabel("key (s)", labelpad=1)
        axes.set_ylabel("query (s)", labelpad=1)
        bar = figure.colorbar(image, ax=axes, location="bottom", fraction=0.05, aspect=24, pad=0.03)
        if isinstance(image.norm, SymLogNorm):  # its own ticks would stand on each other around 0
            bar.set_ticks([float(image.norm.vmin or 0), 0.0, float(image.norm.vmax or 0)])
            bar.set_ticklabels([f"{image.norm.vmin:.2g}", "0", f"{image.norm.vmax:.2g}"])
            bar.ax.minorticks_off()
        elif isinstance(image.norm, LogNorm):  # its own labels are formulas, and text here is never read as one
            bar.ax.xaxis.set_major_formatter("{x:g}")


def _draw_map(
    axes: Axes, record: xr.Dataset, values: np.ndarray, colours: str, view: Mapping[str, Any]
) -> mpl.image.AxesImage:
    values, norm = scaled(values, colours, "linear" if colours == SIMILARITY else view["scale"])
    edges = time_edges(record)
    image = axes.imshow(
        values,
        mpl.colormaps[colours].with_extremes(bad=EXCLUDED),
        norm=norm,
        extent=(edges[0], edges[-1], edges[-1], edges[0]),
        interpolation="nearest",
    )
    first, last = view["span"]
    axes.set_xlim(edges[first], edges[last])
    axes.set_ylim(edges[last], edges[first])
    cursor = (edges[view["frame"]] + edges[view["frame"] + 1]) / 2
    width = 1.2 if view["pinned"] else 0.6
    axes.axhline(cursor, color=CURSOR, linewidth=width, alpha=0.7)
    axes.axvline(cursor, color=CURSOR, linewidth=width, alpha=0.7)
    return image


def scaled(values: np.ndarray, colours: str, scale: str) -> tuple[np.ndarray, Normalize]:
    """Values and the norm that gives them their colours, as the browser does.

    Args:
        values: (query, key).
        colours: `SIMILARITY` and `DIFFERENCE` have scales of their own kind; all else is taken for weights.
        scale: "linear", "log", or "row": every row divided by its largest size.
    """
    if colours == SIMILARITY:
        return values, Normalize(min(0.0, float(np.nanmin(values, initial=0.0))), 1.0)
    signed = colours == DIFFERENCE
    if scale == "row":
        largest = np.nanmax(np.abs(values), axis=1, keepdims=True, initial=0.0)
        return values / np.where(largest > 0, largest, 1.0), Normalize(-1.0 if signed else 0.0, 1.0)
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    top = float(np.quantile(sizes, QUANTILE)) if sizes.size else 1.0
    if scale == "log":
        least = top * 10.0**-DECADES
        return values, SymLogNorm(least, vmin=-top, vmax=top) if signed else LogNorm(least, top, clip=True)
    return values, Normalize(-top if signed else 0.0, top)


def _lanes(shown: Sequence[xr.Dataset], view: Mapping[str, Any]) -> list[str]:
    """Names of the variables over time that have a line in the view, from the top; then `SEGMENTS`."""
    lanes = {name: lane for record in shown for name, lane in record_lanes(record).items()}
    ordered = sorted(lanes, key=lambda name: lanes[name].order)
    seen = [name for name in ordered if any(lines_of(record, name, _chosen(view)) for record in shown)]
    return [*seen, SEGMENTS] if "segment" in shown[0].dims else seen


def _chosen(view: Mapping[str, Any]) -> dict[str, str]:
    """Label of each dimension of which one is shown."""
    head = {} if view["head"] == ALL_HEADS else {"head": str(view["head"])}
    return {"modality": view["modality"], "explainer": view["explanation"]} | head


def _draw_lower(
    figure: Figure, place: SubplotSpec, shown: Sequence[xr.Dataset], lanes: list[str], view: Mapping[str, Any]
) -> None:
    lower = place.subgridspec(1, 2, width_ratios=[2.1, 1.0])
    grid = lower[0].subgridspec(max(1, len(lanes)), 1)
    edges = time_edges(shown[0])
    first, last = view["span"]
    legend = next((lane for lane in lanes if any(lane in one and "branch" in one[lane].dims for one in shown)), None)
    for row, lane in enumerate(lanes):
        axes = figure.add_subplot(grid[row])
        _draw_lane(axes, lane, shown, view)
        if lane == legend:
            lane_legend(axes, shown, lanes, LEGEND_INCHES, loc="upper right")
        axes.axvline((edges[view["frame"]] + edges[view["frame"] + 1]) / 2, color=CURSOR, linewidth=0.8)
        axes.set_xlim(edges[first], edges[last])
        axes.tick_params(labelbottom=row == len(lanes) - 1)
        if row == len(lanes) - 1:
            axes.set_xlabel("time (s)", labelpad=1)
    if "score" in shown[0]:
        title = f"predictions of {model_style(model_name(shown[0])).label}"
        draw_predictions(figure.add_subplot(lower[1]), shown[0], PREDICTIONS, title)


def _draw_lane(axes: Axes, lane: str, shown: Sequence[xr.Dataset], view: Mapping[str, Any]) -> None:
    if lane == SEGMENTS:
        draw_segments(axes, shown[0], place_labels(shown[0], PAGE_WIDTH * 0.6))
        return
    draw_lane(axes, shown, lane, _chosen(view), LANE_HEIGHT)
    if any("explainer" in one[lane].dims for one in shown if lane in one):
        explained = [str(one[lane].attrs.get("class_name", "")) for one in shown if lane in one]
        classes = " and ".join(name for name in dict.fromkeys(explained) if name)
        title = f"{view['explanation']} of {classes}" if classes else view["explanation"]
        axes.set_title(title, loc="left", fontsize=6, pad=1)
