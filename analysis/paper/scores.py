"""Every model's scores of the same videos, in one pass over the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import numpy as np
import xarray as xr

from analysis.workers import map_in_threads
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.evaluation import predict
from gmsa_models.feeding import prefetched

# Clips held at a time: enough that batches of like length form, few enough that long data sets stream.
WINDOW = 128


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
        NoVocabularyError: a model does not say what its outputs stand for.
        ValueError: no clips.
    """
    parts: dict[str, list[xr.Dataset]] = {name: [] for name in models}
    for window in prefetched(_windows(clips), depth=1):
        frames = np.array([clip.frames for clip in window])
        found = map_in_threads(lambda model: _scores(model, window, frames), models.values())  # noqa: B023 (used at once)
        for name, table in zip(models, found, strict=True):
            parts[name].append(table)
        progress(len(window))
    if not all(parts.values()):
        raise ValueError("the data have no clips; expected at least one")
    return {name: xr.concat(each, "video", data_vars="minimal", join="override") for name, each in parts.items()}


def _scores(model: GMSAClassifier, clips: list[Clip], frames: np.ndarray) -> xr.Dataset:
    predictions = predict(model, clips)
    return xr.Dataset(
        {
            "score": (("video", "class"), predictions.scores),
            "label": (("video", "class"), predictions.labels),
            "frames": ("video", frames),
        },
        {
            "video": ("video", np.array(predictions.ids)),
            "class": ("class", np.array(model.vocabulary.indices)),
            "class_name": ("class", np.array(model.vocabulary.names)),
        },
    )


def _windows(clips: Iterable[Clip]) -> Iterator[list[Clip]]:
    waiting = iter(clips)
    while window := list(islice(waiting, WINDOW)):
        yield window
