"""Faithfulness and ground truth: curves against one pass a step, measures by hand, scores by pairs."""

import math

import numpy as np
import pytest
import references.explanations as slow
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import KINDS, moved, small_clip, small_model

from analysis.explanations.attribution.baselines import baseline_inputs
from analysis.explanations.faithfulness import FRACTIONS, FaithfulnessCurves, Replacer, curve_counts
from analysis.explanations.ground_truth import Evidence, evidence_scores, label_evidence
from analysis.explanations.incremental import replacement
from analysis.explanations.scores import explained_labels, explanation_scores
from analysis.explanations.stream import stream_inputs
from analysis.interventions.edits import Patch
from analysis.interventions.running import logits_with
from gmsa_models import Segment
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import BlockDiagonal, Toeplitz, ToeplitzDilated

VALUES = torch.tensor([3.0, 9, 1, 4, 4, 8, 2, 7, 0, 6, 5, 11, 10])
ORDER = [11, 12, 1, 5, 7, 9, 10, 3, 4, 0, 6, 2, 8]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("baseline", ["mean", "zero", "video"])
def test_curves_equal_one_forward_a_step(kind, norm, baseline):
    model, clip, other = moved(small_model(kind, norm=norm).double()), small_clip(), small_clip(7, seed=1)
    inputs, start = stream_inputs(model, clip), baseline_inputs(model, clip, baseline, other)
    found = Replacer(model, clip, 2, baseline, other).curves(VALUES)
    for step in range(14):
        out = slow.logit(model, slow.replaced(inputs, start, ORDER[:step]), 2)
        only = slow.logit(model, slow.replaced(inputs, start, ORDER[step:]), 2)
        assert float(found.deletion[step]) == pytest.approx(out, abs=1e-10)
        assert float(found.insertion[step]) == pytest.approx(only, abs=1e-10)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
