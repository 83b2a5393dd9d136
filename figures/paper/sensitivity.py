"""Figure 4: how local each model is over the frames of a video: S_i of equation 10."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.panels.common import WIDE, draw_model_curve, letter, model_legend, videos
from figures.style import PAGE_WIDTH, REFERENCE, on_ground, use_style
from figures.styled_figure import StyledFigure
from figures.texts import brief, in_formula
from gmsa_models.errors import ArgumentError

__all__ = ["draw"]

PANEL, TITLE_LINE, EXTRA, LEGEND_LINE, LEGEND_COLUMNS = 1.45, 0.13, 0.45, 0.14, {True: 5, False: 3}
FAMILIES = {"share-att": "ShareAtt", "gate-att": "GateAtt", "gate-op": "GateOp"}
NEEDED = ("shared", "shared_low", "shared_high", "kind")


def draw(curves: xr.Dataset, width: float = PAGE_WIDTH) -> Figure:
    """Draw the figure: a panel a family of models and kind of neighbourhood.

    Visual signs. A curve a model: S_i, mean over videos; band: its bootstrap interval over videos. Above 0.5 (grey
    line) an output frame reacts more to a frame of its neighbourhood than to one outside. "N_i of ... for all": one
    neighbourhood for all models, so that they compare; Baseline is repeated in each panel. "Own N_i": each model's
    own neighbourhood; Baseline has none.

    Args:
        curves: `shared`, `own` with `_low` and `_high` (model, frame) and `kind` (model), the attention block; `frame`
            in seconds; attributes `videos`, `neighbourhood`, `modality`.
        width: in inches; from `WIDE` on a family is a column, below it a row.

    Returns:
        A figure of that width.

    Raises:
        ArgumentError: a variable is missing.
    """
    if missing := [name for name in NEEDED if name not in curves.variables]:
        raise ArgumentError(f"the table lacks {', '.join(missing)}; it has {', '.join(map(str, curves.variables))}")
    names = [str(name) for name in curves["model"].values]
    panels, wide = panel_models(curves), width >= WIDE
    families, kinds = list(dict.fromkeys(each[0] for each in panels)), list(dict.fromkeys(each[1] for each in panels))
    rows, columns = (kinds, families) if wide else (families, kinds)
    lines = -(-len(names) // LEGEND_COLUMNS[wide])
    with use_style():
        height = len(rows) * (PANEL if wide else PANEL + TITLE_LINE) + EXTRA + LEGEND_LINE * lines
        figure = StyledFigure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey=True)
        for place, ((family, kind), models) in enumerate(panels.items()):
            at = (kinds.index(kind), families.index(family))
            _draw_panel(grid[at if wide else at[::-1]], curves, kind, models)
            title = _title(curves, family, kind, " " if wide else "\n")
            letter(grid[at if wide else at[::-1]], place, title, formula=True)
        for axes in grid[:, 0]:
            axes.set_ylabel("local sensitivity $S_i$", parse_math=True)
        for axes in grid[-1]:
            axes.set_xlabel("time (s)")
        model_legend(figure, names, LEGEND_COLUMNS[wide])
        sample = f"{brief(curves.attrs['modality'])} features, {videos(curves.attrs['videos'], curves)}"
        figure.suptitle(sample, x=0.01, ha="left", fontsize=7.5)
    return figure


def panel_models(curves: xr.Dataset) -> dict[tuple[str, str], list[str]]:
    """(family, "shared" or "own") -> the models of that panel, row after row; Baseline is in every shared one."""
    kind_of = dict(zip(curves["model"].values.tolist(), curves["kind"].values.tolist(), strict=True))
    others = [kind for kind in dict.fromkeys(kind_of.values()) if kind != "baseline"] or ["baseline"]
    panels = {(family, "shared"): [n for n in kind_of if kind_of[n] in ("baseline", family)] for family in others}
    if "own" not in curves:
        return panels
    showing = [str(name) for name in curves["model"].values if bool(curves["own"].sel(model=name).notnull().any())]
    own = {(family, "own"): [name for name in showing if kind_of[name] == family] for family in others}
    return panels | {key: models for key, models in own.items() if models}


def _title(curves: xr.Dataset, family: str, kind: str, between: str) -> str:
    which = f"$N_i$ of {in_formula(curves.attrs['neighbourhood'])} for all" if kind == "shared" else "own $N_i$"
    return f"{FAMILIES.get(family, in_formula(family))},{between}{which}"


def _draw_panel(axes: Axes, curves: xr.Dataset, kind: str, models: Sequence[str]) -> None:
    axes.axhline(0.5, color=on_ground(REFERENCE), linewidth=0.6, zorder=1)
    for name in models:
        one = curves.sel(model=name)
        y, low, high = (one[part].transpose("frame").values for part in (kind, f"{kind}_low", f"{kind}_high"))
        draw_model_curve(axes, name, curves["frame"].values, y, low, high)
    frames = curves["frame"].values
    axes.set_xlim(float(np.min(frames)), float(np.max(frames)))
