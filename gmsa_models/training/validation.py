"""Validation during training: every process scores its share, and all get the scores of the whole."""

from __future__ import annotations

from itertools import islice

import torch
from lightning_fabric import Fabric

from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.errors import OnSkip
from gmsa_models.errors import TrainingError
from gmsa_models.evaluation.metrics import ClassificationMetrics
from gmsa_models.evaluation.scoring import limited, scored_batches, vocabulary_of
from gmsa_models.feeding import ClipSource, Inputs

__all__ = ["check_labels", "validate"]


def check_labels(model: GMSAClassifier, source: ClipSource, on_skip: OnSkip | None = None) -> None:
    """Check that a source can score a model; it is read up to the first clip that has one of the model's classes.

    Raises:
        ArgumentError: the model does not say what its outputs stand for.
        TrainingError: no clip has, so that no score is defined and none can choose the weights that are kept.
        UnfitClipError: a clip before it does not fit the model, unless `on_skip` takes it; an UnfitClipError where
            its labels are of another data set than the model's classes.
    """
    vocabulary, read = vocabulary_of(model), 0
    ignored = None if on_skip is None else lambda error: None  # reported when it is scored
    for clip in limited(source, inputs=Inputs.of(model), on_skip=ignored):
        read += 1
        if clip.positions(vocabulary):
            return
    raise TrainingError(
        f"none of the {read} validation clips has a label of the model's {len(vocabulary)} classes, so no score "
        "is defined; give validation data and a class table that belong together, or train without validation"
    )


def validate(
    fabric: Fabric, model: GMSAClassifier, source: ClipSource, batch_size: int, on_skip: OnSkip | None = None
) -> dict[str, int | float]:
    """Scores of a model over a source, as `evaluate` has them; the same on every process.

    `on_skip` takes the errors of what cannot be read or does not fit the model; None: they are raised.
    """
    metrics = ClassificationMetrics()
    clips = islice(limited(source, None, Inputs.of(model), on_skip), fabric.global_rank, None, fabric.world_size)
    for _, batch, scores in scored_batches(model, clips, batch_size, fabric.device):
        metrics.update(scores, batch.labels)
    if fabric.world_size > 1:
        gathered = [metrics] * fabric.world_size
        torch.distributed.all_gather_object(gathered, metrics)
        metrics = ClassificationMetrics()
        for one in gathered:
            metrics.merge(one)
    return {**metrics.compute(), "videos": metrics.videos, "unlabelled": metrics.unlabelled}
