"""How fast the inspector is: from input event to painted frame, beside what a notebook has without it.

    python benchmarks/inspector.py --write

Records of 300 frames, 8 heads, two streams with three branches, and of 1,000 frames and 16 heads; headless chromium.
The page measures itself: a key press in an idle page, the drawing, and the task that follows the painting of the
frame. Steps do not fall on the beat of the screen, so at 60 frames a second a step waits up to 16.7 ms for its frame,
whatever is drawn; the last column is without that wait: handling the event, drawing, painting. The rows "as fast as it
can" are of a chromium that keeps no beat, so nothing is left out of them. In one JupyterLab the inspector, `imshow` of
matplotlib in an Output widget, and the FigureWidget of Plotly (where it is installed) show the same heads; for those
two a step ends when the new picture is painted.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import xarray as xr

sys.path.insert(0, str(Path(__file__).parents[1]))

from figures.inspector import write_html
from tests.browser import SCREEN, started_browser
from tests.inspector_records import made_record
from tests.lab import jupyterlab, open_notebook, run_cell, write_notebook

RESULTS = Path(__file__).parent / "results" / "inspector.md"
STEPS, SLOW_STEPS = 200, 30
INSPECTOR = "document.querySelector('.gmsa-inspector').inspector"
# No 60 frames a second: each is painted when it is ready.
NO_BEAT = ("--disable-frame-rate-limit", "--disable-gpu-vsync")
KEYS = {"heads": ["ArrowDown"], "frames": ["ArrowRight"], "heads and frames": ["ArrowDown", "ArrowRight"]}
READ = """
import xarray
from figures.inspector import Inspector
record = xarray.open_dataset("record.nc").load()
"""
SHOW = """
inspector = Inspector(record)
inspector
"""
MATPLOTLIB = """
import ipywidgets, matplotlib, numpy
import matplotlib.pyplot as plt
%matplotlib inline
maps = record["attention"].sel(modality="visual", branch="global").values
output, slider = ipywidgets.Output(), ipywidgets.IntSlider(max=len(maps) - 1)
output.add_class("measured"); slider.add_class("driven")
def draw(change=None):
    with output:
        output.clear_output(wait=True)
        plt.imshow(maps[slider.value], cmap="magma_r"); plt.show()
slider.observe(draw, "value"); draw()
ipywidgets.VBox([slider, output])
"""
PLOTLY = """
import plotly.graph_objects as go
figure = go.FigureWidget(go.Heatmap(z=maps[0], colorscale="magma_r"), layout={"width": 450, "height": 420})
slider = ipywidgets.IntSlider(max=len(maps) - 1)
slider.add_class("driven")
def redraw(change):
    figure.data[0].z = maps[slider.value]
