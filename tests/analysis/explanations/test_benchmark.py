"""The explanation benchmark of one clip: each measure by hand or by its slow definition; degraded explanations."""

import math
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from registries import only
from small_models import moved, small_clip, small_model

from analysis.explanations.benchmark import random_removal as removal
from analysis.explanations.benchmark.clip_scores import CHANCE, MEASURES, BenchmarkSettings, clip_scores
from analysis.explanations.benchmark.degraded import DEGRADATIONS, degraded_scores
from analysis.explanations.benchmark.explainers import Explainers, load_explainer, source_digest
from analysis.explanations.benchmark.randomisation import (
    histogram_entropy,
    randomisation_measures,
    randomised_models,
    rank_correlation,
)
from analysis.explanations.benchmark.replacements import replacement_clip
from analysis.explanations.faithfulness import Replacer
from analysis.explanations.ground_truth import Evidence, average_precision, evidence_scores, relevance_mass
from analysis.explanations.registry import explain
from analysis.study.explained import explained_clips
from gmsa_models import load
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Segment
from gmsa_models.errors import ArgumentError, UnknownNameError

LABEL = 11  # of the small clips' event, from 3 to 7 s
SMALL = BenchmarkSettings(videos=2, frames=13, samples=2, others=2)


def evidence_of(*shows: int) -> Evidence:
    flags = torch.tensor(shows, dtype=torch.bool)
    return Evidence(flags, torch.ones_like(flags))


def test_average_precision_and_relevance_mass_by_hand():
    values, evidence = torch.tensor([4.0, 3.0, 2.0, 1.0, -5.0]), evidence_of(1, 0, 1, 0, 1)
    assert average_precision(values, evidence) == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)
    assert relevance_mass(values, evidence) == pytest.approx((4 + 2) / (4 + 3 + 2 + 1))
    constant = torch.zeros(5)
    assert average_precision(constant, evidence) == relevance_mass(constant, evidence) == pytest.approx(3 / 5)
    partly = Evidence(evidence.shows, torch.tensor([True, True, True, True, False]))
    assert average_precision(values, partly) == pytest.approx((1 + 2 / 3) / 2)


def test_frames_come_from_other_clips_where_the_label_is_not_shown():
    clip, others = small_clip(13, 0), [small_clip(12, 1), small_clip(11, 2)]
    outside = [index for index in range(12) if not 3 <= index < 7]
    taken = replacement_clip(clip, others, LABEL, "background")
    assert (taken.frames, taken.segments, taken.labels) == (13, (), ())
    for name in ("visual", "audio"):
        expected = np.concatenate([others[0].floats(name)[outside], others[1].floats(name)[outside[:-1]]])
        np.testing.assert_array_equal(taken.floats(name), expected[:13])
    planted = {name: values.copy() for name, values in others[1].features.items()}
    for name, values in planted.items():
        values[9], values[5] = clip.features[name][2], clip.features[name][8]  # 5 s shows the label
    nearest = replacement_clip(clip, [others[0], replace(others[1], features=planted)], LABEL, "nearest")
    for name in ("visual", "audio"):
        np.testing.assert_array_equal(nearest.floats(name)[2], clip.floats(name)[2])
        assert not np.array_equal(nearest.floats(name)[8], clip.floats(name)[8])


def test_replacement_refuses_what_it_cannot_do():
    clip = small_clip()
    everywhere = small_clip(13, 1, segments=(Segment(0.0, 13.0, (LABEL,)),))
    with pytest.raises(ArgumentError, match="none of 1 other clips has a frame that is known not to show label 11"):
        replacement_clip(clip, [everywhere], LABEL, "background")
    with pytest.raises(ArgumentError, match="'noise' is unknown; known: background, nearest"):
        replacement_clip(clip, [everywhere], LABEL, "noise")


@pytest.mark.parametrize("kind", ["gate-op", "gate-att"])
def test_random_removal_is_the_mean_of_passes_with_few_frames_replaced(kind, monkeypatch):
    model, clip, other = moved(small_model(kind)), small_clip(13, 0), small_clip(13, 1)
    replacer, drawn = Replacer(model, clip, 2, "video", other), []
    plain = replacer.logits
    monkeypatch.setattr(replacer, "logits", lambda kept: drawn.append(kept) or plain(kept))
    values = torch.randperm(13, generator=torch.Generator().manual_seed(0)).double()
    found = removal.random_removal(replacer, values, samples=3)
    kept = drawn[0]
    features = {
        name: torch.from_numpy(np.where(kept[:, :, None].numpy(), clip.floats(name), other.floats(name)))
        for name in model.config.modalities
    }
    with torch.no_grad():
        slow = model(Batch(features, torch.ones_like(kept)))[:, 2].double().sigmoid()
    falls = (slow[0] - slow[1:]).reshape(2, len(removal.SIZES), 3).mean((1, 2))
    assert [found["fidelity_plus"], found["fidelity_minus"]] == pytest.approx(falls.tolist(), abs=1e-6)
    # No more than the bound; half of the candidates where that is less; of the highest first, then of the others.
    highest = values.argsort(descending=True).tolist()
    for number, row in enumerate(kept[1:].reshape(2, len(removal.SIZES), 3, 13)):
        for size, samples in zip(removal.SIZES, row, strict=True):
            top = math.ceil(size * 13)
            candidates = set(highest[:top] if number == 0 else highest[top:])
            for sample in samples:
                removed = set((~sample).nonzero()[:, 0].tolist())
                assert removed <= candidates
                assert len(removed) == min(math.ceil(len(candidates) / 2), math.ceil(0.1 * 13))
    assert removal.random_removal(replacer, values * 3 + 1, samples=3) == found  # of the ranking alone


