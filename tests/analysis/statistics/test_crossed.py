"""Intervals over seeds and videos: by hand, against slow sums over pairs, and their coverage."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.crossed import _covariances, crossed_contrast, crossed_mean
from gmsa_models.errors import ArgumentError


def drawn(rng, treatments=4, seeds=3, videos=120, between=0.6, interaction=0.2, skewed=False):
    """Values of no difference between treatments: effects of seeds, of videos, and of each two of them."""
    one = rng.standard_normal
    of_videos = (lambda shape: np.exp(one(shape)) - np.exp(0.5)) if skewed else one
    return (
        between * one((1, seeds, 1))
        + interaction * one((treatments, seeds, 1))
        + 10 * of_videos((1, 1, videos))
        + 4 * of_videos((treatments, 1, videos))
        + 4 * of_videos((1, seeds, videos))
        + 8 * of_videos((treatments, seeds, videos))
    )


class TestCovariances:
    def test_against_every_pair_of_models(self):
        values = drawn(np.random.default_rng(0), 3, 5, 7)
        slow = np.cov(values.reshape(15, 7)) / 7
        places = list(product(range(3), range(5)))
        pairs = [(a, b) for a in range(15) for b in range(15) if places[a][1] != places[b][1]]
        within = [slow[a, b] for a, b in pairs if places[a][0] == places[b][0]]
        between = [slow[a, b] for a, b in pairs if places[a][0] != places[b][0]]
        np.testing.assert_allclose(_covariances(values), (np.mean(within), np.mean(between)))


class TestContrast:
    def test_two_treatments_whose_videos_agree_are_a_paired_t_test_of_seeds(self):
        """Where every video says what its seed says, only seeds tell how far a new study would differ."""
        scores = np.array([[3.0, 5.0, 4.0, 7.0], [2.0, 5.5, 2.0, 4.0]])
        parts = np.repeat(scores[..., None], 9, axis=2)
        result = crossed_contrast(scores, parts, np.array([1.0, -1.0]))
        paired = stats.ttest_rel(*scores)
        ends = paired.confidence_interval()
        np.testing.assert_allclose(
            (result.value.estimate, result.value.low, result.value.high, result.p_value, result.degrees),
            (1.375, ends.low, ends.high, paired.pvalue, 3),
        )

    def test_nothing_depends_on_what_all_models_share(self):
        rng = np.random.default_rng(1)
        values, weights = drawn(rng), np.array([1.0, 0.0, -0.5, -0.5])
        shared = values + 30 * rng.standard_normal((1, 3, 1)) + 50 * rng.standard_normal((1, 1, 120))
        one, other = (crossed_contrast(each.mean(2), each, weights) for each in (values, shared))
        np.testing.assert_allclose((one.value.low, one.value.high), (other.value.low, other.value.high))

    def test_videos_without_a_label_are_left_out(self):
        values, weights = drawn(np.random.default_rng(2)), np.array([1.0, -1.0, 0.0, 0.0])
        more = np.concatenate([values, np.full((4, 3, 2), np.nan)], axis=2)
        assert crossed_contrast(values.mean(2), more, weights) == crossed_contrast(values.mean(2), values, weights)

    def test_one_seed_has_no_interval(self):
        values = drawn(np.random.default_rng(3), seeds=1)
        result = crossed_contrast(values.mean(2), values, np.array([1.0, -1.0, 0.0, 0.0]))
        assert np.isfinite(result.value.estimate)
        assert np.isnan([result.value.low, result.value.high, result.p_value]).all()

    def test_weights_that_do_not_add_up_to_0_are_refused(self):
        with pytest.raises(ArgumentError, match="weights of the treatments that add up to 0"):
            crossed_contrast(np.zeros((4, 3)), np.zeros((4, 3, 5)), np.array([1.0, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize(("seeds", "interaction"), [(2, 0.2), (3, 0.02), (3, 0.6), (5, 0.2)])
def test_the_intervals_hold_what_they_say(seeds, interaction, skewed):
    """The same in full: `python benchmarks/study_coverage.py`."""
    rng, draws, contrasts, means = np.random.default_rng(seeds), 400, 0, 0
    for _ in range(draws):
        values = drawn(rng, seeds=seeds, interaction=interaction, skewed=skewed)
        ends = crossed_contrast(values.mean(2), values, np.array([1.0, -1.0, 0.0, 0.0])).value
        contrasts += ends.low <= 0 <= ends.high
        ends = crossed_mean(values[0]).value
        means += ends.low <= 0 <= ends.high
    assert 0.92 <= contrasts / draws <= 0.98
    assert 0.88 <= means / draws <= 0.98
