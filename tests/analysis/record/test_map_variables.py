"""What a record says of its maps: patterns, contributions and certificates are the functions' numbers, in place."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from small_models import KINDS, small_clip, small_model

from analysis import combine_models, inspect_clip
from analysis.attention.certificates import CHECKS
from analysis.attention.gates import branch_contributions, contribution_norms
from analysis.attention.pattern_table import PATTERNS, pattern_table
from analysis.gmsa_view import attention_block
from analysis.inspect.maps import certify
from analysis.record.map_variables import FAILED, NOTHING_TO_CHECK, PASSED
from gmsa_models import Batch, load, read_clips
from gmsa_models.attention import stages

JUDGED = {*PATTERNS, "contribution", "certificate", "certificate_worst"}


def traced(kind: str):
    model, clip = small_model(kind), small_clip(frame_seconds=0.5)
    return model, clip, model.trace(Batch.from_clips([clip])), inspect_clip(model, clip, certify=True)


@pytest.mark.parametrize("kind", KINDS)
def test_patterns_are_those_of_the_table_and_heads_keep_their_places(kind):
    _, _, trace, record = traced(kind)
    if kind == "none":
        assert JUDGED.isdisjoint(record.data_vars)
        return
    for row in pattern_table(trace, frame_seconds=0.5).to_dict("records"):
        here = record.sel(modality=row["modality"], branch=row["branch"], head=row["head"])
        for name in PATTERNS:
            assert float(here[name]) == pytest.approx(row[name], rel=1e-5, abs=1e-9)
    if kind == "share-att":
        assert record["verticality"].sel(branch="global", head=[2, 3]).isnull().all()
        assert record["verticality"].sel(branch="local", head=[0, 1]).isnull().all()


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_contributions_are_norms_of_parts_and_the_share_is_theirs(kind):
    model, _, trace, record = traced(kind)
    for modality in ("visual", "audio"):
        parts = branch_contributions(attention_block(model, modality), trace.layer(modality))
        for branch, norm in contribution_norms(parts).items():
            shown = record["contribution"].sel(modality=modality, branch=branch)
            np.testing.assert_allclose(shown, norm[0].detach(), rtol=1e-5)
    assert ("local_share" in record) == (kind != "baseline")
    if kind != "baseline":
        local, both = (record["contribution"].sel(branch=["local", *more]) for more in ((), ("global",)))
        np.testing.assert_allclose(record["local_share"], local.sel(branch="local") / both.sum("branch"), rtol=1e-5)
    if "combined" in record["branch"]:
        assert record["contribution"].sel(branch="combined").isnull().all()


def test_gate_att_shows_its_gates_and_what_they_let_through():
    _, _, trace, record = traced("gate-att")
    rows = record["attention"].sel(branch="combined").sum("key").mean("head")
    np.testing.assert_allclose(record["gated_weight"].sum("branch"), rows, rtol=1e-5)
    gate = trace.layer("audio").gates["local"][0]
    np.testing.assert_allclose(record["gate_map"].sel(modality="audio"), gate.mean(0), rtol=1e-5)
    assert record["gate_map"].dims == ("modality", "query", "key")
    assert {"gate_map", "gated_weight"}.isdisjoint(traced("gate-op")[3].data_vars)


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_certificates_are_in_the_record(kind):
    model, _, trace, record = traced(kind)
    assert record["check"].values.tolist() == list(CHECKS)
    for each in certify(model, trace):
        here = record.sel(modality=each.modality, branch=each.branch, check=each.check)
        assert int(here["certificate"]) == {True: PASSED, False: FAILED, None: NOTHING_TO_CHECK}[each.passed]
        assert float(here["certificate_worst"]) == pytest.approx(each.worst, nan_ok=True)
        assert here["certificate_explanation"].item() == each.explanation
    assert (record["certificate"] != FAILED).all()


def test_maps_are_certified_only_where_that_is_asked_for():
    model, clip = small_model(), small_clip()
    by_default = inspect_clip(model, clip)
    assert not any(name.startswith("certificate") for name in by_default.variables)
    certified = inspect_clip(model, clip, certify=True)
    assert (
        certified.drop_vars([name for name in certified.variables if name.startswith("certificate")])
        .drop_dims("check")
        .identical(by_default)
    )
    for parts in (("certificate",), ("score", "certificate")):
        assert inspect_clip(model, clip, parts=parts).equals(inspect_clip(model, clip, parts=parts, certify=True))
    chosen = inspect_clip(model, clip, parts=("score",), certify=True)
    assert set(chosen.data_vars) == {"score", "logit", *(name for name in certified if name.startswith("certificate"))}


def test_a_faulty_model_is_marked_in_its_record(monkeypatch):
    right = stages.logits_to_weights
    monkeypatch.setattr(stages, "logits_to_weights", lambda *given: right(*given).mT.contiguous())
    clip = small_clip()
    record = inspect_clip(small_model("baseline"), clip, parts=("certificate",))
    assert (record["certificate"].sel(check="orientation") == FAILED).all()
    assert (record["certificate"].sel(check="rows") == FAILED).all()


def test_records_of_several_models_join_with_them(tmp_path):
    clip = small_clip()
    joined = combine_models([inspect_clip(small_model(kind), clip, certify=True) for kind in KINDS])
    assert joined["certificate"].dims == ("model", "modality", "branch", "check")
    assert (joined["certificate"].sel(model="small-none") == NOTHING_TO_CHECK).all()
    assert (joined["certificate"].sel(model="small-gate-op", branch="combined") == NOTHING_TO_CHECK).all()
    assert joined["verticality"].sel(model="small-none").isnull().all()
    joined.to_netcdf(tmp_path / "joined.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "joined.nc") as opened:
        assert opened.load().identical(joined)


@pytest.mark.shared_data
def test_the_real_video_by_trained_models(shared_data):
    (clip,) = read_clips(shared_data / "yt8m_frame_SjJ3.tfrecord")
    for name in ("baseline", "share-att-td", "gate-att-bd10", "gate-op-tp30"):
        record = inspect_clip(load(name), clip, parts=("pattern", "certificate", "contribution"))
        assert (record["certificate"] != FAILED).all()
        assert (record["certificate"].sel(check="orientation") == PASSED).all()
        # Claim C4: global maps show vertical lines.
        assert float(record["verticality_adjusted"].sel(branch="global").min()) > 0.05
        assert float(record["verticality_p"].sel(branch="global").max()) < 1e-6
        assert not math.isnan(float(record["contribution"].sel(branch="global").sum()))


def test_half_precision_and_a_deeper_layer():
    clip = small_clip()
    half = inspect_clip(small_model("gate-op").bfloat16(), clip, parts=("pattern", "contribution", "certificate"))
    assert (half["certificate"] != FAILED).all()
    assert {array.dtype for array in half.data_vars.values() if array.dtype.kind == "f"} == {np.dtype("float32")}
    model = small_model("gate-att", layers=2)
    deep = inspect_clip(model, clip, layer=1, parts=("contribution", "certificate"))
    worst = [each.worst for each in certify(model, model.trace(Batch.from_clips([clip])), layer=1)]
    np.testing.assert_allclose(deep["certificate_worst"].values.flatten(), worst, rtol=1e-3, atol=1e-9)
    parts = branch_contributions(
        attention_block(model, "visual", 1), model.trace(Batch.from_clips([clip])).layer("visual", 1)
    )
    with torch.no_grad():
        norm = contribution_norms(parts)["local"][0].numpy()
    np.testing.assert_allclose(deep["contribution"].sel(modality="visual", branch="local"), norm, rtol=1e-5)
