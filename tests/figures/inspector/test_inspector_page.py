"""The HTML file in a real browser."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest

from figures.inspector import write_html
from figures.style import WEIGHTS
from tests.browser import SCREEN, settle, started_browser, wait_until
from tests.inspector_records import explained_record, layered_record, made_record

ROOT = "document.querySelector('.gmsa-inspector').inspector"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    yield from started_browser()


class View:
    """An opened file: what a person does with it, and what the page then says."""

    def __init__(self, page) -> None:
        self.page = page

    def state(self, name: str):
        return self.page.evaluate(f"{ROOT}.state.{name}")

    def press(self, *keys: str) -> None:
        self.page.focus(".gmsa-inspector")
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def settle(self) -> None:
        settle(self.page)

    def readout(self) -> str:
        self.settle()
        return self.page.text_content(".readout")

    def cell(self, panel: str, query: int, key: int) -> tuple[float, float]:
        """Place on the screen of a pair of frames."""
        self.settle()
        box = self.page.locator(f".{panel} .overlay").bounding_box()
        inner = self.page.evaluate(f"{ROOT}['{panel}'].cells(1)[0]")
        first, last = self.state("span")
        at = [(frame + 0.5 - first) / (last - first) for frame in (key, query)]
        return box["x"] + inner["x"] + at[0] * inner["width"], box["y"] + inner["y"] + at[1] * inner["height"]

    def lane(self, frame: float) -> tuple[float, float]:
        """Place on the screen of a frame in the lanes."""
        self.settle()
        box = self.page.locator(".lanes .overlay").bounding_box()
        x = self.page.evaluate(f"{ROOT}.lanes.place({ROOT}.state)({frame})")
        return box["x"] + x, box["y"] + 60

    def choose_class(self, words: str) -> None:
        """Search a class by its name or number, and take the first."""
        self.page.get_by_role("combobox", name="class").fill(words)
        self.page.keyboard.press("Enter")
        self.settle()

    def drawn(self, panel: str) -> list[int]:
        """How many pixels of a panel's picture are not empty, and their sum: changes when the picture does."""
        return self.page.evaluate(f"""(() => {{
            const canvas = {ROOT}['{panel}'].base;
            const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            let some = 0, sum = 0;
            for (let at = 0; at < data.length; at += 4) {{ some += data[at + 3] > 0; sum += data[at] * (at % 251); }}
            return [some, sum];
        }})()""")


@pytest.fixture
def opened(browser, tmp_path):
    """Opens records as a file and checks, at the end, that the page asked for nothing and reported no error."""
    problems, contexts = [], []

    def open_records(records, view=None, precision="float32", **settings) -> View:
        path = write_html(records, tmp_path / f"view{len(contexts)}.html", view, precision)
        contexts.append(browser.new_context(viewport=SCREEN, accept_downloads=True, **settings))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.as_uri())
        page.wait_for_selector(".gmsa-inspector footer")
        view = View(page)
        view.settle()
        return view

    yield open_records
    for context in contexts:
        context.close()
    assert problems == []


def test_hover_tells_the_exact_weight(opened):
    record = made_record()
    view = opened(record)
    view.page.mouse.move(*view.cell("first", 7, 11))
    weight = float(record["attention"].sel(modality="visual", branch="global", head=0).values[7, 11])
    told = view.readout()
    assert "query 0:07 (frame 7) → key 0:11 (frame 11) · head 0" in told
    assert float(re.search(r"attention weight ([\d.e−-]+)", told)[1].replace("−", "-")) == pytest.approx(
        weight, rel=1e-5
    )
    view.page.mouse.move(*view.cell("left", 7, 11))
    cosine = float(record["similarity"].values[0, 7, 11])
    assert float(re.search(r"cosine ([\d.e−-]+)", view.readout())[1].replace("−", "-")) == pytest.approx(
        cosine, rel=1e-5
    )
    view.page.get_by_role("radio", name="gate").click()
    view.page.mouse.move(*view.cell("left", 7, 12))
    gate = float(record["gate_map"].values[0, 7, 12])
    assert float(re.search(r"local branch ([\d.e−-]+)", view.readout())[1]) == pytest.approx(gate, rel=1e-5)
    view.press("b")
    view.page.mouse.move(*view.cell("first", 7, 20))
    assert "outside the neighbourhood" in view.readout()


