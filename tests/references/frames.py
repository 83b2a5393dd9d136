"""Slow definitions, one number at a time: similarity of frames, attention profiles, unevenness."""

from __future__ import annotations

import math

import numpy as np


def cosine_similarity(features: np.ndarray) -> np.ndarray:
    """Cosine of the angle between every pair of rows of (frames, dim)."""
    frames = len(features)
    out = np.empty((frames, frames))
    for i in range(frames):
        for j in range(frames):
            dot = sum(a * b for a, b in zip(features[i], features[j], strict=True))
            out[i, j] = dot / math.sqrt(sum(a * a for a in features[i])) / math.sqrt(sum(b * b for b in features[j]))
    return out


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Kornblith et al. 2019, equation 3 in feature form: ||Y^T X||^2 / (||X^T X|| ||Y^T Y||), X and Y centred."""
    x, y = first - first.mean(0), second - second.mean(0)
    return float(np.sum((y.T @ x) ** 2) / math.sqrt(np.sum((x.T @ x) ** 2)) / math.sqrt(np.sum((y.T @ y) ** 2)))


def attention_profile(weights: np.ndarray, mask: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Attention received by each frame over heads and real queries, over what uniform attention would give it."""
    heads, frames, _ = weights.shape
    real = [i for i in range(frames) if valid[i]]
    out = np.full(frames, np.nan)
    for j in real:
        received = [weights[m, i, j] for m in range(heads) for i in real]
        uniform = []
        for i in real:
            neighbours = [k for k in real if mask[i, k]]
            uniform.append(1 / len(neighbours) if j in neighbours else 0.0)
        out[j] = np.mean(received) / np.mean(uniform)
    return out


def entropy(profile: np.ndarray) -> float:
    """Entropy in nats of the shares of a profile."""
    shares = [value / sum(profile) for value in profile]
    return -sum(share * math.log(share) for share in shares if share > 0)


def gini(profile: np.ndarray) -> float:
    """Gini coefficient: mean absolute difference of all pairs over twice the mean."""
    frames = len(profile)
    differences = sum(abs(a - b) for a in profile for b in profile) / frames**2
    return differences / (2 * sum(profile) / frames)
