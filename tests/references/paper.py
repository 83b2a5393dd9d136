"""Slow definitions for the tables behind the figures, one pair of frames or one video at a time."""

from __future__ import annotations

import numpy as np


def mass_by_lag(pairs: np.ndarray) -> list[float]:
    """Share of the sum that lies on pairs `lag` apart."""
    frames = len(pairs)
    sums = [0.0] * frames
    for query in range(frames):
        for key in range(frames):
            sums[abs(query - key)] += pairs[query, key]
    return [one / sum(sums) for one in sums]


def contrast(one: np.ndarray, other: np.ndarray, labels: np.ndarray) -> tuple[int | None, float, int, int]:
    """Video with the largest margin among those only the other gets right, its margin, wins, losses."""
    best, margin, wins, losses = None, float("nan"), 0, 0
    for video in range(len(one)):
        guess, others = int(np.argmax(one[video])), int(np.argmax(other[video]))
        if labels[video, guess] and not labels[video, others]:
            losses += 1
        if labels[video, others] and not labels[video, guess]:
            wins += 1
            found = one[video, guess] - one[video, others] + other[video, others] - other[video, guess]
            if best is None or found > margin:
                best, margin = video, float(found)
    return best, margin, wins, losses
