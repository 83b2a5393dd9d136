"""GAP, MAP, PERR and Hit@1, as the YouTube-8M starter code defines them, over data sets larger than memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from gmsa_models.errors import ArgumentError

__all__ = ["METRICS", "ClassificationMetrics", "classification_metrics", "mean_average_precision"]

METRICS = ("gap", "map", "perr", "hit_at_1")
Matrix = np.ndarray | Tensor  # (videos, classes), checked here rather than by its annotation


def classification_metrics(scores: Matrix, labels: Matrix, top_k: int | None = 20) -> dict[str, float]:
    """The four scores of the YouTube-8M challenge, as fractions in [0, 1], higher better.

    Args:
        scores: (videos, classes), probabilities in [0, 1]. A probability of exactly 0 is no prediction for PERR.
        labels: (videos, classes), 0 or 1.
        top_k: how many of a video's highest predictions GAP and MAP use; None: all.

    Returns:
        `gap`: average precision of the predictions of all videos and classes in one ranking, over all true labels;
        `map`: the mean over classes with a true label of the same a class; `perr`: of a video's n highest
        predictions, n its number of labels, the fraction that are true, averaged over videos; `hit_at_1`: the fraction
        of videos whose highest prediction is true. Videos without a true label, whose labels are not known, count
        nowhere; where no video has one, all four are NaN.
        Ties: within a video the class that comes first wins; between predictions of equal score in one ranking, the
        mean over all their orders.

    Raises:
        ArgumentError: shapes that differ, no video, scores outside [0, 1] or labels other than 0 and 1.

    Source:
        `eval_util.py`, `average_precision_calculator.py`, `mean_average_precision_calculator.py` of the YouTube-8M
        starter code (where ties fall as a seeded shuffle has it).
    """
    metrics = ClassificationMetrics(top_k)
    metrics.update(scores, labels)
    return metrics.compute()


def mean_average_precision(scores: Matrix, labels: Matrix) -> float:
    """Mean over classes with a true label of the average precision of all videos: AudioSet's mAP.

    Args, ties and Raises: as for `classification_metrics`; every prediction counts, however low.
    """
    return classification_metrics(scores, labels, top_k=None)["map"]


@dataclass
class ClassificationMetrics:
    """The same, a batch at a time; holds only each video's `top_k` predictions, 7 bytes each.

    Attributes:
        top_k: as for `classification_metrics`.
        videos: how many were seen that have a true label: those that the scores are of.
        unlabelled: how many were seen that have none.
    """

    top_k: int | None = 20
    videos: int = 0
    unlabelled: int = 0
    _positives: Integer[np.ndarray, classes] | None = field(default=None, repr=False)
    _perr: float = field(default=0.0, repr=False)
    _hits: int = field(default=0, repr=False)
    _scores: list[np.ndarray] = field(default_factory=list, repr=False)
    _classes: list[np.ndarray] = field(default_factory=list, repr=False)
    _truths: list[np.ndarray] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise ArgumentError(f"top_k is {self.top_k!r}; expected at least 1, or None for all")

    def update(self, scores: Matrix, labels: Matrix) -> None:
        """Count some more videos. Args and Raises: as for `classification_metrics`."""
        scores, truths = _checked(scores, labels)
        if self._positives is None:
            self._positives = np.zeros(scores.shape[1], np.int64)
        if len(self._positives) != scores.shape[1]:
            raise ArgumentError(f"scores of {scores.shape[1]} classes after scores of {len(self._positives)}")
        labelled = truths.any(1)
        self.unlabelled += int((~labelled).sum())
        if not labelled.all():
            scores, truths = scores[labelled], truths[labelled]
        # A stable sort of the negated scores: the class that comes first wins a tie.
        ranking = np.argsort(-scores, axis=1, kind="stable")
        self._count(scores, truths, ranking)
        kept = ranking[:, : self.top_k]
        self._scores.append(np.take_along_axis(scores, kept, 1).ravel())
        self._truths.append(np.take_along_axis(truths, kept, 1).ravel())
        self._classes.append(kept.astype(np.uint16 if scores.shape[1] < 2**16 else np.int32).ravel())

    def merge(self, other: ClassificationMetrics) -> None:
        """Add what another one saw, for example another process.

        Raises:
            ArgumentError: another `top_k` or number of classes.
        """
        if other._positives is None:
            return
        if self._positives is None:
            self._positives = np.zeros_like(other._positives)
        if (self.top_k, len(self._positives)) != (other.top_k, len(other._positives)):
            raise ArgumentError(
                f"cannot merge top_k {other.top_k} over {len(other._positives)} classes into top_k {self.top_k} over "
                f"{len(self._positives)}"
            )
        self.videos, self.unlabelled = self.videos + other.videos, self.unlabelled + other.unlabelled
        self._positives = self._positives + other._positives
        self._perr, self._hits = self._perr + other._perr, self._hits + other._hits
        for own, others in zip(self._ranked(), other._ranked(), strict=True):
            own.extend(others)

    def compute(self) -> dict[str, float]:
        """Scores of everything seen that has a true label, NaN where nothing has; see `classification_metrics`.

        Raises:
            ArgumentError: nothing was seen.
        """
        if self._positives is None or self.videos + self.unlabelled == 0:
            raise ArgumentError("no videos: update() comes before compute()")
        if not self.videos:
            return dict.fromkeys(METRICS, float("nan"))
        scores, classes, truths = (np.concatenate(parts) for parts in self._ranked())
        precisions = _average_precisions(scores, truths, classes.astype(np.int64), self._positives)
        pooled = _average_precisions(
            scores, truths, np.zeros(len(scores), np.int64), self._positives.sum(keepdims=True)
        )
        present = self._positives > 0
        return {
            "gap": float(pooled[0]),
            "map": float(precisions[present].mean()),
            "perr": self._perr / self.videos,
            "hit_at_1": self._hits / self.videos,
        }

    def _ranked(self) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        return self._scores, self._classes, self._truths

    def _count(
        self,
        scores: Float[np.ndarray, "videos classes"],
        truths: Bool[np.ndarray, "videos classes"],
        ranking: Integer[np.ndarray, "videos classes"],
    ) -> None:
        """What needs no ranking of all videos: PERR, Hit@1, true labels a class."""
        wanted = truths.sum(1)
        ranked = np.take_along_axis(truths & (scores > 0), ranking, 1)
        hits = (ranked & (np.arange(scores.shape[1]) < wanted[:, None])).sum(1)
        self.videos += len(scores)
        self._positives = self._positives + truths.sum(0)
        self._perr += float((hits / wanted).sum())
        self._hits += int(np.take_along_axis(truths, ranking[:, :1], 1).sum())


def _checked(scores: Matrix, labels: Matrix) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = _array(scores), _array(labels)
    if scores.ndim != 2 or scores.shape != labels.shape or 0 in scores.shape:
        raise ArgumentError(f"scores {scores.shape} and labels {labels.shape}; expected one shape, (videos, classes)")
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(np.float32)
    if not ((scores >= 0) & (scores <= 1)).all():
        low, high = np.min(scores), np.max(scores)
        raise ArgumentError(f"scores from {low} to {high}; expected probabilities in [0, 1]: apply a sigmoid to logits")
    truths = labels.astype(bool)
    if not (labels == truths).all():
        raise ArgumentError(f"labels hold {labels[labels != truths].flat[0]}; expected 0 and 1 only")
    return scores, truths


def _array(values: Matrix) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() and values.dtype.itemsize < 4 else values
        return values.numpy()
    return np.asarray(values)


def _average_precisions(
    scores: Float[np.ndarray, predictions],
    truths: Bool[np.ndarray, predictions],
    group: Integer[np.ndarray, predictions],
    positives: Integer[np.ndarray, groups],
) -> Float[np.ndarray, groups]:
    """Average precision of the ranking within each group, over `positives` true labels.

    A run of n equal scores with p true ones, after P true among N, takes the mean over its orders: place i of the run
    is true with probability p / n, and then P + 1 + (i - 1)(p - 1)/(n - 1) true ones are expected up to it.
    """
    order = np.lexsort((-scores, group))
    scores, truths, group = scores[order], truths[order], group[order]
    place = np.arange(len(scores))
    start = np.searchsorted(group, group)  # where the group of each prediction begins
    begins = np.ones(len(scores), bool)
    begins[1:] = (group[1:] != group[:-1]) | (scores[1:] != scores[:-1])
    run = np.cumsum(begins) - 1
    edges = np.append(np.flatnonzero(begins), len(scores))
    first, size = edges[run], np.diff(edges)[run]
    true_up_to = np.concatenate(([0], np.cumsum(truths)))
    true_in_run = np.diff(true_up_to[edges])[run]
    true_before = true_up_to[first] - true_up_to[start]
    expected = true_before + 1 + (place - first) * (true_in_run - 1) / np.maximum(size - 1, 1)
    gained = true_in_run / size * expected / (place - start + 1)
    sums = np.bincount(group, weights=gained, minlength=len(positives))
    return sums / np.maximum(positives, 1)
