"""Intervals over videos and rank correlations: how sure a number is. Arrays only, no torch.

Videos are what is drawn at random, so intervals resample videos. All statistics of one set of videos should use one
`resample_counts`, so that their differences are those of the same resampled videos.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Float, Int

from gmsa_models.errors import ArgumentError

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "ROUNDING",
    "SMALLEST",
    "Interval",
    "RankCorrelation",
    "group_mean_values",
    "mean_ends",
    "mean_interval",
    "resample_counts",
    "resampled_means",
    "sign_test_p",
    "spearman",
]

LEVEL = 0.95
RESAMPLES = 2000
PERMUTATIONS = 99_999
# Up to this many values every order (8! = 40,320) is tried, none is drawn.
EXACT_ORDERS = 8
CHUNK = 20_000
# Up to this many values Student's t stands alone, see `mean_ends`.
SMALLEST = 3
# A variance below this share of the data's is that of one value repeated.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """An estimate and how far it may be off.

    Attributes:
        estimate: of the data.
        low, high: ends of the interval; NaN where there is none, as with one video or with values that are all equal.
        level: share of such intervals that hold the true value, if the method's assumptions hold.
    """

    estimate: float
    low: float
    high: float
    level: float = LEVEL


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation.

    Attributes:
        rho: in [-1, 1]; ties share their mean rank.
        low, high: interval at `level` for pairs drawn at random (Bonett and Wright); NaN below 5 pairs.
        p_value: two-sided, of the permutations of one side.
        pairs: how many.
        level: of the interval.
    """

    rho: float
    low: float
    high: float
    p_value: float
    pairs: int
    level: float = LEVEL


def resample_counts(videos: int, resamples: int = RESAMPLES, seed: int = 0) -> Int[np.ndarray, "resamples videos"]:
    """How often each video is drawn in each bootstrap sample of as many videos, with replacement.

    Args:
        videos: at least 1.
        resamples: at least 1.
        seed: the same seed gives the same samples.

    Raises:
        ArgumentError: fewer than 1 of either.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 6.
    """
    if videos < 1 or resamples < 1:
        raise ArgumentError(f"{resamples} resamples of {videos} videos; expected at least 1 of each")
    return np.random.default_rng(seed).multinomial(videos, np.full(videos, 1 / videos), size=resamples)


