"""Panel of predictions: the most probable classes, the clip's own labels marked, those missed with their rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from figures.style import OTHER, TRUE
from figures.time_panels import shorten

CHECK = "\N{CHECK MARK}"
LONGEST_NAME = 30


@dataclass(frozen=True)
class Prediction:
    """One class as a model sees it.

    Attributes:
        rank: 1 = the most probable.
        label: of the data set.
        name: of the class.
        score: probability.
        true: whether the clip has the label.
    """

    rank: int
    label: int
    name: str
    score: float
    true: bool


def top_predictions(record: xr.Dataset, top: int) -> list[Prediction]:
    """The `top` most probable classes, then the clip's labels that are not among them; by rank.

    Args:
        record: with `score`, `label` and class names.
        top: at least 1.

    Raises:
        ValueError: `top` below 1.
    """
    if top < 1:
        raise ValueError(f"top is {top}; expected at least 1")
    scores, true = record["score"].values, record["label"].values
    order = np.argsort(-scores, kind="stable")
    return [
        Prediction(
            rank + 1,
            int(record["class"].values[index]),
            str(record["class_name"].values[index]),
            float(scores[index]),
            bool(true[index]),
        )
        for rank, index in enumerate(order)
        if rank < top or true[index]
    ]


def draw_predictions(axes: Axes, record: xr.Dataset, top: int, title: str) -> None:
    """Bars from 0 to 1 with the class's name on each; green with a check mark = a label of the clip."""
    shown = top_predictions(record, top)
    rows = np.arange(len(shown))
    axes.barh(rows, [each.score for each in shown], 0.8, color=[TRUE if each.true else OTHER for each in shown])
    for row, each in enumerate(shown):
        rank = f" (rank {each.rank})" if each.rank > top else ""
        name = f"{CHECK} {each.name}" if each.true else each.name
        axes.text(0.015, row, shorten(name, LONGEST_NAME - len(rank)) + rank, fontsize=7, va="center")
        axes.text(1.0, row, f"{each.score:.2f}", fontsize=7, va="center", ha="right")
    axes.set_xlim(0, 1)
    axes.set_ylim(max(len(shown), top + 1) - 0.4, -0.6)
    axes.set_yticks([])
    axes.set_xlabel("probability", labelpad=1)
    axes.set_title(title)
    axes.spines["left"].set_visible(False)
