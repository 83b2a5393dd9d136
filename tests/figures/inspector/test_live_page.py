"""A live page, opened as a file: what it holds, what it says, what is refused."""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
from small_models import moved, small_clip, small_model
from typer.testing import CliRunner

import gmsa
from analysis import inspect_clip, run_with
from analysis.inspect.live import check_live, live_model
from figures.inspector import write_html
from figures.inspector.live import pack_live
from gmsa_models import build, load, read_clips
from gmsa_models.checkpoints.files import ZOO
from gmsa_models.errors import ArgumentError
from tests.browser import started_browser
from tests.unpacked import Unpacked

EDIT = "drop */input at 2..5"
ASK = """async () => {
  const { inspector } = document.querySelector(".gmsa-inspector"), found = [];
  for (const engine of inspector.whatIf.engines.values()) {
    const { products } = await engine.ready, { logits } = await engine.answer(["EDIT"], []);
    found.push([engine.model, products, [...logits]]);
  }
  return found;
}""".replace("EDIT", EDIT)

# Waits for the first map; the page's policy lets no text be evaluated there.
DRAWN = """() => new Promise((done) => {
  const look = () => {
    const maps = document.querySelector(".gmsa-inspector")?.inspector?.first.maps ?? [];
    if (maps.length && %s) done(); else setTimeout(look, 20);
  };
  look();
})"""


def named_model(kind: str, name: str):
    model = moved(small_model(kind))
    model.card["name"] = name
    return model


def test_two_models_are_live_in_a_file_that_asks_for_nothing(tmp_path):
    models, clip = [named_model("gate-att", "one"), named_model("share-att", "two")], small_clip()
    records = [inspect_clip(model, clip) for model in models]
    path = write_html(records, tmp_path / "view.html", live=[live_model(model, clip) for model in models])
    browsers, problems = started_browser(), []
    page = next(browsers).new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    page.goto(path.as_uri())
    page.wait_for_selector(".gmsa-inspector footer .live >> nth=1")
    answers, words = page.evaluate(ASK), page.inner_text(".gmsa-inspector footer")
    next(browsers, None)
    assert problems == []
    assert [answer[:2] for answer in answers] == [["one", "VectorProducts"], ["two", "VectorProducts"]]
    for model, (_, _, logits) in zip(models, answers, strict=True):
        np.testing.assert_allclose(logits, run_with(model, clip, [EDIT]).logits[0], atol=1e-4)
    assert {"live: one, SHA-256 of no file", "live: two, SHA-256 of no file"} <= set(words.splitlines())


def test_maps_that_the_engine_has_are_not_in_the_file_and_shown_at_once(tmp_path):
    model, clip, plain = named_model("gate-att", "one"), small_clip(), named_model("gate-att", "two")
    records = [inspect_clip(each, clip) for each in (model, plain)]
    view = {"branch": "combined", "against": "two"}
    path = write_html(records, tmp_path / "view.html", view, "float32", live=[live_model(model, clip)])
    (payload,) = re.findall(r'id="payload" type="text/plain">([^<]*)<', path.read_text(encoding="utf-8"))
    arrays = Unpacked(zlib.decompress(base64.b64decode(payload))).header["arrays"]
    left = {name for name, about in arrays.items() if about["type"] == "engine"}
    assert left == {f"0/attention/{stream}/combined/{head}" for stream in ("visual", "audio") for head in range(4)}
    browsers = started_browser()
    page = next(browsers).new_page()
    page.goto(path.as_uri())
    page.evaluate(DRAWN % "true")
    for panel, record in zip(("first", "second"), records, strict=True):
        values = page.evaluate(f"[...document.querySelector('.gmsa-inspector').inspector.{panel}.maps[0].values]")
        expected = record["attention"].sel(modality="visual", branch="combined", head=0).values.ravel()
        np.testing.assert_allclose(values, expected, atol=1e-5)
    page.evaluate("document.querySelector('.gmsa-inspector').inspector.set({ head: 2, modality: 'audio' })")
    page.evaluate(DRAWN % "maps[0].name.endsWith('audio/combined/2')")
    next(browsers, None)


def test_a_page_that_is_not_live_is_as_it_was(tmp_path):
    text = write_html(inspect_clip(small_model(), small_clip()), tmp_path / "view.html").read_text()
    assert "wasm" not in text.split("</head>")[0]
    assert 'class="weights"' not in text
    assert "worker-src" not in text


