"""Attribution: against differences, captum by hand, exact sums, a model whose answer is known, shuffled weights."""

import copy
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import references.explanations as slow
import torch
from captum.attr import DeepLift, FeatureAblation, GradientShap, InputXGradient, IntegratedGradients, Saliency
from one_frame_model import MARKED, TARGET, marked_clip, one_frame_model
from small_models import KINDS, small_clip, small_model

import analysis.explanations.registry as explanations
from analysis.attention.segments import frame_groups
from analysis.explanations.attribution import perturbations
from analysis.explanations.attribution.baselines import baseline_inputs
from analysis.explanations.attribution.gradients import gradient_shap
from analysis.explanations.attribution.seeding import seeded
from analysis.explanations.faithfulness import Replacer
from analysis.explanations.incremental.kept_scores import kept_scores
from analysis.explanations.registry import EXPLANATIONS, applicable, explain, explain_all
from analysis.explanations.sanity import rank_correlation_with_shuffled
from analysis.explanations.stream import Stream, stream_inputs, streams
from analysis.inspect.clips import inspect_clip
from gmsa_models import Batch, load, read_clips
from gmsa_models.errors import ArgumentError, UnknownNameError
from gmsa_models.evaluating import evaluating

ADDING = ("integrated-gradients", "segment-shapley")
CONTROLS = ("random", "mean-frame-similarity")


def made(kind: str, **changes):
    return small_model(kind, **changes).double(), small_clip()


def ends(model, clip, baseline="mean", other=None):
    return stream_inputs(model, clip), baseline_inputs(model, clip, baseline, other)