def test_a_weight_has_the_colour_that_matplotlib_gives_it(opened):
    record = made_record()
    view = opened(record, {"scale": "row", "theme": "light"})
    pixel = view.page.evaluate(f"""(() => {{
        const scene = {ROOT}.scene, map = scene.attention(0, "visual", "global", 0);
        const picture = scene.picture(map, "row", scene.top([map]), "light");
        return [...picture.getContext("2d").getImageData(11, 7, 1, 1).data];
    }})()""")
    row = record["attention"].values[0, 0, 0, 7]
    expected = 255 * np.array(mpl.colormaps[WEIGHTS](row[11] / row.max())[:3])
    assert np.abs(np.array(pixel[:3]) - expected).max() < 4
    assert pixel[3] == 255


def test_keys_move_frames_and_heads_and_play(opened):
    view = opened(made_record())
    before = view.drawn("first")
    view.press("ArrowRight", "ArrowRight", "Shift+ArrowRight", "ArrowLeft")
    assert view.state("frame") == 11
    assert view.drawn("first") == before  # the cursor is on the overlay: the map is not drawn again
    view.press("ArrowDown", "ArrowDown")
    assert view.state("head") == 2
    assert view.drawn("first") != before
    view.press("ArrowUp", "ArrowUp", "ArrowUp")
    assert view.state("head") == 3
    view.press("End", "ArrowRight")
    assert view.state("frame") == 28
    view.press("Home", "m", "b", "s", "Enter")
    assert [view.state(name) for name in ("frame", "modality", "branch", "scale", "pinned")] == [
        0,
        "audio",
        "local",
        "log",
        True,
    ]
    view.press(" ")
    wait_until(view.page, f"{ROOT}.state.frame > 1")
    view.press(" ")
    assert view.state("playing") is False


def test_click_pins_and_the_neighbourhood_is_told(opened):
    view = opened(made_record())
    view.page.mouse.click(*view.cell("first", 20, 3))
    assert (view.state("frame"), view.state("pinned")) == (20, True)
    assert view.page.evaluate(f"{ROOT}.neighbours({ROOT}.state)") == [[17, 24]]
    assert any(
        "attends to" in lane["name"] for lane in view.page.evaluate(f"{ROOT}.lanes.lanes.map(({{name}}) => ({{name}}))")
    )
    view.page.mouse.click(*view.lane(20.5))
    assert view.state("pinned") is False


@pytest.mark.parametrize("panel", ["lanes", "first"])
def test_brush_zooms_everything_and_a_double_click_resets(opened, panel):
    view = opened(made_record())
    start, end = (
        (view.lane(5.2), view.lane(14.8)) if panel == "lanes" else (view.cell("first", 5, 5), view.cell("first", 9, 14))
    )
    pictures = [view.drawn(name) for name in ("left", "first", "lanes")]
    view.page.mouse.move(*start)
    view.page.mouse.down()
    view.page.mouse.move(*end, steps=3)
    view.page.mouse.up()
    view.settle()
    assert view.state("span") == [5, 15]
    assert view.state("pinned") is False
    assert all(view.drawn(name) != old for name, old in zip(("left", "first", "lanes"), pictures, strict=True))
    view.page.mouse.dblclick(*view.lane(9))
    assert view.state("span") == [0, 29]


def test_head_chosen_by_button_and_among_all(opened):
    view = opened(made_record())
    view.page.get_by_role("radio", name="head 2").click()
    assert view.state("head") == 2
    view.page.get_by_role("radio", name="all heads").click()
    view.settle()
    assert view.page.evaluate(f"{ROOT}.first.maps.length") == 4
    box = view.page.locator(".first .overlay").bounding_box()
    small = view.page.evaluate(f"{ROOT}.first.cells(4)[1]")
    view.page.mouse.click(box["x"] + small["x"] + 20, box["y"] + small["y"] + 20)
    assert view.state("head") == 1


def test_two_models_side_by_side_and_their_difference(opened):
    first, second = made_record(), made_record(name="baseline", branches=("global",), seed=1)
    view = opened([first, second], {"modality": "audio"})
    view.page.get_by_label("against").select_option("baseline")
    view.page.mouse.move(*view.cell("second", 3, 4))
    assert "attention weight" in view.readout()
    view.page.get_by_role("radio", name="difference").click()
    view.page.mouse.move(*view.cell("first", 3, 4))
    shown = [one["attention"].sel(modality="audio", branch="global", head=0).values[3, 4] for one in (first, second)]
    told = float(re.search(r"difference of weights ([\d.e−-]+)", view.readout())[1].replace("−", "-"))
    assert told == pytest.approx(float(shown[0] - shown[1]), rel=1e-4, abs=1e-7)
    assert view.page.locator(".second").is_hidden()


