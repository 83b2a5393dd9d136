"""GAP, MAP, PERR and Hit@1 of resampled videos: what bootstrap intervals of the scores are made of.

A resampled data set holds some videos several times. Rather than rank its predictions anew each time, they are ranked
once and counted: a true prediction that stands w times after P true ones among N adds
sum_{k=1..w} (P + k) / (N + k) = w + (P - N) (H_{N+w} - H_N) to the sum of precisions, H the harmonic numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from gmsa_models.metrics import MetricsError

METRICS = ("gap", "map", "perr", "hit_at_1")
CHUNK = 100

Scores = Float[np.ndarray, "videos classes"]
Labels = Bool[np.ndarray, "videos classes"]
Counts = Int[np.ndarray, "resamples drawn"]


def resampled_metrics(
    scores: Scores, labels: Labels, counts: Counts, top_k: int | None = 20, metrics: Sequence[str] = METRICS
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """The scores of every resampled data set, as `classification_metrics` of its repeated rows would give them.

    Args:
        scores: probabilities in [0, 1].
        labels: True where the video has the label.
        counts: how often each video stands in each data set; of `statistics.resample_counts`.
        top_k: predictions a video that GAP and MAP use; None: all.
        metrics: which of `METRICS`.

    Returns:
        A value a resample for each of `metrics`. Predictions of equal score of different videos stand in the order of
        the videos, where `classification_metrics` takes the mean over orders.

    Raises:
        MetricsError: shapes that do not fit, or an unknown metric.
    """
    if unknown := [name for name in metrics if name not in METRICS]:
        raise MetricsError(f"unknown metric {unknown[0]!r}; known: {', '.join(METRICS)}")
    if scores.shape != labels.shape or counts.shape[1] != len(scores):
        raise MetricsError(f"scores {scores.shape}, labels {labels.shape}, counts {counts.shape} do not fit together")
    ranking = np.argsort(-scores, axis=1, kind="stable")
    kept = ranking[:, :top_k]
    video = np.repeat(np.arange(len(scores)), kept.shape[1])
    values = np.take_along_axis(scores, kept, 1).ravel()
    truths = np.take_along_axis(labels, kept, 1).ravel()
    groups = kept.ravel()
    totals = counts.sum(1)
    compute = {
        "gap": lambda: _pooled(values, truths, video, labels, counts),
        "map": lambda: _class_mean(values, truths, groups, video, labels, counts),
        "perr": lambda: counts @ _video_perr(scores, labels, ranking) / totals,
        "hit_at_1": lambda: counts @ _video_hit(labels, ranking) / totals,
    }
    return {name: compute[name]() for name in metrics}


def video_metrics(scores: Scores, labels: Bool[np.ndarray, "rows columns"]) -> dict[str, Float[np.ndarray, " videos"]]:
    """The scores that are means over videos, video by video: `perr` and `hit_at_1`.

    Args:
        scores: probabilities in [0, 1].
        labels: True where the video has the label.

    Returns:
        In [0, 1], higher better; their means are those of `classification_metrics`.

    Raises:
        MetricsError: shapes that differ.
    """
    if scores.shape != labels.shape:
        raise MetricsError(f"scores {scores.shape} and labels {labels.shape}; expected one shape")
    ranking = np.argsort(-scores, axis=1, kind="stable")
    return {"perr": _video_perr(scores, labels, ranking), "hit_at_1": _video_hit(labels, ranking)}


def _pooled(
    values: np.ndarray, truths: np.ndarray, video: np.ndarray, labels: Labels, counts: Counts
) -> Float[np.ndarray, " resamples"]:
    order = np.argsort(-values, kind="stable")
    truths, video = truths[order], video[order]
    starts = np.zeros(len(order), np.int64)
    sums = [_precisions(part, truths, video, starts).sum(0) for part in _parts(counts)]
    return np.concatenate(sums) / np.maximum(counts @ labels.sum(1), 1)


def _class_mean(
    values: np.ndarray, truths: np.ndarray, groups: np.ndarray, video: np.ndarray, labels: Labels, counts: Counts
) -> Float[np.ndarray, " resamples"]:
    order = np.lexsort((-values, groups))
    truths, groups, video = truths[order], groups[order], video[order]
    starts = np.searchsorted(groups, groups)
    # Sparse: most classes have few videos, and few predictions are true.
    of_class = csr_array(labels.T.astype(np.int32))
    rows = groups[truths]
    of_true = csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))), (labels.shape[1], len(rows)))
    means = []
    for part in _parts(counts):
        positives = of_class @ np.ascontiguousarray(part.T)
        average = of_true @ _precisions(part, truths, video, starts) / np.maximum(positives, 1)
        means.append(average.sum(0) / np.maximum((positives > 0).sum(0), 1))
    return np.concatenate(means)


def _precisions(
    counts: Counts, truths: np.ndarray, video: np.ndarray, starts: np.ndarray
) -> Float[np.ndarray, "true resamples"]:
    """What each true prediction adds to the sum of precisions of its group; predictions in the order of their groups.

    Args:
        starts: where the group of each prediction begins.
    """
    (places,) = np.nonzero(truths)
    if not len(places):
        return np.zeros((0, len(counts)))
    # Sums are wanted at the true predictions and where their groups begin only.
    stops = np.union1d(places, starts[places])
    weights = np.ascontiguousarray(counts.T, np.int32)
    seen = np.cumsum(_between(stops, video, len(weights)) @ weights, axis=0, dtype=np.int32)
    own = weights[video[places]]
    true_seen = np.cumsum(own, axis=0, dtype=np.int32) - own
    # Before a place: all predictions up to it less those up to its group's beginning; likewise the true ones.
    first = np.searchsorted(places, starts[places])
    before = seen[np.searchsorted(stops, places)] - seen[np.searchsorted(stops, starts[places])]
    true_before = true_seen - true_seen[first]
    harmonic = np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, int((before + own).max()) + 1))))
    return own + (true_before - before) * (harmonic[before + own] - harmonic[before])


def _between(stops: Int[np.ndarray, " stops"], video: np.ndarray, videos: int) -> csr_array:
    """How many predictions of each video stand before each stop and not before the last one: (stops, videos)."""
    video = video[: stops[-1]]
    rows = np.searchsorted(stops, np.arange(len(video)), side="right")
    return csr_array((np.ones(len(video), np.int32), (rows, video)), (len(stops), videos))


def _video_perr(scores: Scores, labels: Labels, ranking: np.ndarray) -> Float[np.ndarray, " videos"]:
    wanted = labels.sum(1)
    ranked = np.take_along_axis(labels & (scores > 0), ranking, 1)
    found = (ranked & (np.arange(scores.shape[1]) < wanted[:, None])).sum(1)
    return found / np.maximum(wanted, 1)


def _video_hit(labels: Labels, ranking: np.ndarray) -> Float[np.ndarray, " videos"]:
    return np.take_along_axis(labels, ranking[:, :1], 1).ravel().astype(np.float64)


def _parts(counts: Counts) -> list[np.ndarray]:
    return [counts[start : start + CHUNK] for start in range(0, len(counts), CHUNK)]