@pytest.mark.parametrize("kind", KINDS)
def test_streams_add_up_to_the_models_logit(kind):
    model, clip = made(kind, layers=2)
    inputs = stream_inputs(model, clip)
    whole = sum(float(each(inputs[name][None]).detach()) for name, each in streams(model, 2, clip).items())
    assert whole + float(model.classifier.bias[2].detach()) == pytest.approx(slow.logit(model, inputs, 2), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_differences(kind):
    model, clip = made(kind)
    clip = clip.cut(5)
    inputs = stream_inputs(model, clip)
    slopes = {name: slow.gradient(model, inputs, name, 2) for name in inputs}
    found = explain(model, clip, 2, "saliency")
    torch.testing.assert_close(
        found.values, torch.stack([each.norm(dim=1) for each in slopes.values()]), rtol=1e-5, atol=1e-8
    )
    torch.testing.assert_close(found.features["visual"], slopes["visual"].abs(), rtol=1e-5, atol=1e-8)
    shares = torch.stack([(slopes[name] * inputs[name]).sum(1) for name in inputs])
    torch.testing.assert_close(explain(model, clip, 2, "input-x-gradient").values, shares, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("baseline", ["mean", "zero", "video"])
@pytest.mark.parametrize("method", ADDING)
def test_what_must_add_up_adds_up_to_the_difference_of_logits_within_the_delta(kind, baseline, method):
    model, clip = made(kind)
    other = small_clip(7, seed=1)
    inputs, start = ends(model, clip, baseline, other)
    difference = slow.logit(model, inputs, 2) - slow.logit(model, start, 2)
    found = explain(model, clip, 2, method, baseline=baseline, other=other)
    assert float(found.values.sum()) - difference == pytest.approx(found.convergence_delta, abs=1e-6)
    assert sum(found.of_modality.values()) == pytest.approx(float(found.values.sum()), abs=1e-9)
    assert found.baseline == baseline
    if method == "segment-shapley":
        assert abs(found.convergence_delta) < 1e-6
    elif baseline != "zero":
        # From zero a layer norm sees the same frame at every scale: all of the change lies at the start of the way.
        fine = explain(model, clip, 2, method, baseline=baseline, other=other, n_steps=96)
        assert abs(fine.convergence_delta) < max(1e-6, abs(found.convergence_delta))


EMBEDDED = {"visual": 8, "audio": 4}


@pytest.mark.parametrize(("kind", "widths"), [("share-att", None), ("none", None), ("gate-att", EMBEDDED)])
def test_they_equal_captum_called_by_hand_on_the_whole_model(kind, widths):
    model, clip = made(kind, widths=widths)
    inputs, start = ends(model, clip)
    names = tuple(inputs)

    def forward(*features):
        valid = torch.ones(features[0].shape[:2], dtype=torch.bool)
        return model(Batch(dict(zip(names, features, strict=True)), valid))

    given = tuple(each[None].requires_grad_() for each in inputs.values())
    base = tuple(each[None] for each in start.values())
    by_hand = {
        "input-x-gradient": InputXGradient(forward).attribute(given, target=2),
        "integrated-gradients": IntegratedGradients(forward).attribute(given, base, target=2, n_steps=32),
    }
    for method, expected in by_hand.items():
        expected = torch.stack([each[0].sum(-1) for each in expected]).detach()
        torch.testing.assert_close(explain(model, clip, 2, method).values, expected, rtol=1e-6, atol=1e-9)
    expected = torch.stack([each[0].norm(dim=-1) for each in Saliency(forward).attribute(given, target=2)])
    torch.testing.assert_close(explain(model, clip, 2, "saliency").values, expected.detach())
    masks = tuple(
        (torch.arange(13)[None, :, None] + 13 * place).expand(1, 13, each.shape[1])
        for place, each in enumerate(inputs.values())
    )
    expected = FeatureAblation(forward).attribute(given, base, target=2, feature_mask=masks)
    expected = torch.stack([each[0][:, 0] for each in expected]).detach()
    torch.testing.assert_close(explain(model, clip, 2, "frame-occlusion").values, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_deep_lift_equals_captum_and_its_delta_says_what_is_missing():
    model, clip = made("baseline")
    inputs, start = ends(model, clip)
    found = explain(model, clip, 2, "deep-lift")
    with evaluating(model):
        stream = streams(model, 2, clip)["audio"]
        expected = DeepLift(stream).attribute(inputs["audio"][None].requires_grad_(), start["audio"][None])
    torch.testing.assert_close(found.features["audio"], expected[0].detach())
    difference = slow.logit(model, inputs, 2) - slow.logit(model, start, 2)
    assert float(found.values.sum()) - difference == pytest.approx(found.convergence_delta, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_occlusion_equals_one_pass_a_frame_and_occluding_all_gives_the_baseline(kind):
    model, clip = made(kind)
    inputs, start = ends(model, clip)
    whole = slow.logit(model, inputs, 2)
    found = explain(model, clip, 2, "frame-occlusion").values
    for frame in range(13):
        changed = {"visual": slow.replaced(inputs, start, [frame])["visual"], "audio": inputs["audio"]}
        assert float(found[0, frame]) == pytest.approx(whole - slow.logit(model, changed, 2), abs=1e-9)
    stream = streams(model, 2, clip)["audio"].eval()
    none = kept_scores(stream, inputs["audio"], start["audio"], torch.zeros(1, 13, dtype=torch.bool))
    assert float(none) == pytest.approx(float(stream(start["audio"][None]).detach()), abs=1e-12)


def test_segment_methods_share_a_segments_value_among_its_frames_and_shapley_is_the_mean_over_all_orders():
    model, clip = made("gate-op")
    inputs, start = ends(model, clip)
    groups = frame_groups(clip)
    assert groups.tolist() == [0] * 3 + [1] * 4 + [2] * 6
    found = explain(model, clip, 2, "segment-occlusion").values
    whole = slow.logit(model, inputs, 2)
    changed = {"visual": slow.replaced(inputs, start, range(3, 7))["visual"], "audio": inputs["audio"]}
    torch.testing.assert_close(
        found[0, 3:7], torch.full((4,), (whole - slow.logit(model, changed, 2)) / 4, dtype=torch.float64)
    )

    def value(there: set[int]) -> float:
        gone = [frame for frame, group in enumerate(groups.tolist()) if group not in there]
        return slow.logit(model, {"visual": slow.replaced(inputs, start, gone)["visual"], "audio": inputs["audio"]}, 2)

    exact = slow.shapley(value, 3)
    mine = explain(model, clip, 2, "segment-shapley")
    sums = [float(mine.values[0][groups == group].sum()) for group in range(3)]
    np.testing.assert_allclose(sums, exact, atol=1e-9)
    assert (mine.standard_error == 0).all()


def test_more_groups_than_can_be_enumerated_are_sampled_with_their_error(monkeypatch):
    model, clip = made("gate-op")
    exact = explain(model, clip, 2, "segment-shapley").values
    monkeypatch.setattr(perturbations, "EXACT_GROUPS", 2)
    ratios = []
    for seed in range(40):
        sampled = explain(model, clip, 2, "segment-shapley", n_samples=24, seed=seed)
        assert abs(sampled.convergence_delta) < 1e-9
        ratios.append((sampled.values - exact) / sampled.standard_error)
    assert 0.5 < float(torch.stack(ratios).square().mean()) < 2.0
    assert explain(model, clip, 2, "segment-shapley", n_samples=1).standard_error.isnan().all()
    with pytest.raises(ArgumentError, match="n_samples is 0"):
        explain(model, clip, 2, "segment-shapley", n_samples=0)


def test_without_segments_groups_are_windows_of_ten_seconds():
    assert frame_groups(small_clip(23, segments=())).tolist() == [0] * 10 + [1] * 10 + [2] * 3
    assert frame_groups(small_clip(13, segments=(), frame_seconds=2.0)).tolist() == [0] * 5 + [1] * 5 + [2] * 3


def test_baselines_by_hand():
    model, clip = made("gate-op")
    frames, start = ends(model, clip)
    average = sum(frames["visual"][frame] for frame in range(13)) / 13
    torch.testing.assert_close(start["visual"], average.repeat(13, 1))
    assert not ends(model, clip, "zero")[1]["audio"].any()
    other = stream_inputs(model, small_clip(5, seed=1))["audio"]
    again = ends(model, clip, "video", small_clip(5, seed=1))[1]["audio"]
    assert torch.equal(again, torch.cat([other, other, other[:3]]))


def test_random_numbers_are_others_in_each_clip_and_for_each_seed():
    model = small_model()
    clips = [small_clip(), small_clip(), small_clip(seed=1)]
    one, again, other = (explain(model, clip, 2, "random").values for clip in clips)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, explain(model, small_clip(), 2, "random", seed=1).values)


def test_gradient_shap_is_captums_and_passes_equal_clips_once(monkeypatch):
    model, clip = made("gate-op")
    (inputs, start), passed = ends(model, clip), []
    found = explain(model, clip, 2, "gradient-shap", n_samples=6, seed=5)
    with evaluating(model), seeded(5):
        stream = streams(model, 2, clip)["visual"]
        both = torch.stack([start["visual"], torch.zeros_like(start["visual"])])
        theirs, delta = GradientShap(stream).attribute(
            inputs["visual"][None], both, n_samples=6, stdevs=0.0, return_convergence_delta=True
        )
    torch.testing.assert_close(found.features["visual"], theirs[0].detach().to(found.features["visual"]))
    forward = Stream.forward
    monkeypatch.setattr(Stream, "forward", lambda self, frames: passed.append(len(frames)) or forward(self, frames))
    with evaluating(model):
        again = gradient_shap(stream, inputs["visual"], start["visual"], n_samples=6, seed=5)
    assert again[1] == pytest.approx(float(delta.mean()), abs=1e-12)
    assert passed == [6, 2, 1]  # the samples, the two baselines, the clip
    passed.clear()
    monkeypatch.setattr("analysis.explanations.attribution.gradients.clips_together", lambda frames, width: 4)
    with evaluating(model):
        parts = gradient_shap(stream, inputs["visual"], start["visual"], n_samples=6, seed=5)
    assert passed == [4, 2, 2, 1]  # no more graphs at once than fit
    torch.testing.assert_close(parts, again, rtol=1e-12, atol=1e-15)


def test_fewer_clips_of_more_layers_pass_together_where_a_graph_is_kept(monkeypatch):
    monkeypatch.setattr("analysis.explanations.attribution.gradients.clips_together", lambda frames, width: 6)
    passed, resume = [], Stream.resume
    monkeypatch.setattr(Stream, "resume", lambda self, hidden: passed.append(len(hidden)) or resume(self, hidden))
    for layers, together in ((1, 6), (2, 3), (9, 1)):
        passed.clear()
        explain(small_model(layers=layers), small_clip(), 2, "integrated-gradients", n_steps=12)
        assert max(each for each in passed if each != 2) == together  # 2: the ends of the line


def test_gradient_shap_comes_near_its_expectation_and_leaves_random_states_alone():
    model, clip = made("gate-att")
    numbers, state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    sampled = explain(model, clip, 2, "gradient-shap", n_samples=3000).values
    assert (np.random.get_state()[1] == numbers).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state)
    halves = [explain(model, clip, 2, "integrated-gradients", baseline=b, n_steps=64).values for b in ("mean", "zero")]
    expected = sum(halves) / 2
    assert torch.corrcoef(torch.stack([sampled.flatten(), expected.flatten()]))[0, 1] > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_each_model_offers_what_its_block_has(kind):
    offered = applicable(small_model(kind))
    assert (
        set(EXPLANATIONS) - set(offered)
        == {
            "baseline": {"attention-local", "attention-combined", "sensitivity-weighted"},
            "share-att": set(),
            "gate-att": set(),
            "gate-op": {"attention-combined"},
            "none": {name for name, offer in EXPLANATIONS.items() if offer.needs},
        }[kind]
    )


@pytest.mark.parametrize("method", EXPLANATIONS)
def test_the_model_is_left_as_it_was_and_long_clips_are_cut(method):
    model = small_model("share-att", dropout=0.3).train()
    found = explain(model, small_clip(29), 2, method)
    assert found.method == method
    assert found.values.shape == (2, 23)
    assert found.values.isfinite().all()
    assert model.training
    assert all(each.requires_grad and each.grad is None for each in model.parameters())
    assert torch.equal(found.values, explain(model, small_clip(29).cut(23), 2, method).values)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_reads_one_frame_is_explained_by_that_frame(kind):
    model, clip = one_frame_model(kind), marked_clip()
    for method, found in explain_all(model, clip, TARGET).items():
        if method in CONTROLS:
            continue
        values = found.values[0]
        if method.startswith("segment-"):  # windows of 10 s: the first holds the mark
            assert values[:10].min() > values[10:].max(), method
        else:
            assert int(values.argmax()) == MARKED, (method, values)
            assert values[MARKED] > 1.5 * values[torch.arange(13) != MARKED].max(), (method, values)


@pytest.mark.parametrize("method", ["saliency", "integrated-gradients", "relevance-propagation", "attention-global"])
def test_with_shuffled_weights_the_explanation_is_another(method):
    model, clip = load("gate-op-bd20"), next(iter(read_clips("demo:3"))).cut(60)
    assert abs(rank_correlation_with_shuffled(model, clip, 2, method, seed=3)) < 0.6
    assert rank_correlation_with_shuffled(model, clip, 2, "mean-frame-similarity", seed=3) == pytest.approx(1.0)


@pytest.mark.parametrize("method", [name for name in EXPLANATIONS if name != "random"])
def test_reordering_frames_reorders_the_values_where_the_model_knows_no_order(method):
    model = small_model("baseline").double()
    if method not in applicable(model) or method == "gradient-shap":
        pytest.skip("needs a local branch, or draws numbers by place")
    clip, order = small_clip(segments=()), np.arange(13)
    order[:10] = np.random.default_rng(3).permutation(10)  # windows keep their frames
    moved = small_clip(segments=(), features={name: each[order] for name, each in clip.features.items()})
    expected = explain(model, clip, 2, method).values[:, torch.from_numpy(order)]
    torch.testing.assert_close(explain(model, moved, 2, method).values, expected, rtol=1e-4, atol=1e-7)


def test_what_is_unknown_is_refused_and_the_known_listed():
    model, clip = small_model(), small_clip()
    with pytest.raises(UnknownNameError, match="unknown explanation 'lime'; known: saliency"):
        explain(model, clip, 2, "lime")
    with pytest.raises(ArgumentError, match="target is 5; the model has classes 0 to 4"):
        explain(model, clip, 5, "saliency")
    with pytest.raises(ArgumentError, match="baseline 'black' is unknown; known: mean, zero, video"):
        explain(model, clip, 2, "integrated-gradients", baseline="black")
    with pytest.raises(ArgumentError, match="give it as `other`"):
        explain(model, clip, 2, "integrated-gradients", baseline="video")
    with pytest.raises(ArgumentError, match="no combined branch in this model; it has global, local"):
        explain(model, clip, 2, "attention-combined")
    with pytest.raises(ArgumentError, match="do not add up"):
        _ = explain(model, clip, 2, "saliency").of_modality


@pytest.mark.parametrize("method", ["gradient-shap", "segment-shapley"])
def test_threads_do_not_disturb_each_others_samples(method):
    model, clips = small_model("gate-op"), [small_clip(23, seed, segments=()) for seed in range(6)]
    alone = [explain(model, clip, 2, method).values for clip in clips]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda clip: explain(copy.deepcopy(model), clip, 2, method).values, clips))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("kind", ["gate-att", "none"])