slider.observe(redraw, "value")
box = ipywidgets.VBox([slider, figure]); box.add_class("measured")
box
"""
# Press a key on the slider's handle; the step ends when what changed in `.measured` has been painted.
MEASURE = """async (steps) => {
  const pause = (time) => new Promise((done) => setTimeout(done, time));
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  const handle = document.querySelector('.driven .noUi-handle'), measured = document.querySelector('.measured');
  const times = [];
  for (let step = 0; step < steps; step++) {
    await pause(300 + (step * 7) % 23);
    const changed = new Promise((done) => {
      const watch = new MutationObserver(() => {
        const image = [...measured.querySelectorAll('img, image')].pop();
        if (!image) return;
        watch.disconnect();
        done(image);
      });
      watch.observe(measured, { childList: true, subtree: true, attributes: true });
    });
    const began = performance.now(), up = Math.floor(step / 7) % 2 === 0;
    handle.dispatchEvent(new KeyboardEvent('keydown', { key: up ? 'ArrowRight' : 'ArrowLeft', bubbles: true }));
    const image = await Promise.race([changed, pause(8000)]);
    if (image?.decode) await image.decode().catch(() => null);
    await painted();
    times.push(performance.now() - began);
  }
  return times;
}"""


def paper_sized(frames: int, heads: int, modalities: Sequence[str], branches: Sequence[str]) -> xr.Dataset:
    """A record with weights as a softmax gives them: random logits, so that they compress no better than real ones."""
    record = made_record(frames, heads, branches=tuple(branches), modalities=tuple(modalities))
    generator = np.random.default_rng(0)
    weights = np.exp(2 * generator.standard_normal(record["attention"].shape, np.float32))
    if "local" in branches:
        weights[:, list(branches).index("local")] *= record["neighbourhood"].values
    record["attention"].values[:] = weights / weights.sum(-1, keepdims=True)
    return record


def row(name: str, times: Sequence[float], work: Sequence[float] = ()) -> str:
    """A line of the table: median, 95th percentile, longest; and the 95th percentile without the wait for a frame."""
    middle, high = np.quantile(times, 0.5), np.quantile(times, 0.95, method="higher")
    own = f"{np.quantile(work, 0.95, method='higher'):.1f}" if work else ""
    return f"| {name} | {len(times)} | {middle:.1f} | **{high:.1f}** | {max(times):.1f} | {own} |"


def measure_file(browser, record: xr.Dataset, folder: Path, name: str, kinds: Sequence[str]) -> list[str]:
    """The HTML file on its own."""
    began = time.perf_counter()
    path = write_html(record, folder / "view.html")
    written = time.perf_counter() - began
    page = browser.new_page(viewport=SCREEN)
    page.goto(path.as_uri())
    page.wait_for_selector(".gmsa-inspector footer", timeout=60_000)
    page.wait_for_timeout(1000)
    first = page.evaluate(f"{INSPECTOR}.firstPaint")
    loaded = page.evaluate(f"{INSPECTOR}.openedAt")
    page.evaluate(f"{INSPECTOR}.measure(['ArrowDown'], 20)")
    rows = []
    for kind in kinds:
        found = page.evaluate(f"{INSPECTOR}.measure({KEYS[kind]}, {STEPS})")
        rows.append(row(f"inspector, HTML file, {name}: {kind}", found["times"], found["work"]))
    page.close()
    size = f"- {name}: HTML file {path.stat().st_size / 1e6:.2f} MB (float16), written in {written:.1f} s; "
    size += f"from opening the file to the first view {loaded:.0f} ms, of which the inspector {first:.0f} ms"
    print(size, flush=True)
    return [size, *rows]


def measure_lab(browser, record: xr.Dataset, folder: Path) -> list[str]:
    """The same heads in JupyterLab: the inspector, matplotlib, Plotly."""
    record.to_netcdf(folder / "record.nc", engine="h5netcdf")
    plotly = find_spec("plotly") is not None
    write_notebook(folder / "b.ipynb", [READ, SHOW, MATPLOTLIB, *([PLOTLY] if plotly else [])])
    with jupyterlab(folder) as address:
        page = browser.new_page(viewport=SCREEN)
        page.set_default_timeout(60_000)
        open_notebook(page, address, "b.ipynb")
        began = time.perf_counter()
        run_cell(page, 0)
        page.locator(".jp-CodeCell").nth(0).locator("text=/^\\[1\\]:$/").wait_for()
        read = time.perf_counter() - began
        began = time.perf_counter()
        run_cell(page, 1)
        page.wait_for_selector(".gmsa-inspector .lanes canvas")
        page.wait_for_function(f"{INSPECTOR}?.firstPaint > 0")
        shown = time.perf_counter() - began
        page.wait_for_function(f"!!{INSPECTOR}.scene.payload.rest")
        complete = time.perf_counter() - began
        page.evaluate(f"{INSPECTOR}.measure(['ArrowDown'], 20)")
        found = page.evaluate(f"{INSPECTOR}.measure({KEYS['heads and frames']}, {STEPS})")
        told = f"- JupyterLab: first view {shown:.2f} s after Shift+Enter, all maps there after {complete:.2f} s; "
        told += f"the cell before it, imports and reading, took {read:.2f} s"
        rows = [told, row("inspector, JupyterLab: heads and frames", found["times"], found["work"])]
        for index, name in enumerate(["matplotlib `imshow` in an Output widget", "Plotly FigureWidget"][: 1 + plotly]):
            page.evaluate("document.querySelectorAll('.measured, .driven').forEach((each) => each.remove())")
            run_cell(page, 2 + index)
            page.wait_for_selector(".driven .noUi-handle", state="attached")
            page.wait_for_timeout(3000)
            rows.append(row(f"{name}, JupyterLab: heads", page.evaluate(MEASURE, SLOW_STEPS)))
            print(rows[-1], flush=True)
        page.close()
    return rows


def main() -> None:
    """Print the table; `--write` keeps it in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/inspector.md")
    given = parser.parse_args()
    usual = paper_sized(300, 8, ("visual", "audio"), ("global", "local", "combined"))
    large = paper_sized(1000, 16, ("visual",), ("global",))
    lines = []
    for flags, beat in ((), ""), (NO_BEAT, ", as fast as it can"):
        browsers = started_browser(*flags)
        browser = next(browsers)
        with tempfile.TemporaryDirectory() as folder:
            name = f"300 frames, 8 heads, 2 streams, 3 branches{beat}"
            lines += measure_file(browser, usual, Path(folder), name, list(KEYS))
            if not flags:
                lines += measure_lab(browser, usual, Path(folder))
            lines += measure_file(browser, large, Path(folder), f"1,000 frames, 16 heads{beat}", ["heads and frames"])
        next(browsers, None)
    text = report(lines)
    print(text)
    if given.write:
        RESULTS.write_text(text, encoding="utf-8")


def report(lines: Sequence[str]) -> str:
    """The page of results."""
    told, rows = [line for line in lines if line.startswith("- ")], [line for line in lines if line.startswith("|")]
    cores = f"{os.cpu_count()} cores, niceness {os.nice(0)}, load {os.getloadavg()[0]:.1f} at the end"
    head = f"{cores}, Python {platform.python_version()}"
    ran = f"`python benchmarks/inspector.py --write`: headless chromium without a GPU, {head}."
    columns = ["| what | steps | median ms | p95 ms | longest ms | p95 without the wait for a frame |"]
    columns.append("|---|---|---|---|---|---|")
    return "\n".join(["# From input event to painted frame", "", ran, "", *columns, *rows, "", *told, ""])


if __name__ == "__main__":
    main()
