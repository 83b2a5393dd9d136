"""Intervals and rank correlations, and scores of resampled videos."""

import numpy as np
import pytest
from references.statistics import mean_ends as slow_ends
from references.statistics import resampled_means as slow_means
from references.statistics import spearman as slow_spearman
from references.statistics import spearman_p
from scipy import stats

from analysis.statistics.intervals import (
    group_mean_values,
    mean_ends,
    mean_interval,
    resample_counts,
    resampled_means,
    sign_test_p,
    spearman,
)
from analysis.statistics.resampling import resampled_metrics
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluation.metrics import METRICS, classification_metrics


def test_resamples_draw_as_many_videos_and_follow_the_seed():
    counts = resample_counts(7, 5, seed=3)
    assert counts.shape == (5, 7)
    assert (counts.sum(1) == 7).all()
    assert (counts == resample_counts(7, 5, seed=3)).all()
    assert (counts != resample_counts(7, 5, seed=4)).any()


@pytest.mark.parametrize(("videos", "resamples"), [(0, 5), (5, 0)])
def test_resamples_of_nothing_are_refused(videos, resamples):
    with pytest.raises(ArgumentError, match="at least 1"):
        resample_counts(videos, resamples)


def test_resampled_means_equal_the_slow_definition_and_skip_missing_videos():
    values = np.array([2.0, np.nan, 5.0, 11.0, 3.0])
    counts = resample_counts(5, 13, seed=1)
    assert resampled_means(values, counts) == pytest.approx(slow_means(values, counts), nan_ok=True)


def test_resampled_means_of_curves_are_those_of_each_point():
    values = np.random.default_rng(0).normal(size=(5, 3, 2))
    counts = resample_counts(5, 7)
    together = resampled_means(values, counts)
    assert together.shape == (7, 3, 2)
    np.testing.assert_allclose(together[:, 2, 1], resampled_means(values[:, 2, 1], counts))


def test_a_sample_without_any_value_is_nan():
    counts = np.array([[2, 0], [0, 2]])
    assert resampled_means(np.array([4.0, np.nan]), counts) == pytest.approx([4.0, np.nan], nan_ok=True)


def test_counts_of_other_videos_are_refused():
    with pytest.raises(ArgumentError, match="values of 3 videos, resamples of 5"):
        resampled_means(np.zeros(3), resample_counts(5, 2))


@pytest.mark.parametrize("videos", [2, 3, 4, 7, 23])
def test_intervals_equal_the_slow_definition(videos):
    values, counts = np.random.default_rng(videos).lognormal(size=videos), resample_counts(videos, 300)
    low, high = mean_ends(values, counts)
    assert (low, high) == pytest.approx(slow_ends(values.tolist(), counts))
    short = np.append(values, np.nan)  # a video without a value
    counts = resample_counts(videos + 1, 300)
    assert mean_ends(short, counts) == pytest.approx(slow_ends(short.tolist(), counts))


def test_intervals_of_columns_are_those_of_each():
    values = np.random.default_rng(0).normal(size=(11, 3, 2))
    values[:4, 1, 0] = np.nan
    values[1:, 2, 1] = np.nan
    counts = resample_counts(11, 99)
    low, high = mean_ends(values, counts)
    assert low.shape == high.shape == (3, 2)
    for place in np.ndindex(3, 2):
        mine = mean_interval(values[:, *place], counts)
        assert (low[place], high[place]) == pytest.approx((mine.low, mine.high), nan_ok=True)
    assert np.isnan(low[2, 1])
    assert np.isfinite(low).sum() == 5


def test_two_and_three_values_have_students_interval_and_no_fewer():
    for values in ([1.0, 4.0], [1.0, 4.0, 4.5]):
        theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        mine = mean_interval(np.array(values), resample_counts(len(values), 50))
        assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high))


def test_the_interval_is_no_shorter_than_students_and_longer_on_the_side_of_the_skew():
    values, counts = np.random.default_rng(3).lognormal(size=16), resample_counts(16)
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    mine = mean_interval(values, counts)
    assert mine.low == pytest.approx(theirs.low)
    assert mine.high - mine.estimate > 1.3 * (theirs.high - mine.estimate)


@pytest.mark.parametrize("shape", ["normal", "lognormal"])
@pytest.mark.parametrize("videos", [4, 16, 64])
def test_intervals_hold_the_true_mean_as_often_as_they_say(shape, videos):
    random = np.random.default_rng(videos)
    samples = getattr(random, shape)(size=(videos, 400))
    true = {"normal": 0.0, "lognormal": np.exp(0.5)}[shape]
    # `resample_counts` once for all: the samples are independent columns.
    low, high = mean_ends(samples, resample_counts(videos, 999, seed=1))
    assert 0.90 <= ((low <= true) & (true <= high)).mean() <= 0.99


def test_equal_values_have_no_interval():
    for value in (0.0, 0.1, 1.0):
        mine = mean_interval(np.full(7, value), resample_counts(7, 50))
        assert mine.estimate == pytest.approx(value)
        assert np.isnan([mine.low, mine.high]).all()


def test_rare_events_do_not_make_an_endless_interval():
    values = np.zeros(8)
    values[0] = 1.0  # 34 percent of the samples hold zeros alone
    mine = mean_interval(values, resample_counts(8, 500))
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert np.isfinite([mine.low, mine.high]).all()
    assert mine.low <= theirs.low
    assert mine.high >= theirs.high


