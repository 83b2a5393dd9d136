"""Rank correlation over families of models."""

import numpy as np
import pytest
from references.statistics import spearman, spearman_p

from analysis.statistics.families import family_correlation, least_p
from analysis.statistics.intervals import spearman as of_models

KINDS = ["a", "b", "b", "b", "c", "c", "c", "d", "d", "d", "e"]


def test_families_are_correlated_by_their_means():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 11))
    first[4] = np.nan
    mine = family_correlation(first, second, KINDS)
    sides = [[np.mean([side[row] for row in range(11) if KINDS[row] == name and row != 4]) for name in "abcde"]
             for side in (first, second)]  # fmt: skip
    assert mine.pairs == 5
    assert mine.rho == pytest.approx(spearman(*sides))
    assert mine.p_value == pytest.approx(spearman_p(*sides))
    order = random.permutation(11)
    assert family_correlation(first[order], second[order], [KINDS[row] for row in order]).p_value == mine.p_value


def test_too_few_families_or_equal_ones_have_no_correlation():
    assert family_correlation(np.arange(4.0), np.arange(4.0), ["a", "a", "b", "b"]) is None
    assert family_correlation(np.zeros(3), np.arange(3.0), ["a", "b", "c"]) is None


def test_families_keep_the_level_where_models_do_not():
    """Family effects in both numbers and no relation between them."""
    random, rejections = np.random.default_rng(1), np.zeros(2)
    families = np.unique(KINDS, return_inverse=True)[1]
    for _ in range(120):
        first, second = (random.normal(size=5)[families] + 0.3 * random.normal(size=11) for _ in range(2))
        rejections += (
            family_correlation(first, second, KINDS).p_value <= 0.05,
            of_models(first, second, permutations=499).p_value <= 0.05,
        )
    assert rejections[0] <= 0.1 * 120
    assert rejections[1] >= 0.15 * 120


def test_the_least_p_is_that_of_a_perfect_order():
    assert least_p(4) == pytest.approx(2 / 24)
    assert least_p(5) == family_correlation(np.arange(5.0), np.arange(5.0), list("abcde")).p_value
    assert least_p(1) == 1.0
