"""What the paper's figures are computed from: lags, selections, contrasts, verdicts, the table. No models."""

import numpy as np
import pytest
import xarray as xr
from references.paper import contrast as slow_contrast
from references.paper import mass_by_lag as slow_mass
from scipy.stats import ttest_1samp

from analysis.attention.blend import blended_attention
from analysis.attention.lags import mass_by_lag, mean_by_lag, uniform_mass_by_lag
from analysis.statistics.intervals import Interval
from analysis.statistics.jackknife import jackknife_counts, jackknife_interval
from analysis.study.claims import (
    CONFIRMED,
    NOT_CONFIRMED,
    UNDECIDED,
    Part,
    claims_table,
    locality_and_score,
    neighbours_alike,
    order_of_scores,
    uneven_global_profile,
    verdict_of,
    vertical_lines,
)
from analysis.study.contrast import clearest, contrast
from analysis.study.results import metric_samples, results_table
from analysis.study.selection import clips_at, select
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluation.metrics import classification_metrics
from gmsa_models.masks import neighbourhood_from_text, neighbourhood_text


def test_mass_by_lag_by_hand_and_by_the_slow_definition():
    np.testing.assert_allclose(mass_by_lag(np.array([[1.0, 2], [3, 4]])), [0.5, 0.5])
    pairs = np.random.default_rng(0).random((7, 7))
    np.testing.assert_allclose(mass_by_lag(pairs), slow_mass(pairs))
    np.testing.assert_allclose(mass_by_lag(5 * pairs), mass_by_lag(pairs))
    np.testing.assert_allclose(mass_by_lag(pairs.T), mass_by_lag(pairs))
    hole, nothing = pairs.astype(float), pairs.astype(float)
    hole[1, 2], nothing[1, 2] = np.nan, 0.0
    np.testing.assert_allclose(mass_by_lag(hole), slow_mass(nothing))


def test_uniform_mass_and_means_by_lag():
    np.testing.assert_allclose(uniform_mass_by_lag(3), [3 / 9, 4 / 9, 2 / 9])
    lags = np.abs(np.arange(5)[:, None] - np.arange(5)[None, :]).astype(float)
    np.testing.assert_allclose(mean_by_lag(3 * lags), 3 * np.arange(5))


def record_of(maps: dict[str, np.ndarray], gates: dict[str, np.ndarray] | None = None) -> xr.Dataset:
    """Maps (head, query, key) and gates (frame) a branch, one modality."""
    branches = list(maps)
    data = {"attention": (("modality", "branch", "head", "query", "key"), np.stack(list(maps.values()))[None])}
    if gates:
        data["gate"] = (("modality", "branch", "frame"), np.stack([gates[name] for name in branches])[None])
    return xr.Dataset(data, {"modality": ["visual"], "branch": branches})


def test_the_blended_map_of_each_kind_of_block():
    rng = np.random.default_rng(0)
    one, two, both = (rng.random((2, 3, 3)) for _ in range(3))
    np.testing.assert_allclose(blended_attention(record_of({"global": one}), "visual"), one.mean(0))
    combined = record_of({"global": one, "local": two, "combined": both})
    np.testing.assert_allclose(blended_attention(combined, "visual"), both.mean(0))
    gates = {"global": np.array([0.1, 0.5, 1.0]), "local": np.array([0.9, 0.5, 0.0])}
    blend = blended_attention(record_of({"global": one, "local": two}, gates), "visual")
    np.testing.assert_allclose(blend[0], 0.1 * one.mean(0)[0] + 0.9 * two.mean(0)[0])
    np.testing.assert_allclose(blend[2], one.mean(0)[2])
    turned = record_of({"global": one, "local": two}, gates).transpose("key", "query", ...)
    np.testing.assert_allclose(blended_attention(turned, "visual"), blend)


def test_the_first_long_videos_are_selected():
    lengths = np.array([5, 30, 7, 40, 35, 50])
    assert select(lengths, 2, 30).places == (1, 3)
    assert select(lengths, 2, 30).frames == 30
    few = select(lengths, 5, 30)
    assert (few.places, few.frames) == ((1, 2, 3, 4, 5), 7)
    everything = select(lengths, 11, 100)
    assert (everything.places, everything.frames) == ((0, 1, 2, 3, 4, 5), 5)
    with pytest.raises(ValueError, match="expected at least 1"):
        select(lengths[:0], 1, 1)