WORDS = f"""(() => {{
    const words = [];
    const draw = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {{
        words.push(text);
        draw.call(this, text, ...place);
    }};
    {ROOT}.drawAll(document.createElement('canvas').getContext('2d'), 'light');
    CanvasRenderingContext2D.prototype.fillText = draw;
    return words;
}})()"""


def test_no_difference_of_unlike_branches(opened):
    records = [
        made_record(branches=("combined", "local")),
        made_record(name="baseline", branches=("global",), seed=1),
        made_record(name="share-att-bd", branches=("global", "local"), seed=2),
    ]
    view = opened(records, {"against": "baseline", "view": "difference", "branch": "local", "pinned": True})
    words = view.page.evaluate(WORDS)
    assert "GateOp TP30 − Baseline" in words
    assert "no difference of local and global: they are different branches" in words
    assert view.page.evaluate(f"{ROOT}.first.maps.length") == 0
    pinned = view.page.evaluate(f"{ROOT}.lanes.lanes.at(-1).series.map(({{label}}) => label)")
    assert pinned == ["weight", "global"]
    view.page.get_by_role("radio", name="combined").click()
    assert "no difference of combined and global: they are different branches" in view.page.evaluate(WORDS)
    view.page.get_by_label("against").select_option("share-att-bd")
    view.page.get_by_role("radio", name="local").click()
    view.settle()
    assert "GateOp TP30 − ShareAtt BD · local · head 0" in view.page.evaluate(WORDS)
    assert view.page.evaluate(f"{ROOT}.first.maps.length") == 1


def test_a_class_that_is_not_explained_says_what_explains_it(opened):
    view = opened(
        [explained_record(), explained_record(name="audioset-baseline", seed=1)], {"against": "audioset-baseline"}
    )
    assert view.page.locator(".ask").is_hidden()
    row = view.page.evaluate(f"{ROOT}.predictions.listed.findIndex(({{name}}) => name === 'Game')")
    box = view.page.locator(".predictions .overlay").bounding_box()
    view.page.mouse.click(box["x"] + 30, box["y"] + 22 + 31 * row + 10)
    view.settle()
    assert view.page.text_content(".ask").startswith("This record explains Food. To explain Game: ")
    assert view.page.locator(".ask code").all_text_contents() == [
        'gmsa inspect demo:7 --model gate-op-tp30 --against audioset-baseline --explain --target "Game"',
        'inspect_clip(model, clip, parts=[*DEFAULT_PARTS, "explanation"], target=model.vocabulary.find("Game"))',
    ]
    view.choose_class("11")
    view.settle()
    assert view.page.locator(".ask").is_hidden()


def test_models_that_explain_different_classes_are_told_apart(opened):
    other = explained_record(name="baseline", seed=1)
    other["explanation"].attrs |= {"class_name": "Game", "label": 3}
    view = opened([explained_record(), other], {"against": "baseline"})
    notes = view.page.evaluate(f"{ROOT}.lanes.lanes.map(({{note}}) => note ?? '').join('')")
    assert notes.startswith("saliency of Food (GateOp TP30) and of Game (Baseline)")


def test_times_of_a_clip_that_starts_late_are_right(opened):
    start = 1_800_000_000.25
    record = made_record(181, heads=2)
    view = opened(record.assign_coords(frame=start + np.arange(181)), {"frame": 7})
    assert view.readout() == "30000000:07.25 (frame 7)"
    assert " 3:01 from 30000000:00.25 " in view.page.text_content(".title")
    words = view.page.evaluate(WORDS)
    assert {"+0:00", "+0:30", "+1:00", "+3:00", "from 30000000:00.25"} <= set(words)
    found = view.page.evaluate(f"[...{ROOT}.scene.seconds]")
    np.testing.assert_array_equal(found, start + np.arange(181))
    view.page.mouse.move(*view.cell("first", 180, 179))
    assert view.readout().startswith("query 30000003:00.25 (frame 180) → key 30000002:59.25 (frame 179)")
    late = opened(made_record(29).assign_coords(frame=3600.0 + np.arange(29)))
    assert {"60:00", "60:10"} <= set(late.page.evaluate(WORDS))


