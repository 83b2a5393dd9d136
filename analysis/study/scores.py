"""Every model's scores of the same videos, in one pass over the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import xarray as xr

from analysis.workers import map_in_threads
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Clip
from gmsa_models.evaluation.scoring import Predictions, batch_scores, collation_of, in_order, sorted_batches
from gmsa_models.feeding import Collation, Inputs, RawBatch, fitting, prefetched

__all__ = ["score_models"]

# Clips held at a time: enough that batches of like length form, few enough that long data sets stream.
WINDOW = 128
BATCH_SIZE = 32


def score_models(
    models: Mapping[str, GMSAClassifier],
    clips: Iterable[Clip],
    progress: Callable[[int], None] = lambda videos: None,
) -> dict[str, xr.Dataset]:
    """Probabilities of every model for every clip.

    Args:
        models: name -> model with a vocabulary.
        clips: read once, `WINDOW` at a time.
        progress: called with the number of clips that all models have seen since the last call.

    Returns:
        Model name -> `score` (video, class), `label` (video, class) True where the video has the label, `frames`
        (video), and the clips' ids along `video`.

    Raises:
        ArgumentError: a model does not say what its outputs stand for.
        ValueError: no clips.
    """
    parts: dict[str, list[xr.Dataset]] = {name: [] for name in models}
    for window in prefetched(_windows(clips), depth=1):
        frames = np.array([clip.frames for clip in window])
        for name, predictions in zip(models, _predictions(list(models.values()), window), strict=True):
            parts[name].append(_table(models[name], predictions, frames))
        progress(len(window))
    if not all(parts.values()):
        raise ValueError("the data have no clips; expected at least one")
    return {name: xr.concat(each, "video", data_vars="minimal", join="override") for name, each in parts.items()}


def _predictions(models: Sequence[GMSAClassifier], clips: list[Clip]) -> list[Predictions]:
    """What `predict` gives of each model, several at once; models that take the same batches share their floats."""
    shared: dict[Collation, list[tuple[list[int], RawBatch, Batch]]] = {}
    for model in models:
        fits, collate = list(fitting(clips, Inputs.of(model))), collation_of(model)
        if collate not in shared:
            batches = sorted_batches(fits, BATCH_SIZE, collate)
            shared[collate] = [(places, raw, raw.batch()) for places, raw in batches]

    def predict(model: GMSAClassifier) -> Predictions:
        parts = shared[collation_of(model)]
        return in_order(((places, raw, batch_scores(model, batch)) for places, raw, batch in parts), model)

    return map_in_threads(predict, models)


def _table(model: GMSAClassifier, predictions: Predictions, frames: np.ndarray) -> xr.Dataset:
    vocabulary = model.vocabulary
    assert vocabulary is not None  # `score_models` takes models that have one
    return xr.Dataset(
        {
            "score": (("video", "class"), predictions.scores),
            "label": (("video", "class"), predictions.labels),
            "frames": ("video", frames),
        },
        {
            "video": ("video", np.array(predictions.ids)),
            "class": ("class", np.array(vocabulary.indices)),
            "class_name": ("class", np.array(vocabulary.names)),
        },
    )


def _windows(clips: Iterable[Clip]) -> Iterator[list[Clip]]:
    waiting = iter(clips)
    while window := list(islice(waiting, WINDOW)):
        yield window