def resampled_means(
    values: Float[np.ndarray, "videos ..."], counts: Int[np.ndarray, "resamples drawn"]
) -> Float[np.ndarray, "resamples ..."]:
    """Mean over the videos of each bootstrap sample.

    Args:
        values: NaN where a video has no value: it then counts nowhere.
        counts: of `resample_counts`.

    Returns:
        float64; NaN where a sample holds no video with a value.

    Raises:
        ArgumentError: another number of videos in `counts`.
    """
    if counts.shape[1] != len(values):
        raise ArgumentError(f"values of {len(values)} videos, resamples of {counts.shape[1]}")
    present = ~np.isnan(values)
    flat = np.where(present, values, 0.0).reshape(len(values), -1).astype(np.float64)
    weights = counts.astype(np.float64)
    drawn = weights @ present.reshape(len(values), -1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        means = (weights @ flat) / np.where(drawn > 0, drawn, np.nan)
    return means.reshape(len(counts), *values.shape[1:])


def mean_ends(
    values: Float[np.ndarray, "videos ..."], counts: Int[np.ndarray, "resamples drawn"], level: float = LEVEL
) -> tuple[Float[np.ndarray, "*columns"], Float[np.ndarray, "*columns"]]:
    """Both ends of the interval of a mean over independent videos: the one producer of intervals of means.

    The mean less and plus its standard error times a factor for each side, the larger of two: Student's t with n - 1
    degrees of freedom, which is exact for normal values, and the quantile of the studentised bootstrap, which follows
    their skew. The bootstrap's tails are (1 - level) / 2 * (1 - 3 / n), since with few values its quantiles are too
    small; below 4 values it has none and Student's t stands alone. Samples of one value repeated have no standard error
    and are left out. `benchmarks/coverage.py` simulates how often such an interval holds the true mean.

    Args:
        values: one value a video (or whatever is independent: seeds, families), for any number of columns; NaN: none.
        counts: of `resample_counts`.
        level: of the interval.

    Returns:
        Low and high, float64. NaN with fewer than two values, and where all are equal: nothing then says how much
        they would differ.

    Raises:
        ArgumentError: another number of videos in `counts`.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 12.5; Hesterberg, "What Teachers Should
        Know about the Bootstrap", The American Statistician 2015, on its narrowness with few values.
    """
    if counts.shape[1] != len(values):
        raise ArgumentError(f"values of {len(values)} videos, resamples of {counts.shape[1]}")
    flat = values.reshape(len(values), -1).astype(np.float64)
    present = (~np.isnan(flat)).sum(0)
    ends = np.full((2, flat.shape[1]), np.nan)
    for number in np.unique(present[present > 1]):
        columns = present == number
        ends[:, columns] = _ends_of(flat[:, columns], counts, int(number), level)
    return ends[0].reshape(values.shape[1:]), ends[1].reshape(values.shape[1:])


def _ends_of(
    values: Float[np.ndarray, "videos columns"], counts: np.ndarray, number: int, level: float
) -> Float[np.ndarray, "ends columns"]:
    """Low and high of columns that have `number` values each."""
    means, deviations = np.nanmean(values, 0), np.nanstd(values, 0, ddof=1)
    errors = np.where(np.nanmax(values, 0) > np.nanmin(values, 0), deviations / np.sqrt(number), np.nan)
    reach = float(scipy.stats.t.ppf((1 + level) / 2, number - 1))
    if number <= SMALLEST:
        return np.stack([means - reach * errors, means + reach * errors])
    tail = (1 - level) / 2 * (1 - SMALLEST / number)
    lowest, highest = _quantiles(_studentised_means(values - means, counts), [tail, 1 - tail])
    return np.stack([means - np.fmax(reach, highest) * errors, means - np.fmin(-reach, lowest) * errors])


def _studentised_means(
    values: Float[np.ndarray, "videos columns"], counts: np.ndarray
) -> Float[np.ndarray, "resamples columns"]:
    """Mean over standard error of each bootstrap sample, of values whose mean is 0; NaN where it has no error."""
    weights, present = counts.astype(np.float64), ~np.isnan(values)
    filled = np.where(present, values, 0.0)
    drawn = weights @ present.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (weights @ filled) / drawn
        variances = (weights @ filled**2 - drawn * means**2) / (drawn - 1)
        # Of one value repeated, rounding leaves a variance that is not quite 0.
        variances[(drawn < 2) | (variances <= ROUNDING * np.nanmean(values**2, 0))] = np.nan
        return means / np.sqrt(variances / drawn)


def _quantiles(draws: Float[np.ndarray, "resamples columns"], shares: list[float]) -> np.ndarray:
    """Quantiles of each column, NaN left out; NaN where there is nothing else."""
    missing = np.isnan(draws)
    if not missing.any():
        return np.asarray(np.quantile(draws, shares, axis=0))
    empty = missing.all(0)
    return np.where(empty, np.nan, np.nanquantile(np.where(empty, 0.0, draws), shares, axis=0))


def mean_interval(
    values: Float[np.ndarray, " videos"], counts: Int[np.ndarray, "resamples drawn"], level: float = LEVEL
) -> Interval:
    """Mean of independent values with the interval of `mean_ends`; NaN values are left out.

    Raises:
        ArgumentError: no video has a value, or another number of videos in `counts`.
    """
    if np.isnan(values).all():
        raise ArgumentError(f"none of {len(values)} videos has a value; a mean needs at least one")
    low, high = mean_ends(values, counts, level)
    return Interval(float(np.nanmean(values)), float(low), float(high), level)


def group_mean_values(values: Float[np.ndarray, " videos"]) -> Float[np.ndarray, " videos"]:
    """A value of every video such that their mean is that of a group of them: the group's jackknife pseudo-values.

    Means of several groups of the same videos, and what is computed of them by sums, then have an interval by
    `mean_interval` of the sums of these values.

    Args:
        values: NaN for videos outside the group.

    Returns:
        The mean of the group plus, inside it, (n - 1) / (m - 1) times the deviation from it: n videos, m of the group.
        NaN throughout where the group has fewer than two.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 11.5.
    """
    inside = ~np.isnan(values)
    if inside.sum() < 2:
        return np.full(len(values), np.nan)
    mean = values[inside].mean()
    return np.asarray(mean + np.where(inside, values - mean, 0.0) * (len(values) - 1) / (inside.sum() - 1))


def spearman(
    first: Float[np.ndarray, " pairs"],
    second: Float[np.ndarray, " others"],
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> RankCorrelation:
    """Spearman's rank correlation with an interval and a permutation test.

    Args:
        first, second: at least 3 pairs, finite, neither side all equal.
        permutations: drawn orders, of which the observed counts as one more; up to 8 pairs every order is tried.
        seed: of the drawn orders.
        level: of the interval.

    Raises:
        ArgumentError: too few pairs, sides of different lengths, a side that is constant or not finite.

    Source:
        The interval: Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman
        correlations", Psychometrika 2000: atanh(rho) +- z sqrt((1 + rho^2 / 2) / (n - 3)).
    """
    _check_pairs(first, second)
    one, two = scipy.stats.rankdata(first), scipy.stats.rankdata(second)
    one, two = one - one.mean(), two - two.mean()
    scale = float(np.sqrt((one @ one) * (two @ two)))
    rho = float(np.clip(one @ two / scale, -1.0, 1.0))
    low, high = _spearman_ends(rho, len(one), level)
    return RankCorrelation(rho, low, high, _order_p(one, two, permutations, seed), len(one), level)


def sign_test_p(one: int, other: int) -> float:
    """Two-sided exact sign test (McNemar's): chance of a split at least this uneven if either is as likely; 1 of 0."""
    return float(scipy.stats.binomtest(one, one + other, 0.5).pvalue) if one + other else 1.0


def _order_p(one: Float[np.ndarray, " pairs"], two: Float[np.ndarray, " pairs"], permutations: int, seed: int) -> float:
    every = factorial(len(one)) if len(one) <= EXACT_ORDERS else 0
    test = scipy.stats.permutation_test(
        (two,), lambda order, axis: np.abs(order @ one), permutation_type="pairings", vectorized=True, batch=CHUNK,
        n_resamples=max(permutations, every), alternative="greater", rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(test.pvalue)


def _spearman_ends(rho: float, pairs: int, level: float) -> tuple[float, float]:
    if pairs < 5:
        return float("nan"), float("nan")
    if abs(rho) == 1.0:
        return rho, rho
    reach = scipy.stats.norm.ppf((1 + level) / 2) * np.sqrt((1 + rho**2 / 2) / (pairs - 3))
    return float(np.tanh(np.arctanh(rho) - reach)), float(np.tanh(np.arctanh(rho) + reach))


def _check_pairs(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape or first.ndim != 1 or len(first) < 3:
        raise ArgumentError(f"sides of shape {first.shape} and {second.shape}; expected one length, at least 3")
    for name, side in (("first", first), ("second", second)):
        if not np.isfinite(side).all():
            raise ArgumentError(f"the {name} side is not finite at place {int(np.argmin(np.isfinite(side)))}")
        if (side == side[0]).all():
            raise ArgumentError(f"the {name} side is {side[0]:g} throughout; a constant has no rank correlation")
