"""Figure 7: which explanation finds the evidence? ROC AUC over seconds, every explanation of every model."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.panels.common import WIDE, model_legend, videos
from figures.panels.interval_rows import draw_interval_rows
from figures.style import COLUMN_WIDTH, use_style
from figures.styled_figure import StyledFigure

__all__ = ["draw"]

ROW, EXTRA, LEGEND_LINE = 0.26, 0.6, 0.14  # inches: all rows in a column of the paper
LINE_ALPHA = 0.35  # eleven intervals in a row would hide the markers, which are what is compared
CHANCE = 0.5


def draw(found: xr.Dataset, width: float = COLUMN_WIDTH) -> Figure:
    """Draw the figure.

    Visual signs. A row an explanation, the best on top (mean over models); in it a marker a model, with its interval
    (pale) over videos. x: the chance that a second that shows the label ranks above one that does not. Dotted: chance.

    Args:
        found: as saved numbers call it; `auc`, `auc_low`, `auc_high` (model, explainer); attributes `videos`,
            `frames`, `of`.
        width: in inches.

    Returns:
        A figure of that width.
    """
    order = np.argsort(-found["auc"].mean("model").values, kind="stable")
    found = found.isel(explainer=order).transpose("model", "explainer")
    models, rows = ([str(name) for name in found[axis].values] for axis in ("model", "explainer"))
    columns = 6 if width >= WIDE else 3
    height = ROW * len(rows) + EXTRA + LEGEND_LINE * -(-len(models) // columns)
    with use_style():
        figure = StyledFigure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        values, low, high = (found[name].values for name in ("auc", "auc_low", "auc_high"))
        draw_interval_rows(
            axes, models, [name.replace("-", " ") for name in rows], values, low, high, CHANCE, LINE_ALPHA
        )
        axes.set_xlim(0, 1.01)
        seconds = f"first {found.attrs['frames']} frames"
        between = ", " if width >= WIDE else "\n"
        axes.set_xlabel(f"ROC AUC of the label's seconds{between}{videos(found.attrs['videos'], found)}, {seconds}")
        model_legend(figure, models, columns, lines=False, markers=True)
    return figure