def test_demo_clips_are_made_alone_and_in_order():
    assert [clip.id for clip in clips_at(["demo:3-7", "demo:1"], [4, 1, 1])] == ["demo-0004", "demo-0001"]


def scores_of(scores: np.ndarray, labels: np.ndarray) -> xr.Dataset:
    """Scores and labels as a study keeps them."""
    coords = {"video": [f"v{row}" for row in range(len(scores))], "class": np.arange(scores.shape[1])}
    return xr.Dataset({"score": (("video", "class"), scores), "label": (("video", "class"), labels)}, coords)


def test_contrast_by_hand():
    labels = np.array([[True, False], [True, False], [False, True]])
    baseline = scores_of(np.array([[0.2, 0.6], [0.4, 0.5], [0.1, 0.9]]), labels)
    other = scores_of(np.array([[0.7, 0.1], [0.9, 0.2], [0.6, 0.5]]), labels)
    found = contrast("gate-op", baseline, other)
    assert (found.video, found.wins, found.losses, found.videos) == (0, 2, 1, 3)
    assert found.margin == pytest.approx(0.4 + 0.6)
    assert found.p_value == 1.0


def test_contrast_equals_the_slow_definition_and_picks_the_clearest_model():
    rng = np.random.default_rng(3)
    labels = rng.random((31, 5)) < 0.3
    tables = [scores_of(rng.random((31, 5)), labels) for _ in range(3)]
    found = {name: contrast(name, tables[0], table) for name, table in zip("ab", tables[1:], strict=True)}
    for name, table in zip("ab", tables[1:], strict=True):
        video, margin, wins, losses = slow_contrast(tables[0]["score"].values, table["score"].values, labels)
        one = found[name]
        assert (one.video, one.wins, one.losses) == (video, wins, losses)
        assert one.margin == pytest.approx(margin)
        turned = contrast(name, tables[0].transpose("class", "video"), table.transpose("class", "video"))
        assert turned == one
    assert clearest(found).margin == max(one.margin for one in found.values())


def test_contrast_without_such_a_video_and_of_other_videos():
    labels = np.array([[True, False]])
    same = scores_of(np.array([[0.9, 0.1]]), labels)
    none = contrast("a", same, same)
    assert none.video is None
    assert clearest({"a": none}) == none
    with pytest.raises(ValueError, match="not of the same video"):
        contrast("a", same, same.assign_coords(video=["other"]))
    with pytest.raises(ValueError, match="no model to hold against Baseline"):
        clearest({})


def part(estimate: float, low: float, high: float, sign: str = ">") -> Part:
    """A part of a claim."""
    return Part("number", "n", Interval(float(estimate), float(low), float(high)), sign=sign)


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ([part(2, 1, 3)], CONFIRMED),
        ([part(2, 1, 3), part(1, -1, 3, ">=")], CONFIRMED),
        ([part(2, 1, 3), part(-1, -3, 1, ">=")], UNDECIDED),
        ([part(2, 1, 3), part(1, -1, 3)], UNDECIDED),
        ([part(2, 1, 3), part(-2, -3, -1, ">=")], NOT_CONFIRMED),
        ([part(2, 1, 3), part(-2, -3, -1, "")], CONFIRMED),
        ([part(2, float("nan"), float("nan"))], UNDECIDED),
        ([], UNDECIDED),
    ],
)
def test_verdicts_follow_one_rule(parts, verdict):
    assert verdict_of(parts) == verdict


def gap_samples(estimate: float, seed: int) -> xr.Dataset:
    """Scores of a model whose GAP of 400 videos has a standard error of 0.1."""
    without = estimate + 0.1 / np.sqrt(399) * np.random.default_rng(seed).normal(size=400)
    return xr.Dataset(
        {"estimate": ("metric", [estimate]), "without": (("metric", "group"), without[None])}, {"metric": ["gap"]}
    )


