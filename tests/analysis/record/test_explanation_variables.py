"""The part "explanation" of a record: each method's numbers, its parts, its error and its measures."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from small_models import KINDS, small_clip, small_model

from analysis import combine_models, inspect_clip
from analysis.explanations.faithfulness import Replacer
from analysis.explanations.ground_truth import evidence_scores, label_evidence
from analysis.explanations.registry import applicable, explain, explain_all
from analysis.sensitivity.closed_form.forms import closed_form_norms
from gmsa_models import Vocabulary
from gmsa_models.errors import ArgumentError, UnknownNameError

PARTS = ("score", "label", "explanation")


@pytest.mark.parametrize("kind", KINDS)
def test_it_holds_what_each_method_says(kind):
    model, clip = small_model(kind), small_clip()
    record = inspect_clip(model, clip, parts=PARTS, target=2)
    assert tuple(record["explainer"].values) == applicable(model)
    untold = replace(clip, segments=())
    for name in ("saliency", "segment-shapley", "relevance-propagation"):
        found = explain(model, untold, 2, name)
        one = record.sel(explainer=name)
        np.testing.assert_allclose(one["explanation"], found.values, rtol=1e-5, atol=1e-6)
        assert one["explanation_units"] == found.units
        for way in record["way"].values:
            values = one["explanation_way"].sel(way=way)
            if way in found.branches:
                np.testing.assert_allclose(values, found.branches[way], rtol=1e-5, atol=1e-6)
            else:
                assert values.isnull().all()
        measures = Replacer(model, clip, 2).curves(found.frames).measures()
        measures |= evidence_scores(found.frames, label_evidence(clip, 11))
        for measure, value in measures.items():
            assert float(one["faithfulness"].sel(measure=measure)) == pytest.approx(value, abs=1e-5)
    ways = record["explanation_way"].sel(explainer="relevance-propagation").sum("way")
    np.testing.assert_allclose(ways, record["explanation"].sel(explainer="relevance-propagation"), atol=1e-6)
    assert record["explanation_delta"].sel(explainer="saliency").isnull()
    assert abs(record["explanation_delta"].sel(explainer="segment-shapley")) < 1e-5


@pytest.mark.parametrize("kind", ["gate-op", "none"])
def test_progress_is_told_of_each_explanation_and_of_each_score(kind):
    model, told = small_model(kind), []
    inspect_clip(model, small_clip(), parts=PARTS, explanation_progress=lambda *steps: told.append(steps))
    total = 2 * len(applicable(model))
    assert told == [(done, total) for done in range(1, total + 1)]
    told.clear()
    inspect_clip(model, small_clip(), parts=("score",), explanation_progress=lambda *steps: told.append(steps))
    assert not told


def test_the_class_is_the_one_asked_for_or_the_likeliest():
    model, clip = small_model(), small_clip()
    asked = inspect_clip(model, clip, parts=PARTS, target=3)["explanation"].attrs
    assert (asked["target"], asked["label"], asked["class_name"], asked["baseline"]) == (3, 17, "Dance", "mean")
    record = inspect_clip(model, clip, parts=PARTS)
    assert record["explanation"].attrs["target"] == int(record["score"].values.argmax())


def test_explanations_are_of_the_first_layer_whatever_layer_the_record_is_of():
    model, clip = small_model(layers=2), small_clip()
    found = explain(model, replace(clip, segments=()), 2, "attention-local")
    assert found.values.std() > 0
    for layer in (0, 1):
        record = inspect_clip(model, clip, parts=PARTS, target=2, layer=layer)
        np.testing.assert_allclose(record["explanation"].sel(explainer="attention-local"), found.values, rtol=1e-5)


def test_gradient_norms_are_computed_once_a_modality(monkeypatch):
    calls = []

    def counted(block, *rest):
        calls.append(block.query.weight)
        return closed_form_norms(block, *rest)

    monkeypatch.setattr("analysis.sensitivity.norms.closed_form_norms", counted)
    model, clip = small_model(), small_clip()
    inspect_clip(model, clip, parts=(*PARTS, "sensitivity"), target=2)
    weights = [encoder.layers[0].attention.query.weight for encoder in model.encoders.values()]
    assert [each.data_ptr() for each in calls] == [each.data_ptr() for each in weights]  # a replica shares them
    explain_all(model, clip, 2, ["sensitivity-weighted", "gradient-received"])
    assert len(calls) == 4


def test_evidence_is_nan_where_nothing_is_known_of_the_class():
    record = inspect_clip(small_model(), small_clip(), parts=PARTS, target=3)
    assert record["faithfulness"].sel(measure="evidence_auc").isnull().all()
    assert record["faithfulness"].sel(measure="deletion").notnull().all()


def test_it_saves_opens_without_torch_and_stands_beside_another_models(tmp_path):
    records = [inspect_clip(small_model(kind), small_clip(), parts=PARTS, target=2) for kind in ("baseline", "gate-op")]
    records[0].to_netcdf(tmp_path / "record.nc", engine="h5netcdf")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "record.nc", engine="h5netcdf"), records[0])
    code = (
        "import sys\nfor name in ('torch', 'captum'): sys.modules[name] = None\n"
        "import xarray\nrecord = xarray.load_dataset(sys.argv[1], engine='h5netcdf')\n"
        "print(record['explanation'].sel(explainer='rollout').sizes['frame'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "record.nc")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "13"
    both = combine_models(records)
    lacking = both["explanation"].sel(explainer="attention-local")
    assert lacking.isel(model=0).isnull().all()
    assert lacking.isel(model=1).notnull().all()


def test_classes_are_found_by_name_and_number():
    vocabulary = Vocabulary("made", (3, 70), ("Game", "Garden"))
    assert [vocabulary.find(told) for told in ("gARDEN", "70", "3")] == [1, 1, 0]
    with pytest.raises(
        ArgumentError, match="no class 'Gane' among the 2 of made; names that begin alike: Game, Garden"
    ):
        vocabulary.find("Gane")


def test_only_the_methods_asked_for_are_in_it_and_are_as_among_all():
    model, clip = small_model("gate-op"), small_clip()
    every = inspect_clip(model, clip, parts=PARTS, target=2)
    told = []
    some = inspect_clip(
        model, clip, parts=PARTS, target=2, methods=["rollout", "saliency", "attention-combined"],
        explanation_progress=lambda *steps: told.append(steps),
    )  # fmt: skip
    assert list(some["explainer"].values) == ["rollout", "saliency"]  # the order asked for; GateOp has no combined map
    assert told[-1] == (4, 4)
    xr.testing.assert_allclose(some, every.sel(explainer=["rollout", "saliency"]))
    with pytest.raises(ArgumentError, match=r"no explanation among \['attention-local'\] applies"):
        inspect_clip(small_model("baseline"), clip, parts=PARTS, methods=["attention-local"])
    with pytest.raises(UnknownNameError, match="unknown explanation 'salience'; known: saliency, "):
        inspect_clip(model, clip, parts=PARTS, methods=["salience"])
