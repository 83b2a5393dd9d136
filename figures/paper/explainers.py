"""The explanation benchmark as a picture: every explainer by what it finds, and by what the model says of it."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.panels.common import WIDE, model_legend, videos
from figures.panels.interval_rows import draw_interval_rows
from figures.style import COLUMN_WIDTH, use_style
from figures.styled_figure import StyledFigure
from figures.texts import brief

__all__ = ["draw"]

ROW, EXTRA, LEGEND_LINE = 0.16, 0.62, 0.14  # inches
# Measure -> what its panel is called.
PANELS = {
    "evidence_auc": "ROC AUC ↑",
    "deletion_in_distribution": "deletion ↓",
    "fidelity_plus": "F-fidelity ↑",
    "randomised_similarity": "similarity ↓",
}
SMALL = 6  # points
CHANCE, RANDOM = "chance", "random"


def draw(means: xr.Dataset, width: float = COLUMN_WIDTH) -> Figure:
    """Draw the picture.

    Visual signs. A row an explainer, the best at finding the label's seconds on top; in it a marker a model, with its
    interval over videos. Panels, from the left: ROC AUC of the label's seconds; the mean probability of the class while
    frames are replaced by those of other videos, highest first; its fall without a few of the highest; how like the
    explanation stays while the model's parameters are put in random order. Arrows: which way is better. Dotted: chance,
    in all but the first panel the random explanation.

    Args:
        means: of `analysis.study.explainers.summary.benchmark_means`; attributes `videos`, `frames`, `of`.
        width: in inches.

    Returns:
        A figure of that width.
    """
    names = [str(name) for name in means["explainer"].values if str(name) != CHANCE]
    means = means.sel(explainer=names).transpose("model", "explainer", "measure")
    models = [str(name) for name in means["model"].values]
    panels = {name: text for name, text in PANELS.items() if means["mean"].sel(measure=name).notnull().any()}
    columns = 6 if width >= WIDE else 3
    height = ROW * max(1, 0.7 * len(models)) * len(names) + EXTRA + LEGEND_LINE * -(-len(models) // columns)
    with use_style():
        figure = StyledFigure(figsize=(width, height), layout="constrained")
        all_axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        rows = [brief(name.replace("-", " ")) for name in names]
        for place, (axes, (measure, label)) in enumerate(zip(all_axes, panels.items(), strict=True)):
            values, low, high = (means[end].sel(measure=measure).values for end in ("mean", "low", "high"))
            reference = 0.5 if measure == "evidence_auc" else _of_random(means, measure)
            draw_interval_rows(axes, models, rows, values, low, high, reference)
            axes.set_xlabel(label, fontsize=SMALL)
            axes.tick_params(labelsize=SMALL, labelleft=place == 0)
            if measure == "evidence_auc":
                axes.set_xlim(0, 1.02)
                axes.set_xticks([0, 0.5, 1])
            else:
                axes.locator_params(axis="x", nbins=2)
        seconds = f"{videos(means.attrs['videos'], means)}, first {means.attrs['frames']} frames"
        figure.suptitle(seconds, fontsize=SMALL)
        model_legend(figure, models, columns, lines=False, markers=True)
    return figure


def _of_random(means: xr.Dataset, measure: str) -> float:
    """Mean over models of the random explanation; NaN, which draws nothing, where it was not benchmarked."""
    if RANDOM not in means["explainer"].values:
        return float("nan")
    return float(np.nanmean(means["mean"].sel(explainer=RANDOM, measure=measure)))
