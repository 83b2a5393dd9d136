"""Figure 9: what does knocking out each branch, and each window of it, do to a label's logit?"""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure

from figures.panels.common import WIDE, letter, model_legend, videos
from figures.panels.interval_rows import draw_interval_rows
from figures.style import PAGE_WIDTH, use_style
from figures.styled_figure import StyledFigure

__all__ = ["draw"]

ROW, EXTRA, LEGEND_LINE = 0.42, 0.55, 0.14  # inches
CHANGE = "change of the label's logit"
TITLES = {"branch": "a branch is out", "window": "10 s of a branch are out", "local": "the local branch is out"}


def draw(effects: xr.Dataset, width: float = PAGE_WIDTH) -> Figure:
    """Draw the figure.

    Visual signs. In each row a marker a model, with its interval over videos. x: the logit of a label after a
    knock-out less before, summed over the modalities; below 0, what was knocked out spoke for the label. Dotted: no
    change. (a) a branch attends to nothing; (b) nothing attends to 10 s in that branch, which show the label or do not;
    (c) the local branch attends to nothing, in videos whose label's seconds receive less global attention than uniform
    attention would give them ("missed"), and in the others ("found").

    Args:
        effects: `effect`, `low`, `high` (model, row), logits; along `row` its text and its `panel`; attributes
            `videos`, `frames`, `of`.
        width: in inches; from `WIDE` on the panels stand side by side.

    Returns:
        A figure of that width.
    """
    effects = effects.transpose("model", "row")
    models = [str(name) for name in effects["model"].values]
    panels = {name: effects.isel(row=effects["panel"].values == name) for name in TITLES}
    wide = width >= WIDE
    columns = 5 if wide else 3
    counts = [panel.sizes["row"] for panel in panels.values()]
    rows = max(counts) if wide else sum(counts)
    about = f"{videos(effects.attrs['videos'], effects)}, first {effects.attrs['frames']} frames"
    height = ROW * rows + EXTRA * (1 if wide else len(panels)) + LEGEND_LINE * -(-len(models) // columns)
    with use_style():
        figure = StyledFigure(figsize=(width, height), layout="constrained")
        grid = {"height_ratios": counts} if not wide else {}
        shape = (1, len(panels)) if wide else (len(panels), 1)
        axes = figure.subplots(*shape, squeeze=False, gridspec_kw=grid).ravel()
        for place, (each, (name, panel)) in enumerate(zip(axes, panels.items(), strict=True)):
            texts = [str(text) for text in panel["row"].values]
            values, low, high = (panel[end].values for end in ("effect", "low", "high"))
            draw_interval_rows(each, models, texts, values, low, high, 0.0)
            letter(each, place, TITLES[name])
            each.set_xlabel(f"{CHANGE}\n{about}" if place == (1 if wide else 2) else CHANGE if wide else "")
        model_legend(figure, models, columns, lines=False, markers=True)
    return figure
