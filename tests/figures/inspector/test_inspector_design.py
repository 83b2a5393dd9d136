"""What a reader of the page meets: numbers of heads, titles, values at the pointer, legend, search, address, tables."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from analysis.attention.sinks import find_lines
from figures.inspector import write_html
from figures.inspector.header import describe_style
from figures.inspector.modules import FOLDER
from tests.browser import SCREEN, settle, started_browser, wait_until
from tests.inspector_records import made_record
from tests.legibility import contrast, laid_over

ROOT = "document.querySelector('.gmsa-inspector').inspector"


def branch_lines(record: xr.Dataset, branch: int) -> np.ndarray:
    """Keys of a branch that are lines, (modality, head, key)."""
    mask = torch.from_numpy(record["neighbourhood"].values) if branch else None
    return find_lines(torch.from_numpy(record["attention"].values[:, branch]), mask).line.numpy()


def with_lines(record: xr.Dataset) -> xr.Dataset:
    """A record with planted lines and what a record says of them: key 7 of visual global head 1, a no-op of head 2."""
    attention = record["attention"].values
    attention[0, 0, [1, 2], :, 7] = 0.3
    attention[0, 1, 1, 3:10, 6] = 30.0
    attention /= attention.sum(-1, keepdims=True)
    counts = np.stack([branch_lines(record, branch).sum(-1) for branch in range(2)], 1).astype(np.float32)
    ratios = np.full(counts.shape, 0.9, np.float32)
    ratios[0, 0, 2] = 0.1
    dims = ("modality", "branch", "head")
    return record.assign(line_count=(dims, counts), line_norm_ratio=(dims, ratios))


RECORDS = [with_lines(made_record()), made_record(name="baseline", branches=("global",), seed=1)]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    yield from started_browser()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_html(RECORDS, tmp_path_factory.mktemp("page") / "page.html", {"against": "baseline"}, "float32")


@pytest.fixture
def opened(browser, file):
    """Opens the page at an address and a width; at the end it has reported no error."""
    problems, pages = [], []

    def open_page(address: str = "", width: int = SCREEN["width"]):
        page = browser.new_page(viewport={"width": width, "height": 900}, accept_downloads=True)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        pages.append(page)
        page.goto(file.as_uri() + address)
        page.wait_for_selector(".gmsa-inspector footer")
        settle(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert problems == []


def saved(page, table: str) -> list[list[str]]:
    with page.expect_download() as download:
        page.get_by_label("Save what is shown as CSV").select_option(table)
    return list(csv.reader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))


def words_of(page, panel: str) -> list[str]:
    """What a panel writes when it is drawn."""
    return page.evaluate(f"""(() => {{
        const words = [], draw = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text) {{ words.push(text); }};
        {ROOT}.{panel}.draw(document.createElement('canvas').getContext('2d'), {ROOT}.state, 'light');
        CanvasRenderingContext2D.prototype.fillText = draw;
        return words;
    }})()""")


def test_a_head_has_one_number_on_the_button_in_title_readout_table_and_python(opened):
    page = opened("#head=2")
    assert page.locator("[aria-label='head 2']").get_attribute("aria-checked") == "true"
    assert page.evaluate(f"{ROOT}.state.head") == 2
    assert "head=2" in page.evaluate(f"{ROOT}.python()")
    assert "GateOp TP30 · global · head 2" in words_of(page, "first")
    box = page.locator(".first .overlay").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    settle(page)
    assert " · head 2 · " in page.text_content(".readout")
    header, *rows = saved(page, "maps")
    column = header.index("visual · GateOp TP30 · global · head 2 (attention weight)")
    weights = RECORDS[0]["attention"].sel(modality="visual", branch="global", head=2).values
    np.testing.assert_allclose([float(row[column]) for row in rows], weights.ravel(), rtol=1e-6)
    assert [row[:4] for row in rows[:2]] == [["0", "0", "0", "0"], ["0", "0", "1", "1"]]


def test_a_title_that_is_too_long_goes_on_below_and_is_whole(opened):
    page = opened(width=800)
    title = words_of(page, "first")[:2]
    assert title[0].startswith("GateOp TP30")
    assert "head 0" in " · ".join(title)
    assert not any("…" in words for panel in ("first", "second") for words in words_of(page, panel))


def test_values_stand_beside_the_pointer_with_those_of_the_lane(opened):
    page = opened(width=1440)
    box = page.locator(".lanes .overlay").bounding_box()
    y = page.evaluate(f"{ROOT}.lanes.lanes.find(({{name}}) => name === 'attention received').y")
    x = page.evaluate(f"{ROOT}.lanes.place({ROOT}.state)(7.5)")
    assert page.locator(".tip").is_hidden()
    page.mouse.move(box["x"] + x, box["y"] + y + 20)
    settle(page)
    told = page.text_content(".tip")
    assert told.startswith("0:07 (frame 7)")
    received = RECORDS[0]["profile"].sel(modality="visual", branch="global").values[7]
    number = re.search(r"attention received.*: global ([\d.]+)", told)
    assert number
    assert float(number[1]) == pytest.approx(float(received), rel=0.05)
    tip = page.locator(".tip").bounding_box()
    assert abs(tip["x"] - box["x"] - x) < 330
    assert abs(tip["y"] - box["y"] - y) < 160
    page.mouse.move(5, 5)
    settle(page)
    assert page.locator(".tip").is_hidden()


def test_the_legend_says_the_signs_that_are_there(opened):
    page = opened()
    assert words_of(page, "legend")[:2] == ["GateOp TP30", "Baseline"]
    assert "neighbourhood of the pinned frame" not in words_of(page, "legend")
    page.evaluate(f"{ROOT}.set({{ against: '', pinned: true, branch: 'local' }})")
    words = words_of(page, "legend")
    assert "Baseline" not in words
    assert {"neighbourhood of the pinned frame", "outside the neighbourhood"} <= set(words)


def test_vertical_lines_are_marked_above_their_keys(opened):
    page = opened()
    lines = page.evaluate(f"""() => {{
      const {{ scene }} = {ROOT};
      return ["visual", "audio"].map((modality) => ["global", "local"].map((branch) => [0, 1, 2, 3].map((head) =>
        scene.lineKeys(scene.attention(0, modality, branch, head)))));
    }}""")
    for branch in range(2):
        keys = branch_lines(RECORDS[0], branch)
        for modality, head in np.ndindex(keys.shape[:2]):
            assert lines[modality][branch][head] == np.flatnonzero(keys[modality, head]).tolist()
    assert [lines[0][0][head] for head in (0, 1, 2)] == [[], [7], [7]]
    assert lines[0][1][1] == [6]
    assert page.evaluate(f"{ROOT}.scene.lineKeys({ROOT}.scene.attention(1, 'visual', 'global', 1))") == []
    assert not [one for one in words_of(page, "legend") if one.startswith("vertical line")]  # head 0 has none
    page.evaluate(f"{ROOT}.set({{ head: -1 }})")
    words = words_of(page, "legend")
    assert "vertical line: most queries attend to this key" in words
    assert "vertical line whose value is near zero in this clip (no-op sink)" in words
    assert [marked_places(page, head) for head in (0, 1)] == [[], [7]]
    page.evaluate(f"{ROOT}.set({{ span: [0, 7] }})")
    assert marked_places(page, 1) == []
    page.evaluate(f"{ROOT}.set({{ modality: 'audio' }})")
    assert not [one for one in words_of(page, "legend") if one.startswith("vertical line")]


def marked_places(page, head: int) -> list[int]:
    """Keys above which the first attention map has ink, in the row of the marks."""
    page.evaluate(f"{ROOT}.set({{ head: {head}, modality: 'visual', branch: 'global' }})")
    settle(page)
    return page.evaluate(f"""() => {{
      const panel = {ROOT}.first, [box] = panel.cells(1), [first, last] = {ROOT}.state.span;
      const context = panel.base.getContext("2d"), y = Math.round((box.y - 5) * panel.ratio);
      const row = context.getImageData(0, y, panel.base.width, 1).data;
      const at = (key) => Math.round((box.x + ((key + 0.5 - first) * box.width) / (last - first)) * panel.ratio);
      const dark = (x) => row[4 * x + 3] > 128 && row[4 * x] < 128;
      return Array.from({{ length: last - first }}, (_, key) => first + key).filter((key) => dark(at(key)));
    }}""")


@pytest.mark.parametrize("width", [390, 800])
def test_everything_fits_a_narrow_screen(opened, width):
    page = opened(width=width)
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    lanes = [words for words in words_of(page, "lanes") if words]
    assert not any("…" in words for words in lanes if "event" not in words), lanes
    assert page.locator(".first .overlay").bounding_box()["width"] >= (300 if width == 390 else 200)


def test_a_class_is_found_by_a_part_of_its_name(opened):
    page = opened()
    field = page.get_by_role("combobox", name="class")
    field.fill("ame")
    assert page.locator(".search [role=option]").all_text_contents()[0].startswith("Game")
    field.press("Enter")
    assert page.evaluate(f"{ROOT}.scene.classes.get({ROOT}.state.class_).name") == "Game"
    settle(page)
    assert field.input_value() == "Game"
    field.fill("no such class")
    assert page.text_content(".search ul") == "no class of that name"
    field.press("Enter")
    field.press("Escape")
    assert field.input_value() == "Game"
    field.fill("")
    field.press("Enter")
    assert page.evaluate(f"{ROOT}.state.class_") == -1


def test_the_view_is_in_the_address_and_stays_over_a_reload(opened):
    page = opened()
    page.evaluate(f"{ROOT}.set({{ head: 3, frame: 9, modality: 'audio', theme: 'dark', span: [4, 20], pinned: true }})")
    wait_until(page, "location.hash")  # it is written where the view rests
    address = page.evaluate("location.hash")
    assert set(address[1:].split("&")) == {
        "frame=9", "modality=audio", "head=3", "span=4,20", "pinned=true", "theme=dark",
    }  # fmt: skip
    page.reload()
    page.wait_for_selector(".gmsa-inspector footer")
    state = page.evaluate(f"{ROOT}.state")
    assert [state[name] for name in ("head", "frame", "modality", "theme", "span", "pinned", "against")] == [
        3, 9, "audio", "dark", [4, 20], True, "baseline",
    ]  # fmt: skip
    page.evaluate("location.hash = '#head=1'")
    wait_until(page, f"{ROOT}.state.head === 1 && {ROOT}.state.frame === 0")


def test_an_address_of_what_is_not_there_is_said(opened):
    page = opened("#head=99&frame=4&colour=red")
    settle(page)
    assert page.text_content(".notice") == (
        "the address says head=99, which is not here; head is 3 · the address says colour, which is no part of a view"
    )
    assert page.evaluate(f"{ROOT}.state.frame") == 4


def test_a_page_inside_another_keeps_no_address_and_fails_at_nothing(opened, file):
    page = opened()
    page.evaluate("(text) => { document.body.innerHTML = ''; const frame = document.createElement('iframe');"
                  " frame.srcdoc = text; frame.style = 'width: 900px; height: 700px'; document.body.append(frame); }",
                  file.read_text(encoding="utf-8"))  # fmt: skip
    inner = page.frames[-1]
    inner.wait_for_selector(".gmsa-inspector footer")
    inner.evaluate(f"{ROOT}.set({{ head: 2 }})")
    page.wait_for_timeout(500)
    assert inner.evaluate(f"{ROOT}.state.head") == 2
    assert inner.evaluate("location.hash") == ""


def test_lines_and_predictions_are_saved_with_their_units(opened):
    page = opened("#span=3,8")
    header, *rows = saved(page, "curves")
    assert header[:2] == ["frame", "time (s)"]
    assert [row[0] for row in rows] == ["3", "4", "5", "6", "7"]
    column = header.index("Baseline · attention received · global (1 = uniform)")
    expected = RECORDS[1]["profile"].sel(modality="visual", branch="global").values[3:8]
    np.testing.assert_allclose([float(row[column]) for row in rows], expected, rtol=1e-6)
    header, *rows = saved(page, "predictions")
    assert header == [
        "class", "name", "label of the clip (1 = yes)", "GateOp TP30 (probability)", "Baseline (probability)",
    ]  # fmt: skip
    scores = {int(row[0]): float(row[3]) for row in rows}
    assert scores == pytest.approx(
        dict(zip(RECORDS[0]["class"].values.tolist(), RECORDS[0]["score"].values, strict=True)), rel=1e-6
    )
    assert [float(row[3]) for row in rows] == sorted(scores.values(), reverse=True)


def test_speed_changes_how_fast_frames_follow_each_other(opened):
    page = opened()
    every = """(speed) => new Promise((done) => {
        const inspector = document.querySelector('.gmsa-inspector').inspector, real = window.setInterval;
        const select = document.querySelector('[aria-label=Speed]'); select.value = speed;
        window.setInterval = (step, pause) => { done(pause); return real(step, pause); };
        inspector.play(); inspector.stop(); window.setInterval = real; })"""
    assert [page.evaluate(every, speed) for speed in ("1", "4")] == [100, 25]


def test_lines_and_words_are_seen_on_either_page():
    """With the contrast of 3 that WCAG asks of graphics; fills that are paler have an edge."""
    text = (FOLDER / "colours.js").read_text(encoding="utf-8")
    scripts = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.js"))
    named = r"strokeStyle(?: =|:) (?:colours|THEMES\[theme\])\.(\w+)|colour: (?:colours|THEMES\[theme\])\.(\w+)[ ,]"
    drawn = {one or two for one, two in re.findall(named, scripts)} - {
        "event",
        "chosen",
        "line",
        "page",
    }  # with an edge
    assert {"ink", "muted", "edge", "outline", "accent"} <= drawn
    curves = (FOLDER / "lanes.js").read_text(encoding="utf-8").split("\n  draw_curves(")[1]
    (faint,) = re.findall(r"fillStyle = colours\.faint;\s+context\.globalAlpha = ([\d.]+);", curves)
    for theme, block in re.findall(r"(light|dark): \{\n(.*?)\n  \}", text, re.DOTALL):
        colours = dict(re.findall(r'(\w+): "(#\w{6})"', block))
        lines = re.findall(r"#\w{6}", re.search(rf"LINES = .*?{theme}: \[(.*?)\]", text, re.DOTALL)[1])
        branches = describe_style(f"TP{size}" for size in range(1, 7))["branches"][theme].values()
        assert len(set(branches)) == 3 + 5  # a sixth has the colour of the first
        assert len(lines) == 4
        lanes = laid_over(colours["faint"], colours["page"], float(faint))
        for colour in [*lines, *branches]:
            assert contrast(colour, lanes) > 3, (theme, colour)
        for colour in [*(colours[name] for name in drawn | {"problem"}), *lines, *branches]:
            assert contrast(colour, colours["page"]) > 3, (theme, colour)


def test_a_third_model_stands_beside_the_first_two_where_the_page_is_wide_enough(opened, tmp_path):
    third = made_record(name="gate-att-tp10", seed=2)
    file = write_html([*RECORDS, third], tmp_path / "three.html", {"against": "baseline"}, "float32")
    page = opened(width=1920)
    assert page.locator(".third").is_hidden()  # of two models
    page.goto(file.as_uri())
    page.wait_for_selector(".third canvas")
    titles = [words_of(page, panel)[0].split(" · ")[0] for panel in ("first", "second", "third")]
    assert titles == ["GateOp TP30", "Baseline", "GateAtt TP10"]
    assert words_of(page, "legend")[:3] == titles
    assert words_of(page, "predictions")[0].endswith("GateOp TP30 | Baseline | GateAtt TP10")
    weights = third["attention"].sel(modality="visual", branch="global", head=0).values
    np.testing.assert_allclose(page.evaluate(f"[...{ROOT}.third.maps[0].values]"), weights.ravel(), rtol=1e-6)
    assert (
        page.evaluate(
            f"new Set(['first', 'second', 'third'].map((name) => {ROOT}[name].source({ROOT}.state).share.length)).size"
        )
        == 1
    )
    received = f"{ROOT}.lanes.lanes.find(({{name}}) => name === 'attention received').series.map(({{model}}) => model)"
    assert set(page.evaluate(received)) == {0, 1, 2}
    assert any("GateAtt TP10" in column for column in saved(page, "maps")[0])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_label("against").select_option("gate-att-tp10")
    wait_until(page, f"{ROOT}.third.source({ROOT}.state).title.startsWith('Baseline')")
    for change in ("{ view: 'difference' }", "{ view: 'side', head: -1 }", "{ head: 0, against: '' }"):
        page.evaluate(f"{ROOT}.set({change})")
        page.wait_for_selector(".third", state="hidden")
    page.evaluate(f"{ROOT}.set({{ against: 'baseline' }})")
    page.wait_for_selector(".third canvas")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_selector(".third", state="hidden")
    assert set(page.evaluate(received)) == {0, 1}


def test_a_class_is_explained_by_the_kernel_and_what_was_recorded_comes_back(opened):
    """Of a record without explanations: a lane of its own appears while the class is chosen."""
    page = opened()
    page.evaluate(f"""{ROOT}.attach({{ model: "gate-op-tp30", refusals: async (edits) => edits.map(() => ""),
        answer: () => new Promise(() => {{}}),
        explain: async (label, methods) => ({{
            header: {{ explained: {ROOT}.scene.classes.get(label).name, explanations: {{ [methods[0]]: "" }},
                lanes: [{{ variable: "explanation", dimensions: [["modality", ["visual"]], ["explainer", methods]],
                    name: "explanation", units: "", reference: 0, height: 66, order: 60, least: null, most: null }}] }},
            variables: {{ ["0/lane/explanation/visual/" + methods[0]]: new Float32Array(29).fill(0.25) }}
        }}) }})""")
    field = page.get_by_role("combobox", name="class")
    field.fill("Game")
    field.press("Enter")
    page.get_by_role("button", name="explain Game by relevance-propagation").click()
    settle(page)
    lanes = f"{ROOT}.lanes.lanes.map(({{name, note, series}}) => [name, note, series && series[0].values[3]])"
    assert ["explanation", "relevance-propagation of Game   ", 0.25] in page.evaluate(lanes)
    assert page.locator(".ask").is_hidden()
    page.evaluate(f"{ROOT}.set({{ class_: -1 }})")
    settle(page)
    assert "explanation" not in [name for name, *_ in page.evaluate(lanes)]
