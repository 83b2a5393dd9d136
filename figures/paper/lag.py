"""Figure 6: how far attention and gradients reach: their mass against the lag between the two frames."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.panels.common import WIDE, draw_model_curve, letter, model_legend, videos
from figures.style import PAGE_WIDTH, REFERENCE, on_ground, use_style
from figures.styled_figure import StyledFigure
from figures.texts import brief

__all__ = ["draw"]

PANEL, LEGEND_LINE, LEGEND_COLUMNS = 2.1, 0.14, {True: 6, False: 3}
KINDS = {"attention": "attention mass", "gradient": "gradient mass"}


def draw(masses: xr.Dataset, width: float = PAGE_WIDTH) -> Figure:
    """Draw the figure.

    Visual signs. A curve a model: the share of all attention (a) or of all gradient norm (b) that lies between frames
    at most so many seconds apart, mean over videos. Grey: a map that is even over all pairs. A curve above another
    is more local.

    Args:
        masses: `attention`, `gradient` (model, lag) and `uniform` (lag), shares of 1 at each lag; `lag` in seconds;
            attributes `videos`, `modality`.
        width: in inches; from `WIDE` on the panels stand side by side.

    Returns:
        A figure of that width.
    """
    names = [str(name) for name in masses["model"].values]
    wide = width >= WIDE
    rows, columns = (1, len(KINDS)) if wide else (len(KINDS), 1)
    lines = -(-(len(names) + 1) // LEGEND_COLUMNS[wide])
    with use_style():
        figure = StyledFigure(figsize=(width, rows * PANEL + 0.1 + LEGEND_LINE * lines), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for place, (axes, kind) in enumerate(zip(panels, KINDS, strict=True)):
            _draw_panel(axes, masses, kind)
            modality, sample = brief(masses.attrs["modality"]), videos(masses.attrs["videos"], masses)
            letter(axes, place, f"{KINDS[kind]}, {modality}, {sample}")
            axes.set_xlabel("lag between query and key, at most (s)" if wide or place == len(KINDS) - 1 else "")
            axes.set_ylabel("share of all mass" if not wide or place == 0 else "")
        model_legend(figure, names, LEGEND_COLUMNS[wide], reference="even over all pairs")
    return figure


def _draw_panel(axes: Axes, masses: xr.Dataset, kind: str) -> None:
    lag = masses["lag"].values
    axes.plot(
        lag, np.cumsum(masses["uniform"].values), color=on_ground(REFERENCE), linewidth=0.8, gid="uniform", zorder=1
    )
    for name in masses["model"].values:
        values = masses[kind].sel(model=name).values
        draw_model_curve(axes, str(name), lag, np.cumsum(values))
    axes.set_xscale("symlog", linthresh=1.0, linscale=0.5)
    ticks = [tick for tick in (0, 1, 3, 10, 30, 100, 300) if tick <= lag.max()]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(0, lag.max())
    axes.set_ylim(0, 1)
