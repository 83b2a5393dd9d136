"""Figure 10: what are the vertical lines of each head, and what do the gates do there?"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.statistics.line_verdicts import BROADCAST, NO_OP, NO_OP_SINK, SALIENT, SHARED, UNDECIDED
from figures.panels.common import WIDE, fitted_legend, letter, videos
from figures.style import PAGE_WIDTH, REFERENCE, model_style, on_ground, use_style
from figures.styled_figure import StyledFigure
from figures.texts import plain, shorten

__all__ = ["draw"]

ROW, EXTRA, LEGEND = 0.42, 0.62, 0.3  # inches
SPREAD = 0.8  # how much of a row its heads take
# Kind of line -> its colour; kinds differ in lightness.
KINDS = {SALIENT: "#14694a", BROADCAST: "#bc8a00", NO_OP_SINK: "#5b2a86", UNDECIDED: "#7a7a7a"}
LONGEST_NAME = 24  # letters
MARKERS = ("o", "s", "^", "D")  # of modalities, in their order


def draw(lines: xr.Dataset, width: float = PAGE_WIDTH) -> Figure:
    """Draw the figure.

    Visual signs. A row a model; in (a) and (b) a marker a head of the global branch that has lines, with its 95 %
    interval over videos, in the colour of its verdict; modalities differ in marker. (a) the norm of the values at the
    lines by the median frame's: left of the dotted line attention is parked, a no-op sink. (b) how much of these values
    all videos share: right of it a broadcast sink, left of it a salient frame. (c) the local gate at the lines less
    elsewhere, mean of the heads, in models with gates: right of 0 the model turns to its neighbourhood there.

    Args:
        lines: of `analysis.study.lines.line_table`; attributes `videos`, `frames`, `of`.
        width: in inches; from `WIDE` on the panels stand side by side.

    Returns:
        A figure of that width.
    """
    models = [str(name) for name in lines["model"].values]
    wide = width >= WIDE
    height = (ROW * len(models) + EXTRA) * (1 if wide else 3) + LEGEND
    about = f"{videos(lines.attrs['videos'], lines)}, first {lines.attrs['frames']} frames"
    with use_style():
        figure = StyledFigure(figsize=(width, height), layout="constrained")
        panels = figure.subplots(*((1, 3) if wide else (3, 1)), sharey=wide).ravel()
        _draw_heads(panels[0], lines, "norm_ratio", NO_OP)
        _draw_heads(panels[1], lines, "shared", SHARED)
        _draw_gates(panels[2], lines)
        for place, (axes, title, label) in enumerate(zip(
            panels, ("values at the lines", "shared by all videos", "gate at the lines"),
            ("norm, by the median frame's", "share of the values", "local gate, less elsewhere"), strict=True,
        )):  # fmt: skip
            letter(axes, place, title)
            axes.set_xlabel(f"{label}\n{about}" if place == (1 if wide else 2) else label)
            names = [shorten(model_style(name).label, LONGEST_NAME) for name in models]
            axes.set_yticks(range(len(models)), names)
            axes.tick_params(axis="y", length=0, labelleft=place == 0 or not wide)
            axes.set_ylim(len(models) - 0.5, -0.5)
            axes.locator_params(axis="x", nbins=5)
        fitted_legend(figure, _handles(lines), 3 if wide else 2, width, loc="outside lower center")
    return figure


def _draw_heads(axes: Axes, lines: xr.Dataset, name: str, limit: float) -> None:
    """Intervals of all heads, one under the other within the row of their model."""
    _draw_ground(axes, lines.sizes["model"], limit)
    places = [(modality, head) for modality in range(lines.sizes["modality"]) for head in range(lines.sizes["head"])]
    offsets = np.linspace(-0.5, 0.5, len(places)) * SPREAD
    arrays = {end: lines[f"{name}{end}"].transpose("model", "modality", "head").values for end in ("", "_low", "_high")}
    verdicts = lines["verdict"].transpose("model", "modality", "head").values
    for (modality, head), offset in zip(places, offsets, strict=True):
        value, low, high = (each[:, modality, head] for each in arrays.values())
        for kind, colour in KINDS.items():
            shown = np.isfinite(value) & (verdicts[:, modality, head] == kind)
            if shown.any():
                y = np.arange(len(value))[shown] + offset
                _draw_intervals(
                    axes, value[shown], low[shown], high[shown], y, colour, MARKERS[modality % len(MARKERS)]
                )
                axes.lines[-1].set_gid(f"{plain(kind)} {modality} {head}")


def _draw_gates(axes: Axes, lines: xr.Dataset) -> None:
    _draw_ground(axes, lines.sizes["model"], 0.0)
    count = lines.sizes["modality"]
    for modality, offset in enumerate(np.linspace(-0.25, 0.25, count) if count > 1 else [0.0]):
        value, low, high = (lines[f"gate{end}"].isel(modality=modality).values for end in ("", "_low", "_high"))
        shown = np.isfinite(value)
        if shown.any():
            y = np.arange(len(value))[shown] + offset
            marker = MARKERS[modality % len(MARKERS)]
            _draw_intervals(axes, value[shown], low[shown], high[shown], y, "#444444", marker)
            axes.lines[-1].set_gid(f"gate {modality}")


def _draw_ground(axes: Axes, rows: int, reference: float) -> None:
    for row in range(1, rows, 2):
        axes.axhspan(row - 0.5, row + 0.5, color=on_ground("#f4f4f4"), linewidth=0, zorder=0)
    axes.axvline(reference, color=on_ground(REFERENCE), linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)


def _draw_intervals(
    axes: Axes, value: np.ndarray, low: np.ndarray, high: np.ndarray, y: np.ndarray, colour: str, marker: str
) -> None:
    colour, known = on_ground(colour), np.isfinite(low) & np.isfinite(high)
    axes.hlines(y[known], low[known], high[known], colors=colour, linewidth=0.6, zorder=2)
    axes.plot(value, y, linestyle="none", marker=marker, markersize=2.4, color=colour, zorder=3)


def _handles(lines: xr.Dataset) -> list[Line2D]:
    present = set(lines["verdict"].values.ravel().tolist())
    kinds = [(kind, colour, "o") for kind, colour in KINDS.items() if kind in present]
    modalities = [
        (plain(str(name)), "#444444", MARKERS[place % len(MARKERS)])
        for place, name in enumerate(lines["modality"].values)
    ]
    return [
        Line2D([], [], linestyle="none", marker=marker, markersize=4, color=on_ground(colour), label=text)
        for text, colour, marker in (*kinds, *modalities)
    ]