@pytest.mark.parametrize("kind", ["gate-op", "none"])
def test_models_are_randomised_from_the_top_down(kind):
    model = moved(small_model(kind, layers=2))
    before = {name: value.clone() for name, value in model.named_parameters()}
    changed: set[str] = set()
    stages = []
    for stage, randomised in randomised_models(model):
        now = {name for name, value in randomised.named_parameters() if not torch.equal(value, before[name])}
        assert changed < now, stage
        stages.append((stage, now - changed))
        changed = now
    assert stages[0][0] == "classifier"
    assert all(name.startswith("classifier") or ".norm." in name for name in stages[0][1])
    assert changed == set(before)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    layers = [stage for stage, _ in stages if "attention" in stage]
    one = [f"layer {number}, above attention" for number in (1, 0)]
    two = [name for number in (1, 0) for name in (f"layer {number}, above attention", f"layer {number}, attention")]
    assert layers == (one if kind == "none" else two)


def test_randomisation_measures_by_hand():
    original = np.array([0.0, 1.0, 2.0, 3.0])
    measures = randomisation_measures(original, [original[::-1], np.array([1.0, 0.0, 3.0, 2.0])])
    assert measures["randomised_similarity"] == pytest.approx((1 + 0.6) / 2)
    assert measures["complexity_rise"] == 0
    assert histogram_entropy(np.array([0.0, 0.0, 0.0, 1.0])) == pytest.approx(
        -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    )
    peaked = randomisation_measures(np.array([0.0, 0.0, 0.0, 1.0]), [original])
    assert peaked["complexity_rise"] == pytest.approx(math.log(4) / histogram_entropy(np.array([0.0, 0, 0, 1])) - 1)
    assert math.isnan(randomisation_measures(np.zeros(4), [original])["complexity_rise"])
    assert (rank_correlation(np.zeros(4), np.ones(4)), rank_correlation(np.zeros(4), original)) == (1.0, 0.0)


def test_every_measure_of_every_explainer_of_a_clip():
    model, clip, others = moved(small_model()), small_clip(13, 0), [small_clip(12, 1), small_clip(11, 2)]
    own = lambda model, clip, target: [float(second) for second in range(clip.frames)]  # noqa: E731
    explainers = Explainers(("rollout", "random"), (("rising", own),))
    values = clip_scores(model, clip, others, explainers, SMALL, randomise=True)
    table = {(name, other, measure): value for name, other, measure, value in values}
    assert len(table) == len(values)
    for name in ("rollout", "random", "rising"):
        assert {measure for explainer, other, measure in table if (explainer, other) == (name, "")} == set(MEASURES)
    assert table["random", "", "randomised_similarity"] == table["rising", "", "randomised_similarity"] == 1
    assert table["rollout", "", "randomised_similarity"] < 1
    shows = evidence_of(*(3 <= second < 7 for second in range(13)))
    expected = evidence_scores(torch.arange(13.0), shows)
    assert {name: table["rising", "", name] for name in expected} == pytest.approx(expected)
    assert table[CHANCE, "", "pointing"] == pytest.approx(4 / 13)
    rollout = explain(model, clip, 2, "rollout").frames.double().numpy()
    rho = rank_correlation(rollout, np.arange(13.0))
    assert table["rollout", "rising", "agreement"] == pytest.approx(rho)
    mean = Replacer(model, clip, 2).curves(torch.arange(13.0)).measures()
    other = replacement_clip(clip, others, LABEL, "background")
    background = Replacer(model, clip, 2, "video", other).curves(torch.arange(13.0)).measures()
    for measure in ("deletion", "insertion"):
        assert table["rising", "", measure] == pytest.approx(mean[measure])
        assert table["rising", "", f"{measure}_in_distribution"] == pytest.approx(background[measure])
    assert clip_scores(model, clip, others, explainers, SMALL, randomise=True) == values