def test_c1_holds_families_against_each_other():
    kinds = {"baseline": "baseline", "s": "share-att", "a": "gate-att", "o1": "gate-op", "o2": "gate-op"}
    gaps = {"baseline": 40.0, "s": 41.0, "a": 41.0, "o1": 43.0, "o2": 45.0}
    draws = {name: gap_samples(value, seed) for seed, (name, value) in enumerate(gaps.items())}
    claim = order_of_scores(draws, kinds, 101)
    assert [round(one.value.estimate, 6) for one in claim.parts] == [3.0, 0.0, 1.0]
    assert claim.verdict == CONFIRMED
    worse = order_of_scores(draws | {"s": gap_samples(38.0, 9)}, kinds, 101)
    assert worse.verdict == NOT_CONFIRMED
    del draws["a"]
    assert order_of_scores(draws, kinds, 101).verdict == UNDECIDED


def sensitivity_of(mean: float, own: bool = True) -> xr.Dataset:
    """S of a model, two videos."""
    values = np.full((2, 3), mean)
    data = {"sensitivity": (("video", "frame"), values)}
    return xr.Dataset(data | ({"own_sensitivity": (("video", "frame"), values)} if own else {}))


def test_c2_correlates_over_families():
    names = [f"m{row}" for row in range(12)]
    kinds = {name: f"family {row // 2}" for row, name in enumerate(names)}
    tables = {name: sensitivity_of(0.5 + row / 30, own=row > 1) for row, name in enumerate(names)}
    rising = locality_and_score(tables, {name: float(row) for row, name in enumerate(names)}, kinds, seed=0)
    assert rising.parts[0].value.estimate == pytest.approx(1.0)
    assert "(6 families of 12 models)" in rising.parts[0].what
    assert "(5 families of 10 models)" in rising.parts[1].what
    assert rising.parts[0].p_value == pytest.approx(2 / 720)
    assert rising.verdict == CONFIRMED
    falling = locality_and_score(tables, {name: -float(row) for row, name in enumerate(names)}, kinds, seed=0)
    assert falling.verdict == NOT_CONFIRMED
    two = locality_and_score({name: tables[name] for name in names[:4]}, dict.fromkeys(names, 1.0), kinds, seed=0)
    assert two.verdict == UNDECIDED


def test_c2_of_four_families_is_undecided_and_says_why():
    names = [f"m{row}" for row in range(10)]
    kinds = {name: "bcda"[min(row, 3)] for row, name in enumerate(names)}
    tables = {name: sensitivity_of(0.5 + row / 30) for row, name in enumerate(names)}
    claim = locality_and_score(tables, {name: float(row) for row, name in enumerate(names)}, kinds, seed=0)
    assert claim.parts[0].value.estimate == pytest.approx(1.0)
    assert claim.parts[0].p_value == pytest.approx(2 / 24)
    assert claim.verdict == UNDECIDED
    assert claim.sample == "4 families of 10 models; the least p of 4 is 0.083"


def test_c3_and_c4_are_differences_over_videos():
    rng = np.random.default_rng(0)
    gini = 0.5 + 0.01 * rng.normal(size=(13, 2, 2))
    gini[..., 0] += 0.2
    coords = {"modality": ["visual", "audio"], "branch": ["global", "local"]}
    both = xr.Dataset({"gini": (("video", "modality", "branch"), gini)}, coords)
    only = both.sel(branch=["global"])
    claim = uneven_global_profile({"a": both, "b": both, "baseline": only}, seed=0, resamples=200)
    assert claim.verdict == CONFIRMED
    assert [one.value.estimate for one in claim.parts] == pytest.approx((gini[..., 0] - gini[..., 1]).mean(0))
    assert "mean of 2 models" in claim.parts[0].what
    assert all(one.p_value == pytest.approx(2 / 10_000 / (1 - 3 / 13)) for one in claim.parts)
    maps = xr.Dataset(
        {
            "verticality_adjusted": (("video", "modality", "head"), 0.3 + 0.01 * rng.normal(size=(13, 2, 5))),
            "top_share": (("video", "modality", "branch"), np.full((13, 2, 2), 0.6)),
        },
        coords,
    )
    lines = vertical_lines(maps, seed=0, resamples=200)
    assert lines.verdict == CONFIRMED
    assert [one.sign for one in lines.parts] == [">", "", ">", ""]
    assert lines.parts[1].value.estimate == pytest.approx(0.6)


