"""Scores: by hand, against slow definitions, ties, streaming and merging."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.metrics import average_precision, slow_metrics

from gmsa_models.errors import ArgumentError
from gmsa_models.evaluation.metrics import ClassificationMetrics, classification_metrics, mean_average_precision


def random_problem(seed: int, videos: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are all different, and labels that they say something about."""
    random = np.random.default_rng(seed)
    labels = random.random((videos, classes)) < random.random(classes) * 0.3
    order = np.argsort(random.random(videos * classes) + 0.4 * labels.ravel())
    scores = np.empty(videos * classes)
    scores[order] = np.arange(1, videos * classes + 1) / (videos * classes + 1)
    return scores.reshape(videos, classes), labels


def test_by_hand() -> None:
    scores = np.array([[0.9, 0.8, 0.1], [0.7, 0.2, 0.6]])
    labels = np.array([[1, 0, 1], [0, 0, 1]])
    metrics = classification_metrics(scores, labels, top_k=2)
    # Pooled, two a video: 0.9 true, 0.8, 0.7, 0.6 true; three true labels.
    assert metrics["gap"] == pytest.approx((1 / 1 + 2 / 4) / 3)
    # Class 0: found first of 1. Class 2: 0.6 found at rank 1, the other true one is not among the top 2.
    assert metrics["map"] == pytest.approx((1 + 1 / 2) / 2)
    # Video 0 has two labels, one in its top two; video 1 has one, not at the top.
    assert metrics["perr"] == pytest.approx((1 / 2 + 0) / 2)
    assert metrics["hit_at_1"] == pytest.approx(1 / 2)


def test_perfect_scores() -> None:
    labels = np.eye(7)
    metrics = classification_metrics(labels * 0.5 + 0.25, labels, top_k=1)
    assert metrics == {"gap": 1.0, "map": 1.0, "perr": 1.0, "hit_at_1": 1.0}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    videos=st.integers(1, 23),
    classes=st.integers(1, 29),
    top_k=st.sampled_from([1, 2, 5, 20, None]),
)
def test_equals_slow_definition(seed: int, videos: int, classes: int, top_k: int | None) -> None:
    scores, labels = random_problem(seed, videos, classes)
    metrics = classification_metrics(scores, labels, top_k)
    assert metrics == pytest.approx(slow_metrics(scores, labels, top_k), abs=1e-9, nan_ok=True)


def test_labels_that_no_prediction_found_stay_in_the_denominator() -> None:
    scores, labels = np.array([[0.9, 0.5, 0.4]]), np.array([[1, 1, 1]])
    assert classification_metrics(scores, labels, top_k=1)["gap"] == pytest.approx(1 / 3)
    assert classification_metrics(scores, labels, top_k=None)["gap"] == pytest.approx(1.0)


def test_tied_predictions_count_the_mean_over_their_orders() -> None:
    scores = np.array([[0.9], [0.5], [0.5], [0.5], [0.5], [0.1]])
    labels = np.array([[0], [1], [0], [1], [0], [1]])
    by_order = [
        average_precision([(0.9, False), *((0.5, bool(true)) for true in order), (0.1, True)], 3)
        for order in permutations(labels[1:5, 0])
    ]
    # Of the other class no prediction is the highest of its video, so that half of all true labels are not found.
    metrics = classification_metrics(np.hstack([scores, 0 * scores]), np.hstack([labels, 1 - labels]), top_k=1)
    assert metrics["gap"] == pytest.approx(np.mean(by_order) / 2, abs=1e-12)
    assert metrics["map"] == pytest.approx(metrics["gap"], abs=1e-12)


def test_within_a_video_the_first_class_wins_a_tie() -> None:
    scores = np.full((1, 3), 0.5)
    assert classification_metrics(scores, np.array([[1, 0, 0]]), top_k=1)["hit_at_1"] == 1.0
    late = classification_metrics(scores, np.array([[0, 0, 1]]), top_k=1)
    assert (late["hit_at_1"], late["gap"], late["perr"]) == (0.0, 0.0, 0.0)


def test_ties_do_not_depend_on_the_order_of_the_videos() -> None:
    random = np.random.default_rng(3)
    scores, labels = random.integers(0, 4, (31, 11)) / 4, random.random((31, 11)) < 0.3
    shuffled = random.permutation(31)
    assert classification_metrics(scores[shuffled], labels[shuffled], 5) == pytest.approx(
        classification_metrics(scores, labels, 5), abs=1e-12
    )