def test_explainers_are_not_told_the_known_seconds_and_may_take_gradients():
    seen = []

    def own(model, clip, target):
        seen.append((clip.segments, target, model.training))
        frames = torch.from_numpy(clip.floats("visual")).requires_grad_()
        features = {"visual": frames[None], "audio": torch.from_numpy(clip.floats("audio"))[None]}
        model(Batch(features, torch.ones(1, clip.frames, dtype=torch.bool)))[0, target].backward()
        return frames.grad.norm(dim=1)

    model = small_model()
    clip_scores(model.train(), small_clip(), [small_clip(12, 1)], Explainers((), (("own", own),)), SMALL, False)
    assert seen == [((), 2, False)]
    assert all(each.grad is None for each in model.parameters())


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (torch.zeros(12), r"gave shape \(12,\) for clip 'clip0'; expected 13 finite numbers"),
        (torch.zeros(13, 2), r"gave shape \(13, 2\)"),
        ([float("nan")] * 13, "gave numbers that are not finite"),
        ("text", "gave str for clip 'clip0'; expected one number a frame"),
    ],
)
def test_what_is_no_explanation_is_refused(values, says):
    with pytest.raises(ArgumentError, match=says):
        Explainers((), (("own", lambda *_: values),)).scores(small_model(), small_clip(), 2)


def test_an_explainer_is_a_function_of_a_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_explainer_19.py").write_text("def explain(model, clip, target):\n    return [1.0] * clip.frames\n")
    function = load_explainer("own_explainer_19:explain")
    assert function(None, small_clip(), 0) == [1.0] * 13
    assert len(source_digest(function)) == 64
    for name, says in (
        ("own_explainer_19", "expected MODULE:FUNCTION"),
        ("no_such_module_19:explain", "no module 'no_such_module_19'; give the name of an installed module, or of a"),
        ("own_explainer_19:explains", "'explains' is no function of module 'own_explainer_19'"),
    ):
        with pytest.raises(ArgumentError, match=says):
            load_explainer(name)


def test_settings_and_names_are_checked():
    with pytest.raises(ArgumentError, match="videos is 1; expected at least 2"):
        BenchmarkSettings(videos=1)
    with pytest.raises(ArgumentError, match="replacement 'mean' is unknown; known: background, nearest"):
        BenchmarkSettings(replacement="mean")
    settings = replace(SMALL, degraded="saliency")
    with pytest.raises(UnknownNameError, match="'saliency', which is to be degraded, is none of rollout"):
        clip_scores(small_model(), small_clip(), [small_clip(12, 1)], Explainers(("rollout",)), settings, False)
    with pytest.raises(ArgumentError, match="no label of the model has both seconds that show it"):
        clip_scores(small_model(), small_clip(segments=()), [], Explainers(("rollout",)), SMALL, False)


def test_degraded_explanations_find_less_in_order():
    order, generator = ["", *DEGRADATIONS], np.random.default_rng(0)
    found = {name: [] for name in order}
    for number in range(100):
        shows = np.zeros(60, bool)
        start = generator.integers(5, 45)
        shows[start : start + 10] = True
        values = torch.from_numpy(shows + 0.4 * generator.normal(size=60))
        every = {"own": values} | degraded_scores("own", values, f"clip{number}")
        for name, each in every.items():
            scores = evidence_scores(each, evidence_of(*shows)) | {
                "average_precision": average_precision(each, evidence_of(*shows))
            }
            found[name.removeprefix("own").removeprefix("+")].append(list(scores.values()))
    means = {name: np.mean(rows, 0) for name, rows in found.items()}
    steps = ["", "noise-0.5", "noise-1", "noise-2", "noise-4", "noise"]
    for better, worse in pairwise(steps):
        assert (means[better] > means[worse]).all(), (better, worse)
    assert (means["noise-4"] > means["shifted"]).all()
    assert means["constant"] == pytest.approx([0.5, 1 / 6, 1 / 6, 1 / 6])


def test_degraded_explanations_of_a_trained_model_are_less_faithful_in_order():
    model, settings = load("gate-op-bd20"), BenchmarkSettings(samples=4, degraded="relevance-propagation")
    explainers, rows = Explainers(("relevance-propagation",)), {}
    clips = explained_clips(["demo:0-40"], model.vocabulary, 6, 60)
    for place, clip in enumerate(clips):
        others = (clips[place + 1 :] + clips[:place])[:4]
        with only(DEGRADATIONS, ("noise-2", "noise")):
            scores = clip_scores(model, clip, others, explainers, settings, False)
        for name, _, measure, value in scores:
            rows.setdefault((name.partition("+")[2], measure), []).append(value)
    means = {key: np.mean(values) for key, values in rows.items()}
    for measure in (
        "evidence_auc",
        "deletion",
        "deletion_in_distribution",
        "insertion_in_distribution",
        "fidelity_plus",
    ):
        sign = 1 if MEASURES[measure] else -1
        for better, worse in pairwise(["", "noise-2", "noise"]):
            assert sign * means[better, measure] > sign * means[worse, measure], (measure, better, worse)
