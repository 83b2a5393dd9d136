"""Records of edited passes: the numbers of `run_with`, what was changed, and what cannot be said."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_models import moved, small_clip, small_model

from analysis.errors import RecordError
from analysis.inspect.clips import inspect_clip
from analysis.interventions.edit_texts import parse_edit
from analysis.interventions.edits import Patch
from analysis.interventions.running import run_with
from analysis.record.combine import combine_models
from analysis.record.edits import record_edits
from analysis.record.files import open_record, save_record
from figures.inspector.records import split_records
from figures.overview import draw
from gmsa_models.attention import ATTENTION

EDITS = ("knock-out visual/0/global/weights[head 1] keys 3..7", "scale audio/0/global/contexts by 0.5 at 2..9")
KINDS = [kind for kind, block in ATTENTION.items() if block is not None and "global" in block.branches]


def model_of(kind="gate-op", **changes):
    return moved(small_model(kind, **changes), 0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_it_holds_the_edited_pass(kind):
    model, clip = model_of(kind), small_clip(13)
    trace = run_with(model, clip, EDITS)
    record, plain = inspect_clip(model, clip, edits=EDITS), inspect_clip(model, clip)
    np.testing.assert_allclose(record["logit"], trace.logits[0], rtol=1e-6)
    weights = trace.layer("visual").weights["global"][0].numpy()
    shown = record["attention"].sel(modality="visual", branch="global").values[: len(weights)]
    np.testing.assert_allclose(shown, weights, rtol=1e-6)
    assert (shown[1, :, 3:7] == 0).all()
    assert float(np.abs(record["logit"] - plain["logit"]).max()) > 1e-3
    assert record_edits(record.attrs) == EDITS
    assert [parse_edit(text).place.stream for text in record_edits(record.attrs)] == ["visual", "audio"]
    assert record["model"].item() == f"{plain['model'].item()}@edited"
    assert record_edits(plain.attrs) == ()


def test_contributions_and_gates_are_those_of_the_edited_pass():
    model, clip = model_of(), small_clip(13)
    shut = inspect_clip(model, clip, edits=["force-gate visual/0/gate to 0.25 branch local"])
    gates = shut["gate"].sel(modality="visual")
    np.testing.assert_allclose(gates.sel(branch="local"), 0.25)
    np.testing.assert_allclose(gates.sel(branch="global"), 0.75)
    assert "contribution" in shut
    patched = inspect_clip(model, clip, edits=["patch */0/output from zero"])
    assert "contribution" not in patched


def test_gradient_norms_are_of_blocks_that_are_as_they_were():
    model, clip = model_of(), small_clip(13)
    record = inspect_clip(model, clip, edits=["patch visual/0/local/values from mean"])
    plain = inspect_clip(model, clip)
    assert record["gradient_norm"].sel(modality="visual").isnull().all()
    np.testing.assert_array_equal(
        record["gradient_norm"].sel(modality="audio"), plain["gradient_norm"].sel(modality="audio")
    )
    moved_frames = inspect_clip(model, clip, edits=["move */input at 0..3 to 5"])
    order = [3, 4, 5, 6, 7, 0, 1, 2, *range(8, 13)]
    expected = inspect_clip(
        model, small_clip(13, features={name: each[order] for name, each in clip.features.items()}, segments=())
    )
    np.testing.assert_allclose(moved_frames["gradient_norm"], expected["gradient_norm"], rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "edit", ["drop */input at 2..5", "knock-out */0/*/weights", "knock-out */0/global/weights queries 1..2"]
)
def test_queries_that_attend_to_nothing_leave_no_false_number(kind, edit):
    model, clip = model_of(kind), small_clip(13)
    record = inspect_clip(model, clip, edits=[edit])
    head = {"modality": "visual", "branch": "global", "head": 0}
    assert record["verticality"].sel(head).isnull()
    empty = "*/weights" in edit
    assert bool(record["profile_gini"].sel(modality="visual", branch="global").isnull()) == empty
    for values in record.data_vars.values():
        assert values.dtype.kind != "f" or not np.isinf(values.values).any()
    draw(inspect_clip(model, clip), record)


def test_a_head_whose_queries_all_attend_keeps_its_patterns():
    model, clip = model_of(), small_clip(13)
    record = inspect_clip(model, clip, edits=["knock-out visual/0/global/weights[head 2] queries 0..1"])
    patterns = record["verticality"].sel(modality="visual", branch="global")
    assert patterns.isnull().values.tolist() == [False, False, True, False]
    plain = inspect_clip(model, clip)["verticality"].sel(modality="visual", branch="global")
    np.testing.assert_array_equal(patterns[:2], plain[:2])


def test_a_replaced_neighbourhood_is_the_record_s():
    model, clip = model_of("gate-att"), small_clip(13)
    record = inspect_clip(model, clip, edits=["neighbourhood */0/local/neighbourhood as BD4"])
    assert int(record["neighbourhood"].sum()) == 3 * 16 + 1
    other = inspect_clip(model, clip, edits=["neighbourhood visual/0/local/neighbourhood as BD4"])
    assert bool((other["neighbourhood"] == inspect_clip(model, clip)["neighbourhood"]).all())


def test_it_is_saved_joined_and_parted_again(tmp_path):
    model, clip = model_of(), small_clip(13)
    records = [inspect_clip(model, clip), inspect_clip(model, clip, edits=EDITS)]
    again = open_record(save_record(records[1], tmp_path / "edited.nc"))
    assert record_edits(again.attrs) == EDITS
    parted = split_records(combine_models(records))
    assert [record_edits(each.attrs) for each in parted] == [(), EDITS]
    assert "edits" not in combine_models(records[:1])
    broken = records[1].assign_attrs(edits=json.dumps([3]))
    with pytest.raises(RecordError, match="attribute 'edits'"):
        open_record(save_record(broken, tmp_path / "broken.nc"))


def test_what_is_of_the_model_as_it_is_is_refused():
    model, clip = model_of(), small_clip(13)
    for given in ({"certify": True}, {"parts": ["explanation"]}):
        with pytest.raises(RecordError, match=r"of a pass with edits; it is of the model as it is"):
            inspect_clip(model, clip, edits=EDITS, **given)


def test_a_clip_as_source_is_named():
    model, clip = model_of(), small_clip(13)
    record = inspect_clip(model, clip, edits=[Patch("visual/input", small_clip(13, 5), (2, 4))])
    assert record_edits(record.attrs) == ("patch visual/input from clip5 at 2..4",)