def test_a_groups_values_have_its_mean_and_are_its_jackknife():
    values = np.array([3.0, np.nan, 5.0, 10.0, np.nan])
    mine = group_mean_values(values)
    assert mine.mean() == pytest.approx(6.0)
    without = [np.nanmean(np.delete(values, place)) for place in range(5)]
    assert mine == pytest.approx([5 * 6.0 - 4 * each for each in without])
    assert np.isnan(group_mean_values(np.array([1.0, np.nan]))).all()


def test_the_interval_moves_with_the_values():
    values, counts = np.random.default_rng(2).normal(size=11), resample_counts(11, 50)
    one, other = mean_interval(values, counts), mean_interval(3 * values + 5, counts)
    assert (other.low, other.high) == pytest.approx((3 * one.low + 5, 3 * one.high + 5))


def test_one_video_has_no_interval_and_none_has_no_mean():
    one = mean_interval(np.array([2.0, np.nan]), resample_counts(2, 5))
    assert one.estimate == 2.0
    assert np.isnan([one.low, one.high]).all()
    with pytest.raises(ArgumentError, match="none of 2 videos"):
        mean_interval(np.array([np.nan, np.nan]), resample_counts(2, 5))


def test_of_drawn_permutations_the_observed_counts_as_one_more():
    rising = np.arange(1.0, 41.0)
    assert spearman(rising, rising, permutations=99).p_value == pytest.approx(1 / 100)


def test_spearman_by_hand_by_scipy_and_by_the_slow_definition():
    assert spearman(np.array([1.0, 2, 3, 4, 5]), np.array([1.0, 4, 9, 16, 25])).rho == pytest.approx(1.0)
    assert spearman(np.array([1.0, 2, 3]), np.array([5.0, 4, 1])).rho == pytest.approx(-1.0)
    rng = np.random.default_rng(4)
    first, second = rng.integers(0, 4, 6).astype(float), rng.normal(size=6)
    mine = spearman(first, second)
    assert mine.rho == pytest.approx(stats.spearmanr(first, second).statistic)
    assert mine.rho == pytest.approx(slow_spearman(first.tolist(), second.tolist()))
    assert mine.p_value == pytest.approx(spearman_p(first.tolist(), second.tolist()))
    assert mine.pairs == 6


def test_spearman_of_ten_has_its_interval_and_a_drawn_p_value():
    rng = np.random.default_rng(4)
    first = rng.normal(size=11)
    second = first + rng.normal(size=11)
    mine = spearman(first, second, permutations=20_000)
    reach = 1.959964 * np.sqrt((1 + mine.rho**2 / 2) / 8)
    assert (mine.low, mine.high) == pytest.approx(
        (np.tanh(np.arctanh(mine.rho) - reach), np.tanh(np.arctanh(mine.rho) + reach)), abs=1e-6
    )
    drawn = stats.permutation_test(
        (first,),
        lambda x: abs(stats.spearmanr(x, second).statistic),
        permutation_type="pairings",
        n_resamples=500,
        alternative="greater",
        rng=1,
    )
    assert mine.p_value == pytest.approx(drawn.pvalue, abs=0.03)
    # Any rising change of either side leaves ranks alone.
    assert spearman(np.exp(first), 3 * second, permutations=20_000) == mine


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0], "at least 3"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0], "one length"),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], "first side is 1 throughout"),
        ([1.0, 2.0, 3.0], [1.0, np.nan, 3.0], "second side is not finite at place 1"),
    ],
)
def test_pairs_without_a_rank_correlation_are_refused(first, second, message):
    with pytest.raises(ArgumentError, match=message):
        spearman(np.array(first), np.array(second))


def test_the_sign_test_is_binomial():
    assert sign_test_p(5, 0) == pytest.approx(2 / 32)
    assert sign_test_p(3, 3) == sign_test_p(0, 0) == 1.0


def test_resampled_scores_are_those_of_the_repeated_rows():
    rng = np.random.default_rng(0)
    scores, labels = rng.random((13, 5)).astype(np.float32), rng.random((13, 5)) < 0.3
    counts = np.concatenate([np.ones((1, 13), np.int64), resample_counts(13, 11, seed=2)])
    for top_k in (2, 5, None):
        mine = resampled_metrics(scores, labels, counts, top_k)
        for row, count in enumerate(counts):
            rows = np.repeat(np.arange(13), count)
            slow = classification_metrics(scores[rows], labels[rows], top_k)
            assert {name: mine[name][row] for name in METRICS} == pytest.approx(slow, abs=1e-9)


def test_resampled_scores_leave_out_videos_without_labels():
    random = np.random.default_rng(3)
    scores, labels = random.random((7, 5)).astype(np.float32), np.eye(7, 5, dtype=bool)
    counts = resample_counts(7, 40)
    mine = resampled_metrics(scores, labels, counts)
    for row, drawn in enumerate(counts):
        repeated = np.repeat(np.arange(7), drawn)
        if labels[repeated].any():
            whole = classification_metrics(scores[repeated], labels[repeated])
            assert mine["perr"][row] == pytest.approx(whole["perr"])
            assert mine["hit_at_1"][row] == pytest.approx(whole["hit_at_1"])
    none = resampled_metrics(scores, np.zeros((7, 5), bool), counts)
    assert all(np.isnan(values).all() for values in none.values())
    only = np.zeros((3, 7), int)
    only[:, 6] = 2  # a sample of nothing but a video without a label
    assert all(np.isnan(values).all() for values in resampled_metrics(scores, labels, only).values())


def test_resampled_scores_refuse_shapes_that_do_not_fit():
    with pytest.raises(ArgumentError, match="do not fit together"):
        resampled_metrics(np.zeros((3, 2), np.float32), np.zeros((3, 2), bool), resample_counts(5, 4))