def test_curves_are_the_logits_of_patched_inputs(kind):
    model, clip = moved(small_model(kind).double()), small_clip()
    inputs, start = stream_inputs(model, clip), baseline_inputs(model, clip, "mean")
    curves = Replacer(model, clip, 2).curves(VALUES)
    for curve, order in ((curves.deletion, ORDER), (curves.insertion.flip(0), ORDER[::-1])):
        steps = [slow.replaced(inputs, start, order[:step]) for step in range(len(order) + 1)]
        edits = [[Patch(f"{name}/input", source=values[None]) for name, values in step.items()] for step in steps]
        assert torch.allclose(curve.double(), logits_with(model, clip, edits)[:, 2].double(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("neighbourhood", [BlockDiagonal(5), Toeplitz(4), ToeplitzDilated(8, 2), Toeplitz(60)])
@pytest.mark.parametrize("kind", ["share-att", "gate-op"])
@pytest.mark.parametrize(("baseline", "bias"), [("mean", True), ("video", False)])
def test_every_mask_and_a_long_clip_agree_with_passes(kind, neighbourhood, baseline, bias, monkeypatch):
    model = moved(small_model(kind, neighbourhood=neighbourhood, max_frames=80, bias=bias).double())
    clip, values = small_clip(75), torch.from_numpy(np.random.default_rng(5).random(75))
    replacer = Replacer(model, clip, 1, baseline, small_clip(30, seed=1))
    fast = replacer.curves(values)
    monkeypatch.setattr(replacement, "_contexts_are_quotients", lambda block: False)
    passes = replacer.curves(values)
    torch.testing.assert_close(fast.deletion, passes.deletion, rtol=0, atol=1e-11)
    torch.testing.assert_close(fast.insertion, passes.insertion, rtol=0, atol=1e-11)


def test_two_layers_go_by_passes_and_agree():
    model, clip = small_model("share-att", layers=2).double(), small_clip()
    inputs, start = stream_inputs(model, clip), baseline_inputs(model, clip, "mean")
    found = Replacer(model, clip, 2).curves(VALUES)
    assert float(found.deletion[4]) == pytest.approx(
        slow.logit(model, slow.replaced(inputs, start, ORDER[:4]), 2), abs=1e-10
    )


def test_weights_too_small_to_divide_by_go_by_passes():
    model, clip = small_model("baseline"), small_clip()
    with torch.no_grad():
        for encoder in model.encoders.values():
            encoder.layers[0].attention.key.weight.mul_(300)
            encoder.layers[0].attention.query.weight.mul_(300)
    found = Replacer(model, clip, 2).curves(VALUES)
    inputs, start = stream_inputs(model, clip), baseline_inputs(model, clip, "mean")
    for step in (0, 3, 12, 13):
        expected = slow.logit(model, slow.replaced(inputs, start, ORDER[:step]), 2)
        assert float(found.deletion[step]) == pytest.approx(expected, abs=1e-4)


@given(st.integers(1, 400), st.integers(1, 100))
def test_counts_rise_from_none_to_all_and_are_the_same_backwards(frames, points):
    counts = curve_counts(frames, points)
    assert (counts[0], counts[-1]) == (0, frames)
    assert (counts.diff() > 0).all()
    assert counts.tolist() == (frames - counts).flip(0).tolist()
    assert counts.diff().max() <= math.ceil(frames / points)
    assert {math.ceil(share * frames) for share in FRACTIONS} <= set(counts.tolist())
    assert len(counts) <= points + 1 + 2 * len(FRACTIONS)
    assert curve_counts(frames).tolist() == list(range(frames + 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("baseline", ["mean", "video"])
def test_curves_of_fewer_points_are_those_of_every_frame_at_their_steps(kind, baseline):
    model, clip = moved(small_model(kind, max_frames=80).double()), small_clip(75)
    replacer = Replacer(model, clip, 1, baseline, small_clip(30, seed=1))
    values = torch.from_numpy(np.random.default_rng(5).random(75))
    every, some = replacer.curves(values), replacer.curves(values, points=9)
    assert some.counts is not None
    assert len(some.counts) < 30
    torch.testing.assert_close(some.deletion, every.deletion[some.counts], rtol=0, atol=1e-11)
    torch.testing.assert_close(some.insertion, every.insertion[some.counts], rtol=0, atol=1e-11)
    measures, exact = some.measures(), every.measures()
    for name in ("comprehensiveness", "sufficiency"):
        assert measures[name] == pytest.approx(exact[name], abs=1e-11)
    upside_down = replacer.curves(-values, points=9).measures()
    assert some.reverse.measures() == pytest.approx(upside_down, abs=1e-11)


def test_areas_of_unequal_steps_by_hand():
    curves = FaithfulnessCurves(
        torch.tensor([4.0, 3, 1]), torch.tensor([0.0, 2, 4]), "mean", counts=torch.tensor([0, 1, 4])
    )
    measures = curves.measures((0.25,), "logit")
    assert measures == pytest.approx(
        {"deletion": (3.5 + 3 * 2) / 4, "insertion": (1 + 3 * 3) / 4, "comprehensiveness": 1, "sufficiency": 2}
    )
    with pytest.raises(ArgumentError, match="no step at 2 of 4 frames"):
        curves.measures((0.5,))
    with pytest.raises(ArgumentError, match="points is 0"):
        curve_counts(10, 0)


SEGMENTS = (range(3), range(3, 7), range(7, 13))


def test_measures_by_hand():
    curves = FaithfulnessCurves(torch.tensor([4.0, 3, 1, 0, 0]), torch.tensor([0.0, 2, 3, 4, 4]), "mean")
    found = curves.measures((0.25, 0.5), "logit")
    assert found == pytest.approx(
        {
            "deletion": (3.5 + 2 + 0.5 + 0) / 4,
            "insertion": (1 + 2.5 + 3.5 + 4) / 4,
            "comprehensiveness": 4 - (3 + 1) / 2,
            "sufficiency": 4 - (2 + 3) / 2,
        }
    )
    assert curves.reverse.measures((0.25, 0.5), "logit")["deletion"] == pytest.approx(found["insertion"])
    share = lambda logit: 1 / (1 + math.exp(-logit))  # noqa: E731
    by_probability = curves.measures((0.5,))
    assert by_probability["comprehensiveness"] == pytest.approx(share(4) - share(1))


def test_the_reverse_ranking_has_the_reverse_curves():
    model, clip = small_model("gate-op").double(), small_clip()
    replacer = Replacer(model, clip, 2)
    values = torch.arange(13.0)
    upside_down = replacer.curves(-values)
    torch.testing.assert_close(replacer.curves(values).reverse.deletion, upside_down.deletion, rtol=0, atol=1e-12)
    torch.testing.assert_close(replacer.curves(values).reverse.insertion, upside_down.insertion, rtol=0, atol=1e-12)


def test_a_frame_without_a_value_ranks_last():
    replacer = Replacer(small_model("gate-op"), small_clip(), 2)
    without, last = VALUES.clone(), VALUES.clone()
    without[5], last[5] = math.nan, -1.0
    torch.testing.assert_close(replacer.curves(without).deletion, replacer.curves(last).deletion, rtol=0, atol=0)


def test_random_rankings_come_in_pairs_and_are_the_same_each_time():
    replacer = Replacer(small_model("baseline"), small_clip(), 2)
    one, two = replacer.random_curves(2, seed=4), replacer.random_curves(2, seed=4)
    assert len(one) == 4
    assert all(torch.equal(a.deletion, b.deletion) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0].deletion, one[2].deletion)


def test_evidence_of_montages_and_of_rated_segments():
    found = label_evidence(small_clip(), 11)
    assert found.shows.nonzero().flatten().tolist() == [3, 4, 5, 6]
    assert found.known.all()
    rated = (Segment(2.0, 4.0, (11,), (1.0,), kind="rated"), Segment(6.0, 9.0, (11, 5), (0.0, 1.0), kind="rated"))
    found = label_evidence(small_clip(segments=(*rated, Segment(10.0, 12.0, (5,), (1.0,), kind="rated"))), 11)
    assert found.shows.nonzero().flatten().tolist() == [2, 3]
    assert found.known.nonzero().flatten().tolist() == [2, 3, 6, 7, 8]
    assert found.decides
    assert not label_evidence(small_clip(), 404).decides


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_roc_auc_equals_the_share_of_pairs_in_the_right_order(frames):
    values, shows = [value for value, _ in frames], [yes for _, yes in frames]
    evidence = Evidence(torch.tensor(shows), torch.ones(len(shows), dtype=torch.bool))
    if not evidence.decides:
        with pytest.raises(ArgumentError, match="frames that show the label and frames that do not"):
            evidence_scores(torch.tensor(values, dtype=torch.float64), evidence)
        return
    found = evidence_scores(torch.tensor(values, dtype=torch.float64), evidence)
    assert found["evidence_auc"] == pytest.approx(slow.roc_auc(values, shows))
    monotone = evidence_scores(torch.tensor(values, dtype=torch.float64).exp() * 3 - 7, evidence)
    assert monotone == pytest.approx(found)


def test_precision_and_pointing_by_hand_ties_as_a_random_order():
    shows = torch.tensor([True, True, False, False, False])
    evidence = Evidence(shows, torch.ones(5, dtype=torch.bool))
    found = evidence_scores(torch.tensor([5.0, 1, 4, 0, 0]), evidence)
    assert (found["evidence_precision"], found["pointing"]) == (0.5, 1.0)
    tied = evidence_scores(torch.tensor([2.0, 1, 2, 2, 0]), evidence)
    assert tied["pointing"] == pytest.approx(1 / 3)
    assert tied["evidence_precision"] == pytest.approx(1 / 3)
    known = Evidence(shows, torch.tensor([True, False, True, False, False]))
    assert evidence_scores(torch.tensor([1.0, 9, 2, 0, 0]), known)["evidence_auc"] == 0.0


def test_the_table_has_a_row_a_video_label_method_and_measure():
    model = small_model("gate-op")
    found = explanation_scores(
        model, [small_clip(), small_clip(11, seed=1)], ["saliency", "attention-combined", "random"]
    )
    assert list(found.columns) == ["video", "label", "method", "measure", "value"]
    assert set(found["method"]) == {"saliency", "random", "random-order"}
    assert len(found) == 2 * (7 + 7 + 4)
    assert found["value"].notna().all()
    assert list(explained_labels(model.vocabulary, small_clip())) == [(11, 2)]
    random = found[(found["video"] == "clip0") & (found["method"] == "random-order")].set_index("measure")["value"]
    drawn = [each.measures() for each in Replacer(model, small_clip(), 2).random_curves(2)]
    assert random.to_dict() == pytest.approx({name: np.mean([each[name] for each in drawn]) for name in drawn[0]})


def test_explanations_are_not_told_the_segments():
    model = small_model("gate-op")
    told = small_clip()
    moved = small_clip(
        segments=(Segment(0.0, 2.0, (), kind="background"), Segment(2.0, 9.0, (11,)), Segment(9.0, 13.0, ()))
    )
    asked = {"faithfulness": False, "methods": ["segment-occlusion"]}
    one, two = (explanation_scores(model, [each], **asked) for each in (told, moved))
    # The same windows of 10 s in both, so only what is counted as evidence differs.
    assert one.loc[one["measure"] == "pointing", "value"].item() == pytest.approx(0.4)
    assert two.loc[two["measure"] == "pointing", "value"].item() == pytest.approx(0.7)


def test_what_does_not_fit_is_refused():
    replacer = Replacer(small_model(), small_clip(), 2)
    with pytest.raises(ArgumentError, match="5 values; the clip has 13 frames"):
        replacer.curves(torch.rand(5))
    curves = replacer.curves(VALUES)
    with pytest.raises(ArgumentError, match=r"shares of the frames in \(0, 1\]"):
        curves.measures((0.0, 0.5))
    with pytest.raises(ArgumentError, match="scale is 'odds'"):
        curves.measures(scale="odds")