def test_all_together_are_what_each_is_alone_and_leave_the_model_as_it_was(kind):
    model, clip = made(kind)
    model.train().encoders["visual"].requires_grad_(False)
    before = [each.requires_grad for each in model.parameters()]
    together = explain_all(model, clip, 2)
    assert tuple(together) == applicable(model)
    for method, found in together.items():
        torch.testing.assert_close(found.values, explain(model, clip, 2, method).values, rtol=1e-9, atol=1e-12)
    assert model.training
    assert [each.requires_grad for each in model.parameters()] == before


def test_no_other_explanation_runs_beside_deep_lift_which_silences_a_warning(monkeypatch):
    running, beside = set(), []

    def watched(model, clip, target, method, **options):
        running.add(method)
        time.sleep(0.2 if method == "deep-lift" else 0.01)
        beside.append(set(running))
        running.remove(method)
        return explain(model, clip, target, method, **options)

    monkeypatch.setattr(explanations, "explain", watched)
    model, clip = made("gate-op")
    explain_all(model, clip, 2, ["saliency", "deep-lift", "rollout", "random"])
    assert all(len(each) == 1 for each in beside if "deep-lift" in each)
    assert len(beside) == 4


def test_a_class_is_given_by_position_or_name_wherever_one_is_explained():
    model, clip = small_model(), small_clip()
    expected = explain(model, clip, 2, "saliency").values
    assert torch.equal(explain(model, clip, "food", "saliency").values, expected)
    assert torch.equal(explain(model, clip, np.int64(2), "saliency").values, expected)
    assert torch.equal(explain_all(model, clip, "Food", ["saliency"])["saliency"].values, expected)
    curves = [Replacer(model, clip, target).curves(torch.arange(13.0)) for target in (2, "Food")]
    assert torch.equal(curves[0].deletion, curves[1].deletion)
    records = [inspect_clip(model, clip, parts=["explanation"], target=target) for target in (2, "Food")]
    assert records[0].identical(records[1])
    for call in (
        lambda target: explain(model, clip, target, "saliency"),
        lambda target: explain_all(model, clip, target),
        lambda target: Replacer(model, clip, target),
        lambda target: inspect_clip(model, clip, target=target),
    ):
        with pytest.raises(ValueError, match=r"no class 'Fork' among the 5 .* begin alike: Food"):
            call("Fork")
        with pytest.raises(ArgumentError, match=r"target is 5; the model has classes 0 to 4"):
            call(5)
        with pytest.raises(ArgumentError, match=r"target is True; expected the position of a class or its name"):
            call(True)  # of a type that is an index to Python
    with pytest.raises(ArgumentError, match=r"target is 'Food'; the model has no vocabulary"):
        explain(small_model(classes=7), clip, "Food", "saliency")
