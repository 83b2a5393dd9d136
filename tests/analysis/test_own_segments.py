"""Models whose neighbourhoods are the clip's own segments: everything that is said of a model is said of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from small_models import moved, small_model

from analysis import ablate_clip, ablation_scores, all_ablations, explain_all, inspect_clip, inspect_clips, run_with
from analysis.attention.of_view import branch_lines, branch_profile, branch_verticality, frame_gates
from analysis.explanations.faithfulness import Replacer
from analysis.explanations.registry import applicable
from analysis.gmsa_view import view_clips
from analysis.inspect.live import live_model
from analysis.inspect.maps import certify
from analysis.interventions.running import logits_with
from analysis.record.files import open_record, save_record
from analysis.sensitivity.norms import frame_gradient_norms, local_sensitivity
from analysis.sensitivity.of_view import view_sensitivity
from figures.inspector.payload import pack
from gmsa_models import Batch
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import ChangePoints, Shots, Spans, neighbourhood_mask, neighbourhood_text, neighbourhood_to_dict
from tests.gmsa_models.attention.test_segments import LOCAL, STREAMS, changing_clip

SPANS = Spans((0, 7, 12))
SITE = "visual/0/local"
STATISTICS = {
    "profile": lambda view: branch_profile(view, "visual", "local"),
    "verticality": lambda view: branch_verticality(view, "visual", "local").value,
    "lines": lambda view: branch_lines(view, "visual", "local").ratio,
    "gates": lambda view: frame_gates(view, "visual").get("local", view.valid),
}


def model_of(kind, neighbourhood, **changes):
    return moved(small_model(kind, neighbourhood=neighbourhood, **changes))


class Own:
    """Clips whose segments follow from a pattern: of the first `SPANS`."""

    def __init__(self, pattern, clip, other, still):
        self.pattern, self.clip, self.other, self.still = pattern, clip, other, still

    def model(self, kind, **changes):
        return model_of(kind, self.pattern, **changes)


def of_shots(clip, *shots):
    return replace(clip, shots=tuple(map(float, shots)))


CASES = {
    "change points": Own(ChangePoints(2), changing_clip(), changing_clip(23, (3, 9, 17), 1), changing_clip(9, (), 2)),
    "shots": Own(
        Shots(),
        of_shots(changing_clip(19, (5, 15)), 0, 6.5, 6.7, 12),
        of_shots(changing_clip(23, (3, 9, 17), 1), 0, 4, 20),
        of_shots(changing_clip(9, (4,), 2), -3),
    ),
}


@pytest.fixture(params=CASES)
def own(request):
    return CASES[request.param]


def compared(one, other, **tolerance):
    assert set(one.data_vars) == set(other.data_vars)
    for name in one.data_vars:
        if one[name].dtype.kind == "f":
            np.testing.assert_allclose(one[name], other[name], err_msg=name, **tolerance)
        else:
            assert one[name].equals(other[name]), name


@pytest.mark.parametrize("kind", LOCAL)
def test_a_record_is_that_of_a_model_of_the_same_given_segments(kind, tmp_path, own):
    record = inspect_clip(own.model(kind), own.clip, certify=True)
    given = inspect_clip(model_of(kind, SPANS), own.clip, certify=True)
    compared(record, given, rtol=1e-5, atol=1e-6)
    assert (record["certificate"] != 0).all()
    assert record["neighbourhood"].attrs["spans"] == "SP0-7-12"
    assert record["neighbourhood"].values.tolist() == neighbourhood_mask(SPANS, 19).tolist()
    assert json.loads(record.attrs["neighbourhood_config"]) == neighbourhood_to_dict(own.pattern)
    again = open_record(save_record(record, tmp_path / "record.nc"))
    xr.testing.assert_identical(again["neighbourhood"], record["neighbourhood"])
    assert len(pack([record])) > 1000


@pytest.mark.parametrize("kind", LOCAL)
def test_records_of_a_batch_are_those_of_each_clip_alone(kind, own):
    model, clips = own.model(kind), [own.clip, own.other, own.still]
    together = list(
        inspect_clips(model, clips, batch_size=3, certify=True, parts=("attention", "gate", "sensitivity", "profile"))
    )
    for clip, record in zip(clips, together, strict=True):
        alone = inspect_clip(model, clip, certify=True, parts=("attention", "gate", "sensitivity", "profile"))
        compared(record, alone, rtol=2e-4, atol=2e-5)
    assert np.isnan(together[2]["sensitivity"]).all(), "S is not defined where N_i is every frame"


@pytest.mark.parametrize("kind", LOCAL)
def test_gradient_norms_are_those_of_the_jacobian_and_s_is_by_the_own_segments(kind, own):
    model = own.model(kind)
    bound = model.bound_to(own.clip).encoders["audio"].layers[0].block
    view = view_clips(model, [own.clip, own.other])
    inputs = view.layer("audio").input[0, :19]
    jacobian = torch.func.jacrev(lambda frames: bound.trace(frames[None]).output[0])(inputs)
    expected = jacobian.square().sum((1, 3)).sqrt().detach()
    torch.testing.assert_close(frame_gradient_norms(model, own.clip, "audio"), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        view.capabilities.gradient_norms(view, "audio", 0)[0, :19, :19], expected, rtol=1e-4, atol=1e-6
    )
    local = local_sensitivity(expected, SPANS)
    torch.testing.assert_close(view_sensitivity(view, "audio", view.own)[0, :19], local, rtol=1e-4, atol=1e-6)
    baseline = view_clips(small_model("baseline"), [own.clip, own.other], chosen=own.pattern)
    assert baseline.neighbourhood.shape == (2, 23, 23), "also of a model that has none, to compare by"


@pytest.mark.parametrize("kind", LOCAL)
def test_statistics_of_a_batch_are_those_of_each_clip(kind, own):
    together = view_clips(own.model(kind), [own.clip, own.other, own.still])
    for row, alone in enumerate(together.each()):
        assert alone.layer("visual").neighbourhood.ndim == 2
        for name, function in STATISTICS.items():
            values, own = function(together)[row], function(alone)[0]
            torch.testing.assert_close(
                values[..., : own.shape[-1]], own, rtol=1e-4, atol=1e-5, equal_nan=True, msg=name
            )


def test_certificates_notice_other_segments(own):
    model = own.model("gate-op")
    batch = Batch.from_clips([own.clip, own.other], STREAMS)
    trace = model.trace(batch)
    assert all(each.passed is not False for each in certify(model, trace))
    view = view_clips(model, [own.clip, own.other])
    wrong = view_clips(model_of("gate-op", Spans((0, 5))), [own.clip, own.other])
    failed = [each.check for each in view.capabilities.certificates(wrong, "visual", 0) if each.passed is False]
    assert "neighbourhood" in failed


@pytest.mark.parametrize("kind", LOCAL)
def test_explanations_keep_the_segments_of_the_clip(kind, own):
    model, given = own.model(kind), model_of(kind, SPANS)
    assert applicable(model) == applicable(given)
    some = ("saliency", "rollout", "frame-occlusion", "relevance-propagation", "sensitivity-weighted")
    one, other = (explain_all(each, own.clip, 2, some) for each in (model, given))
    for name in some:
        torch.testing.assert_close(one[name].frames, other[name].frames, rtol=1e-4, atol=1e-5)
    kept = torch.arange(19)[None] >= torch.tensor([[0], [4], [11]])
    logits = [Replacer(each, own.clip, 2).logits(kept) for each in (model, given)]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", LOCAL)
@pytest.mark.parametrize("layers", [1, 2])
def test_edits_are_those_of_a_model_of_the_same_given_segments(kind, layers, own):
    model, given = own.model(kind, layers=layers), model_of(kind, SPANS, layers=layers)
    edits = [
        [f"knock-out {SITE}/weights keys 3..7"],
        [f"neighbourhood {SITE}/neighbourhood as SP0-4"],
        ["drop */input at 2..5"],
    ]
    torch.testing.assert_close(
        logits_with(model, own.clip, edits), logits_with(given, own.clip, edits), rtol=0, atol=1e-5
    )
    watched = run_with(model, own.clip, edits[1]).layer("visual").neighbourhood
    assert watched.equal(neighbourhood_mask(Spans((0, 4)), 19))
    with pytest.raises(ArgumentError, match="the mask depends on the clip"):
        run_with(model, own.clip, [f"neighbourhood {SITE}/neighbourhood as {neighbourhood_text(own.pattern)}"])


def test_ablations_take_the_segments_of_each_clip(own):
    model, given = own.model("gate-op", layers=2), model_of("gate-op", SPANS, layers=2)
    ablations = all_ablations(model, ("zero", "shut"))
    one, other = (ablate_clip(each, own.clip, ablations=ablations)["score"] for each in (model, given))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    together = ablation_scores(model, [own.other, own.still, own.clip], ablations, batch_size=3)["score"]
    np.testing.assert_allclose(together[:, 2], one, rtol=0, atol=1e-5)


def test_a_live_page_has_the_segments_of_the_clip(own):
    model = own.model("gate-op")
    assert live_model(model, own.clip).neighbourhood == "SP0-7-12"
