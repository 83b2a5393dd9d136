"""A variable that says how it is drawn over time is drawn: in the page, its payload, its figure and the overview."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.legend import Legend

from analysis.record.files import open_record, save_record
from figures.inspector import Inspector, write_html
from figures.inspector.payload import pack
from figures.overview import draw
from figures.style import BRANCHES
from tests.browser import SCREEN, settle, started_browser
from tests.inspector_records import explained_record, made_record
from tests.unpacked import Unpacked

LANES = "document.querySelector('.gmsa-inspector').inspector.lanes"
STATE = "document.querySelector('.gmsa-inspector').inspector.state"
NOVELTY = {"lane": "line", "long_name": "novelty", "units": "bit", "lane_reference": 0.25, "lane_least": -1.0}
SPREAD = {"lane": "line", "lane_name": "spread", "units": "s", "lane_order": 15, "lane_height": 80}


@pytest.fixture(scope="module")
def browser() -> Iterator:
    yield from started_browser()


def novel_record(**changes) -> xr.Dataset:
    """A record with two variables that no code knows, as any program may add them."""
    record = made_record(**{"record_version": 2, "labels": "[11, 19]"} | changes)
    frames, branches = record.sizes["frame"], record.sizes["branch"]
    novelty = np.linspace(-0.5, 2.0, 2 * frames, dtype=np.float32).reshape(2, frames)
    novelty[0, 3] = np.nan
    spread = np.random.default_rng(5).gamma(2.0, size=(frames, branches)).astype(np.float32)
    return record.assign(
        novelty=xr.DataArray(novelty, dims=("modality", "frame"), attrs=NOVELTY),
        spread=xr.DataArray(spread, dims=("frame", "branch"), attrs=SPREAD),
    )


@pytest.fixture
def saved(tmp_path) -> xr.Dataset:
    """The record once it has been through its file."""
    return open_record(save_record(novel_record(), tmp_path / "novel.nc"))


def opened(browser, path, record, view=None):
    page = browser.new_page(viewport=SCREEN)
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(write_html(record, path, view, "float32").as_uri())
    page.wait_for_selector(".gmsa-inspector footer")
    settle(page)
    assert problems == []
    return page


def lanes_of(page) -> list[dict]:
    return page.evaluate(f"""{LANES}.curves({STATE}).map((lane) => ({{
        ...lane, series: lane.series.map((series) => ({{...series, values: [...series.values].map(String)}})),
    }}))""")


def test_the_page_draws_it_with_label_unit_reference_and_values(browser, tmp_path, saved):
    page = opened(browser, tmp_path / "view.html", saved, {"modality": "audio"})
    lanes = lanes_of(page)
    names = ["attention received", "spread", "gates", "sensitivity S", "gradient received", "novelty"]
    assert [lane["name"] for lane in lanes] == names
    novelty, spread = lanes[-1], lanes[1]
    assert (novelty["units"], novelty["reference"], novelty["least"], novelty["most"]) == ("bit", 0.25, -1.0, None)
    assert [series["label"] for series in novelty["series"]] == ["value"]
    values = np.array(novelty["series"][0]["values"], float)
    np.testing.assert_array_equal(values.astype(np.float32), saved["novelty"].sel(modality="audio"))
    assert (spread["units"], spread["reference"], spread["height"]) == ("s", None, 80)
    assert [(series["label"], series["colour"]) for series in spread["series"]] == [
        (branch, BRANCHES[branch].colour) for branch in ("global", "local")
    ]
    values = np.array(spread["series"][1]["values"], float)
    np.testing.assert_array_equal(values.astype(np.float32), saved["spread"].sel(branch="local"))
    words = page.evaluate(WORDS)
    assert {"novelty", "bit", "spread", "s"} <= set(words)
    assert "novelty" in page.get_attribute(".lanes canvas", "aria-label")
    assert page.evaluate(f"{LANES}.lanes.at(-1).low") == -1.0  # the end of the axis that the variable says


WORDS = f"""(() => {{
    const words = [], draw = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {{
        words.push(text);
        draw.call(this, text, ...place);
    }};
    {LANES}.draw(document.createElement('canvas').getContext('2d'), {STATE}, 'light');
    CanvasRenderingContext2D.prototype.fillText = draw;
    return words;
}})()"""


BOXES = f"""(() => {{
    const boxes = [], draw = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {{
        const width = this.measureText(text).width, left = this.textAlign === 'right' ? x - width : x;
        boxes.push({{ text, left, right: left + width, top: y - 8, bottom: y }});
        draw.call(this, text, x, y);
    }};
    {LANES}.draw(document.createElement('canvas').getContext('2d'), {STATE}, 'light');
    CanvasRenderingContext2D.prototype.fillText = draw;
    return boxes;
}})()"""


def test_a_long_name_and_unit_end_before_the_numbers_of_the_axis(browser, tmp_path, saved):
    record = saved.copy()
    words = {"lane_name": "attention that each of the frames received", "units": "1 = what uniform attention gives"}
    record["spread"] = (saved["spread"] * 1234.5).assign_attrs(SPREAD | words)
    page = opened(browser, tmp_path / "view.html", record, {"theme": "light"})
    boxes = page.evaluate(BOXES)
    assert any(box["text"].startswith("attention that") and box["text"].endswith("…") for box in boxes)
    for one, other in itertools.combinations([box for box in boxes if box["text"]], 2):
        apart = one["right"] <= other["left"] or other["right"] <= one["left"]
        above = one["bottom"] <= other["top"] or other["bottom"] <= one["top"]
        assert apart or above, (one, other)


def test_the_dotted_line_is_where_the_reference_is(browser, tmp_path, saved):
    page = opened(browser, tmp_path / "view.html", saved, {"theme": "light"})
    heights = page.evaluate(f"""(() => {{
        const dotted = [], stroke = CanvasRenderingContext2D.prototype.lineTo;
        CanvasRenderingContext2D.prototype.lineTo = function (x, y) {{
            if (this.getLineDash().join() === '1,3') dotted.push(y);
            stroke.call(this, x, y);
        }};
        {LANES}.draw(document.createElement('canvas').getContext('2d'), {STATE}, 'light');
        CanvasRenderingContext2D.prototype.lineTo = stroke;
        return dotted;
    }})()""")
    lane = page.evaluate(f"(({{box, low, high}}) => ({{box, low, high}}))({LANES}.lanes.at(-1))")
    box, share = lane["box"], (0.25 - lane["low"]) / (lane["high"] - lane["low"])
    assert heights[-1] == pytest.approx(box["y"] + box["height"] * (1 - share))
    assert len(heights) == 5  # attention received, gates, sensitivity, gradient received, novelty; spread has none
    assert lane["high"] == pytest.approx(-1 + (np.nanmax(saved["novelty"].values[0]) + 1) * 1.06)


def test_a_head_is_chosen_and_other_dimensions_are_lines(browser, tmp_path):
    record = made_record()
    rise = np.arange(4 * 2 * 29, dtype=np.float32).reshape(4, 2, 29)
    record["rise"] = xr.DataArray(
        rise, {"way": ["up", "down"]}, ("head", "way", "frame"), attrs={"lane": "line", "lane_order": 0}
    )
    page = opened(browser, tmp_path / "view.html", record, {"head": 2})
    for head in (2, 3):
        lane = lanes_of(page)[0]
        assert [series["label"] for series in lane["series"]] == ["up", "down"]
        assert len({series["colour"] for series in lane["series"]}) == 2
        np.testing.assert_array_equal(np.array([each["values"] for each in lane["series"]], float), rise[head])
        before = page.evaluate(f"{LANES}.drawn")
        page.focus(".gmsa-inspector")
        page.keyboard.press("ArrowDown")
        settle(page)
        assert page.evaluate(f"{LANES}.drawn") != before  # it is drawn anew
    figure = Inspector(record, head=1).figure()
    axes = next(each for each in figure.axes if each.get_ylabel() == "visual\nrise")
    np.testing.assert_array_equal(steps(axes)[1], rise[1, 1])
    words = [[each.get_text() for each in one.get_texts()] for one in axes.get_children() if isinstance(one, Legend)]
    assert words == [["up", "down"]]


def test_lanes_of_two_models_are_one_lane(browser, tmp_path):
    first, second = novel_record(), novel_record(name="baseline", branches=("global",), seed=1)
    second["only"] = xr.DataArray(np.ones(29, np.float32), dims="frame", attrs={"lane": "line", "lane_order": 16})
    page = opened(browser, tmp_path / "view.html", [first, second], {"against": "baseline"})
    lanes = {lane["variable"]: lane for lane in lanes_of(page)}
    assert list(lanes)[:4] == ["profile", "spread", "only", "gate"]
    assert [(each["label"], each["model"]) for each in lanes["spread"]["series"]] == [
        ("global", 0), ("local", 0), ("global", 1)
    ]  # fmt: skip
    assert [each["model"] for each in lanes["only"]["series"]] == [1]
    page.get_by_label("against").select_option("")
    assert "only" not in [lane["variable"] for lane in lanes_of(page)]


def test_the_payload_holds_it():
    record = novel_record()
    sent = Unpacked(pack(record, "float16"))
    np.testing.assert_array_equal(sent["0/lane/novelty/audio"], record["novelty"].sel(modality="audio"))
    np.testing.assert_array_equal(sent["0/lane/spread/local"], record["spread"].sel(branch="local"))
    lanes = {lane["variable"]: lane for lane in sent.header["models"][0]["lanes"]}
    assert lanes["novelty"]["dimensions"] == [["modality", ["visual", "audio"]]]
    assert (lanes["novelty"]["reference"], lanes["novelty"]["most"]) == (0.25, None)
    gradient = record["gradient_norm"].sel(modality="audio").values.astype(float)
    expected = gradient.sum(0) * 29 / gradient.sum()
    np.testing.assert_allclose(sent["0/lane/gradient_norm/audio"], expected, rtol=1e-5)


def steps(axes) -> list[np.ndarray]:
    return [each.get_data().values for each in axes.patches if isinstance(each, mpl.patches.StepPatch)]


def test_the_overview_draws_it(saved):
    figure = draw(saved)
    labels = [axes.get_ylabel() for axes in figure.axes]
    # Spread has no modality: one panel.
    panel = figure.axes[labels.index("spread\n(s)")]
    for values, branch in zip(steps(panel), ("global", "local"), strict=True):
        np.testing.assert_array_equal(values, saved["spread"].sel(branch=branch))
    looks = [to_hex(each.get_edgecolor()) for each in panel.patches if isinstance(each, mpl.patches.StepPatch)]
    assert looks == [BRANCHES[branch].colour for branch in ("global", "local")]
    for row, modality in enumerate(("visual", "audio")):
        panel = figure.axes[labels.index(f"{modality}\nnovelty\n(bit)")]
        np.testing.assert_array_equal(steps(panel)[0], saved["novelty"].values[row])
        assert panel.lines[0].get_ydata()[0] == 0.25
        assert panel.get_ylim()[0] == -1.0
    over_time = [label for label in labels if "(" in label and "(s)" not in label.replace("spread\n(s)", "")]
    assert over_time == [
        "visual\nattention received\n(1 = uniform)", "audio\nattention received\n(1 = uniform)", "spread\n(s)",
        "local gate\n(mean)", "visual\nnovelty\n(bit)", "audio\nnovelty\n(bit)",
    ]  # fmt: skip
    silent = saved.assign(novelty=saved["novelty"].assign_attrs(lane_overview=0))
    assert not any("novelty" in axes.get_ylabel() for axes in draw(silent).axes)


def test_the_overview_of_a_model_without_attention_draws_it_too():
    bare = novel_record().drop_vars(
        ["attention", "profile", "gate", "spread", "gate_map", "gradient_norm", "verticality"]
    )
    labels = [axes.get_ylabel() for axes in draw(bare).axes]
    assert [label for label in labels if "novelty" in label] == ["visual\nnovelty\n(bit)", "audio\nnovelty\n(bit)"]
    assert labels.index("segments") > labels.index("audio\nnovelty\n(bit)")


def test_the_figure_of_the_view_draws_what_the_page_draws():
    record = novel_record().assign(explained_record().data_vars)
    figure = Inspector(record, modality="audio", explanation="saliency").figure()
    names = [axes.get_ylabel().split("\n")[1] for axes in figure.axes if axes.get_ylabel().startswith("audio\n")]
    assert names == [
        "attention received", "spread", "gates", "sensitivity S", "gradient received", "explanation", "novelty",
    ]  # fmt: skip
    axes = next(each for each in figure.axes if "gates" in each.get_ylabel())
    np.testing.assert_array_equal(steps(axes), record["gate"].sel(modality="audio"))
