"""Certificates: every real map has them, and each fault that published maps have had is caught by the right one."""

import math
from dataclasses import replace

import pytest
import torch
from small_models import KINDS, small_clip, small_model

from analysis.attention.certificates import CHECKS, Certificate, certificate_table
from analysis.inspect.maps import certify
from gmsa_models import Batch
from gmsa_models.attention import stages
from gmsa_models.attention.functions import attention_weights as RIGHT
from gmsa_models.masks import BlockDiagonal, Toeplitz, ToeplitzDilated
from gmsa_models.trace import AttentionTrace

BLOCKS = KINDS[:-1]


def traced(kind: str = "baseline", frames: tuple[int, ...] = (17, 13), dtype=torch.float32, **changes):
    """A model, and its trace of a padded batch."""
    model = small_model(kind, **changes).to(dtype)
    batch = Batch.from_clips([small_clip(count, seed) for seed, count in enumerate(frames)]).to(dtype=dtype)
    return model, model.trace(batch)


def failed(certificates: tuple[Certificate, ...], branch: str = "global", modality: str = "visual") -> set[str]:
    """Checks that the maps of a branch did not pass."""
    here = [each for each in certificates if (each.modality, each.branch) == (modality, branch)]
    assert len(here) == len(CHECKS)
    return {each.check for each in here if each.passed is False}


def passed(certificates: tuple[Certificate, ...]) -> set[tuple[str, str, str]]:
    return {(each.modality, each.branch, each.check) for each in certificates if each.passed}


def with_weights(trace: AttentionTrace, branch: str, weights: torch.Tensor) -> AttentionTrace:
    """The trace with other visual maps of a branch, as a faulty record would have them."""
    layer = trace.layer("visual")
    changed = replace(layer, weights=layer.weights | {branch: weights})
    return replace(trace, layers=trace.layers | {"visual": (changed,)})


@pytest.mark.parametrize("neighbourhood", [BlockDiagonal(5), Toeplitz(4), ToeplitzDilated(8, 2)])
@pytest.mark.parametrize("kind", BLOCKS)
def test_every_real_map_passes(kind, neighbourhood):
    model, trace = traced(kind, **({} if kind == "baseline" else {"neighbourhood": neighbourhood}))
    branches = list(trace.layer("visual").weights)
    for seed in range(3):
        certificates = certify(model, trace, seed=seed)
        assert [each for each in certificates if each.passed is False] == []
        assert len(certificates) == 2 * len(branches) * len(CHECKS)
        for modality in ("visual", "audio"):
            for branch in branches:
                done = {"values", "rows", "padding", "context", "orientation"}
                done |= {"neighbourhood"} if branch == "local" or (kind, branch) == ("share-att", "combined") else set()
                assert {check for one, two, check in passed(certificates) if (one, two) == (modality, branch)} == done


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_real_maps_pass_in_other_types(kind, dtype):
    model, trace = traced(kind, dtype=dtype)
    certificates = certify(model, trace)
    assert [each for each in certificates if each.passed is False] == []
    if dtype == torch.float64:
        assert max(each.worst for each in certificates if not math.isnan(each.worst)) < 1e-12
    assert next(model.parameters()).dtype == dtype


def test_a_deeper_layer_a_single_clip_and_one_modality():
    model, trace = traced("gate-op", frames=(13,), layers=2, modalities=("audio",))
    certificates = certify(model, trace, layer=1)
    assert {each.modality for each in certificates} == {"audio"}
    assert [each for each in certificates if each.passed is False] == []
    with pytest.raises(IndexError):
        certify(model, trace, layer=2)


def test_the_control_has_no_maps():
    assert certify(*traced("none")) == ()


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("kind", BLOCKS)
def test_what_a_short_clip_cannot_show_is_left_open_and_never_failed(kind, frames):
    certificates = certify(*traced(kind, frames=(frames,)))
    assert [each for each in certificates if each.passed is False] == []
    by_check = {each.check: each for each in certificates if each.branch == "global" and each.modality == "visual"}
    assert by_check["padding"].passed is None
    assert by_check["orientation"].passed is (True if frames == 3 else None)
    assert math.isnan(by_check["padding"].worst)


def test_a_batch_with_a_clip_too_short_is_certified_by_the_others():
    certificates = certify(*traced("baseline", frames=(13, 1)))
    assert failed(certificates) == set()
    assert ("visual", "global", "orientation") in passed(certificates)


@pytest.mark.parametrize("value", [1.0, torch.arange(12.0)])
def test_alike_frames_show_no_orientation(value):
    # Ones become a zero X in the layer norm.
    features = {"visual": (torch.ones(13, 12) * value).numpy(), "audio": small_clip(13).features["audio"]}
    model = small_model("baseline")
    certificates = certify(model, model.trace(Batch.from_clips([small_clip(features=features)])))
    found = {each.check: each for each in certificates if each.modality == "visual"}
    assert found["orientation"].passed is None
    assert found["orientation"].explanation == "the map equals its transpose"
    assert found["rows"].passed


