"""What the kernel answers: arrays as the payload has them, of the maps that were asked for, or one line."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import EditEngine, inspect_clip
from figures.inspector import Inspector
from figures.inspector.answers import Answers
from figures.inspector.payload import pack
from gmsa_models.errors import ArgumentError
from tests.figures.inspector.test_inspector_payload import Unpacked
from tests.small_models import moved, small_clip, small_model

TEXT = "knock-out visual/1/local/weights keys 2..5"


@pytest.fixture(scope="module")
def engine() -> EditEngine:
    return EditEngine(moved(small_model("gate-att", layers=2)), small_clip())


@pytest.fixture(scope="module")
def records(engine) -> list:
    """Of another model, and of two layers of the engine's."""
    other = inspect_clip(small_model("baseline"), engine.clip)
    return [other, inspect_clip(engine.model, engine.clip, layers="all")]


def ask(answers: Answers, edits: list[str], shown: list[str], model: str = "small-gate-att"):
    return answers.answer({"id": "7", "model": model, "edits": edits, "shown": shown})


def test_an_answer_is_the_payload_of_the_edited_record(engine, records):
    shown = ["2/attention/visual/local/1", "2/gate/visual"]
    message, (buffer,) = ask(Answers(records, [engine]), [TEXT], shown)
    assert message == {"kind": "answer", "id": "7"}
    edited = inspect_clip(engine.model, engine.clip, edits=[TEXT], layers="all")
    answer, whole, plain = Unpacked(buffer), Unpacked(pack([records[0], edited])), Unpacked(pack(records))
    names = set(answer.header["arrays"])
    assert {name for name in names if "attention" in name or name[1:] in ("/gate/visual", "/gate/audio")} == set(shown)
    assert {"1/neighbourhood", "2/score", "1/lane/profile/visual/local", "2/lane/gate/audio/global"} <= names
    for name in names - {"logits", "probabilities"}:
        np.testing.assert_array_equal(answer[name], whole[name])
    np.testing.assert_array_equal(answer["logits"], edited["logit"].values)
    np.testing.assert_array_equal(answer["probabilities"], edited["score"].values)
    assert not np.array_equal(answer[shown[0]], plain[shown[0]])
    np.testing.assert_array_equal(answer["1/lane/profile/visual/local"], plain["1/lane/profile/visual/local"])


def test_a_layer_with_another_neighbourhood_keeps_all_its_weights(engine, records):
    name, text = "2/attention/visual/local/1", "neighbourhood visual/1/local/neighbourhood as TP9"
    _, (buffer,) = ask(Answers(records, [engine]), [text], [name])
    expected = inspect_clip(engine.model, engine.clip, edits=[text], layer=1)["attention"]
    np.testing.assert_array_equal(
        Unpacked(buffer)[name], expected.sel(modality="visual", branch="local", head=1).values
    )


@pytest.mark.parametrize(
    ("edits", "model", "error"),
    [
        (
            ["force-gate\nvisual/0/gate to 2"],
            "small-gate-att",
            r"edit 'force-gate\nvisual/0/gate to 2': a gate of 2; expected a number from 0 to 1",
        ),
        ([TEXT], "small-baseline", "no engine of model 'small-baseline'; there are those of small-gate-att"),
    ],
)
def test_what_cannot_be_answered_is_one_line(engine, records, edits, model, error):
    assert ask(Answers(records, [engine]), edits, [], model) == ({"kind": "answer", "id": "7", "error": error}, [])


def test_a_pass_that_fails_is_one_line_too(engine, records, monkeypatch):
    def fail(*given, **more):
        raise MemoryError("no room\nfor 9 GB")

    monkeypatch.setattr(engine, "record", fail)
    message, buffers = ask(Answers(records, [engine]), [TEXT], [])
    assert (message["error"], buffers) == ("MemoryError: no room for 9 GB", [])


def test_engines_of_other_models_or_clips_are_refused(engine, records):
    with pytest.raises(ArgumentError, match="an engine of model 'small-gate-op'; the records are of small-baseline, "):
        Inspector(records, engines=[EditEngine(small_model(), engine.clip)])
    with pytest.raises(ArgumentError, match="is of a clip with features_sha256"):
        Inspector(records, engines=[EditEngine(engine.model, small_clip(seed=3))])
    with pytest.raises(ArgumentError, match="expected one a model"):
        Inspector(records, engines=[engine, engine])
    with pytest.raises(ArgumentError, match="edits of 'small-baseline', which has no engine"):
        Inspector(records, engines=[engine], edits=[TEXT])
    changed = [records[1].assign_attrs(checkpoint_sha256="0" * 64)]
    other = EditEngine(engine.model, engine.clip)
    other.sha256 = "1" * 64
    with pytest.raises(ArgumentError, match=r"is of weights with checkpoint_sha256 111111111111…, the record of 0000"):
        Inspector(changed, engines=[other])


def test_the_widget_answers_its_own_questions_only(engine, records, monkeypatch):
    inspector, sent = Inspector(records, engines=[engine], model="small-gate-att", edits=[TEXT]), []
    monkeypatch.setattr(inspector, "send", lambda *message: sent.append(message))
    assert (inspector.live, inspector.edits) == (["small-gate-att"], [TEXT])
    question = {"kind": "edits", "id": "7", "model": "small-gate-att", "edits": [TEXT], "shown": []}
    for message in ("text", {"kind": "other"}, question):
        inspector._handle_custom_msg(message, [])
    assert [message for message, _ in sent] == [{"kind": "answer", "id": "7"}]
    inspector.close()
    assert inspector.answers.models == []


def test_a_class_is_explained_when_it_is_asked_for(engine, records):
    label = int(records[1]["class"].values[2])
    question = {"kind": "explanation", "id": "7", "model": "small-gate-att", "class": label, "methods": ["rollout"]}
    message, (buffer,) = Answers(records, [engine]).answer(question)
    assert message == {"kind": "answer", "id": "7"}
    answer = Unpacked(buffer)
    expected = inspect_clip(engine.model, engine.clip, parts=["explanation"], target=2, methods=["rollout"])
    assert answer.header["explained"] == expected["explanation"].attrs["class_name"]
    assert list(answer.header["explanations"]) == ["rollout"]
    assert [lane["variable"] for lane in answer.header["lanes"]] == ["explanation"]
    for index in (1, 2):  # both layers of the model
        values = expected["explanation"].sel(explainer="rollout", modality="audio").values
        np.testing.assert_array_equal(answer[f"{index}/lane/explanation/audio/rollout"], values)
    unknown, none = Answers(records, [engine]).answer(question | {"class": 10**6})
    assert unknown["error"] == "model 'small-gate-att' knows no class with label 1000000"
    assert none == []
