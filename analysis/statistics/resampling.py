"""GAP, MAP, PERR and Hit@1 of resampled videos: what bootstrap intervals of the scores are made of.

A resampled data set holds some videos several times. Rather than rank its predictions anew each time, they are ranked
once and counted: a true prediction that stands w times after P true ones among N adds
sum_{k=1..w} (P + k) / (N + k) = w + (P - N) (H_{N+w} - H_N) to the sum of precisions, H the harmonic numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Bool, Float, Int

from gmsa_models.errors import ArgumentError
from gmsa_models.evaluation.metrics import METRICS

__all__ = ["resampled_metrics", "video_metrics"]

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
        A value a resample for each of `metrics`, of its videos with a true label; NaN where it has none. Predictions of
        equal score of different videos stand in the order of the videos, where `classification_metrics` takes the mean
        over orders.

    Raises:
        ArgumentError: shapes that do not fit, or an unknown metric.
    """
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ArgumentError(f"unknown metric {unknown[0]!r}; known: {', '.join(METRICS)}")
    if scores.shape != labels.shape or counts.shape[1] != len(scores):
        raise ArgumentError(f"scores {scores.shape}, labels {labels.shape}, counts {counts.shape} do not fit together")
    labelled = labels.any(1)
    scores, labels, counts = scores[labelled], labels[labelled], counts[:, labelled]
    if not len(scores):
        return {name: np.full(len(counts), np.nan) for name in metrics}
    ranking = np.argsort(-scores, axis=1, kind="stable")
    kept = ranking[:, :top_k]
    video = np.repeat(np.arange(len(scores)), kept.shape[1])
    values = np.take_along_axis(scores, kept, 1).ravel()
    truths = np.take_along_axis(labels, kept, 1).ravel()
    groups = kept.ravel()
    totals = np.maximum(counts.sum(1), 1)
    compute = {
        "gap": lambda: _pooled(values, truths, video, labels, counts),
        "map": lambda: _class_mean(values, truths, groups, video, labels, counts),
        "perr": lambda: counts @ _video_perr(scores, labels, ranking) / totals,
        "hit_at_1": lambda: counts @ _video_hit(labels, ranking) / totals,
    }
    return {name: np.where(counts.any(1), compute[name](), np.nan) for name in metrics}


def video_metrics(scores: Scores, labels: Bool[np.ndarray, "rows columns"]) -> dict[str, Float[np.ndarray, " videos"]]:
    """The scores that are means over videos, video by video: `perr` and `hit_at_1`.

    Args:
        scores: probabilities in [0, 1].
        labels: True where the video has the label.

    Returns:
        In [0, 1], higher better, NaN for a video without a true label; the means of the others are those of
        `classification_metrics`.

    Raises:
        ArgumentError: shapes that differ.
    """
    if scores.shape != labels.shape:
        raise ArgumentError(f"scores {scores.shape} and labels {labels.shape}; expected one shape")
    ranking = np.argsort(-scores, axis=1, kind="stable")
    metrics = {"perr": _video_perr(scores, labels, ranking), "hit_at_1": _video_hit(labels, ranking)}
    return {name: np.where(labels.any(1), values, np.nan) for name, values in metrics.items()}


def _pooled(
    values: np.ndarray, truths: np.ndarray, video: np.ndarray, labels: Labels, counts: Counts
) -> Float[np.ndarray, " resamples"]:
    order = np.argsort(-values, kind="stable")
    truths, video = truths[order], video[order]
    ranking = _Ranking.of(truths, video, np.zeros(len(order), np.int64), len(labels))
    sums = [ranking.precisions(part).sum(0) for part in _parts(counts)]
    return np.concatenate(sums) / np.maximum(counts @ labels.sum(1), 1)


def _class_mean(
    values: np.ndarray, truths: np.ndarray, groups: np.ndarray, video: np.ndarray, labels: Labels, counts: Counts
) -> Float[np.ndarray, " resamples"]:
    order = np.lexsort((-values, groups))
    truths, groups, video = truths[order], groups[order], video[order]
    ranking = _Ranking.of(truths, video, np.searchsorted(groups, groups), len(labels))
    # Sparse: most classes have few videos, and few predictions are true.
    of_class = scipy.sparse.csr_array(labels.T.astype(np.int32))
    rows = groups[truths]
    of_true = scipy.sparse.csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))), (labels.shape[1], len(rows)))
    means = []
    for part in _parts(counts):
        positives = of_class @ np.ascontiguousarray(part.T)
        average = of_true @ ranking.precisions(part) / np.maximum(positives, 1)
        means.append(average.sum(0) / np.maximum((positives > 0).sum(0), 1))
    return np.concatenate(means)


@dataclass(frozen=True)
class _Ranking:
    """Predictions in the order of their groups and scores, with what is the same for all resamples.

    Attributes:
        between: how many predictions of each video stand before each stop and not before the last one. Stops are the
            true predictions and where their groups begin: sums are wanted there only.
        video: of each true prediction.
        here: the stop that a true prediction is.
        start: the stop where its group begins.
        first: the first true prediction of its group.
    """

    between: scipy.sparse.csr_array
    video: Int[np.ndarray, " true"]
    here: Int[np.ndarray, " true"]
    start: Int[np.ndarray, " true"]
    first: Int[np.ndarray, " true"]

    @classmethod
    def of(cls, truths: np.ndarray, video: np.ndarray, starts: np.ndarray, videos: int) -> _Ranking:
        """From whether each prediction is true, its video, where its group begins, and the number of videos."""
        (places,) = np.nonzero(truths)
        stops = np.union1d(places, starts[places])
        before = video[: stops[-1] if len(stops) else 0]
        rows = np.searchsorted(stops, np.arange(len(before)), side="right")
        between = scipy.sparse.csr_array((np.ones(len(before), np.int32), (rows, before)), (len(stops), videos))
        here, start = np.searchsorted(stops, places), np.searchsorted(stops, starts[places])
        return cls(between, video[places], here, start, np.searchsorted(places, starts[places]))

    def precisions(self, counts: Counts) -> Float[np.ndarray, "true resamples"]:
        """What each true prediction adds to the sum of precisions of its group."""
        if not len(self.video):
            return np.zeros((0, len(counts)))
        weights = np.ascontiguousarray(counts.T, np.int32)
        seen = np.cumsum(self.between @ weights, axis=0, dtype=np.int32)
        own = weights[self.video]
        true_seen = np.cumsum(own, axis=0, dtype=np.int32) - own
        before, true_before = seen[self.here] - seen[self.start], true_seen - true_seen[self.first]
        harmonic = np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, int((before + own).max()) + 1))))
        return own + (true_before - before) * (harmonic[before + own] - harmonic[before])


def _video_perr(scores: Scores, labels: Labels, ranking: np.ndarray) -> Float[np.ndarray, " videos"]:
    wanted = labels.sum(1)
    ranked = np.take_along_axis(labels & (scores > 0), ranking, 1)
    hits = (ranked & (np.arange(scores.shape[1]) < wanted[:, None])).sum(1)
    return hits / np.maximum(wanted, 1)


def _video_hit(labels: Labels, ranking: np.ndarray) -> Float[np.ndarray, " videos"]:
    return np.take_along_axis(labels, ranking[:, :1], 1).ravel().astype(np.float64)


def _parts(counts: Counts) -> list[np.ndarray]:
    return [counts[start : start + CHUNK] for start in range(0, len(counts), CHUNK)]
