"""The widget in a real JupyterLab: traits go both ways between the page and a live kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest

from tests.browser import SCREEN, started_browser
from tests.inspector_records import made_record

ROOT = Path(__file__).parents[1]
INSPECTOR = "document.querySelector('.gmsa-inspector')?.inspector"
SHOW = """
import ipywidgets, xarray
from figures.inspector import Inspector
slider = ipywidgets.IntSlider(max=28)
inspector = Inspector([xarray.open_dataset(name) for name in ("first.nc", "second.nc")])
link = ipywidgets.jslink((slider, "value"), (inspector, "frame"))
ipywidgets.VBox([inspector, slider])
"""
STEER = "inspector.head = 2; inspector.against = 'baseline'"
TELL = """
figure = inspector.figure()
assert (inspector.frame, slider.value, inspector.head) == (3, 3, 3), inspector.current_view()
print("told", inspector.frame, inspector.modality, len(figure.axes) > 3, inspector.to_html("view.html"))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """JupyterLab on a folder with two records and a notebook; gives its address."""
    folder = tmp_path_factory.mktemp("lab")
    made_record().to_netcdf(folder / "first.nc", engine="h5netcdf")
    made_record(name="baseline", seed=1).to_netcdf(folder / "second.nc", engine="h5netcdf")
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in (SHOW, STEER, TELL)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "inspector.ipynb")
    home = {name: str(folder / "home") for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.token=", "--port=0",
               "--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={folder}", "--LabApp.news_url=",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # fmt: skip
    log = folder / "log.txt"
    with log.open("w") as file:
        running = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | home | {"PYTHONPATH": str(ROOT)},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _address(log, running)
    finally:
        running.terminate()
        running.wait(30)


def _address(log: Path, running: subprocess.Popen) -> str:
    """The address that the server says it listens on, once it answers."""
    for _ in range(600):
        time.sleep(0.2)
        found = [line.split()[-1] for line in log.read_text().splitlines() if "http://localhost:" in line]
        if running.poll() is not None:
            break
        if not found:
            continue
        address = found[0].split("/lab")[0]
        try:
            with urlopen(f"{address}/api", timeout=20):
                return address
        except URLError:
            continue
    raise RuntimeError(f"JupyterLab did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def page(server) -> Iterator:
    browsers = started_browser()
    context = next(browsers).new_context(viewport=SCREEN)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{server}/lab/tree/inspector.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_selector("text=/ipykernel.*Idle/")  # a cell run earlier is not run at all
    page.wait_for_timeout(500)
    yield page
    context.close()
    next(browsers, None)


def _run_cell(page, index: int) -> None:
    page.locator(".jp-CodeCell").nth(index).locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")


def _wait_for(page, condition: str) -> None:
    page.wait_for_function(condition)


def test_widget_and_kernel_share_the_view(page):
    _run_cell(page, 0)
    page.wait_for_selector(".gmsa-inspector .lanes canvas")
    _wait_for(page, f"{INSPECTOR}?.firstPaint > 0")
    assert page.evaluate(f"{INSPECTOR}.scene.payload.header.precision") == "float32"
    _run_cell(page, 1)
    _wait_for(page, f"{INSPECTOR}.state.head === 2 && {INSPECTOR}.state.against === 'baseline'")
    page.focus(".gmsa-inspector")
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    _wait_for(page, f"{INSPECTOR}.state.frame === 3 && {INSPECTOR}.state.head === 3")
    _run_cell(page, 2)
    page.wait_for_selector("text=told 3 visual True view.html")
    assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    assert page.locator(".gmsa-inspector").count() == 1


def test_dark_notebook_dark_inspector(page):
    light = page.evaluate(f"{INSPECTOR}.theme()")
    page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    _wait_for(page, f"{INSPECTOR}.painted === 'dark'")
    assert light == "light"
