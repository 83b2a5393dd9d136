"""Slow definitions for montages, frame by frame."""

from __future__ import annotations

import numpy as np

from gmsa_models.data.montage.video_vectors import VideoVectors, video_vectors

WIDTHS = {"visual": 13, "audio": 7}


def slow_frame_distance(features: np.ndarray, lag: int) -> float:
    """Mean over all pairs of frames a lag apart, and over all features, of |difference|."""
    differences = [
        abs(int(features[frame + lag, feature]) - int(features[frame, feature]))
        for frame in range(len(features) - lag)
        for feature in range(features.shape[1])
    ]
    return sum(differences) / len(differences)


def tiny_vectors(videos: int = 97, classes: int = 5, widths: dict[str, int] | None = None) -> VideoVectors:
    """Hand-made source: video v has label v mod (classes + 2), of which the last two are not kept; ids `v000` ..."""
    rng = np.random.default_rng(3)
    features = {name: rng.normal(0, 0.5, (videos, width)) for name, width in (widths or WIDTHS).items()}
    labels = [(10 + video % (classes + 2),) for video in range(videos)]
    ids = [f"v{video:03d}" for video in range(videos)]
    return video_vectors(ids, features, labels, kept=[10 + place for place in range(classes)], name="tiny")
