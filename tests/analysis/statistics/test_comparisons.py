"""Corrected p-values, and all pairs of models held against each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from references.statistics import holm as slow_holm
from references.statistics import paired_p, step_up
from scipy import stats

from analysis.statistics.comparisons import (
    compare_scores,
    compare_values,
    score_difference,
    score_sample,
    value_difference,
)
from analysis.statistics.intervals import resample_counts
from analysis.statistics.multiplicity import CORRECTIONS, adjust_p_values
from analysis.statistics.resampling import video_metrics
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluation.metrics import classification_metrics

SLOW = {
    "holm": slow_holm,
    "benjamini-hochberg": step_up,
    "benjamini-yekutieli": lambda p_values: step_up(p_values, dependent=True),
    "none": lambda p_values: p_values,
}


def test_corrections_by_hand():
    p_values = np.array([0.01, 0.04, 0.03, 0.005])
    assert adjust_p_values(p_values, "holm") == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_p_values(p_values, "benjamini-hochberg") == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert adjust_p_values(np.array([0.6, 0.7]), "holm").tolist() == [1.0, 1.0]


@pytest.mark.parametrize("method", CORRECTIONS)
def test_corrections_equal_the_slow_definitions_in_any_order(method):
    rng = np.random.default_rng(0)
    p_values = np.round(rng.random(13) ** 3, 2)  # some are tied
    found = adjust_p_values(p_values, method)
    assert found == pytest.approx(SLOW[method](p_values.tolist()))
    order = rng.permutation(13)
    assert adjust_p_values(p_values[order], method) == pytest.approx(found[order])
    assert (found >= p_values).all()


def test_tests_that_were_not_made_count_for_none():
    with_gap = adjust_p_values(np.array([0.01, np.nan, 0.03]))
    assert with_gap == pytest.approx([0.02, np.nan, 0.03], nan_ok=True)
    assert np.isnan(adjust_p_values(np.array([np.nan, np.nan]))).all()


@pytest.mark.parametrize("bad", [-0.1, 1.5, np.inf])
def test_what_is_no_p_value_or_no_correction_is_refused(bad):
    with pytest.raises(ArgumentError, match=r"p-value 1 is .*expected a chance"):
        adjust_p_values(np.array([0.5, bad]))
    with pytest.raises(ArgumentError, match="unknown correction 'sidak'; known: holm, benjamini-hochberg"):
        adjust_p_values(np.array([0.5]), "sidak")


def scored(seed: int, better: float = 0.0, videos: int = 31) -> xr.Dataset:
    """Scores of a model that are `better` by so much where the label is true; labels are the same for every seed."""
    labels = np.random.default_rng(99).random((videos, 7)) < 0.3
    scores = np.random.default_rng(seed).random((videos, 7)) * 0.5 + better * labels
    coords = {"video": [f"v{row}" for row in range(videos)], "class": np.arange(7)}
    return xr.Dataset({"score": (("video", "class"), scores), "label": (("video", "class"), labels)}, coords)


def test_every_pair_and_metric_has_a_row_with_the_scores_themselves():
    tables = {"a": scored(0), "b": scored(1, 0.4), "c": scored(2, 0.1)}
    table = compare_scores(tables, resamples=300, permutations=999)
    assert table["metric"].unique().tolist() == ["gap", "map", "perr", "hit_at_1"]
    assert list(zip(table["first"], table["second"], strict=True))[:3] == [("a", "b"), ("a", "c"), ("b", "c")]
    whole = {name: classification_metrics(each["score"].values, each["label"].values) for name, each in tables.items()}
    for _, row in table.iterrows():
        sides = [100 * whole[row[side]][row["metric"]] for side in ("first", "second")]
        assert (row["first_value"], row["second_value"]) == pytest.approx(sides)
        assert row["difference"] == pytest.approx(sides[0] - sides[1])
        assert row["low"] < row["difference"] < row["high"]
        assert row["test"] == ("paired jackknife" if row["metric"] in ("gap", "map") else "paired signs and bootstrap")
    for _, family in table.groupby("metric"):
        assert family["p_adjusted"].tolist() == pytest.approx(slow_holm(family["p_value"].tolist()))


def test_jackknife_p_and_interval_agree_and_both_are_paired():
    counts = resample_counts(31, 500)
    tables = {name: scored(seed, better) for name, seed, better in (("a", 0, 0.0), ("b", 1, 0.2), ("c", 2, 0.05))}
    samples = {n: score_sample(t["score"].values, t["label"].values, counts, ("gap",)) for n, t in tables.items()}
    for first, second in (("a", "b"), ("a", "c"), ("b", "c")):
        found = score_difference(samples[first], samples[second], "gap")
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)
        labels, sides = (
            np.asarray(tables[first]["label"]),
            [np.asarray(tables[name]["score"]) for name in (first, second)],
        )
        kept = [np.delete(np.arange(31), left) for left in np.flatnonzero(labels.any(1))]
        gaps = [[classification_metrics(side[rows], labels[rows])["gap"] for side in sides] for rows in kept]
        pseudo = -(len(kept) - 1) * 100 * np.diff(gaps, axis=1).ravel()
        slow = np.std(pseudo, ddof=1) / np.sqrt(len(kept))  # of the jackknife's pseudo-values
        assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, len(kept) - 1) * slow, rel=1e-5)
        turned = score_difference(samples[second], samples[first], "gap")
        assert (turned.difference, turned.low, turned.p_value) == pytest.approx(
            (-found.difference, -found.high, found.p_value)
        )
    itself = score_difference(samples["a"], samples["a"], "gap")
    assert (itself.difference, itself.p_value) == (0.0, 1.0)
    assert np.isnan([itself.low, itself.high]).all()


def test_scores_of_single_videos_average_to_the_data_sets():
    table = scored(3, 0.2)
    scores, labels = np.asarray(table["score"]), np.asarray(table["label"])
    found, whole = video_metrics(scores, labels), classification_metrics(scores, labels)
    means = {name: np.nanmean(each) for name, each in found.items()}
    assert means == pytest.approx({name: whole[name] for name in found})
    assert np.isnan(found["hit_at_1"]).tolist() == (~labels.any(1)).tolist()
    alone = [classification_metrics(scores[row : row + 1], labels[row : row + 1])["perr"] for row in range(31)]
    np.testing.assert_allclose(found["perr"], alone)
    with pytest.raises(ArgumentError, match="expected one shape"):
        video_metrics(scores, labels[:29])


def test_values_a_video_are_compared_by_their_differences():
    rng = np.random.default_rng(5)
    one, two = rng.normal(0.5, 1.0, 11), rng.normal(0.0, 1.0, 11)
    one[3] = np.nan
    found = value_difference(one, two, resample_counts(11, 300))
    there = ~np.isnan(one)
    assert found.p_value == pytest.approx(paired_p((one - two)[there].tolist(), 9_999, 0))
    assert (found.first_value, found.second_value) == pytest.approx((one[there].mean(), two[there].mean()))
    assert (found.videos, found.test) == (10, "paired signs and bootstrap")
    shifted = value_difference(3 * one + 1, 3 * two + 1, resample_counts(11, 300))
    assert (shifted.difference, shifted.low, shifted.p_value) == pytest.approx(
        (3 * found.difference, 3 * found.low, found.p_value)
    )


def test_a_data_frame_of_values_is_compared_column_by_column():
    values = pd.DataFrame(np.random.default_rng(0).normal(size=(13, 3)), columns=["a", "b", "c"])
    table = compare_values(values, "mean S", resamples=100, correction="benjamini-hochberg")
    assert table[["metric", "first", "second"]].to_numpy().tolist() == [
        ["mean S", "a", "b"], ["mean S", "a", "c"], ["mean S", "b", "c"]
    ]  # fmt: skip
    assert table["p_adjusted"].tolist() == pytest.approx(step_up(table["p_value"].tolist()))
    assert set(table["correction"]) == {"benjamini-hochberg"}


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ArgumentError, match="1 models to compare; expected at least 2"):
        compare_scores({"a": scored(0)})
    with pytest.raises(ArgumentError, match="not scored on the same video"):
        compare_scores({"a": scored(0), "b": scored(1, videos=29)})
    with pytest.raises(ArgumentError, match="unknown metric 'auc'; known: gap, map"):
        compare_scores({"a": scored(0), "b": scored(1)}, ("auc",), resamples=10)
    with pytest.raises(ArgumentError, match="sides of 3 and 5 videos"):
        value_difference(np.zeros(3), np.zeros(5), resample_counts(3, 10))
    with pytest.raises(ArgumentError, match="0 models to compare"):
        compare_values({}, "x")
    one = compare_values({"a": np.array([1.0]), "b": np.array([2.0])}, "x", resamples=10)
    assert np.isnan(one[["low", "high", "p_value", "p_adjusted"]].to_numpy()).all()
