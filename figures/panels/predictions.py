"""Panel of predictions: the most probable classes, the clip's own labels marked, those missed with their rank."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from figures.style import OTHER, TRUE, on_ground
from figures.texts import fit, fit_name, plain, short_number, text_points
from gmsa_models.data.vocabulary import unnamed_note

__all__ = [
    "CHECK",
    "Prediction",
    "draw_predictions",
    "foreign_labels",
    "labels_text",
    "predictions_note",
    "shown_rows",
    "top_predictions",
]

CHECK = "\N{CHECK MARK}"
TEXT = 7.0  # points
SCORE = "0.00"
MOST_MISSED = 16  # labels of the clip beneath the most probable classes
BASELINE, BAR, THICK = (
    0.12,
    0.4,
    0.15,
)  # from a row's middle down, in rows: of its text, and its bar and how thick it is


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
        record: with `score` and class names; without `label` no class is known to be one of the clip.
        top: at least 1.

    Raises:
        ValueError: `top` below 1.
    """
    if top < 1:
        raise ValueError(f"top is {top}; expected at least 1")
    scores = record["score"].values
    true = record["label"].values if "label" in record else np.zeros(len(scores), bool)
    order = np.argsort(-scores, kind="stable")
    return [
        Prediction(
            rank + 1,
            int(record["class"].values[index]),
            plain(record["class_name"].values[index]),
            float(scores[index]),
            bool(true[index]),
        )
        for rank, index in enumerate(order)
        if rank < top or true[index]
    ]


def foreign_labels(record: xr.Dataset) -> str:
    """What to say of labels that are of another data set than the model's classes; empty where they are not."""
    of, classes = str(record.attrs.get("dataset", "")), str(record.attrs.get("vocabulary", ""))
    if not of or not classes or of == classes or not json.loads(record.attrs["labels"]):
        return ""
    return f"labels are of {of}, the model's classes of {classes}: not compared"


def predictions_note(record: xr.Dataset) -> str:
    """What to say beside the clip's labels: that the model predicts nothing, or `foreign_labels`; empty if neither."""
    if reason := record.attrs.get("no_predictions"):
        return plain(f"no predictions: {reason}")
    return foreign_labels(record)


def labels_text(record: xr.Dataset, longest: int | None = None) -> str:
    """Names of the clip's labels in a line, and whether they are held against the model's classes.

    Args:
        record: of `analysis.inspect_clip`.
        longest: characters; of longer lines names are left out at the end. None: as long as it is.
    """
    names = "; ".join(map(str, json.loads(record.attrs["label_names"]))) or "none"
    suffix = f" ({note})" if (note := predictions_note(record)) else ""
    return (names if longest is None else textwrap.shorten(names, longest - len(suffix), placeholder=" …")) + suffix


def draw_predictions(axes: Axes, record: xr.Dataset, top: int, title: str, width_inches: float = 2.0) -> None:
    """Bars from 0 to 1 under the class's name and probability; green with a check mark = a label of the clip.

    The texts stand above the bars, never on them: they read on any ground.

    Args:
        axes: a panel of its own.
        record, top: as for `top_predictions`.
        title: of the panel.
        width_inches: of the panel; names are cut to it.
    """
    shown, more = _shown(record, top)
    rows = np.arange(len(shown))
    colours = [on_ground(TRUE if each.true else OTHER) for each in shown]
    axes.barh(rows + BAR, [min(max(each.score, 0.0), 1.0) for each in shown], THICK, color=colours)
    room = width_inches * 72 - text_points(SCORE, TEXT) - TEXT
    for row, each in enumerate(shown):
        axes.text(0.0, row + BASELINE, _name(each, top, room), fontsize=TEXT)
        axes.text(1.0, row + BASELINE, short_number(each.score), fontsize=TEXT, ha="right")
    if more:
        axes.text(0.0, len(shown) + BASELINE, f"and {more} more label{'' if more == 1 else 's'}", fontsize=TEXT)
    axes.set_xlim(0, 1)
    axes.set_ylim(max(len(shown) + bool(more), top) - 0.3, -0.6)
    axes.set_yticks([])
    note = fit(unnamed_note(each.name for each in shown), width_inches * 72, TEXT)
    axes.set_xlabel(f"probability\n{note}" if note else "probability", labelpad=1)
    axes.set_title(fit_name(title, width_inches * 72))
    axes.spines["left"].set_visible(False)


def shown_rows(record: xr.Dataset, top: int) -> int:
    """Rows of a panel of predictions."""
    shown, more = _shown(record, top)
    return len(shown) + bool(more)


def _shown(record: xr.Dataset, top: int) -> tuple[list[Prediction], int]:
    """What a panel has rows for, and how many labels of the clip are left out: a picture has no room for hundreds."""
    every = top_predictions(record, top)
    return every[: top + MOST_MISSED], max(0, len(every) - top - MOST_MISSED)


def _name(each: Prediction, top: int, points: float) -> str:
    rank = f" (rank {each.rank})" if each.rank > top else ""
    name = f"{CHECK} {each.name}" if each.true else each.name
    return fit(name, points - text_points(rank, TEXT), TEXT) + rank
