"""Ablations over a data set: means, scores, costs; and on one video."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from small_models import VOCABULARY, small_clip, small_model

from analysis.interventions.ablation import Ablation, all_ablations
from analysis.interventions.ablation_scores import ablate_clip, ablation_costs, ablation_scores, context_means
from analysis.statistics.jackknife import jackknife_interval
from gmsa_models import write_clips
from gmsa_models.data.batch import Batch
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluation.metrics import classification_metrics
from gmsa_models.evaluation.scoring import predict

module = importlib.import_module(
    "analysis.interventions.ablation_scores"
)  # the package exports a function of that name
KINDS = ("baseline", "share-att", "gate-att", "gate-op")
LENGTHS = (13, 7, 11, 5, 13, 17, 3)
LABELS = ((11,), (3, 5), (17,), (11, 19), (5,), (3,), (404,))


def clips() -> list:
    """Seven clips of different lengths and labels."""
    return [small_clip(frames, seed, labels=LABELS[seed]) for seed, frames in enumerate(LENGTHS)]


@pytest.mark.parametrize("kind", KINDS)
def test_means_are_over_every_real_frame_of_every_clip(kind):
    model = small_model(kind)
    found = context_means(model, clips(), batch_size=3)
    assert (found.videos, found.frames) == (7, sum(LENGTHS))
    traces = [model.trace(Batch.from_clips([clip])).layer("audio") for clip in clips()]
    name = "combined" if kind == "gate-att" else "global"
    slow = torch.cat([trace.contexts[name][0] for trace in traces], 1).double().mean(1)
    mine = found.values["audio", "global"]
    mine = mine + found.values["audio", "local"] if kind == "gate-att" else mine
    torch.testing.assert_close(mine, slow, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_in_the_order_of_the_source_and_the_intact_ones_the_models(kind):
    model = small_model(kind)
    table = ablation_scores(model, clips(), batch_size=3)
    plain = predict(model, clips())
    np.testing.assert_allclose(table["intact"], plain.scores, atol=1e-6)
    np.testing.assert_array_equal(table["label"], plain.labels)
    assert table["video"].values.tolist() == [f"clip{seed}" for seed in range(7)]
    assert table.attrs == {"mean_videos": 7, "mean_frames": sum(LENGTHS)}
    assert (abs(table["score"] - table["intact"]).max(("video", "class")) > 1e-5).all()


def test_scores_are_those_of_each_clip_alone_with_the_means_of_all():
    model, means = small_model("gate-att"), context_means(small_model("gate-att"), clips())
    table = ablation_scores(model, clips())
    for place, clip in enumerate(clips()):
        alone = ablate_clip(model, clip, means)
        np.testing.assert_allclose(table["score"].isel(video=place), alone["score"], atol=1e-6)
        np.testing.assert_allclose(table["intact"].isel(video=place), alone["intact_score"], atol=1e-6)
        np.testing.assert_array_equal(table["kind"], alone["kind"])


def test_a_second_pass_that_reads_again_gives_the_same(monkeypatch, tmp_path):
    write_clips(tmp_path / "clips.tfrecord", clips())
    kept = ablation_scores(small_model("gate-op"), tmp_path / "clips.tfrecord")
    monkeypatch.setattr(module, "MAX_KEPT_BYTES", 0)
    reads = []
    real = module.limited
    monkeypatch.setattr(module, "limited", lambda *given, **named: reads.append(1) or real(*given, **named))
    again = ablation_scores(small_model("gate-op"), tmp_path / "clips.tfrecord")
    assert len(reads) == 2
    np.testing.assert_allclose(again["score"], kept["score"], atol=1e-6)


def test_given_means_are_used_and_the_training_mode_comes_back():
    model = small_model("gate-op", dropout=0.5).train()
    chosen = [Ablation("visual", "mean", head=1)]
    other = context_means(model, clips()[:2])
    one, two = (ablation_scores(model, clips(), chosen, means) for means in (None, other))
    assert model.training
    assert two.attrs["mean_videos"] == 2
    assert float(abs(one["score"] - two["score"]).max()) > 1e-6


@pytest.mark.parametrize("metric", ["gap", "map", "perr", "hit_at_1"])
def test_costs_are_differences_of_the_scores_with_paired_intervals(metric):
    table = ablation_scores(
        small_model("gate-op"), clips(), all_ablations(small_model("gate-op"), ("zero",), ("branch",))
    )
    costs = ablation_costs(table, (metric,), resamples=300)
    labels = table["label"].values
    for place, row in costs.iterrows():
        sides = [
            classification_metrics(each, labels)[metric]
            for each in (table["intact"].values, table["score"].values[place])
        ]
        assert (row["intact"], row["ablated"]) == pytest.approx([100 * side for side in sides])
        assert row["cost"] == pytest.approx(100 * (sides[0] - sides[1]), abs=1e-9)
        assert (row["modality"], row["branch"]) == (table["modality"].values[place], table["branch"].values[place])
    if metric == "gap":
        slow = jackknife_interval(
            costs["cost"][0], _slow_without(table["intact"].values, table["score"].values[0], labels)
        )
        assert (costs["low"][0], costs["high"][0]) == pytest.approx((slow.low, slow.high), abs=1e-6)
    else:
        test = "paired jackknife" if metric == "map" else "paired signs and bootstrap"
        assert costs["test"].unique().tolist() == [test]


def _slow_without(first, second, labels) -> np.ndarray:
    """Percent of GAP lost in the data set without each video that has a label."""
    known = np.flatnonzero(labels.any(1))
    rows = [np.setdiff1d(known, [left]) for left in known]
    gap = [[classification_metrics(each[row], labels[row])["gap"] for each in (first, second)] for row in rows]
    return 100 * np.array([one - two for one, two in gap])


def test_an_ablation_that_changes_nothing_costs_nothing():
    table = ablation_scores(small_model("baseline"), clips(), [Ablation("visual", "zero", head=1)])
    table["score"].values[0] = table["intact"].values
    costs = ablation_costs(table, resamples=100)
    assert costs["metric"].tolist() == ["gap", "map", "perr", "hit_at_1"]
    assert (costs["cost"] == 0).all()
    assert (costs["p_value"] == 1).all()


def test_one_video_says_what_each_class_loses():
    model = small_model("share-att")
    found = ablate_clip(model, clips()[0], ablations=[Ablation("visual", "zero"), Ablation("audio", "zero", head=2)])
    with torch.inference_mode():
        plain = model(Batch.from_clips([clips()[0]])).numpy()[0]
    np.testing.assert_allclose(found["intact_logit"], plain, atol=1e-6)
    np.testing.assert_allclose(found["change"], found["logit"] - plain, atol=1e-6)
    np.testing.assert_allclose(found["score"], 1 / (1 + np.exp(-found["logit"])), atol=1e-6)
    assert found["unit"].values.tolist() == ["block", "head"]
    assert found["class_name"].values.tolist() == list(VOCABULARY.names)
    assert set(ablate_clip(model, clips()[0])["kind"].values) == {"zero"}


def test_nothing_to_ablate_is_refused():
    with pytest.raises(ArgumentError, match="needs the mean contexts"):
        ablate_clip(small_model("baseline"), clips()[0], ablations=[Ablation("visual", "mean", head=0)])
    both = [Ablation("visual", "mean", head=0, layer=layer) for layer in (0, 1)]
    with pytest.raises(ArgumentError, match="means of layers"):
        ablation_scores(small_model("baseline", layers=2), clips(), both)
    unnamed = small_model("gate-op")
    unnamed.vocabulary = None
    with pytest.raises(ArgumentError, match="the model has no vocabulary"):
        ablate_clip(unnamed, clips()[0])
