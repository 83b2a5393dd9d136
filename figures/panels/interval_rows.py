"""Rows of a panel with one interval a model in each, one under the other: Figures 7 and 8."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from figures.style import REFERENCE, model_style, on_ground
from figures.texts import plain, shorten

__all__ = ["draw_interval_rows"]

SPREAD = 0.76  # how much of a row its models take
LONGEST_ROW = 40  # letters


def draw_interval_rows(
    axes: Axes,
    models: Sequence[str],
    rows: Sequence[str],
    values: Float[np.ndarray, "model row"],
    low: Float[np.ndarray, "model row"],
    high: Float[np.ndarray, "model row"],
    reference: float,
    line_alpha: float = 1.0,
    marker_size: float = 2.6,
) -> None:
    """A marker and an interval a model in each row, first row on top, first model on top in its row.

    Args:
        axes: where.
        models: names, for their styles.
        rows: what stands at each row.
        values: NaN: the model has no such row.
        low: lower end of the interval; NaN: none is known.
        high: upper end.
        reference: where a dotted line stands.
        line_alpha: of the intervals: less than 1 where they lie so close that they would hide the markers.
        marker_size: points.
    """
    offsets = np.linspace(-0.5, 0.5, len(models)) * SPREAD if len(models) > 1 else [0.0]
    for row in range(1, len(rows), 2):
        axes.axhspan(row - 0.5, row + 0.5, color=on_ground("#f4f4f4"), linewidth=0, zorder=0)
    axes.axvline(reference, color=on_ground(REFERENCE), linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)
    for index, name in enumerate(models):
        style, shown = model_style(name), np.isfinite(values[index])
        y = np.arange(len(rows))[shown] + offsets[index]
        ends = np.vstack([values[index] - low[index], high[index] - values[index]])[:, shown]
        known = np.isfinite(ends).all(0)
        axes.errorbar(
            values[index][shown][known], y[known], xerr=np.maximum(ends[:, known], 0), fmt="none",
            ecolor=style.colour, elinewidth=0.6, alpha=line_alpha, zorder=2,
        )  # fmt: skip
        axes.plot(
            values[index][shown], y, linestyle="none", marker=style.marker, markersize=marker_size,
            color=style.colour, gid=plain(name), zorder=3,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [shorten(plain(row), LONGEST_ROW) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
