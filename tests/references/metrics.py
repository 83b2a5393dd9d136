"""Scores of the YouTube-8M starter code, one prediction at a time, for scores without ties."""

from __future__ import annotations

import numpy as np


def highest(scores: np.ndarray, count: int) -> list[int]:
    """Classes of the highest scores of one video, best first; ties to the class that comes first."""
    return sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:count]


def average_precision(predictions: list[tuple[float, bool]], positives: int) -> float:
    """Mean over the `positives` true labels of the precision at the rank where each is found; 0 if it never is."""
    total, found = 0.0, 0
    for rank, (_, true) in enumerate(sorted(predictions, key=lambda pair: -pair[0]), start=1):
        if true:
            found += 1
            total += found / rank
    return total / positives if positives else 0.0


def slow_metrics(scores: np.ndarray, labels: np.ndarray, top_k: int | None) -> dict[str, float]:
    """GAP, MAP, PERR and Hit@1 by their definitions, of the videos that have a label; NaN where none has one."""
    scores, labels = scores[labels.any(1)], labels[labels.any(1)]
    if not len(scores):
        return dict.fromkeys(("gap", "map", "perr", "hit_at_1"), float("nan"))
    videos, classes = scores.shape
    by_class: dict[int, list[tuple[float, bool]]] = {column: [] for column in range(classes)}
    perr, hits = [], []
    for row in range(videos):
        for column in highest(scores[row], top_k or classes):
            by_class[column].append((scores[row, column], bool(labels[row, column])))
        wanted = int(labels[row].sum())
        found = [labels[row, column] for column in highest(scores[row], wanted) if scores[row, column] > 0]
        perr.append(sum(found) / wanted)
        hits.append(bool(labels[row, highest(scores[row], 1)[0]]))
    pooled = [pair for pairs in by_class.values() for pair in pairs]
    each = [average_precision(by_class[c], int(labels[:, c].sum())) for c in range(classes) if labels[:, c].any()]
    return {
        "gap": average_precision(pooled, int(labels.sum())),
        "map": float(np.mean(each)),
        "perr": float(np.mean(perr)),
        "hit_at_1": float(np.mean(hits)),
    }