def test_an_explanation_is_chosen_and_its_faithfulness_stands_beside_it(opened):
    view = opened(explained_record(), {"frame": 6})
    assert view.state("explanation") == "saliency"
    lane = f"{ROOT}.lanes.curves({ROOT}.state).find((each) => each.name === 'explanation')"
    assert view.page.evaluate(f"{lane}.note") == "saliency of Food   deletion 0.25 · insertion 0.75"
    expected = float(explained_record()["explanation"].values[0, 0, 6])
    assert view.page.evaluate(f"{lane}.series[0].values[6]") == pytest.approx(expected)
    before = view.drawn("lanes")
    view.page.get_by_label("explanation", exact=True).select_option("rollout")
    view.settle()
    assert view.drawn("lanes") != before
    assert view.page.evaluate(f"{lane}.note") == (
        "rollout of Food   deletion 0.50 · insertion 0.62 · finds evidence, AUC 0.88"
    )
    assert 'clip, parts=[*DEFAULT_PARTS, "explanation"], target=2)' in view.page.evaluate(f"{ROOT}.python()")
    view.press("m")  # the second method says nothing of audio
    assert view.page.evaluate(f"!{lane}")


def test_class_marks_its_segments_and_predictions_are_told(opened):
    view = opened(made_record())
    label = view.page.locator(".predictions canvas").first.get_attribute("aria-label")
    assert label.startswith("Predictions: Food 90.0 percent, a label; Game 50.0 percent")
    before = view.drawn("lanes")
    view.choose_class("11")
    view.settle()
    assert view.drawn("lanes") != before


def test_saves_png_svg_and_python(opened, tmp_path):
    markup = "<b>&amp;\"'"
    record = made_record(clip=f"clip {markup}")
    view = opened([record, made_record(name="baseline", seed=1, clip=f"clip {markup}")], {"frame": 4, "head": 1})
    files = {}
    for name in ("PNG", "SVG"):
        with view.page.expect_download() as waiting:
            view.page.get_by_role("button", name=f"Save this view as {name}").click()
        assert re.fullmatch(r"[\w.-]+\.(png|svg)", waiting.value.suggested_filename)
        files[name] = tmp_path / name
        waiting.value.save_as(files[name])
    assert files["PNG"].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    words = [element.text for element in ElementTree.parse(files["SVG"]).iter("{http://www.w3.org/2000/svg}text")]
    assert any(markup in word for word in words)
    assert {"GateOp TP30 · global · head 1", "verticality 0.75"} <= set(words)
    view.page.get_by_role("button", name="Copy Python").click()
    code = view.page.input_value(".code")
    compile(code, "view", "exec")
    assert "    inspect_clip(gmsa_models.load('gate-op-tp30'), clip)," in code.splitlines()  # the one that is shown
    assert "came from no file ('made up')" in code
    assert "frame=4" in code
    assert "head=1" in code


def test_empty_one_frame_and_without_attention(opened):
    assert "no frames" in opened(made_record(0)).page.text_content(".empty")
    view = opened(made_record(1))
    view.press("ArrowRight", "ArrowDown", "+", "a")
    assert view.state("frame") == 0
    bare = ["attention", "neighbourhood", "profile", "gate", "gate_map", "verticality", "gradient_norm", "sensitivity"]
    view = opened(made_record().drop_vars(bare).drop_dims("branch", errors="ignore"))
    assert view.page.locator(".first").is_hidden()
    view.press("ArrowDown", "a", "b", "d", "s")
    assert view.drawn("left")[0] > 1000


def test_sensitivity_without_values_breaks_the_line_and_all_nan_hides_it(opened):
    view = opened(made_record())
    view.press("Home", *["ArrowRight"] * 6)
    lane = f"{ROOT}.lanes.lanes.find(({{name}}) => name.startsWith('sensitivity'))"
    assert view.page.evaluate(f"[...{lane}.series[0].values].map(Number.isNaN).filter(Boolean).length") == 4
    record = made_record()
    record["sensitivity"][:] = np.nan
    assert opened(record).page.evaluate(f"{lane} === undefined") is True


