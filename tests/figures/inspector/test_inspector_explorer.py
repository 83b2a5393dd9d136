"""The explorer: the picture is of what the controls say, and what is no longer shown is freed."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import ipywidgets
import numpy as np
import pytest

import analysis
import gmsa_models
from figures.inspector import Explorer
from gmsa_models.errors import ArgumentError
from tests.inspector_records import made_record

FRAMES = {"long": 17, "short": 11}  # of the models' records


@pytest.fixture
def explorer(monkeypatch):
    """An explorer of made-up records: models of two lengths, one that takes no such clip, one without attention."""

    def inspect(model: str, clip) -> object:
        if model == "silent":
            raise KeyError("clip has no modality 'audio'")
        record = made_record(FRAMES.get(model, 17), heads=2, name=model, clip=clip.id)
        return record.drop_vars("attention").drop_dims("branch") if model == "bare" else record

    def read(source: str):
        if source == "missing":
            raise FileNotFoundError("no file 'missing'")
        rgb = np.zeros((17, 3), np.float32)
        return iter([] if source == "none" else [gmsa_models.Clip(f"{source}-{i}", {"visual": rgb}) for i in range(3)])

    monkeypatch.setattr(analysis, "inspect_clip", inspect)
    monkeypatch.setattr(
        analysis, "EditEngine", lambda model, clip: SimpleNamespace(name=model, sha256="", features_sha256="")
    )
    monkeypatch.setattr(gmsa_models, "load", lambda name: name)
    monkeypatch.setattr(gmsa_models, "available", lambda: ["long", "short", "other", "silent", "bare"])
    monkeypatch.setattr(gmsa_models, "read_clips", read)
    made = Explorer("source", model="long")
    yield made
    made.close()


def shown(explorer: Explorer) -> tuple:
    """What the picture is of."""
    inspector = explorer.children[2]
    assert inspector is explorer.inspector
    return inspector.records[0].attrs["clip"], inspector.model, inspector.against


def test_picture_is_of_the_choice(explorer):
    assert shown(explorer) == ("source-0", "long", "")
    explorer.video.value = "source-2"
    explorer.against.value = "other"
    assert explorer.inspector.live == ["long", "other"]
    assert shown(explorer) == ("source-2", "long", "other")
    explorer.model.value = "bare"
    assert shown(explorer) == ("source-2", "bare", "other")
    assert explorer.inspector.figure().axes


@pytest.mark.parametrize(
    ("control", "value", "message"),
    [
        ("model", "silent", "source-0 by silent cannot be shown: clip has no modality"),
        ("against", "short", "source-0 by long and short cannot be shown: record of &#x27;short&#x27; has 11 frames"),
        ("source", "missing", "missing cannot be read: no file"),
        ("source", "none", "none cannot be read: it has no videos"),
    ],
)
def test_a_choice_that_fails_has_a_message_in_place_of_the_picture(explorer, control, value, message):
    old, before = explorer.inspector, getattr(explorer, control).value
    getattr(explorer, control).value = value
    assert explorer.inspector is None
    assert explorer.children[2] is explorer.failure
    assert message in explorer.failure.value
    assert (explorer.message.value, explorer.progress.value) == ("", 0)
    assert list(explorer.video.options) == ([] if control == "source" else [f"source-{index}" for index in range(3)])
    with pytest.raises(ArgumentError, match="was closed"):
        old.figure()
    getattr(explorer, control).value = before
    assert shown(explorer) == ("source-0", "long", "")
    assert explorer.failure.value == ""


def test_a_failure_of_another_kind_is_told_and_raised(explorer, monkeypatch):
    monkeypatch.setattr(
        analysis, "EditEngine", lambda model, clip: SimpleNamespace(name=model, sha256="", features_sha256="")
    )
    monkeypatch.setattr(gmsa_models, "load", lambda name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explorer.model.value = "other"
    assert explorer.inspector is None
    assert "source-0 by other cannot be shown: division by zero" in explorer.failure.value


def test_inspectors_that_are_replaced_are_closed_and_freed(explorer):
    inspectors, records, payloads = [], [], []
    widgets = len(ipywidgets.widgets.widget._instances)
    for video, against in itertools.islice(itertools.cycle(itertools.product(range(3), ("", "other", "short"))), 24):
        explorer.video.value = f"source-{video}"
        explorer.against.value = against
        if explorer.inspector is not None:
            inspectors.append(weakref.ref(explorer.inspector))
            records.append(weakref.ref(explorer.inspector.records[0]))
            payloads.append(len(explorer.inspector.payload))
    explorer.against.value = ""
    gc.collect()
    assert len(inspectors) >= 16
    assert min(payloads) > 1000
    assert sum(each() is not None for each in inspectors) == 0
    assert sum(each() is not None for each in records) == 0
    assert len(ipywidgets.widgets.widget._instances) == widgets
    last, record = weakref.ref(explorer.inspector), weakref.ref(explorer.inspector.records[0])
    explorer.close()
    gc.collect()
    assert (last(), record()) == (None, None)


def test_closing_frees_every_widget(monkeypatch, explorer):
    explorer.close()
    gc.collect()
    before = set(ipywidgets.widgets.widget._instances)
    Explorer("source", model="long", against="other").close()
    assert set(ipywidgets.widgets.widget._instances) == before


def test_a_closed_inspector_lets_go_of_its_records_though_it_is_held(explorer):
    held = explorer.inspector
    record = weakref.ref(held.records[0])
    explorer.close()
    gc.collect()
    assert record() is None
    assert (held.payload, held.rest) == (b"", b"")


def test_nothing_is_said_when_python_ends():
    code = "from figures.inspector import Explorer\nexplorer = Explorer('demo:0-2')\nother = Explorer('missing')\n"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