def test_perfect_vertical_lines_are_certified():
    # Queries that do not depend on the frame: every row is the same, and odds are kept along both axes.
    model, _ = traced("baseline")
    for encoder in model.encoders.values():
        query = encoder.layers[0].attention.query
        query.weight.data.zero_()
        query.bias.data.normal_(generator=torch.Generator().manual_seed(0))
    trace = model.trace(Batch.from_clips([small_clip(17)]))
    assert failed(certify(model, trace)) == set()
    weights = trace.layer("visual").weights["global"]
    assert (weights - weights[..., :1, :]).abs().max() < 1e-6
    assert "orientation" in failed(certify(model, with_weights(trace, "global", weights.mT)))


# What is recorded is wrong; the model is right.


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_transposed_record(kind, dtype):
    model, trace = traced(kind, dtype=dtype)
    for branch, weights in trace.layer("visual").weights.items():
        certificates = certify(model, with_weights(trace, branch, weights.mT.contiguous()))
        assert failed(certificates, branch) >= {"context"}
        if dtype == torch.float32:
            assert failed(certificates, branch) >= {"orientation", "rows", "context"}
        assert failed(certificates, branch, "audio") == set()


def test_a_record_of_another_head_order_or_clip():
    model, trace = traced("baseline")
    weights = trace.layer("visual").weights["global"]
    assert failed(certify(model, with_weights(trace, "global", weights.flip(1)))) == {"orientation", "context"}
    assert failed(certify(model, with_weights(trace, "global", weights[[0, 0]]))) >= {"orientation", "context"}


def test_one_transposed_head_among_others():
    model, trace = traced("baseline")
    weights = trace.layer("visual").weights["global"].clone()
    weights[0, 1] = weights[0, 1].mT.clone()
    certificates = certify(model, with_weights(trace, "global", weights))
    assert failed(certificates) >= {"orientation", "context"}
    assert {math.isfinite(each.worst) for each in certificates if each.check == "orientation"} == {True}


@pytest.mark.parametrize("kind", ["share-att", "gate-att"])
def test_a_combined_map_that_is_not_made_of_its_branches(kind):
    model, trace = traced(kind)
    weights = trace.layer("visual").weights["combined"]
    other = weights + 1e-3 * (weights > 0)
    other = other * (weights.sum(-1, keepdim=True) / other.sum(-1, keepdim=True).clamp(min=1e-9))
    assert failed(certify(model, with_weights(trace, "combined", other)), "combined") == {"orientation", "context"}


def test_gates_that_are_not_those_of_the_maps():
    model, trace = traced("gate-att")
    model.encoders["visual"].layers[0].attention.gate_local.data.mul_(-50)
    assert failed(certify(model, trace), "combined") == {"orientation"}


@pytest.mark.parametrize("kind", ["share-att", "gate-att", "gate-op"])
def test_a_recorded_weight_outside_the_neighbourhood(kind):
    model, trace = traced(kind)
    weights = trace.layer("visual").weights["local"].clone()
    weights[0, 1, 3, 9] = 1e-6
    assert failed(certify(model, with_weights(trace, "local", weights)), "local") == {"neighbourhood"}


def test_a_recorded_neighbourhood_that_is_not_the_models():
    model, trace = traced("gate-op")
    layer = trace.layer("visual")
    wider = replace(layer, neighbourhood=torch.ones_like(layer.neighbourhood))
    certificates = certify(model, replace(trace, layers=trace.layers | {"visual": (wider,)}))
    assert "neighbourhood" in failed(certificates, "local")


@pytest.mark.parametrize("where", [(1, 0, 3, 15), (1, 0, 15, 3)])
def test_a_recorded_weight_on_padding(where):
    model, trace = traced("baseline")
    weights = trace.layer("visual").weights["global"].clone()
    weights[where] = 1e-6
    assert failed(certify(model, with_weights(trace, "global", weights))) == {"padding"}


@pytest.mark.parametrize("value", [-1e-6, math.nan, math.inf])
def test_a_recorded_weight_that_is_no_weight(value):
    model, trace = traced("baseline")
    weights = trace.layer("visual").weights["global"].clone()
    weights[0, 2, 3, 4] = value
    found = failed(certify(model, with_weights(trace, "global", weights)))
    assert "values" in found
    assert math.isfinite(value) or {"rows", "orientation", "context"} <= found


