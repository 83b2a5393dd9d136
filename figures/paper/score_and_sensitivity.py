"""Figure 5: do models that react more to neighbouring frames score better? GAP against mean S over the models."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.panels.common import WIDE, letter, model_legend, videos
from figures.style import PAGE_WIDTH, model_style, use_style
from figures.styled_figure import StyledFigure
from figures.texts import in_formula, plain

__all__ = ["draw"]

PANEL, LEGEND_LINE, LEGEND_COLUMNS = 2.0, 0.14, {True: 5, False: 3}


def draw(table: xr.Dataset, width: float = PAGE_WIDTH) -> Figure:
    """Draw the figure.

    Visual signs. A marker a model, with its intervals over videos on both axes. (a): S by the same neighbourhood for
    all models; (b): by each model's own. Above Spearman's rank correlation of the means of
    families, its interval where there are enough, and its permutation p.

    Args:
        table: `gap`, `shared`, `own`, each with `_low` and `_high` (model); attributes `shared_rho` and so on.
        width: in inches; from `WIDE` on the panels stand side by side.

    Returns:
        A figure of that width.
    """
    names = [str(name) for name in table["model"].values]
    kinds = [kind for kind in ("shared", "own") if bool(table[kind].notnull().any())]
    wide, between = width >= WIDE, " " if width >= WIDE else "\n"
    rows, columns = (1, len(kinds)) if wide else (len(kinds), 1)
    lines = -(-len(names) // LEGEND_COLUMNS[wide])
    with use_style():
        figure = StyledFigure(figsize=(width, rows * PANEL + 0.15 + LEGEND_LINE * lines), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for place, (axes, kind) in enumerate(zip(panels, kinds, strict=True)):
            _draw_panel(axes, table, kind)
            which = f"$N_i$ of {in_formula(table.attrs['neighbourhood'])} for all" if kind == "shared" else "own $N_i$"
            letter(axes, place, f"{which};{between}{correlation_text(table, kind)}", formula=True)
            across = f"mean local sensitivity $S$, {in_formula(videos(table.attrs['videos'], table))}"
            axes.set_xlabel(across if wide or place == len(kinds) - 1 else "", parse_math=True)
            axes.set_ylabel(f"GAP (%)\n{videos(table.attrs['scored'], table)}" if not wide or place == 0 else "")
        model_legend(figure, names, LEGEND_COLUMNS[wide], lines=False, markers=True)
    return figure


def correlation_text(table: xr.Dataset, kind: str) -> str:
    """Rank correlation with its interval and p; says so where there are too few models."""
    value = {name: float(table.attrs[f"{kind}_{name}"]) for name in ("rho", "low", "high", "p_value")}
    families = table.attrs.get(f"{kind}_families")  # None in a table of an earlier version
    if families == 0:
        return "families of the models not known"
    units = f"{int(table.attrs[f'{kind}_models'])} models" if families is None else f"{int(families)} families"
    if np.isnan(value["rho"]):
        return f"{units}: too few to correlate"
    ends = "" if np.isnan(value["low"]) else f" [{value['low']:.2f}, {value['high']:.2f}]"
    of = "" if families is None else f" of {units}"
    return f"ρ{of} = {value['rho']:.2f}{ends}, p = {value['p_value']:.2g}".replace("-", "−")


def _draw_panel(axes: Axes, table: xr.Dataset, kind: str) -> None:
    for name in table["model"].values:
        one, style = table.sel(model=name), model_style(str(name))
        x, y = float(one[kind]), float(one["gap"])
        if np.isnan(x):
            continue
        axes.errorbar(
            x, y, xerr=_reach(one, kind), yerr=_reach(one, "gap"), fmt=style.marker, color=style.colour,
            markersize=4.5, elinewidth=0.6, label=style.label, gid=plain(name),
        )  # fmt: skip


def _reach(one: xr.Dataset, name: str) -> np.ndarray | None:
    low, high = float(one[f"{name}_low"]), float(one[f"{name}_high"])
    if np.isnan(low):
        return None
    value = float(one[name])
    return np.maximum([[value - low], [high - value]], 0.0)
