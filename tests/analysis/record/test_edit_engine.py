"""EditEngine: the record of an edited pass is that of `inspect_clip`, and a pass is made once."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from small_models import moved, small_clip, small_model

import analysis.inspect.engine as engine_module
from analysis import EditEngine, EditError, SiteError, inspect_clip
from analysis.inspect.engine import ANSWERED
from analysis.interventions.edits import Patch
from analysis.interventions.sites import Site
from gmsa_models import load, read_clips
from gmsa_models.masks import Toeplitz

TEXTS = ["knock-out visual/0/local/weights keys 2..5", "force-gate audio/*/gate to 0.25"]


@pytest.mark.parametrize("edits", [[], TEXTS, ["; ".join(TEXTS)]])
def test_records_are_those_of_inspect_clip(edits):
    model, clip = moved(small_model(layers=2)), small_clip()
    record = EditEngine(model, clip, neighbourhood=Toeplitz(5)).record(edits, layers=(0, 1))
    made = TEXTS if edits else []
    expected = inspect_clip(model, clip, edits=made, layers="all", parts=ANSWERED, neighbourhood=Toeplitz(5))
    xr.testing.assert_equal(record, expected)
    assert record.attrs == expected.attrs


def test_a_pass_is_made_once_and_others_follow(monkeypatch):
    made = []
    plain = engine_module.edited_view
    monkeypatch.setattr(engine_module, "edited_view", lambda *given, **more: made.append(1) or plain(*given, **more))
    engine = EditEngine(moved(small_model()), small_clip())
    for _ in range(3):
        engine.record(TEXTS, parts=("score",))
    assert len(made) == 1
    first = engine.record(TEXTS[:1], parts=("score",))
    assert len(made) == 2
    assert np.abs(first["score"] - engine.record(TEXTS, parts=("score",))["score"]).max() > 1e-4


def test_what_cannot_be_made_is_refused_and_the_next_is_answered():
    engine = EditEngine(moved(small_model()), small_clip())
    with pytest.raises(EditError, match="expected a verb"):
        engine.record(["open visual/0/gate"])
    with pytest.raises(SiteError, match="no site visual/3/gate"):
        engine.record(["force-gate visual/3/gate to 0"])
    with pytest.raises(EditError, match="no clip 'other' is given here"):
        engine.record(["patch visual/0/gate from other"])
    assert engine.record(TEXTS).attrs["edits"].count("force-gate") == 1


def test_a_patch_names_another_clip_by_text():
    """As copied Python of such a record does."""
    clip, other = (next(iter(read_clips(f"demo:{number}"))) for number in (3, 5))
    model, text = load("gate-op-tp30"), f"patch visual/0/local/contexts from {other.id} at 10..20"
    expected = inspect_clip(
        model, clip, edits=[Patch(Site("visual", "contexts", 0, "local"), other, (10, 20))], parts=("score",)
    )
    engine = EditEngine(model, clip)
    assert engine.refusals([text]) == [""]
    for record in (inspect_clip(model, clip, edits=[text], parts=("score",)), engine.record([text], parts=("score",))):
        np.testing.assert_array_equal(record["logit"], expected["logit"])
