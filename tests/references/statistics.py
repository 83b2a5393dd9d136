"""Slow definitions of resampling and rank statistics, one sample at a time."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from scipy import stats


def resampled_means(values: np.ndarray, counts: np.ndarray) -> list[float]:
    """Mean of the values of the drawn videos, each as often as it was drawn; NaN videos left out."""
    means = []
    for row in counts:
        drawn = [value for value, times in zip(values, row, strict=True) for _ in range(times) if not np.isnan(value)]
        means.append(sum(drawn) / len(drawn) if drawn else float("nan"))
    return means


def mean_ends(values: list[float], counts: np.ndarray) -> tuple[float, float]:
    """Student's 95 % interval, widened to the studentised bootstrap's, one sample after the other."""
    known = [value for value in values if not np.isnan(value)]
    number, mean, error = len(known), np.mean(known), np.std(known, ddof=1) / np.sqrt(len(known))
    low, high = stats.t.interval(0.95, number - 1)
    if number > 3:
        ratios = []
        for row in counts:
            drawn = [value for value, times in zip(values, row, strict=True) for _ in range(times)]
            drawn = [value for value in drawn if not np.isnan(value)]
            if len(set(drawn)) > 1:
                ratios.append((np.mean(drawn) - mean) / (np.std(drawn, ddof=1) / np.sqrt(len(drawn))))
        tail = 0.025 * (1 - 3 / number)
        low, high = min(low, np.quantile(ratios, tail)), max(high, np.quantile(ratios, 1 - tail))
    return mean - high * error, mean - low * error


def sign_flip_p(differences: list[float]) -> float:
    """Share of sign patterns whose sum is at least as far from 0 as that of the data."""
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(one >= observed - 1e-9 for one in sums) / len(sums)


def studentised_flip_p(differences: list[float]) -> float:
    """The same of the sum over its standard error."""

    def ratio(values: list[float]) -> float:
        error = np.std(values, ddof=1)
        return abs(sum(values)) / error if error > 0 else float("inf")

    flipped = [
        ratio([s * d for s, d in zip(signs, differences, strict=True)])
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(one >= ratio(differences) * (1 - 1e-9) for one in flipped) / len(flipped)


def paired_p(differences: list[float], draws: int, seed: int) -> float:
    """The largest p of flipped signs, of Student's t and of samples of the centred values, one after the other."""
    number, mean = len(differences), np.mean(differences)
    ratio = mean / (np.std(differences, ddof=1) / np.sqrt(number))
    largest = max(sign_flip_p(differences), stats.ttest_1samp(differences, 0.0).pvalue)
    if number < 4:
        return largest
    generator, ratios = np.random.default_rng(seed), []
    for row in generator.integers(0, number, (draws, number)):
        drawn = [differences[place] - mean for place in row]
        if len(set(drawn)) > 1:
            ratios.append(np.mean(drawn) / (np.std(drawn, ddof=1) / np.sqrt(number)))
    beyond = 1 + sum(one >= ratio if ratio > 0 else one <= ratio for one in ratios)
    return max(largest, min(1.0, 2 * beyond / (len(ratios) + 1) / (1 - 3 / number)))


def rank(values: list[float]) -> list[float]:
    """Ranks from 1, ties sharing their mean rank."""
    return [
        1 + sum(other < value for other in values) + (sum(other == value for other in values) - 1) / 2
        for value in values
    ]


def spearman(first: list[float], second: list[float]) -> float:
    """Pearson's correlation of ranks."""
    one, two = np.array(rank(first)), np.array(rank(second))
    one, two = one - one.mean(), two - two.mean()
    return float(sum(one * two) / np.sqrt(sum(one**2) * sum(two**2)))


def spearman_p(first: list[float], second: list[float]) -> float:
    """Share of orders of one side whose correlation is at least as far from 0."""
    observed = abs(spearman(first, second))
    orders = list(permutations(second))
    return sum(abs(spearman(first, list(order))) >= observed - 1e-9 for order in orders) / len(orders)


def holm(p_values: list[float]) -> list[float]:
    """Smallest level at which Holm's procedure, gone through step by step, rejects each."""
    count = len(p_values)
    order = sorted(range(count), key=lambda test: p_values[test])
    return [
        min(1.0, max(p_values[order[step]] * (count - step) for step in range(order.index(test) + 1)))
        for test in range(count)
    ]


def step_up(p_values: list[float], dependent: bool = False) -> list[float]:
    """Smallest false discovery rate at which Benjamini and Hochberg's procedure (or Yekutieli's) rejects each."""
    count = len(p_values)
    order = sorted(range(count), key=lambda test: p_values[test])
    factor = sum(1 / step for step in range(1, count + 1)) if dependent else 1.0
    return [
        min(1.0, min(p_values[order[step]] * count * factor / (step + 1) for step in range(order.index(test), count)))
        for test in range(count)
    ]
