"""Intervals over seeds and videos at once: every model of every seed is measured on the same videos.

The method of Obuchowski and Rockette for readers and cases, with seeds for readers: the variance of a contrast of
treatments (variants) is made of the mean square of treatments and seeds, and of covariances over videos, which the
jackknife pseudo-values of the videos give.

Source: Obuchowski and Rockette, "Hypothesis testing of diagnostic accuracy for multiple readers and multiple tests",
Communications in Statistics 1995; degrees of freedom: Hillis, Statistics in Medicine 2007.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Float

from analysis.statistics.intervals import Interval
from gmsa_models.errors import ArgumentError

__all__ = ["CrossedDifference", "crossed_contrast", "crossed_mean"]

LEVEL = Interval.level

Scores = Float[np.ndarray, "treatments seeds"]
Parts = Float[np.ndarray, "treatments seeds videos"]


@dataclass(frozen=True)
class CrossedDifference:
    """A contrast of treatments with its interval over seeds and videos.

    Attributes:
        value: estimate and interval.
        p_value: two-sided, of no difference; NaN where there is no interval.
        degrees: of freedom.
    """

    value: Interval
    p_value: float
    degrees: float


def crossed_contrast(
    scores: Scores, parts: Parts, weights: Float[np.ndarray, " treatments"], level: float = LEVEL
) -> CrossedDifference:
    """The weighted sum of the treatments' mean scores, with an interval for new seeds and new videos.

    Args:
        scores: of every model, on all videos.
        parts: jackknife pseudo-values of those scores; of a mean over videos, its values. NaN in no video that counts:
            videos with a NaN are left out.
        weights: of the treatments; they add up to 0. All treatments give the variance, also those of weight 0.
        level: of the interval.

    Returns:
        No interval (NaN) with fewer than two seeds or videos.

    Raises:
        ArgumentError: shapes that do not fit, or weights that do not add up to 0.
    """
    if scores.shape != parts.shape[:2] or weights.shape != scores.shape[:1] or abs(weights.sum()) > 1e-9:
        raise ArgumentError(
            f"scores {scores.shape}, parts {parts.shape}, weights {weights.tolist()}; expected (treatments, seeds), "
            "(treatments, seeds, videos), and weights of the treatments that add up to 0"
        )
    treatments, seeds = scores.shape
    estimate = float(weights @ scores.mean(1))
    parts = parts[..., ~np.isnan(parts).any((0, 1))]
    if treatments < 2 or seeds < 2 or parts.shape[2] < 2:
        return _unknown(estimate, level)
    residuals = scores - scores.mean(1, keepdims=True) - scores.mean(0, keepdims=True) + scores.mean()
    mean_square = float((residuals**2).sum() / ((treatments - 1) * (seeds - 1)))
    within, between = _covariances(parts)
    spread = mean_square + max(seeds * (within - between), 0.0)
    variance = float(weights @ weights) / seeds * spread
    return _with_ends(estimate, variance, spread, mean_square, (treatments - 1) * (seeds - 1), level)


def crossed_mean(parts: Float[np.ndarray, "seeds videos"], level: float = LEVEL) -> CrossedDifference:
    """The mean of a number that every seed has of every video, with an interval for new seeds and new videos.

    Args:
        parts: the numbers; videos with a NaN are left out.
        level: of the interval.

    Returns:
        No interval (NaN) with fewer than two seeds or videos.
    """
    parts = parts[:, ~np.isnan(parts).any(0)]
    seeds, videos = parts.shape
    estimate = float(parts.mean()) if videos else float("nan")
    if seeds < 2 or videos < 2:
        return _unknown(estimate, level)
    mean_square = float(parts.mean(1).var(ddof=1))
    within, _ = _covariances(parts[None])
    spread = mean_square + max(seeds * within, 0.0)
    return _with_ends(estimate, spread / seeds, spread, mean_square, seeds - 1, level)


def _covariances(parts: Parts) -> tuple[float, float]:
    """Of two scores over videos: mean over pairs of seeds of one treatment, and of different seeds and treatments."""
    treatments, seeds, videos = parts.shape
    centred = parts - parts.mean(2, keepdims=True)
    scale = videos * (videos - 1.0)
    every = float((centred.sum((0, 1)) ** 2).sum()) / scale  # of all pairs of models
    same = float((centred**2).sum()) / scale
    one_treatment = float((centred.sum(1) ** 2).sum()) / scale - same
    one_seed = float((centred.sum(0) ** 2).sum()) / scale - same
    within = one_treatment / (treatments * seeds * (seeds - 1))
    pairs = treatments * (treatments - 1) * seeds * (seeds - 1)
    return within, (every - same - one_treatment - one_seed) / pairs if pairs else float("nan")


def _with_ends(
    estimate: float, variance: float, spread: float, mean_square: float, degrees: int, level: float
) -> CrossedDifference:
    if variance == 0.0:  # every seed and video says the same: nothing tells how far new ones would differ
        return _unknown(estimate, level)
    hillis = degrees * (spread / mean_square) ** 2 if mean_square > 0 else float("inf")
    reach = float(scipy.stats.t.ppf((1 + level) / 2, hillis)) * variance**0.5
    p_value = float(2 * scipy.stats.t.sf(abs(estimate) / variance**0.5, hillis))
    return CrossedDifference(Interval(estimate, estimate - reach, estimate + reach, level), p_value, hillis)


def _unknown(estimate: float, level: float) -> CrossedDifference:
    nothing = float("nan")
    return CrossedDifference(Interval(estimate, nothing, nothing, level), nothing, nothing)