def test_rows_that_do_not_sum_to_one():
    model, trace = traced("baseline")
    weights = trace.layer("visual").weights["global"] * 1.001
    # Odds do not see a factor; sums and contexts do.
    assert failed(certify(model, with_weights(trace, "global", weights))) == {"rows", "context"}


# What is recorded is what the model computes; the model is wrong.


def make_faulty(monkeypatch, fault):
    """Every block's maps are made by `fault`."""
    monkeypatch.setattr(
        stages, "_weights", lambda branch, query, key, mask, valid, edit, clean: fault(query, key, mask, valid)
    )


def transposed(query, key, mask, valid):
    return RIGHT(query, key, mask, valid).mT


def softmax_over_queries(query, key, mask, valid):
    return RIGHT(key, query, None if mask is None else mask.mT, valid).mT


def mask_forgotten(query, key, mask, valid):
    return RIGHT(query, key, None, valid)


def padding_forgotten(query, key, mask, valid):
    return RIGHT(query, key, mask, None)


def padding_after_the_softmax(query, key, mask, valid):
    weights = RIGHT(query, key, mask, None)
    return weights if valid is None else weights * (valid[:, None, :, None] & valid[:, None, None])


def sigmoid(query, key, mask, valid):
    return torch.sigmoid(query @ key.mT) * (RIGHT(query, key, mask, valid) > 0)


def fixed(query, key, mask, valid):
    """Attention by place alone."""
    places = torch.randn(query.shape[1:], generator=torch.Generator().manual_seed(0)).expand_as(query)
    return RIGHT(places, places.roll(1, -1), mask, valid)


FAULTS = {
    # The maps of a batch are faulty in the same way before and after the disturbance.
    transposed: ("global", {"orientation", "rows"}),
    softmax_over_queries: ("global", {"orientation", "rows"}),
    mask_forgotten: ("local", {"neighbourhood"}),
    padding_forgotten: ("global", {"padding"}),
    padding_after_the_softmax: ("global", {"rows"}),
    sigmoid: ("global", {"rows", "orientation"}),
    fixed: ("global", {"orientation"}),
}


# Baseline has no local branch to go wrong.
CASES = [(kind, fault) for kind in BLOCKS for fault in FAULTS if (kind, fault) != ("baseline", mask_forgotten)]


@pytest.mark.parametrize(("kind", "fault"), CASES, ids=[f"{kind}-{fault.__name__}" for kind, fault in CASES])
def test_a_faulty_block(kind, fault, monkeypatch):
    branch, expected = FAULTS[fault]
    make_faulty(monkeypatch, fault)
    for seed in range(2):
        certificates = certify(*traced(kind), seed=seed)
        assert failed(certificates, branch) == expected
        if "orientation" in expected and kind in ("share-att", "gate-att"):
            assert "orientation" in failed(certificates, "combined")


@pytest.mark.parametrize("fault", [transposed, softmax_over_queries], ids=lambda fault: fault.__name__)
def test_a_faulty_local_branch_alone(fault, monkeypatch):
    make_faulty(
        monkeypatch, lambda query, key, mask, valid: (RIGHT if mask is None else fault)(query, key, mask, valid)
    )
    certificates = certify(*traced("gate-op", neighbourhood=Toeplitz(6)))
    assert failed(certificates, "global") == set()
    assert failed(certificates, "local") >= {"orientation", "rows"}


def test_padding_forgotten_shows_in_a_clip_without_any(monkeypatch):
    make_faulty(monkeypatch, padding_forgotten)
    assert failed(certify(*traced("baseline", frames=(17,)))) == {"padding"}


@pytest.mark.parametrize("kind", ["share-att", "gate-att", "gate-op"])
def test_a_mask_forgotten_after_the_record(kind, monkeypatch):
    model, trace = traced(kind)
    make_faulty(monkeypatch, mask_forgotten)
    assert "neighbourhood" in failed(certify(model, trace), "local")


def test_the_table_says_all_of_it():
    certificates = certify(*traced("gate-att"))
    table = certificate_table(certificates)
    assert list(table["check"][: len(CHECKS)]) == list(CHECKS)
    assert len(table) == len(certificates)
    rows = table[(table["branch"] == "combined") & (table["check"] == "rows")]
    assert rows["explanation"].str.contains("R_g A_g \\+ R_l A_l: not 1").all()
    assert len(certificate_table(())) == 0


def test_the_same_seed_gives_the_same_certificates():
    model, trace = traced("gate-op", frames=(17,))
    numbers = [[each.worst for each in certify(model, trace, seed=seed)] for seed in (0, 0, 1)]
    torch.testing.assert_close(torch.tensor(numbers[0]), torch.tensor(numbers[1]), rtol=0, atol=0, equal_nan=True)
    assert any(one != two for one, two in zip(numbers[0], numbers[2], strict=True) if not math.isnan(one))
