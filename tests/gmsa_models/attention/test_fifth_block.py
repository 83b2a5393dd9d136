"""A fifth block, added by its class and its name: everything that is said of a block works on it, G by autograd too."""

import numpy as np
import pytest
import torch
from fifth_block import HeadGate
from small_models import moved, small_clip, small_model

from analysis import ablate_clip, all_ablations, applicable, context_means, explain_all, inspect_clip
from analysis.explanations.faithfulness import Replacer
from analysis.explanations.incremental.kept_scores import CARRIED
from analysis.inspect.maps import certify
from analysis.sensitivity.closed_form.forms import CLOSED_FORMS
from analysis.sensitivity.norms import frame_gradient_norms
from figures.inspector.payload import pack
from figures.overview import draw
from gmsa_models import Batch
from gmsa_models.attention import ATTENTION
from gmsa_models.masks import Toeplitz


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setitem(ATTENTION, "head-gate", HeadGate)
    return moved(small_model("head-gate", neighbourhood=Toeplitz(5)))


def test_no_fast_path_knows_it():
    assert HeadGate not in CLOSED_FORMS
    assert HeadGate not in CARRIED


def test_a_record_has_every_part_and_its_numbers_are_the_blocks(model):
    clip = small_clip()
    record = inspect_clip(model, clip, certify=True)
    block = model.encoders["visual"].layers[0].attention
    assert record["branch"].values.tolist() == ["global", "local", "combined"]
    assert {"gate", "gate_map", "contribution", "sensitivity", "certificate"} <= set(record.data_vars)
    gate = block.gate.sigmoid().detach().numpy()
    np.testing.assert_allclose(record["gate"].sel(modality="visual", branch="global"), gate.mean(), rtol=1e-5)
    maps = record["attention"].sel(modality="visual")
    blend = gate[:, None, None] * maps.sel(branch="global") + (1 - gate)[:, None, None] * maps.sel(branch="local")
    np.testing.assert_allclose(maps.sel(branch="combined"), blend, atol=1e-6)
    assert (record["certificate"] != 0).all()


def test_gradient_norms_are_those_of_the_jacobian(model):
    clip = small_clip(7)
    layer = model.encoders["audio"].layers[0]
    batch = Batch.from_clips([clip], ("visual", "audio"))
    inputs = model.trace(batch).layer("audio").input[0].detach()
    jacobian = torch.func.jacrev(lambda frames: layer.attention.trace(frames[None]).output[0])(inputs)
    expected = jacobian.square().sum((1, 3)).sqrt()
    torch.testing.assert_close(frame_gradient_norms(model, clip, "audio"), expected, rtol=1e-4, atol=1e-6)
    record = inspect_clip(model, clip, parts=("sensitivity",))
    np.testing.assert_allclose(record["gradient_norm"].sel(modality="audio"), expected.detach(), rtol=1e-4, atol=1e-6)


def test_its_maps_are_certified_and_a_wrong_gate_is_not(model):
    trace = model.trace(Batch.from_clips([small_clip()], ("visual", "audio")))
    assert all(each.passed is not False for each in certify(model, trace))
    with torch.no_grad():
        model.encoders["visual"].layers[0].attention.gate.neg_()
    failed = {(each.modality, each.branch) for each in certify(model, trace) if each.passed is False}
    assert failed == {("visual", "combined")}


def test_every_explanation_and_the_curves(model):
    clip = small_clip()
    found = explain_all(model, clip, 2)
    assert set(found) == set(applicable(model))
    assert all(bool(each.frames.isfinite().all()) for each in found.values())
    total = found["relevance-propagation"]
    assert total.convergence_delta == pytest.approx(0.0, abs=1e-4)
    measures = Replacer(model, clip, 2).curves(found["saliency"].frames).measures()
    assert all(np.isfinite(value) for value in measures.values())


def test_every_ablation_and_a_shut_branch_is_a_gate_of_one(model):
    clip, ablations = small_clip(), all_ablations(model)
    assert len(ablations) == 2 * (2 * 3 + 4 * 2)
    found = ablate_clip(model, clip, context_means(model, [clip]), ablations)
    assert np.isfinite(found["logit"]).all()
    place = next(
        i for i, one in enumerate(ablations) if (one.modality, one.kind, one.branch) == ("audio", "shut", "local")
    )
    with torch.no_grad():
        model.encoders["audio"].layers[0].attention.gate.fill_(1e4)
        expected = model(Batch.from_clips([clip], ("visual", "audio")))[0]
    np.testing.assert_allclose(found["logit"].isel(ablation=place), expected, rtol=1e-4, atol=1e-5)


def test_it_is_drawn(model):
    record = inspect_clip(model, small_clip())
    assert len(draw(record).axes) > 5
    assert len(pack([record])) > 1000
