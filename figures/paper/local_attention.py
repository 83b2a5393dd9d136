"""Figure 11: when does local attention help? GAP against Baseline by task, and every seed of the first task."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.panels.common import WIDE, letter, model_legend, videos
from figures.panels.interval_rows import draw_interval_rows
from figures.style import PAGE_WIDTH, model_style, use_style
from figures.styled_figure import StyledFigure
from figures.texts import in_formula, plain

__all__ = ["draw", "draw_points", "two_panels"]

ROW, EXTRA, LEGEND_LINE, POINTS = 0.34, 0.75, 0.14, 2.2  # inches; of a row of (a), around a panel, of (b)
BASELINE = "baseline"


def draw(differences: xr.Dataset, points: xr.Dataset, width: float = PAGE_WIDTH) -> Figure:
    """Draw the figure.

    Visual signs. (a) In each row, a task, a marker a model: its GAP less Baseline's, mean over the seeds, with its 95 %
    interval over seeds and videos. Dotted: Baseline. Right of 0 local attention helps. (b) A small marker a model that
    was trained with one seed, a thin line from it to the mean of its variant, the large marker; models of one seed saw
    the training videos in one order.

    Args:
        differences: of `analysis.study.seeds.figure_tables.local_attention`.
        points: likewise.
        width: in inches; from `WIDE` on the panels stand side by side.

    Returns:
        A figure of that width.
    """
    models = [str(name) for name in differences["variant"].values]
    rows = [_row(differences.sel(task=task)) for task in differences["task"].values]
    with use_style():
        figure, left, right = two_panels(width, max(len(rows), 1) * ROW)
        value, low, high = (
            differences[name].transpose("variant", "task").values for name in ("difference", "low", "high")
        )
        draw_interval_rows(left, models, rows, value, low, high, 0.0)
        letter(left, 0, "GAP less Baseline's, by task")
        left.set_xlabel(f"points of GAP\n{_counts(differences)}")
        draw_points(right, points)
        letter(right, 1, f"every seed of task “{plain(points.attrs['task'])}”")
        across = f"mean local sensitivity $S$, $N_i$ of {in_formula(points.attrs['neighbourhood'])}"
        right.set_xlabel(f"{across}\n{in_formula(videos(points.attrs['videos'], points))}", parse_math=True)
        right.set_ylabel(f"GAP (%)\n{videos(points.attrs['scored'], points)}")
        model_legend(figure, [BASELINE, *models], 5 if width >= WIDE else 2, lines=False, markers=True)
    return figure


def _row(one: xr.Dataset) -> str:
    count = int(one["seeds"])
    return f"{one['task'].item()} ({count} seed{'' if count == 1 else 's'})"


def _counts(differences: xr.Dataset) -> str:
    counts = sorted({int(count) for count in differences["videos"].values})
    return " or ".join(f"{count:,}" for count in counts) + " held-out videos"


def two_panels(width: float, rows: float) -> tuple[StyledFigure, Axes, Axes]:
    """A figure of a panel of rows and one of points, side by side from `WIDE` on, else one below the other.

    Args:
        width: in inches.
        rows: the height of all rows, in inches.
    """
    wide = width >= WIDE
    height = max(rows, POINTS) + EXTRA if wide else rows + POINTS + 2 * EXTRA
    figure = StyledFigure(figsize=(width, height + LEGEND_LINE), layout="constrained")
    grid = {"width_ratios": (3, 2)} if wide else {"height_ratios": (rows, POINTS)}
    left, right = figure.subplots(*((1, 2) if wide else (2, 1)), squeeze=False, gridspec_kw=grid).ravel()
    return figure, left, right


def draw_points(axes: Axes, points: xr.Dataset) -> None:
    """GAP against mean S: a small marker a model, a thin line from it to the mean of its variant, the large marker.

    Args:
        axes: where.
        points: of `analysis.study.seeds.figure_tables.local_attention`.
    """
    for name in dict.fromkeys(str(each) for each in points["variant"].values):
        one, style = points.isel(point=points["variant"].values == name), model_style(name)
        x, y = one["sensitivity"].values, one["gap"].values
        centre = np.nanmean(x), np.nanmean(y)
        for across, up in zip(x, y, strict=True):
            axes.plot([centre[0], across], [centre[1], up], color=style.colour, linewidth=0.4, zorder=1)
        axes.plot(
            x, y, linestyle="none", marker=style.marker, markersize=2.4, color=style.colour, gid=f"{plain(name)} seeds"
        )
        axes.plot(*centre, linestyle="none", marker=style.marker, markersize=5.5, color=style.colour, gid=plain(name))
