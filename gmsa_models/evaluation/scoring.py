"""Evaluation: a model's scores over any source of clips, streaming."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gmsa_models.classifier import GMSAClassifier
from gmsa_models.config import check_classifies
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Clip
from gmsa_models.data.errors import OnSkip
from gmsa_models.data.paths import skip_handler
from gmsa_models.data.sources import read_clips, with_dataset
from gmsa_models.data.spaces import check_known
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluating import evaluating, evaluation_replica
from gmsa_models.evaluation.metrics import ClassificationMetrics
from gmsa_models.feeding import ClipSource, Collation, Inputs, RawBatch, fitting, in_hand, prefetched

__all__ = [
    "Predictions",
    "batch_scores",
    "collation_of",
    "evaluate",
    "in_order",
    "limited",
    "predict",
    "scored_batches",
    "sorted_batches",
    "vocabulary_of",
]

# Batches' worth of clips that are sorted by length together, so that little is padding.
WINDOW = 8


@dataclass(frozen=True)
class Predictions:
    """What a model says of some videos, in the order of the source.

    Attributes:
        ids: one a video.
        scores: probabilities.
        labels: True where the video has the label.
    """

    ids: tuple[str, ...]
    scores: Float[np.ndarray, "videos classes"]
    labels: Bool[np.ndarray, "videos classes"]


def evaluate(
    model: GMSAClassifier,
    source: ClipSource,
    *,
    batch_size: int = 32,
    device: torch.device | str | None = None,
    top_k: int | None = 20,
    limit: int | None = None,
    dataset: str | None = None,
    on_error: str = "fail",
    on_skip: OnSkip | None = None,
) -> dict[str, int | float]:
    """GAP, MAP, PERR and Hit@1 of a model, without holding the videos or their scores.

    Args:
        model: with a vocabulary; left as it is, see `gmsa_models.evaluating`. It computes in its own type. Labels of a
            clip that the vocabulary lacks are dropped; a clip without any left has no known label, and is left out of
            the scores.
        source: anything `read_clips` takes, or clips in hand.
        batch_size: clips a forward pass; the scores do not depend on it.
        device: where to compute; default: where the model is.
        top_k: predictions a video that GAP and MAP use; None: all.
        limit: only the first so many clips.
        dataset: whose classes the clips' labels count, a published data set or the model's; default: as they say.
        on_error: "fail" raises the first error; "skip" leaves out what cannot be read or does not fit the model.
        on_skip: with "skip", called with each error; default: a `SkippedWarning`.

    Returns:
        `gap`, `map`, `perr`, `hit_at_1` as fractions, `videos`, how many they are of, and `unlabelled`, how many clips
        have no known label. NaN where none has one.

    Raises:
        ArgumentError: the model has none; no clips.
        ArgumentError, TFRecordError, UnfitClipError: what cannot be read, or does not fit the model.
        UnfitClipError: labels of another data set than the model's classes.
        UnknownNameError: `dataset` is neither published nor the model's.
    """
    if dataset is not None:
        check_known(dataset, [vocabulary_of(model).dataset])
    metrics = ClassificationMetrics(top_k)
    clips = limited(source, limit, Inputs.of(model), skip_handler(on_error, on_skip), dataset)
    for _, batch, scores in scored_batches(model, clips, batch_size, device):
        metrics.update(scores, batch.labels)
    return {**metrics.compute(), "videos": metrics.videos, "unlabelled": metrics.unlabelled}


def predict(
    model: GMSAClassifier,
    source: ClipSource,
    *,
    batch_size: int = 32,
    device: torch.device | str | None = None,
    limit: int | None = None,
    on_error: str = "fail",
    on_skip: OnSkip | None = None,
) -> Predictions:
    """Every video's scores and labels, for what needs them all: AudioSet's mAP, bootstrap intervals.

    Args and Raises: as for `evaluate`.
    """
    clips = limited(source, limit, Inputs.of(model), skip_handler(on_error, on_skip))
    return in_order(scored_batches(model, clips, batch_size, device), model)


def in_order(
    batches: Iterable[tuple[list[int], RawBatch, Float[Tensor, "batch classes"]]], model: GMSAClassifier
) -> Predictions:
    """The predictions of a model for some batches, put in the order of the source."""
    rows: list[int] = []
    ids: list[str] = []
    scores: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for places, batch, values in batches:
        rows.extend(places)
        ids.extend(batch.ids)
        scores.append(values.cpu().numpy())
        labels.append(batch.labels.bool().numpy())
    if not rows:
        return Predictions(
            (), np.zeros((0, model.config.classes), np.float32), np.zeros((0, model.config.classes), bool)
        )
    order = np.argsort(rows)
    return Predictions(tuple(ids[row] for row in order), np.concatenate(scores)[order], np.concatenate(labels)[order])


def limited(
    source: ClipSource,
    limit: int | None = None,
    inputs: Inputs | None = None,
    on_skip: OnSkip | None = None,
    dataset: str | None = None,
) -> Iterator[Clip]:
    """The clips of a source, or the first `limit` of them.

    Args:
        source: anything `read_clips` takes, or clips in hand.
        limit: how many at most.
        inputs: of a model that must be able to take them; None: not checked.
        on_skip: takes the errors of what cannot be read or does not fit; None: they are raised.
        dataset: whose classes the labels count; None: as the clips say.
    """
    on_error = "fail" if on_skip is None else "skip"
    clips = with_dataset(source if in_hand(source) else read_clips(source, on_error=on_error, on_skip=on_skip), dataset)
    return islice(clips if inputs is None else fitting(clips, inputs, on_skip), limit)


def scored_batches(
    model: GMSAClassifier, clips: Iterable[Clip], batch_size: int, device: torch.device | str | None = None
) -> Iterator[tuple[list[int], RawBatch, Float[Tensor, "batch classes"]]]:
    """Places in the source, the batch, and its probabilities in float32; the model is left where and as it is."""
    device = device or next(model.parameters()).device
    replica = evaluation_replica(model).to(device)
    for numbers, batch in prefetched(sorted_batches(clips, batch_size, collation_of(model))):
        yield numbers, batch, batch_scores(replica, batch.batch(device))


def batch_scores(model: GMSAClassifier, batch: Batch) -> Float[Tensor, "batch classes"]:
    """Probabilities in float32, where the model is, computed in its own type, without dropout."""
    parameter = next(model.parameters())
    with evaluating(model) as replica, torch.inference_mode():
        return replica(batch.to(parameter.device, parameter.dtype)).float().sigmoid()


def vocabulary_of(model: GMSAClassifier) -> Vocabulary:
    """What the model's outputs stand for.

    Raises:
        ArgumentError: the model does not say.
    """
    check_classifies(model.config)
    if model.vocabulary is None:
        raise ArgumentError(
            "the model has no vocabulary, so the labels of a clip cannot be matched to its outputs; "
            "build it with build(..., vocabulary=...)"
        )
    return model.vocabulary


def collation_of(model: GMSAClassifier) -> Collation:
    """How clips become this model's batches.

    Raises:
        ArgumentError: the model has no vocabulary.
    """
    return Collation(tuple(model.config.modalities), vocabulary_of(model), model.config.max_frames)


def sorted_batches(clips: Iterable[Clip], batch_size: int, collate: Collation) -> Iterator[tuple[list[int], RawBatch]]:
    """Mini-batches of clips of like length, with their places in the source; `WINDOW` batches are sorted at a time."""
    numbered = enumerate(clips)
    while window := list(islice(numbered, batch_size * WINDOW)):
        window.sort(key=lambda pair: pair[1].frames)
        for start in range(0, len(window), batch_size):
            numbers, chosen = zip(*window[start : start + batch_size], strict=True)
            yield list(numbers), collate(chosen)
