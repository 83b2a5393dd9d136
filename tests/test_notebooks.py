"""Every notebook runs from top to bottom, says nothing on stderr, and is stored without outputs."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NUMBER_OF_NOTEBOOKS = 8


def test_the_notebooks_are_all_here():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{number:02}" for number in range(1, NUMBER_OF_NOTEBOOKS + 1)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_thin_and_stripped(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    lines = [line for cell in code for line in cell.source.splitlines()]
    own_model = ("class ",) if path.stem != "07_your_own_model" else ()  # which is somebody else's code
    assert not [line for line in lines if line.startswith(("def ", "while ", "for ", *own_model))]
    assert notebook.cells[0].source.startswith("# ")


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all notebooks, so that the libraries are imported once."""
    manager = pytest.importorskip("jupyter_client").KernelManager(kernel_name="python3")
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    manager.start_kernel(env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"})
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# The kernel's client comes from libraries whose own warnings are none of the notebook's business.
@pytest.mark.filterwarnings("ignore")
def test_notebook_runs(path, tmp_path, kernel):
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    # In a folder of its own, without a name of the notebook before.
    fresh = nbformat.v4.new_code_cell(f"import os\nos.chdir({str(tmp_path)!r})\n%reset -f")
    notebook.cells.insert(0, fresh)
    client = nbclient.NotebookClient(notebook, kernel, timeout=600)
    try:
        client.execute()
    finally:
        client.kc.stop_channels()
    streams = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    ]
    assert not [output.text for output in streams if output.name == "stderr"]
    assert not list(tmp_path.iterdir())
    if path.stem == "04_paper_figures":
        shown = [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
        assert sum("image/png" in output["data"] for output in shown) == 2
