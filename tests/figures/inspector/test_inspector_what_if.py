"""Edits of the pass on the page: what the controls say, what an engine answers, and what is shown of it."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from typer.testing import CliRunner

import gmsa
from analysis import EditEngine, inspect_clip
from analysis.record.files import open_record
from figures.inspector import write_html
from figures.inspector.answers import Answers
from gmsa_models import load, read_clips, save, write_clips
from tests.browser import SCREEN, settle, started_browser
from tests.small_models import moved, small_clip, small_model

ROOT = "document.querySelector('.gmsa-inspector').inspector"
# An engine of the page whose answers Python gives, through the same contract as the others.
ATTACH = """(model) => {
    const { inspector } = document.querySelector('.gmsa-inspector'), Payload = inspector.scene.payload.constructor;
    inspector.attach({ model, async answer(edits, shown) {
        const { error, data } = await window.answerInPython(model, edits, shown);
        if (error) throw new Error(error);
        const payload = new Payload(Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)).buffer);
        const arrays = Object.keys(payload.header.arrays).map((name) => [name, payload.array(name)]);
        const { logits, probabilities, ...variables } = Object.fromEntries(arrays);
        return { logits, probabilities, variables };
    }, async refusals(edits) { return (await window.answerInPython(model, edits, null)).refusals; } });
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    yield from started_browser()