def test_score_of_zero_is_no_prediction_for_perr() -> None:
    assert classification_metrics(np.array([[0.0, 0.0]]), np.array([[1, 0]]))["perr"] == 0.0


def test_videos_without_labels_count_nowhere() -> None:
    scores, labels = random_problem(7, 31, 11)
    labels[:, 0] |= ~labels.any(1)
    alone = classification_metrics(scores, labels, 5)
    random = np.random.default_rng(0)
    mixed = ClassificationMetrics(5)
    mixed.update(np.concatenate([scores, random.random((17, 11))]), np.concatenate([labels, np.zeros((17, 11), bool)]))
    assert (mixed.compute(), mixed.videos, mixed.unlabelled) == (alone, 31, 17)
    merged = ClassificationMetrics(5)
    merged.merge(mixed)
    assert (merged.compute(), merged.unlabelled) == (alone, 17)


def test_without_labels_there_is_no_score() -> None:
    metrics = ClassificationMetrics()
    metrics.update(np.full((3, 2), 0.5), np.zeros((3, 2)))
    assert (metrics.videos, metrics.unlabelled) == (0, 3)
    assert all(np.isnan(value) for value in metrics.compute().values())
    with pytest.raises(ArgumentError, match="no videos"):
        ClassificationMetrics().compute()


@pytest.mark.parametrize("batch", [1, 7, 53])
def test_streaming_and_merging_equal_the_whole(batch: int) -> None:
    scores, labels = random_problem(5, 53, 31)
    whole = classification_metrics(scores, labels, 5)
    parts = [ClassificationMetrics(5) for _ in range(3)]
    for number, start in enumerate(range(0, 53, batch)):
        parts[number % 2].update(scores[start : start + batch], labels[start : start + batch])
    parts[2].merge(parts[1])
    parts[2].merge(parts[0])
    assert parts[2].videos == 53
    assert parts[2].compute() == pytest.approx(whole, abs=1e-12)


def test_holds_only_the_top_of_each_video() -> None:
    metrics = ClassificationMetrics(top_k=20)
    metrics.update(np.random.default_rng(0).random((11, 3862), np.float32), np.ones((11, 3862), bool))
    held = sum(array.nbytes for parts in metrics._ranked() for array in parts)
    assert held == 11 * 20 * 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_takes_tensors(dtype: torch.dtype) -> None:
    scores = torch.tensor([[0.75, 0.25], [0.5, 0.125]], dtype=dtype)
    assert classification_metrics(scores, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))["gap"] == 1.0


def test_mean_average_precision_uses_every_prediction() -> None:
    scores, labels = random_problem(7, 41, 37)
    assert mean_average_precision(scores, labels) == pytest.approx(slow_metrics(scores, labels, None)["map"])


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), r"scores \(2, 3\) and labels \(2, 4\)"),
        (np.zeros(3), np.zeros(3), "expected one shape"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "expected one shape"),
        (np.array([[-1.5, 3.0]]), np.zeros((1, 2)), "from -1.5 to 3.0; expected probabilities.*sigmoid"),
        (np.array([[np.nan, 0.5]]), np.zeros((1, 2)), "expected probabilities"),
        (np.array([[0.1, 0.5]]), np.array([[0, 2]]), "labels hold 2"),
    ],
)
def test_refuses_what_it_cannot_score(scores: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        classification_metrics(scores, labels)


def test_refuses_to_mix() -> None:
    metrics = ClassificationMetrics()
    with pytest.raises(ArgumentError, match="no videos"):
        metrics.compute()
    with pytest.raises(ArgumentError, match="top_k is 0"):
        ClassificationMetrics(0)
    metrics.update(np.zeros((1, 3)), np.zeros((1, 3)))
    with pytest.raises(ArgumentError, match="4 classes after scores of 3"):
        metrics.update(np.zeros((1, 4)), np.zeros((1, 4)))
    other = ClassificationMetrics(5)
    other.update(np.zeros((1, 3)), np.zeros((1, 3)))
    with pytest.raises(ArgumentError, match="cannot merge top_k 5"):
        metrics.merge(other)
