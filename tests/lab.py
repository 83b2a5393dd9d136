"""A real JupyterLab for tests and benchmarks: started on a folder, its notebooks opened in a browser."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat

ROOT = Path(__file__).parents[1]
OPTIONS = (
    "--no-browser",
    "--allow-root",
    "--port=0",
    "--ServerApp.token=",
    "--ServerApp.disable_check_xsrf=True",
    "--LabApp.news_url=",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
)

NOT_RUN = "[ ]:"  # how Lab marks a cell that was not run; at once something else when it is
TRIES, LOOKS = 100, 100


def write_notebook(path: Path, sources: Sequence[str]) -> None:
    """A notebook with one code cell a source."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """JupyterLab with `folder` as its root and nobody's settings; gives its address on this machine."""
    home = {name: str(folder / "home") for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    command = [sys.executable, "-m", "jupyterlab", *OPTIONS, f"--ServerApp.root_dir={folder}"]
    environment = os.environ | home | {"PYTHONPATH": str(ROOT)}
    log = folder / "log.txt"
    with log.open("w") as file:
        running = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield _address(log, running)
    finally:
        running.terminate()
        running.wait(600)


def open_notebook(page, address: str, name: str) -> None:
    """Open a notebook and wait for its kernel."""
    page.goto(f"{address}/lab/tree/{name}")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_selector("text=/ipykernel.*Idle/")


def run_cell(page, index: int) -> None:
    """Run a code cell by its number; again where Lab did not take it, as before its kernel is there."""
    cell = page.locator(".jp-CodeCell").nth(index)
    for _ in range(TRIES):
        if _taken(page, cell, NOT_RUN):
            return
    raise RuntimeError(f"JupyterLab does not run cell {index}")


def run_until(page, index: int, words: str) -> str:
    """Run a code cell until it has printed some words, and give all that it printed.

    What a widget tells the kernel can come after a cell that is run at once.
    """
    cell = page.locator(".jp-CodeCell").nth(index)
    for _ in range(TRIES):
        if not _taken(page, cell, _prompt(cell)):
            continue
        while "*" in _prompt(cell):
            page.wait_for_timeout(20)
        printed = cell.locator(".jp-OutputArea").first.text_content()
        if words in printed:
            return printed
    raise RuntimeError(f"cell {index} does not print {words!r}: {cell.text_content()!r}")


def _taken(page, cell, before: str) -> bool:
    """Run a cell once: whether Lab marks it otherwise than before."""
    cell.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    for _ in range(LOOKS):
        if _prompt(cell) != before:
            return True
        page.wait_for_timeout(20)
    return False


def _prompt(cell) -> str:
    return cell.locator(".jp-InputPrompt").first.text_content().strip()


def _address(log: Path, running: subprocess.Popen) -> str:
    """The address that the server says it listens on, once it answers."""
    for _ in range(3000):
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