def test_markup_in_labels_stays_text(opened):
    bomb = '<img src=x onerror="window.exploded=1"></script><script>window.exploded=1</script>'
    record = made_record(clip=bomb, label_names=json.dumps([bomb]), source_url="javascript:window.exploded=1")
    record["class_name"].values[2] = bomb
    record["segment_label"].values[0] = bomb
    view = opened(record)
    view.page.mouse.move(*view.lane(4))
    assert bomb in view.readout()
    assert bomb in view.page.text_content(".title")
    assert view.page.evaluate("window.exploded") is None
    assert view.page.locator(".gmsa-inspector img").count() == 0
    assert view.page.locator(".link").is_hidden()


def test_link_goes_to_the_second(opened):
    view = opened(made_record(source_url="https://www.youtube.com/watch?v=abc"), {"frame": 12})
    assert view.page.get_attribute(".link", "href") == "https://www.youtube.com/watch?v=abc&t=12s"
    view = opened(made_record(source_url="https://example.org/a.mp4"), {"frame": 12})
    assert view.page.get_attribute(".link", "href") == "https://example.org/a.mp4#t=12"


def test_light_and_dark(opened):
    background = "getComputedStyle(document.querySelector('.gmsa-inspector')).backgroundColor"
    light, dark = (opened(made_record(), color_scheme=name) for name in ("light", "dark"))
    assert light.page.evaluate(background) == "rgb(255, 255, 255)"
    assert dark.page.evaluate(background) == "rgb(21, 23, 28)"
    dark.page.get_by_role("button", name="Light or dark").click()
    dark.settle()
    assert dark.page.evaluate(background) == "rgb(255, 255, 255)"


def test_every_control_has_a_name_and_nothing_is_cut_at_13_inches(opened):
    view = opened([made_record(), made_record(name="baseline", seed=1)], {"against": "baseline"})
    unnamed = """[...document.querySelectorAll('button, select, input, textarea, canvas[role=img]')]
        .filter((each) => !(each.getAttribute('aria-label') || each.textContent.trim())).length"""
    assert view.page.evaluate(unnamed) == 0
    assert view.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    view.page.set_viewport_size({"width": 620, "height": 800})
    view.settle()
    assert view.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_thousand_frames_and_sixteen_heads(opened):
    record = made_record(1000, 16, branches=("global",), modalities=("visual",))
    record["attention"] = (record["attention"] * 200).round() / 200  # mostly 0, so that deflating takes no time
    view = opened(record, precision="float16")
    view.press("ArrowDown", "ArrowRight")
    view.page.mouse.move(*view.cell("first", 500, 250))
    assert "head 1" in view.readout()
    assert view.page.evaluate(f"{ROOT}.measure(['ArrowDown', 'ArrowRight'], 4)")["p95"] > 0


def test_layers_are_chosen_by_button_and_key_and_stand_in_titles_and_python(opened):
    record = layered_record(3, name="gate-att")
    view = opened(record, {"layer": 1})
    assert view.page.locator("[aria-label=layer] button").all_text_contents() == ["0", "1", "2"]
    for layer in (1, 2):
        view.page.mouse.move(*view.cell("first", 7, 11))
        weight = float(record["attention"].sel(layer=layer, modality="visual", branch="global", head=0)[7, 11])
        told = re.search(r"attention weight ([\d.e−-]+)", view.readout())[1].replace("−", "-")
        assert float(told) == pytest.approx(weight, rel=1e-5)
        assert f"· layer {layer} ·" in view.page.evaluate(f"{ROOT}.first.source({ROOT}.state).title")
        before = view.drawn("first"), view.drawn("lanes"), view.drawn("left")
        view.press("l")
        assert view.drawn("first") != before[0]
        assert view.drawn("lanes") != before[1]
        assert view.drawn("left") == before[2]
    assert view.state("layer") == 0
    view.page.click("[aria-label='layer 2']")
    assert view.state("layer") == 2
    assert "layer=2" in view.page.evaluate(f"{ROOT}.python()")
    assert "layers=[0, 1, 2])" in view.page.evaluate(f"{ROOT}.python()")
    assert view.page.evaluate(f"{ROOT}.fileName('.png')") == "demo-0007-gate-att-visual-layer2-global.png"


def test_a_record_of_one_layer_has_no_choice_of_layers(opened):
    view = opened(made_record())
    assert view.page.locator("[aria-label=layer] button").count() <= 1
    assert not view.page.locator("[aria-label=layer]").is_visible()
    view.press("l")
    assert view.state("layer") == 0