@pytest.mark.usefixtures("pages_left_empty")
def test_gmsa_inspect_writes_a_live_page_of_a_shipped_model(tmp_path):
    arguments = ["inspect", "demo:3", "--model", "gate-att-bd10", "--html", "--live", "--out", str(tmp_path)]
    assert CliRunner().invoke(gmsa.app, arguments).exit_code == 0
    (path,) = tmp_path.glob("*.html")
    assert path.stat().st_size < 6e6
    text = path.read_text(encoding="utf-8")
    (weights,) = re.findall(r'class="weights" type="text/plain">([^<]*)<', text)
    packed = Unpacked(zlib.decompress(base64.b64decode(weights)))
    model, clip = load("gate-att-bd10"), next(iter(read_clips("demo:3")))
    assert packed.header["sha256"] == model.origin["sha256"]
    frames = model.encoders["visual"].embed(clip_frames(clip)).detach()[0]
    np.testing.assert_allclose(packed["frames.visual"], frames, atol=1e-5)


def clip_frames(clip):
    import torch

    return torch.from_numpy(clip.floats("visual"))[None]


@pytest.mark.parametrize("name", sorted(path.stem for path in ZOO.glob("gate-att-*.safetensors")))
def test_gates_in_16_bits_are_as_near_as_they_are_said_to_be(name):
    model, clip = load(name), next(iter(read_clips("demo:3")))
    live = live_model(model, clip)
    record = inspect_clip(model, clip, parts=("score",))
    packed = Unpacked(pack_live(live, [record]))
    for stream in ("visual", "audio"):
        errors = []
        for branch in ("global", "local"):
            place = f"encoders.{stream}.layers.0.attention.gate_{branch}"
            assert packed.header["arrays"][place]["type"] == "int16"
            errors.append(np.abs(packed[place] - live.weights[place]).max())
        assert 0 < sum(errors) / 4 <= 1e-5
    far = live.weights | {place: 3 * each for place, each in live.weights.items() if place.endswith("gate_global")}
    packed = Unpacked(pack_live(replace(live, weights=far), [record]))
    assert packed.header["arrays"]["encoders.visual.layers.0.attention.gate_global"]["type"] == "float32"


def test_records_of_other_weights_or_clips_are_refused():
    model, clip = moved(small_model()), small_clip()
    record, live = inspect_clip(model, clip, parts=("score",)), live_model(model, clip)
    with pytest.raises(ArgumentError, match="no record of model 'other', which is to be live; these are of small"):
        pack_live(replace(live, name="other"), [record])
    with pytest.raises(ArgumentError, match="features_sha256"):
        pack_live(live_model(model, small_clip(seed=3)), [record])
    with pytest.raises(ArgumentError, match="checkpoint_sha256 none, the model and clip that are to be live of abc"):
        pack_live(replace(live, sha256="abc"), [record])
    with pytest.raises(ArgumentError, match="other logits than the model that is to be live"):
        pack_live(live_model(moved(model, 0.1), clip), [record])


def test_models_that_no_page_can_run_are_refused_before_anything_is_computed(monkeypatch, tmp_path):
    with pytest.raises(ArgumentError, match=r"has 4\.\d MB of weights; a live page takes at most 4 MB"):
        check_live(build("baseline", "paper", modalities=("audio",), classes=8000))
    monkeypatch.setattr("analysis.inspect.live.LIVE_BYTES", 1000)
    monkeypatch.setattr("analysis.inspect.source.first_clip", lambda *_: pytest.fail("a clip was read"))
    told = CliRunner().invoke(gmsa.app, ["inspect", "demo:3", "--html", "--live", "--out", str(tmp_path)])
    assert told.exit_code == 2
    assert "MB of weights; a live page takes at most" in " ".join(told.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo:3", "--live"], "--live is of the page: add --html"),
        (["some.nc", "--html", "--live"], "Give the video for a page that is live"),
        (
            ["some.mp4", "--model", ".", "--html", "--live"],
            "--live does not go with the folder of a transformers",
        ),
    ],
)
def test_what_has_no_live_page(arguments, message):
    told = CliRunner().invoke(gmsa.app, ["inspect", *arguments])
    assert told.exit_code == 2
    assert message in " ".join(told.output.split())
