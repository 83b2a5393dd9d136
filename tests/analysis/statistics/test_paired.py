"""P-values of paired differences: by hand, by slow definitions, and how often they reject where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from references.statistics import paired_p as slow_paired
from references.statistics import sign_flip_p as slow_flips
from references.statistics import studentised_flip_p
from scipy import stats

from analysis.statistics import paired
from analysis.statistics.intervals import mean_interval, resample_counts
from analysis.statistics.paired import paired_p, sign_flip_p
from gmsa_models.errors import ArgumentError


def test_flipped_signs_by_hand_and_by_the_slow_definition():
    assert sign_flip_p(np.array([1.0, 1.0, 1.0])) == 2 / 8
    assert sign_flip_p(np.array([1.0, -1.0, np.nan])) == 1.0
    values = np.random.default_rng(0).normal(0.3, 1.0, 9)
    assert sign_flip_p(values) == pytest.approx(slow_flips(values.tolist()))


def test_a_standard_error_changes_no_p_value_of_flipped_signs():
    for seed in range(5):
        values = np.random.default_rng(seed).lognormal(size=8) - np.exp(0.5)
        assert sign_flip_p(values) == pytest.approx(studentised_flip_p(values.tolist()))


def test_drawn_signs_come_near_the_exact_ones():
    values = np.random.default_rng(1).normal(0.35, 1.0, 23)
    drawn = sign_flip_p(values, draws=40_000, seed=3)
    theirs = stats.permutation_test(
        (values, -values), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples", n_resamples=10_000, rng=1
    ).pvalue
    assert drawn == pytest.approx(theirs, abs=0.02)
    assert sign_flip_p(np.arange(1.0, 41.0), draws=99) == pytest.approx(1 / 100)  # the observed is one more


@pytest.mark.parametrize("videos", [2, 3, 4, 7, 11])
@pytest.mark.parametrize("shift", [-1.0, 0.2, 1.5])
def test_p_values_equal_the_slow_definition(videos, shift):
    values = np.random.default_rng(videos).lognormal(size=videos) - np.exp(0.5) + shift
    assert paired_p(values, draws=499, seed=1) == pytest.approx(slow_paired(values.tolist(), 499, 1))


def test_samples_drawn_in_chunks_are_as_many(monkeypatch):
    values = np.random.default_rng(0).lognormal(size=37) - 1.0
    whole = paired_p(values, draws=999, seed=2)
    monkeypatch.setattr(paired, "CHUNK", 400)
    sizes = list(paired._chunks(999, 37))
    assert (sum(sizes), max(sizes)) == (999, 10)
    assert paired_p(values, draws=999, seed=2) == pytest.approx(whole, abs=0.06)


def test_unit_side_and_missing_videos_change_nothing():
    values = np.random.default_rng(4).lognormal(size=19) - 1.2
    p_value = paired_p(values, seed=3)
    assert paired_p(4 * values, seed=3) == paired_p(-values, seed=3) == p_value
    assert paired_p(np.append(values, np.nan), seed=3) == p_value


def test_each_of_the_three_is_the_largest_somewhere():
    few = np.array([1.0, 1.1, 0.9, 1.05, 0.95])
    assert paired_p(few) == sign_flip_p(few) == 2 / 32
    rare = np.array([0.0] * 20 + [-1.0, 1.0, 1.0, 1.0])
    assert paired_p(rare) == sign_flip_p(rare) > stats.ttest_1samp(rare, 0.0).pvalue
    skewed = stats.lognorm(1.0).ppf((np.arange(16) + 0.5) / 16) - 2.4
    assert paired_p(skewed) > 1.5 * max(sign_flip_p(skewed), stats.ttest_1samp(skewed, 0.0).pvalue)
    above = stats.lognorm(1.0).ppf((np.arange(12) + 0.5) / 12) - 0.6
    assert paired_p(above) == pytest.approx(stats.ttest_1samp(above, 0.0).pvalue)
    assert paired_p(above) > 1.5 * sign_flip_p(above)


def test_equal_values_have_the_p_of_their_signs_and_nothing_has_none():
    assert paired_p(np.zeros(3)) == 1.0
    assert paired_p(np.full(6, 0.1)) == 2 / 64
    assert paired_p(np.array([2.0])) == 1.0
    with pytest.raises(ArgumentError, match="no differences to test; expected at least one video"):
        paired_p(np.array([np.nan]))


def test_a_p_below_five_percent_goes_with_an_interval_without_zero():
    random = np.random.default_rng(9)
    for _ in range(60):
        values = random.lognormal(size=12) - np.exp(0.5) + random.choice([-0.8, 0.0, 0.8])
        interval, p_value = mean_interval(values, resample_counts(12, 4000, seed=1)), paired_p(values, 3999)
        without = interval.low > 0 or interval.high < 0
        assert not p_value <= 0.04 or without
        assert p_value <= 0.06 or not without or sign_flip_p(values) > 0.05


LEVEL_DRAWS = 400


@pytest.mark.parametrize("videos", [6, 12, 32])
@pytest.mark.parametrize("shape", ["normal", "exponential", "lognormal"])
def test_p_values_keep_their_level_on_symmetric_and_skewed_differences(shape, videos):
    random = np.random.default_rng(videos)
    true = {"normal": 0.0, "exponential": 1.0, "lognormal": np.exp(0.5)}[shape]
    samples = getattr(random, shape)(size=(LEVEL_DRAWS, videos)) - true
    rejected = np.mean([paired_p(each, 399) <= 0.05 for each in samples])
    assert rejected <= 0.08
    flips = np.mean([sign_flip_p(each, 399) <= 0.05 for each in samples])
    assert rejected <= flips
    if shape == "lognormal":
        assert flips >= 0.10


def test_a_real_difference_is_seen():
    samples = np.random.default_rng(0).normal(1.0, 1.0, size=(100, 17))
    assert np.mean([paired_p(each, 399) <= 0.05 for each in samples]) >= 0.85
