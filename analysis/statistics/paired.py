"""P-values of paired differences: whether their mean is 0, for symmetric values and for skewed ones.

Flipping signs is exact where differences are as likely to lie above 0 as below it by as much, and only there: of skewed
ones whose mean is 0 it rejects up to three times too often, and dividing each flipped sum by its standard error changes
no p-value, since flips leave the sum of squares as it is. The studentised bootstrap follows the skew; with few values
it is too small, and there the flips are what holds. `paired_p` is the largest of them; `benchmarks/coverage.py`
simulates how often each rejects.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Float

from analysis.statistics.intervals import ROUNDING, SMALLEST
from gmsa_models.errors import ArgumentError

__all__ = ["DRAWS", "paired_p", "sign_flip_p"]

DRAWS = 9_999
# Up to this many values every pattern of signs is tried, none is drawn: 2^13 are fewer than DRAWS.
EXACT_SIGNS = 13
# Values of the drawn samples that are in memory at once.
CHUNK = 1_000_000

Values = Float[np.ndarray, " videos"]


def paired_p(differences: Values, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided p of a mean difference of 0: the largest of three that each hold where the others may not.

    `sign_flip_p`; Student's t; and, from 4 values on, the studentised bootstrap's: the level at which an interval as
    `mean_ends` gives it would just leave out 0. So a p of at most 0.05 goes with a 95 % interval without 0.

    Args:
        differences: one side less the other, one a video; NaN is left out.
        draws: of flipped signs, where there are too many patterns to try all, and of bootstrap samples.
        seed: of both.

    Returns:
        In (0, 1]; at least 2 / 2^n of n values. Of values that are all equal, which have no standard error, the p of
        flipped signs.

    Raises:
        ArgumentError: no differences.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, sections 12.5 and 15.2 to 16.4.
    """
    flipped = sign_flip_p(differences, draws, seed)
    values = _known(differences)
    if values.min() == values.max():
        return flipped
    number = len(values)
    ratio = float(values.mean() / (values.std(ddof=1) / np.sqrt(number)))
    student = float(2 * scipy.stats.t.sf(abs(ratio), number - 1))
    if number <= SMALLEST:
        return max(flipped, student)
    return max(flipped, student, _bootstrap_p(values, ratio, draws, seed))


def sign_flip_p(differences: Values, draws: int = DRAWS, seed: int = 0) -> float:
    """Chance of a mean difference at least this far from 0 if in each video either side might as well be the other.

    Two-sided: signs of the differences are flipped, every pattern where there are few videos, else `draws` drawn ones,
    of which the observed counts as one more. Skewed differences call for `paired_p`.

    Args:
        differences: one side less the other, one a video; NaN is left out.
        draws: patterns of signs.
        seed: of the patterns.

    Raises:
        ArgumentError: no differences.
    """
    values = _known(differences)
    observed = abs(values.sum()) * (1 - 1e-12)  # so that sums that differ by rounding alone count as equal
    if len(values) <= EXACT_SIGNS:
        patterns = (np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1
        return float((np.abs((1 - 2 * patterns) @ values) >= observed).mean())
    generator = np.random.default_rng(seed)
    extreme = 0
    for rows in _chunks(draws, len(values)):
        flips = generator.integers(0, 2, (rows, len(values)), dtype=np.int8)
        extreme += int((np.abs((1.0 - 2.0 * flips) @ values) >= observed).sum())
    return (extreme + 1) / (draws + 1)


def _bootstrap_p(values: Values, ratio: float, draws: int, seed: int) -> float:
    """Of the ratio of mean and standard error, beside those of samples of the centred values, on its side of 0."""
    generator, number = np.random.default_rng(seed), len(values)
    centred = values - values.mean()
    least = ROUNDING * float(np.mean(centred**2))  # of one value repeated, rounding leaves a variance that is not 0
    extreme = kept = 0
    for rows in _chunks(draws, number):
        samples = centred[generator.integers(0, number, (rows, number))]
        variances = samples.var(1, ddof=1)
        varied = variances > least
        ratios = samples[varied].mean(1) / np.sqrt(variances[varied] / number)
        extreme += int((ratios >= ratio).sum() if ratio > 0 else (ratios <= ratio).sum())
        kept += len(ratios)
    tail = (extreme + 1) / (kept + 1)
    return min(1.0, 2 * tail / (1 - SMALLEST / number))  # the tail of `mean_ends`


def _known(differences: Values) -> Float[np.ndarray, " known"]:
    values = differences[~np.isnan(differences)].astype(np.float64)
    if not len(values):
        raise ArgumentError("no differences to test; expected at least one video")
    return values


def _chunks(draws: int, number: int) -> Iterator[int]:
    """How many samples of `number` values to draw at a time."""
    rows = max(CHUNK // number, 1)
    for start in range(0, draws, rows):
        yield min(rows, draws - start)