def test_c5_compares_neighbours_with_frames_far_apart():
    lags = np.arange(41.0)
    values = np.exp(-lags / 10)[None, None].repeat(7, 0) + 0.001 * np.random.default_rng(0).normal(size=(7, 1, 41))
    table = xr.Dataset(
        {"similarity_by_lag": (("video", "modality", "lag"), values)}, {"modality": ["visual"], "lag": lags}
    )
    claim = neighbours_alike(table, seed=0, resamples=200)
    assert claim.verdict == CONFIRMED
    assert claim.parts[0].value.estimate == pytest.approx(np.exp(-0.1) - np.exp(-lags[30:] / 10).mean(), abs=1e-3)
    short = neighbours_alike(table.isel(lag=slice(11)), seed=0, resamples=200)
    assert short.verdict == UNDECIDED
    assert neighbours_alike(table.isel(video=[0]), seed=0, resamples=200).verdict == UNDECIDED


def test_claims_become_one_table():
    kinds = {"baseline": "baseline", "o": "gate-op"}
    claim = order_of_scores({"baseline": gap_samples(1.0, 0), "o": gap_samples(2.0, 1)}, kinds, 101)
    table = claims_table([claim, claim])
    assert table.sizes["part"] == 6
    assert set(table["verdict"].values) == {UNDECIDED}
    assert table["sign"].values.tolist() == [">", ">=", ">"] * 2


def test_table_1_holds_ours_beside_the_published():
    rng = np.random.default_rng(0)
    labels = rng.random((31, 5)) < 0.4
    tables = {
        name: scores_of(rng.random((31, 5)).astype(np.float32), labels) for name in ("baseline", "gate-op-tp30", "x")
    }
    draws = {name: metric_samples(table) for name, table in tables.items()}
    kinds = {"baseline": "baseline", "gate-op-tp30": "gate-op", "x": "gate-op"}
    seconds = xr.Dataset({"seconds": ("family", [2.0, 3.0])}, {"family": ["baseline", "gate-op"]})
    table = results_table(draws, kinds, dict.fromkeys(tables, 1.5), seconds, 31)
    expected = classification_metrics(tables["x"]["score"].values, labels)
    one = table.sel(model="x")
    assert dict(zip(table["metric"].values, one["score"].values, strict=True)) == pytest.approx(
        {name: 100 * value for name, value in expected.items()}
    )
    assert (one["low"] < one["score"]).all()
    assert (one["score"] < one["high"]).all()
    assert np.isnan(one["published"].values).all()
    assert table["published"].sel(model="gate-op-tp30").values.tolist() == [86.13, 47.49, 80.10, 88.49]
    assert table["time"].values.tolist() == [1.0, 1.5, 1.5]
    assert table["published_time"].values[:2] == pytest.approx([1.0, 49 / 43])
    assert table["published_size"].values[:2].tolist() == [48.9, 61.0]


def test_the_jackknife_of_a_mean_is_students_interval():
    values = np.random.default_rng(0).normal(7.0, 2.0, 13)
    without = np.array([np.delete(values, left).mean() for left in range(13)])
    found, theirs = jackknife_interval(values.mean(), without), ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    assert np.isnan(jackknife_interval(5.0, without[:1]).low)
    assert np.isnan(jackknife_interval(5.0, np.full(7, 5.0)).low)


def test_more_videos_than_groups_are_left_out_together():
    counts = jackknife_counts(7, groups=3)
    assert counts.tolist() == [[0, 1, 1, 0, 1, 1, 0], [1, 0, 1, 1, 0, 1, 1], [1, 1, 0, 1, 1, 0, 1]]
    assert (jackknife_counts(5) == 1 - np.eye(5)).all()
    with pytest.raises(ArgumentError, match="0 videos to leave out"):
        jackknife_counts(0)


@pytest.mark.parametrize("text", ["BD20", "TP30", "TD60×4"])
def test_neighbourhoods_are_written_as_the_paper_does(text):
    assert neighbourhood_text(neighbourhood_from_text(text.replace("×", "x").lower())) == text


@pytest.mark.parametrize("text", ["TD60", "BD20x2", "XX3", "TP", "TP0", ""])
def test_what_is_no_neighbourhood_is_refused(text):
    with pytest.raises(ArgumentError):
        neighbourhood_from_text(text)