@dataclass
class Page:
    """An opened file with an engine: what a person does, what the page asks, and what it then shows."""

    page: object
    engine: EditEngine
    asked: list = field(default_factory=list)

    def evaluate(self, code: str):
        return self.page.evaluate(code)

    def settle(self) -> None:
        """Wait until nothing is asked any more and the view is drawn."""
        self.page.evaluate(f"""new Promise((done) => {{
            const look = () => {{
                const inspector = {ROOT};
                const waits = inspector.whatIf.busy || inspector.pending;
                if (waits) setTimeout(look, 5); else done();
            }};
            setTimeout(look, 30);
        }})""")
        settle(self.page)

    def click(self, label: str) -> None:
        self.page.get_by_role("button", name=label, exact=True).click()
        self.settle()

    def press(self, *keys: str) -> None:
        self.page.focus(".gmsa-inspector")
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def edits(self) -> list[str]:
        return self.page.locator(".edits code").all_text_contents()

    def write(self, text: str) -> None:
        self.page.get_by_label("An edit as text").fill(text)
        self.page.keyboard.press("Enter")
        self.settle()

    def record(self):
        """The edited pass as Python makes it."""
        texts = self.page.evaluate(f"{ROOT}.whatIf.list.texts")
        return inspect_clip(self.engine.model, self.engine.clip, edits=texts)

    def map(self, panel: str = "first") -> np.ndarray:
        frames = self.engine.clip.frames
        return np.array(self.page.evaluate(f"[...{ROOT}.{panel}.maps[0].values]")).reshape(frames, frames)


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a record as a file with an engine, and checks that no error was reported."""
    problems, contexts = [], []

    def open_page(
        kind: str = "gate-op", view=None, answers=None, hash_: str = "", engine=None, others=(), precision="float32",
        **settings,
    ) -> Page:  # fmt: skip
        engine = engine or EditEngine(moved(small_model(kind)), small_clip())
        records = [inspect_clip(engine.model, engine.clip), *others]
        answers = answers or Answers(records, [engine])
        path = write_html(records, tmp_path / f"view{len(contexts)}.html", view, precision)
        contexts.append(browser.new_context(**{"viewport": SCREEN, "accept_downloads": True} | settings))
        page = contexts[-1].new_page()
        opened = Page(page, engine)

        def answer(name: str, edits: list[str], shown: list[str] | None) -> dict:
            opened.asked.append((edits, shown))
            kind = "refusals" if shown is None else "edits"
            message, buffers = answers.answer({"id": "1", "kind": kind, "model": name, "edits": edits, "shown": shown})
            return message | {"data": base64.b64encode(buffers[0]).decode() if buffers else ""}

        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.expose_function("answerInPython", answer)
        page.goto(path.as_uri() + hash_)
        page.wait_for_selector(".gmsa-inspector footer")
        assert page.locator(".whatif").count() == 0  # without an engine nothing is offered
        page.evaluate(ATTACH, engine.name)
        opened.settle()
        return opened

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def test_switching_off_seconds_shows_the_edited_pass(opened):
    view = opened()
    view.evaluate(f"{ROOT}.set({{ selection: {{ seconds: [3, 7], queries: null, keys: null }} }})")
    view.click("Switch off: queries no longer attend to keys")
    assert view.edits() == ["knock-out visual/0/global/weights keys 3..7"]
    edited, plain = view.record(), inspect_clip(view.engine.model, view.engine.clip)
    expected = edited["attention"].sel(modality="visual", branch="global", head=0).values
    np.testing.assert_allclose(view.map(), expected, atol=1e-6)
    assert not view.map()[:, 3:7].any()
    listed = view.evaluate(f"{ROOT}.predictions.listed")
    names = [str(name) for name in edited["class_name"].values]
    for row in listed:
        at = names.index(row["name"])
        assert row["scores"][0]["score"] == pytest.approx(float(edited["score"][at]), abs=1e-6)
        assert row["scores"][0]["before"] == pytest.approx(float(plain["score"][at]), abs=1e-6)
    lanes = {lane["name"]: lane for lane in view.evaluate(f"{ROOT}.lanes.curves({ROOT}.state)")}
    received = lanes["attention received"]
    line = received["series"][0]
    assert line["values"] == pytest.approx(edited["profile"].values[0, 0].tolist(), abs=1e-6)
    assert line["before"] == pytest.approx(plain["profile"].values[0, 0].tolist(), abs=1e-6)
    assert received["note"] is None
    assert lanes["sensitivity S"]["note"] == "of the unedited model"
    best = int(plain["score"].values.argmax())
    change = float(edited["logit"][best] - plain["logit"][best])
    said = view.page.text_content(".effect").replace("−", "-")
    assert said.startswith(
        f"{names[best]} {100 * plain['score'].values[best]:.1f} → {100 * edited['score'].values[best]:.1f} %"
    )
    assert float(said.split("logit ")[1].split()[0]) == pytest.approx(change, rel=0.01)


def drag(view: Page, panel: str, start: tuple[float, float], end: tuple[float, float], shift: bool = False) -> None:
    """Drag between two places (key, query) of a map, in frames."""
    view.settle()
    box = view.page.locator(f".{panel} .overlay").bounding_box()
    inner = view.evaluate(f"{ROOT}['{panel}'].cells(1)[0]")
    frames = view.engine.clip.frames
    places = [
        [box[axis] + inner[axis] + at / frames * inner["width"] for axis, at in zip("xy", place, strict=True)]
        for place in (start, end)
    ]
    if shift:
        view.page.keyboard.down("Shift")
    view.page.mouse.move(*places[0])
    view.page.mouse.down()
    view.page.mouse.move(*places[1], steps=3)
    view.page.mouse.up()
    if shift:
        view.page.keyboard.up("Shift")
    view.settle()


def test_a_drag_selects_edges_and_heads_are_chosen(opened):
    view = opened("share-att", {"branch": "local", "head": 3})
    drag(view, "first", (2.2, 4.3), (4.8, 8.6), shift=True)
    assert view.evaluate(f"{ROOT}.state.selection") == {"seconds": None, "queries": [4, 9], "keys": [2, 5]}
    assert view.evaluate(f"{ROOT}.state.span") == [0, 13]  # it did not zoom
    view.page.get_by_label("Weights that are left").select_option("stay")
    view.page.get_by_label("Edit head 3").click()
    view.click("Switch off: queries no longer attend to keys")
    assert view.edits() == ["knock-out visual/0/local/weights[head 3] queries 4..9 keys 2..5 after-softmax"]
    expected = view.record()["attention"].sel(modality="visual", branch="local", head=3).values
    np.testing.assert_allclose(view.map(), expected, atol=1e-6)
    view.press("e")  # now a drag selects without Shift
    drag(view, "first", (6.1, 1.2), (7.9, 1.4))
    assert view.evaluate(f"{ROOT}.state.selection") == {"seconds": None, "queries": [1, 2], "keys": [6, 8]}
    view.press("Escape")
    assert view.evaluate(f"{ROOT}.state.selection") is None
    box = view.page.locator(".lanes .overlay").bounding_box()
    x = [box["x"] + view.evaluate(f"{ROOT}.lanes.place({ROOT}.state)({frame})") for frame in (5.2, 8.8)]
    view.page.mouse.move(x[0], box["y"] + 60)
    view.page.mouse.down()
    view.page.mouse.move(x[1], box["y"] + 62, steps=3)
    view.page.mouse.up()
    view.settle()
    assert view.evaluate(f"{ROOT}.state.selection") == {"seconds": [5, 9], "queries": None, "keys": None}


@pytest.mark.parametrize("kind", ["baseline", "gate-att", "gate-op", "none"])
def test_every_control_writes_an_edit_that_the_model_takes(opened, kind):
    view = opened(kind)
    view.page.get_by_label("seconds of the edit, as 45..61").fill("3..6")
    view.page.keyboard.press("Enter")
    written = {
        "Switch off: queries no longer attend to keys": "knock-out visual/0/global/weights keys 3..6",
        "Drop the seconds: as padding": "drop visual/input at 3..6",
        "Move the seconds": "move visual/input at 3..6 to 8",
        "Put another neighbourhood in place of the model's": "neighbourhood visual/0/local/neighbourhood as TD6x2",
    }
    view.page.get_by_label("Second at which moved frames start").fill("8")
    if kind.startswith("gate"):
        view.page.get_by_label("Neighbourhood: BDn, TPn or TDnxd").fill("TD6x2")
    for label, text in written.items():
        button = view.page.get_by_role("button", name=label, exact=True)
        offered = kind != "none" if "attend" in label else kind.startswith("gate") if "neigh" in label else True
        assert button.is_visible() == offered, label
        if not offered:
            continue
        view.click(label)
        assert view.edits() == [text]
        assert view.page.locator(".problem").is_hidden(), view.page.text_content(".problem")
        scores = view.evaluate(f"[...{ROOT}.whatIf.pass.answer.probabilities]")
        np.testing.assert_allclose(scores, view.record()["score"].values, atol=1e-6)
        view.press("Control+z")
        assert view.edits() == []
    for label, text in (
        ("Scale what the heads hand on", "scale visual/0/global/contexts by 0.3 at 3..6"),
        ("Force the gate of the branch", "force-gate visual/0/gate to 0.3 at 3..6"),
    ):
        slider = view.page.get_by_label(label)
        assert slider.is_visible() == (kind != "none" if "Scale" in label else kind.startswith("gate"))
        if not slider.is_visible():
            continue
        for value in ("0.8", "0.5", "0.3"):
            slider.fill(value)
        view.settle()
        assert view.edits() == [text]
        scores = view.evaluate(f"[...{ROOT}.whatIf.pass.answer.probabilities]")
        np.testing.assert_allclose(scores, view.record()["score"].values, atol=1e-6)
        view.press("Control+z")  # a slider's way is one step
        assert view.edits() == []
    if kind == "gate-att":  # its gates have heads
        view.page.get_by_label("Edit head 1").click()
        view.page.get_by_label("Force the gate of the branch").fill("0.8")
        view.settle()
        assert view.edits() == ["force-gate visual/0/gate[head 1] to 0.8 at 3..6"]
        assert view.page.locator(".problem").is_hidden()


def test_the_list_is_undone_shared_and_opened_again(opened, tmp_path):
    view = opened()
    first, second = "force-gate visual/0/gate to 0.25", "knock-out audio/0/local/weights"
    view.write(first)
    view.write(second)
    both = view.record()["score"].values
    scores = f"[...{ROOT}.whatIf.pass.answer.probabilities]"
    view.page.get_by_label(f"On: {first}").uncheck()
    view.settle()
    assert view.page.evaluate("document.activeElement.ariaLabel") == f"On: {first}"  # the list was made again
    view.page.set_viewport_size({"width": 620, "height": 800})
    view.settle()
    assert view.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    np.testing.assert_allclose(view.evaluate(scores), view.record()["score"].values, atol=1e-6)
    assert np.abs(np.array(view.evaluate(scores)) - both).max() > 1e-4
    view.page.wait_for_url(re.compile("%22off%20force-gate"))  # the address follows after a moment
    address = view.page.url
    with view.page.expect_download() as waiting:
        view.page.get_by_role("button", name="Save the edits as a file").click()
    waiting.value.save_as(tmp_path / "edits.json")
    saved = json.loads((tmp_path / "edits.json").read_text())
    assert saved == {"clip": "clip0", "model": "small-gate-op", "edits": [f"off {first}", second]}
    view.press("Control+z")
    np.testing.assert_allclose(view.evaluate(scores), both, atol=1e-6)
    view.press("Control+z", "Control+z")
    assert view.edits() == []
    assert view.evaluate(f"{ROOT}.scene.edited") is None
    view.press("Control+Shift+z")
    assert view.edits() == [first]
    view.click(f"Delete: {first}")
    assert view.edits() == []
    open_file(view, tmp_path / "edits.json")
    view.page.wait_for_selector(".edits li")
    assert view.edits() == [first, second]
    assert view.evaluate(f"{ROOT}.whatIf.list.texts") == [second]
    for words, message in (
        ('{"edits": [3]}', "edits are [3]; expected a list of texts"),
        ("not at all", 'this is no file of edits; expected JSON with a list "edits", as "save" writes it'),
        ("[1]", 'this is no file of edits; expected JSON with a list "edits", as "save" writes it'),
    ):
        open_file(view, tmp_path / "other.json", words)
        view.page.wait_for_selector(f"text=other.json: {message}")
        assert view.edits() == [first, second]
    again = opened(hash_=address[address.index("#") :])
    assert again.edits() == [first, second]
    assert again.evaluate(f"{ROOT}.whatIf.list.texts") == [second]


def open_file(view: Page, path, words: str | None = None) -> None:
    """Open a file of edits, written anew if its words are given."""
    if words is not None:
        path.write_text(words)
    with view.page.expect_file_chooser() as choosing:
        view.page.get_by_role("button", name="Open edits from a file").click()
    choosing.value.set_files(path)


def test_a_file_of_another_clip_and_model_says_so_and_what_cannot_be_made(opened, tmp_path):
    view = opened()
    texts = ["drop visual/input at 2..4", "drop visual/input at 60..70"]
    open_file(view, tmp_path / "e.json", json.dumps({"clip": "other", "model": "small-baseline", "edits": texts}))
    view.page.wait_for_selector(".edits li.refused")
    view.settle()
    assert view.page.text_content(".problem") == (
        "these edits were saved of clip other and model small-baseline; here they are of clip clip0 and model "
        "small-gate-op · no frame starts in 60 to 70 s; the clip has 13 frames of 1 s"
    )
    assert view.evaluate(f"{ROOT}.scene.edited.edits") == texts[:1]
    open_file(view, tmp_path / "e.json", json.dumps({"clip": "clip0", "model": "small-baseline", "edits": texts[:1]}))
    view.page.wait_for_selector("text=saved of model small-baseline; here they are of model small-gate-op")
    open_file(view, tmp_path / "e.json", json.dumps({"edits": [*texts[:1], "drop audio/input at 2..4"]}))
    view.page.wait_for_selector(".problem", state="hidden")


def test_an_edit_that_is_added_is_seen(opened):
    view = opened()
    view.write("drop visual/input at 2..4")
    view.press("o")
    assert view.evaluate(f"{ROOT}.state.pass") == "unedited"
    view.click("Delete: drop visual/input at 2..4")
    assert view.evaluate(f"{ROOT}.state.pass") == "unedited"
    view.write("drop audio/input at 2..4")
    assert view.evaluate(f"{ROOT}.state.pass") == "edited"
    assert view.evaluate(f"{ROOT}.scene.edited.edits") == ["drop audio/input at 2..4"]
    view.press("c")
    view.write("drop audio/input at 5..6")
    assert view.evaluate(f"{ROOT}.state.pass") == "change"


def test_the_change_is_of_the_engines_own_pass_and_not_of_rounded_numbers(opened):
    view = opened(view={"branch": "local", "head": 1}, precision="float16")
    view.write("scale audio/0/global/contexts by 0.5")  # nothing of the visual maps
    view.press("c")
    assert np.abs(view.map()).max() == 0
    assert view.evaluate(f"{ROOT}.first.source({ROOT}.state).title").startswith("small-gate-op, edited − unedited")
    recorded = view.evaluate(f"[...{ROOT}.scene.payload.array('0/attention/visual/local/1')]")
    view.press("c")
    assert np.abs(view.map().ravel() - recorded).max() > 1e-6  # what the record is off by


def test_the_gate_slider_says_whose_gate_it_is(opened):
    view = opened("gate-att")
    name = view.page.locator(".whatif .control", has=view.page.get_by_label("Force the gate of the branch")).locator(
        ".label"
    )
    for branch, words, text in (("local", "local gate", "force-gate visual/0/gate to 0.3 branch local"),
                                ("*", "global gate", "force-gate visual/0/gate to 0.3")):  # fmt: skip
        view.page.get_by_label("Branch of the edit").select_option(branch)
        assert name.inner_text() == words
        view.page.get_by_label("Force the gate of the branch").fill("0.3")
        view.settle()
        assert view.edits() == [text]
        view.press("Control+z")


def test_unedited_and_change_are_one_key_away(opened):
    view = opened(view={"branch": "local"})
    plain = view.map()
    view.write("knock-out visual/0/local/weights keys 4..6")
    edited = view.map()
    assert np.abs(edited - plain).max() > 0.01
    view.press("o")
    np.testing.assert_array_equal(view.map(), plain)
    assert view.evaluate(f"{ROOT}.predictions.listed[0].scores[0].before") is None
    top = view.evaluate(f"{ROOT}.scene.top({ROOT}.first.source({ROOT}.state).share)")
    view.press("o")
    np.testing.assert_array_equal(view.map(), edited)
    assert view.evaluate(f"{ROOT}.scene.top({ROOT}.first.source({ROOT}.state).share)") == top  # colours stay
    view.press("c")
    np.testing.assert_allclose(view.map(), edited - plain, atol=1e-7)
    assert view.evaluate(f"{ROOT}.first.source({ROOT}.state).title").startswith(
        "small-gate-op, edited − unedited · local"
    )
    view.press("o")  # from one to the other with one key
    np.testing.assert_array_equal(view.map(), plain)
    view.press("c")
    np.testing.assert_allclose(view.map(), edited - plain, atol=1e-7)
    view.press("c", "ArrowDown")  # a head that was not asked for before
    expected = view.record()["attention"].sel(modality="visual", branch="local", head=1).values
    np.testing.assert_allclose(view.map(), expected, atol=1e-6)
    asked = [shown for edits, shown in view.asked if edits]
    assert asked == [["0/attention/visual/local/0"], ["0/attention/visual/local/1"]]
    view.page.get_by_role("radio", name="gradient").click()
    view.settle()
    assert view.evaluate(f"{ROOT}.left.source({ROOT}.state).note") == "of the unedited model"


def test_an_edit_that_does_not_fit_is_marked_in_its_place_and_the_others_are_made(opened):
    view = opened()
    first, wrong, last = (
        "drop visual/input at 2..4",
        "knock-out visual/0/local/weights keys 40..50",
        "drop audio/input at 1..2",
    )
    outside = "no frame starts in 40 to 50 s; the clip has 13 frames of 1 s"
    for text in (first, wrong, last):
        view.write(text)
    assert view.page.text_content(".problem") == outside
    assert view.edits() == [first, wrong, last]
    assert view.page.locator(".edits li.refused").get_attribute("title") == outside
    assert view.page.locator(".edits li.refused").inner_text().split("\n")[:2] == [wrong, "not made"]
    assert view.evaluate(f"{ROOT}.scene.edited.edits") == [first, last]
    assert "logit" in view.page.text_content(".effect")
    expected = inspect_clip(view.engine.model, view.engine.clip, edits=[first, last])["score"].values
    np.testing.assert_allclose(view.evaluate(f"[...{ROOT}.whatIf.pass.answer.probabilities]"), expected, atol=1e-6)
    view.write("knock visual")
    assert view.page.text_content(".problem") == f"{outside} (and 1 more that cannot be made)"
    assert view.evaluate(f"{ROOT}.scene.edited.edits") == [first, last]
    view.page.get_by_role("button", name="Copy the edits as a command").click()
    assert wrong not in view.page.input_value(".code")
    view.press("Control+z")
    view.page.get_by_label(f"On: {wrong}").uncheck()
    view.settle()
    assert view.page.locator(".problem").is_hidden()
    assert view.page.locator(".edits li.refused").count() == 0
    view.press("Control+z", "Control+z", "Control+z")
    assert view.edits() == [first]
    assert view.evaluate(f"{ROOT}.scene.edited.edits") == [first]


def test_a_refused_list_is_checked_once_whatever_is_drawn_meanwhile(opened):
    view = opened()
    asked = view.evaluate(f"""async () => {{
        const inspector = {ROOT}, asked = [], later = (value) => new Promise((done) => setTimeout(done, 60, value));
        const result = {{ logits: [], probabilities: inspector.scene.payload.array("0/score"), variables: {{}} }};
        const refusals = (edits) => later(edits.map((each) => (each === "bad" ? "no" : "")));
        const answer = async (edits) => {{
            if (edits.length) asked.push(edits);
            if (edits.includes("bad")) throw new Error("no");
            return later(result);
        }};
        inspector.attach({{ model: inspector.state.model, refusals, answer }});
        inspector.whatIf.list.add("good");
        inspector.whatIf.list.add("bad");
        for (let frame = 0; frame < 8; frame++) {{ inspector.set({{ frame }}); await later(); }}
        return asked;
    }}""")
    assert asked == [["good"], ["good", "bad"], ["good"]]
    assert view.page.text_content(".problem") == "no"
    assert view.evaluate(f"{ROOT}.scene.edited.edits") == ["good"]


def test_of_two_edits_in_each_others_way_the_later_is_marked(opened):
    view = opened()
    texts = ["force-gate visual/0/gate to 0.25", "force-gate visual/0/gate to 0.5 at 2..4"]
    view.write(texts[0])
    view.write(texts[1])
    assert (
        view.page.text_content(".problem")
        == "ForceGate at visual/0/gate and ForceGate at visual/0/gate replace the same values at gate"
    )
    assert view.evaluate(f"{ROOT}.whatIf.made") == texts[:1]
    view.click(f"Delete: {texts[0]}")
    assert view.page.locator(".problem").is_hidden()
    assert view.evaluate(f"{ROOT}.scene.edited.edits") == texts[1:]


def test_what_an_engine_cannot_do_at_all_is_said_once_and_not_asked_again(opened):
    view = opened()
    asked = view.evaluate(f"""async () => {{
        const inspector = {ROOT}, asked = [];
        const fail = (edits) => {{ asked.push(edits); return Promise.reject(new Error("out of memory")); }};
        const broken = {{ model: inspector.state.model, answer: fail,
          refusals: async (edits) => edits.map(() => "") }};
        inspector.attach(broken);
        inspector.whatIf.list.add("drop visual/input at 2..4");
        await new Promise((done) => setTimeout(done, 200));
        inspector.set({{ frame: 3 }});
        await new Promise((done) => setTimeout(done, 100));
        return asked;
    }}""")
    assert asked == [["drop visual/input at 2..4"]]
    assert view.page.text_content(".problem") == "out of memory"


def test_fields_and_addresses_that_cannot_be_read_are_said(opened):
    view = opened()
    view.write("drop visual/input at 2..4")
    view.page.get_by_label("keys of the edit, as 45..61").fill("9..3")
    view.page.keyboard.press("Enter")
    assert view.page.text_content(".problem") == "9..3: expected seconds A..B, of 0 to 13"
    view.evaluate("location.hash = '#edits=%5B'")
    view.page.wait_for_selector("text=the address holds no edits")


def test_a_field_that_cannot_be_read_makes_no_edit(opened):
    """Neither of everything nor of what was selected before."""
    view = opened()
    texts, off = f"{ROOT}.whatIf.list.texts", view.page.get_by_title("Switch off: queries no longer attend to keys")
    seconds, keys = (view.page.get_by_label(f"{name} of the edit, as 45..61") for name in ("seconds", "keys"))
    seconds.fill("3..6")
    seconds.press("Enter")
    for span, words in ((keys, "45"), (keys, "9..3"), (seconds, "abc")):
        span.fill(words)
        off.click()
        assert view.evaluate(texts) == []
        assert view.page.text_content(".problem") == f"{words}: expected seconds A..B, of 0 to 13"
        assert (span.input_value(), span.get_attribute("aria-invalid")) == (words, "true")
        span.fill("")
        span.press("Enter")
        assert view.page.locator(".problem").is_hidden()
        assert span.get_attribute("aria-invalid") == "false"
    seconds.fill("3..6")
    seconds.press("Enter")
    view.page.get_by_label("Second at which moved frames start").fill("")
    view.page.get_by_title("Move the seconds").click()
    assert view.page.text_content(".problem") == "no second: expected the second at which they start"
    off.click()
    assert view.evaluate(texts) == ["knock-out visual/0/global/weights keys 3..6"]


def test_a_field_that_is_corrected_is_in_force_and_nothing_is_said_of_it_any_more(opened):
    view = opened()
    view.write("scale visual/0/global/contexts by 0.5")
    effect = view.page.text_content(".effect")
    seconds, keys, start = (view.page.get_by_label(name) for name in (
        "seconds of the edit, as 45..61", "keys of the edit, as 45..61", "Second at which moved frames start"
    ))  # fmt: skip
    keys.fill("abc")
    keys.press("Enter")
    assert keys.get_attribute("title") == "not in force: abc: expected seconds A..B, of 0 to 13"
    assert view.page.text_content(".effect") == ""
    seconds.fill("3..6")  # of keys none is left
    seconds.press("Enter")
    assert (keys.input_value(), keys.get_attribute("title"), keys.get_attribute("aria-invalid")) == ("", "", "false")
    assert view.page.locator(".problem").is_hidden()
    assert view.page.text_content(".effect") == effect
    start.fill("soon")
    view.page.get_by_title("Move the seconds").click()
    assert view.page.text_content(".problem") == "soon: expected the second at which they start"
    start.fill("9")
    assert view.page.locator(".problem").is_hidden()
    assert view.page.text_content(".effect") == effect
    seconds.fill("x")
    seconds.press("Enter")
    view.page.get_by_title("Select nothing: edits are of all seconds (Esc)").click()
    assert (seconds.input_value(), view.page.locator(".problem").is_hidden()) == ("", True)


def test_a_page_that_opens_on_an_edited_pass_offers_its_edits(opened):
    model, clip = moved(small_model()), small_clip()
    texts = ["drop visual/input at 2..4", "scale visual/0/*/contexts by 0.5"]
    engine, edited = EditEngine(model, clip), inspect_clip(model, clip, edits=texts)
    view = opened(view={"model": f"{engine.name}@edited", "against": engine.name}, engine=engine, others=[edited])
    bar = view.page.locator(".whatif")
    assert bar.is_visible()
    assert "is as it was recorded. Edits are made of" in bar.inner_text()
    assert view.page.get_by_label("An edit as text").is_hidden()
    assert view.asked == []
    view.click("Show the model's own pass with these edits in the list")
    assert view.edits() == texts
    assert view.evaluate(f"{ROOT}.state.model") == engine.name
    np.testing.assert_allclose(
        view.evaluate(f"[...{ROOT}.whatIf.pass.answer.logits]"), edited["logit"].values, rtol=0, atol=1e-4
    )
    assert view.page.get_by_label("An edit as text").is_visible()
    assert view.page.get_by_text("as it was recorded").is_hidden()


def test_several_edits_in_one_text_are_made_as_the_command_line_makes_them(opened):
    view = opened()
    view.write("drop visual/input at 2..4; scale visual/0/*/contexts by 0.5")
    assert view.page.locator(".problem").is_hidden()
    expected = view.record()["logit"].values
    np.testing.assert_allclose(view.evaluate(f"[...{ROOT}.whatIf.pass.answer.logits]"), expected, rtol=0, atol=1e-4)


def test_what_is_being_typed_stays_when_the_view_is_painted(opened):
    """An answer that comes in, or a cursor that plays, paints the controls while somebody types in them."""
    view = opened()
    seconds = view.page.get_by_label("seconds of the edit, as 45..61")
    start = view.page.get_by_label("Second at which moved frames start")
    for span, words in ((start, "9"), (seconds, "3..6")):
        span.fill(words)
        for frame in (2, 5):
            view.evaluate(f"{ROOT}.set({{ frame: {frame} }})")
            view.evaluate(f"{ROOT}.whatIf.bar.update({ROOT}.state)")
            assert span.input_value() == words
    seconds.press("Enter")
    view.page.get_by_title("Move the seconds").click()
    assert view.evaluate(f"{ROOT}.whatIf.list.texts") == ["move visual/input at 3..6 to 9"]
    view.evaluate(f"{ROOT}.set({{ frame: 7 }})")
    view.evaluate(f"{ROOT}.whatIf.bar.update({ROOT}.state)")
    assert start.input_value() == "7"


def test_an_engine_of_other_weights_is_named(opened):
    model, clip = moved(small_model(), 0.3, seed=5), small_clip()
    records = [inspect_clip(model, clip)]
    view = opened(answers=Answers(records, [EditEngine(model, clip)]))
    view.write("force-gate visual/0/gate to 0.5")
    assert "it is of other weights or frames" in view.page.text_content(".problem")


def test_the_newest_question_wins_and_stale_answers_are_dropped(opened):
    view = opened()
    answered = view.evaluate("""async () => {
        const inspector = document.querySelector('.gmsa-inspector').inspector, { whatIf } = inspector;
        const waiting = [], asked = [], shown = [];
        const engine = { model: inspector.state.model, answer(edits) {
            asked.push(edits);
            const answer = { logits: [], probabilities: [], variables: {} };
            return new Promise((resolve) => waiting.push(() => resolve(answer)));
        } };
        const questions = new whatIf.questions.constructor(({ edits }) => shown.push(edits), () => shown.push(null));
        for (const edits of [["a"], ["a", "b"], ["a", "b", "c by 1"], ["a", "b", "c by 2"]]) {
            questions.ask(engine, edits, []);
        }
        const next = async () => { waiting.shift()(); await new Promise((done) => setTimeout(done)); };
        await next();
        questions.ask(engine, ["a", "b", "c by 3"], []);
        await next();
        await next();
        questions.ask(engine, ["d"], []);
        questions.drop();
        await next();
        return [asked, shown];
    }""")
    assert answered == [
        [["a"], ["a", "b", "c by 2"], ["a", "b", "c by 3"], ["d"]],
        [["a", "b", "c by 2"], ["a", "b", "c by 3"]],  # a slider's way is shown
    ]


@pytest.mark.usefixtures("pages_left_empty")
def test_the_edits_as_python_and_as_a_command_give_the_same_numbers(opened, tmp_path):
    save(moved(small_model("gate-op"), 0.4), tmp_path / "mine.safetensors")
    write_clips(tmp_path / "clips.tfrecord", [small_clip()])
    clip = next(iter(read_clips(f"{tmp_path / 'clips.tfrecord'}#clip0")))
    view = opened(engine=EditEngine(load(tmp_path / "mine.safetensors"), clip))
    for text in ("force-gate visual/0/gate to 0.25 at 3..7", "scale audio/0/local/contexts[heads 1, 2] by 0.5"):
        view.write(text)
    scores = view.evaluate(f"[...{ROOT}.whatIf.pass.answer.probabilities]")
    view.page.get_by_role("button", name="Copy the edits as Python").click()
    code = view.page.input_value(".code")
    namespace: dict = {}
    exec(compile(code, "copied", "exec"), namespace)
    np.testing.assert_allclose(namespace["edited"]["score"].values, scores, atol=1e-6)
    assert namespace["inspector"].edits == view.edits()
    assert namespace["inspector"].live == [view.engine.name]
    namespace["inspector"].close()
    view.page.get_by_role("button", name="Copy the edits as a command").click()
    words = shlex.split(view.page.input_value(".code"))
    assert words[:2] == ["gmsa", "inspect"]
    done = CliRunner().invoke(gmsa.app, [*words[1:], "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    (path,) = (tmp_path / "out").glob("*edited*.nc")
    np.testing.assert_allclose(open_record(path)["score"].values, scores, atol=1e-6)
    assert list((tmp_path / "out").glob("*.html"))
