"""The widget in a real JupyterLab: traits go both ways between the page and a live kernel."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest

from tests.browser import INSPECTOR, SCREEN, started_browser
from tests.inspector_records import made_record
from tests.lab import jupyterlab, open_notebook, run_cell, run_until, write_notebook

SHOW = """
import ipywidgets, pathlib, xarray
from figures.inspector import Inspector
slider = ipywidgets.IntSlider(max=28)
records = [xarray.open_dataset(name) for name in ("first.nc", "second.nc")]
inspector = Inspector(records, video="numbers.mkv" if pathlib.Path("numbers.mkv").exists() else None)
link = ipywidgets.jslink((slider, "value"), (inspector, "frame"))
ipywidgets.VBox([inspector, slider])
"""
STEER = "inspector.head = 2; inspector.against = 'baseline'"
TELL = """
figure = inspector.figure()
assert (inspector.frame, slider.value, inspector.head) == (3, 3, 3), inspector.current_view()
print("told", inspector.frame, inspector.modality, len(figure.axes) > 3, inspector.to_html("view.html"))
"""
EDIT = """
from analysis import EditEngine, inspect_clip
from tests.small_models import moved, small_clip, small_model
inspector.close()
model, clip = moved(small_model()), small_clip()
live = Inspector(inspect_clip(model, clip), engines=[EditEngine(model, clip)])
live
"""
TEXTS = ["force-gate visual/0/gate to 0.25", "knock-out audio/0/local/weights keys 3..6"]
TELL_EDITS = f"""
assert live.edits == {TEXTS[:1]!r}, live.edits
print("scored", float(inspect_clip(model, clip, edits=live.edits)["score"].values[0]))
live.edits = {TEXTS!r}
"""
TELL_AGAIN = """
print("scored again", float(inspect_clip(model, clip, edits=live.edits)["score"].values[0]))
"""
TELL_FRAME = "print('at', inspector.frame, slider.value)"

# Presses the right arrow as a key that is held down does; what the cursor's frame was after each press.
HOLD = """async ([times, every]) => {
    const { inspector } = document.querySelector(".gmsa-inspector"), frames = [];
    for (let press = 0; press < times; press++) {
        inspector.root.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
        frames.push(inspector.state.frame);
        await new Promise((done) => setTimeout(done, every));
    }
    return frames;
}"""

# The bits of the number that a picture says, see `numbered`.
NUMBERS = """(() => {{
    const context = new OffscreenCanvas(64, 48).getContext("2d");
    context.drawImage({0}, 0, 0, 64, 48);
    const bit = (place) => (context.getImageData(8 * place + 4, 24, 1, 1).data[1] > 127 ? 1 : 0);
    return Array.from({{ length: 8 }}, (_, place) => bit(place));
}})()"""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """JupyterLab on a folder with two records and a notebook; gives its address."""
    folder = tmp_path_factory.mktemp("lab")
    made_record().to_netcdf(folder / "first.nc", engine="h5netcdf")
    made_record(name="baseline", seed=1).to_netcdf(folder / "second.nc", engine="h5netcdf")
    if find_spec("av") is not None:
        from made_videos import numbered, write_video

        write_video(folder / "numbers.mkv", np.arange(58) / 2, size=(48, 64), picture=numbered)
    write_notebook(folder / "inspector.ipynb", (SHOW, STEER, TELL, EDIT, TELL_EDITS, TELL_AGAIN, TELL_FRAME))
    with jupyterlab(folder) as address:
        yield address


@pytest.fixture(scope="module")
def page(server) -> Iterator:
    browsers = started_browser()
    context = next(browsers).new_context(viewport=SCREEN)
    page = context.new_page()
    open_notebook(page, server, "inspector.ipynb")
    yield page
    context.close()
    next(browsers, None)


def test_widget_and_kernel_share_the_view(page):
    run_cell(page, 0)
    page.wait_for_selector(".gmsa-inspector .lanes canvas")
    page.wait_for_function(f"{INSPECTOR}?.firstPaint > 0")
    assert page.evaluate(f"{INSPECTOR}.scene.payload.header.precision") == "float32"
    page.wait_for_function(f"{INSPECTOR}.scene.payload.rest?.byteLength > 0")  # heads that the first view does not show
    run_cell(page, 1)
    page.wait_for_function(f"{INSPECTOR}.state.head === 2 && {INSPECTOR}.state.against === 'baseline'")
    page.focus(".gmsa-inspector")
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    page.wait_for_function(f"{INSPECTOR}.state.frame === 3 && {INSPECTOR}.state.head === 3")
    run_until(page, 2, "told 3 visual True view.html")
    assert page.evaluate(f"{INSPECTOR}.first.maps.length + {INSPECTOR}.second.maps.length") == 2
    assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    assert page.locator(".gmsa-inspector").count() == 1


@pytest.mark.skipif(find_spec("av") is None, reason="PyAV, of the extra video, is not installed")
def test_the_video_follows_the_cursor_in_a_notebook(page):
    assert page.evaluate(f"{INSPECTOR}.state.frame") == 3
    page.wait_for_function(f"{INSPECTOR}.playback.isAt({INSPECTOR}.state)")
    numbers = page.evaluate(NUMBERS.format(f"{INSPECTOR}.media.video"))
    assert numbers == [0, 1, 1, 0, 0, 0, 0, 0]  # the picture of 3 s is the sixth after the first


def test_dark_notebook_dark_inspector(page):
    light = page.evaluate(f"{INSPECTOR}.theme()")
    page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    page.wait_for_function(f"{INSPECTOR}.painted === 'dark'")
    assert light == "light"


@pytest.mark.parametrize("every", [33, 100])  # milliseconds: what the kernel took comes back between two presses
def test_a_held_key_moves_one_frame_a_press(page, every):
    page.evaluate(f"{INSPECTOR}.set({{ frame: 0 }})")
    run_until(page, 6, "at 0 0")
    assert page.evaluate(HOLD, [20, every]) == list(range(1, 21))
    run_until(page, 6, "at 20 20")
    assert page.evaluate(f"{INSPECTOR}.state.frame") == 20


def test_the_kernel_answers_edits(page):
    run_cell(page, 3)
    page.wait_for_selector(".whatif")
    write = page.get_by_label("An edit as text")
    write.fill(TEXTS[0])
    page.keyboard.press("Enter")
    page.wait_for_function(f"{INSPECTOR}.scene.answered?.edits.length === 1")
    score = page.evaluate(f"{INSPECTOR}.scene.scores(0).scores[0]")
    assert abs(score - page.evaluate(f"{INSPECTOR}.scene.scores(0).before[0]")) > 1e-4
    assert number(run_until(page, 4, "scored ")) == pytest.approx(score, abs=1e-6)
    page.wait_for_function(f"{INSPECTOR}.scene.answered?.edits.length === 2")  # as the kernel says
    assert page.locator(".edits code").all_text_contents() == TEXTS
    score = page.evaluate(f"{INSPECTOR}.scene.scores(0).scores[0]")
    assert number(run_until(page, 5, "scored again ")) == pytest.approx(score, abs=1e-6)
    write.fill("knock-out visual/7/local/weights")
    page.keyboard.press("Enter")
    page.wait_for_selector(".problem >> text=the model has no site visual/7/local/weights")
    page.wait_for_function(f"{INSPECTOR}.scene.answered?.edits.length === 2")  # the others are made


def number(printed: str) -> float:
    """The last word of what a cell printed."""
    return float(printed.split()[-1])
