"""A sweep summed up: the scores of each model, from its rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.sweep.analyses import TOP_K
from gmsa_models.evaluation.metrics import METRICS, ClassificationMetrics

__all__ = ["classes_of", "dense_scores", "sweep_metrics", "video_scores"]

CHUNK = 4096  # videos whose predictions are spread over all classes at once


def sweep_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """GAP, MAP, PERR and Hit@1 of each model, as `evaluate` gives them.

    Args:
        table: of `read_sweep`, with `known_labels`, `top_classes`, `top_scores`, `perr` and `hit_at_1`.

    Returns:
        A row a model, in the table's order: `gap`, `map`, `perr`, `hit_at_1` as fractions, `videos` that they are of,
        and `unlabelled`, those that have no known label and count nowhere; NaN where none has one.

    Raises:
        KeyError: a column is not there.
    """
    rows = {str(name): _metrics(rows) for name, rows in table.groupby("model", sort=False, observed=True)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model").astype({"videos": int, "unlabelled": int})


def dense_scores(rows: pd.DataFrame, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels (video, class) of one model's rows; 0 for the classes that are not among a video's highest.

    Args:
        rows: with `known_labels`, `top_classes`, `top_scores`.
        classes: rising labels of the data set, those of all rows among them.
    """
    scores = np.zeros((len(rows), len(classes)), np.float32)
    labels = np.zeros((len(rows), len(classes)), bool)
    columns = (rows[name] for name in ("top_classes", "top_scores", "known_labels"))
    for row, (top, values, known) in enumerate(zip(*columns, strict=True)):
        scores[row, np.searchsorted(classes, top)] = values
        labels[row, np.searchsorted(classes, known)] = True
    return scores, labels


def classes_of(rows: pd.DataFrame) -> np.ndarray:
    """Every class that is a label or among the highest predictions of any row, rising."""
    parts = [*rows["top_classes"], *rows["known_labels"]]
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


def _metrics(rows: pd.DataFrame) -> dict[str, float]:
    """GAP and MAP use a video's 20 highest only, and those are here; PERR and Hit@1 are means over videos."""
    classes, metrics, of_videos = classes_of(rows), ClassificationMetrics(TOP_K), video_scores(rows)
    for start in range(0, len(rows), CHUNK):
        metrics.update(*dense_scores(rows.iloc[start : start + CHUNK], classes))
    scores = metrics.compute() | {name: float(of_videos[name].mean()) for name in of_videos}
    return {name: scores[name] for name in METRICS} | {"videos": metrics.videos, "unlabelled": metrics.unlabelled}


def video_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """`perr` and `hit_at_1` of each video; NaN where it has no known label (a sweep of an earlier version has 0)."""
    return rows[["perr", "hit_at_1"]].where(rows["known_labels"].map(len) > 0)
