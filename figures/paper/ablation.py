"""Figure 8: what is each branch and each head worth? GAP lost when it hands on only its mean."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures.panels.common import WIDE, letter, model_legend, videos
from figures.panels.interval_rows import draw_interval_rows
from figures.style import PAGE_WIDTH, use_style
from figures.styled_figure import StyledFigure
from figures.texts import brief

__all__ = ["draw"]

ROW, EXTRA, LEGEND_LINE = 0.42, 0.55, 0.14  # inches


def draw(costs: xr.Dataset, width: float = PAGE_WIDTH) -> Figure:
    """Draw the figure.

    Visual signs. A panel a modality, a row a branch or head; in it a marker a model, with its interval over videos.
    x: GAP of the model less GAP when that part hands on its mean over all frames of all videos. Dotted: no loss. A head
    of GateAtt and GateOp has both branches; ShareAtt's first heads are global, its last local.

    Args:
        costs: `cost`, `low`, `high` (model, modality, part), points of percent; attributes `videos`, `of`.
        width: in inches; from `WIDE` on the panels stand side by side.

    Returns:
        A figure of that width.
    """
    costs = costs.transpose("modality", "model", "part")
    models, rows = ([str(name) for name in costs[axis].values] for axis in ("model", "part"))
    modalities = [str(name) for name in costs["modality"].values]
    wide = width >= WIDE
    shape = (1, len(modalities)) if wide else (len(modalities), 1)
    columns = 5 if wide else 3
    height = shape[0] * (ROW * len(rows) + 0.3) + EXTRA + LEGEND_LINE * -(-len(models) // columns)
    with use_style():
        figure = StyledFigure(figsize=(width, height), layout="constrained")
        panels = figure.subplots(*shape, squeeze=False, sharex=True).ravel()
        for place, (axes, modality) in enumerate(zip(panels, modalities, strict=True)):
            one = costs.sel(modality=modality)
            values, low, high = (one[name].values for name in ("cost", "low", "high"))
            draw_interval_rows(axes, models, rows, values, low, high, 0.0)
            letter(axes, place, brief(modality))
            axes.tick_params(labelleft=not wide or place == 0)
            if wide or place == len(modalities) - 1:
                axes.set_xlabel(f"GAP lost (points), {videos(costs.attrs['videos'], costs)}")
        model_legend(figure, models, columns, lines=False, markers=True)
    return figure
