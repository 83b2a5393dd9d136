"""How alike are frames of a video that lie some seconds apart: montages beside real video."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from gmsa_models.data.clip import Clip
from gmsa_models.data.montage.make import VectorSource, montages
from gmsa_models.data.montage.recipe import MontageRecipe

__all__ = ["TOLERANCE", "distance_table", "frame_distance", "mean_distances"]

LAGS = tuple(range(1, 61))
TOLERANCE = 0.15  # how far a montage's distance may be from the real one, as a part of the real one


def frame_distance(features: np.ndarray, lags: Sequence[int] = LAGS) -> np.ndarray:
    """Mean absolute difference of the frames that lie a lag apart, over all such pairs and all features.

    Args:
        features: (frames, dim) uint8.
        lags: in frames, each >= 1 and below the number of frames.

    Returns:
        (lags,) in uint8 units, 0 to 255; 0 where frames repeat.

    Raises:
        ValueError: a lag that the clip has no pair for.
    """
    if min(lags) < 1 or max(lags) >= len(features):
        raise ValueError(
            f"lags {min(lags)} to {max(lags)} in a clip of {len(features)} frames; expected 1 to frames - 1"
        )
    values = features.astype(np.int16)
    return np.array([np.abs(values[lag:] - values[:-lag]).mean() for lag in lags])


def mean_distances(clips: Iterable[Clip], lags: Sequence[int] = LAGS) -> dict[str, np.ndarray]:
    """`frame_distance` of every modality, averaged over clips."""
    sums: dict[str, np.ndarray] = {}
    count = 0
    for clip in clips:
        count += 1
        for modality, features in clip.features.items():
            sums[modality] = sums.get(modality, 0.0) + frame_distance(features, lags)
    return {modality: total / count for modality, total in sums.items()}


def distance_table(
    real: Clip, source: VectorSource, recipe: MontageRecipe, videos: int, seed: int = 0, lags: Sequence[int] = LAGS
) -> pd.DataFrame:
    """Frame distance by lag, of a real video and of montages.

    Args:
        real: a frame-level video, one frame a second.
        source: what the montages are made of.
        recipe: of the montages; every video must be longer than the longest lag.
        videos: how many montages to average over.
        seed: of their series.
        lags: in seconds.

    Returns:
        One row a modality and lag: `modality`, `lag` (seconds), `real`, `montage` (both uint8 units) and `ratio`,
        montage / real.
    """
    made = mean_distances(montages(source, recipe, seed, videos), lags)
    parts = []
    for modality, distance in mean_distances([real], lags).items():
        columns = {"modality": modality, "lag": list(lags), "real": distance, "montage": made[modality]}
        parts.append(pd.DataFrame(columns))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(ratio=table["montage"] / table["real"])
