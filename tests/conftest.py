"""Fixtures that several rooms use, and the order of the files."""

import functools
import gc
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from checked_calls import check_once_a_shape
from hypothesis import HealthCheck, settings

# Tests run side by side: where there are more threads than cores they wait for each other, and wait by computing.
os.environ.setdefault("OMP_NUM_THREADS", "1")

check_once_a_shape()

# A shell that runs the tests in the background has them, and the processes they start and interrupt, ignore ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines differ and are shared: an example that takes long is no failure. The same examples each time, as seeds are
# explicit elsewhere: what fails, fails again. `make fuzz` looks for new ones.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

# Files that take longest come first, so that the workers end together.
LONGEST = (
    "test_sweep_engines", "test_inspected", "test_figures_pipeline", "test_workers", "test_notebooks",
    "test_importing", "test_figures_texts", "test_edits", "test_overview", "test_hostile_files",
    "test_training", "test_training_again", "test_figures_swept", "test_figures_legible", "test_inspect_video",
    "test_figures_style", "test_sweep", "test_command_line", "test_settings", "test_half_precision",
    "test_record", "test_inspector_page", "test_explanation_variables", "test_record_file",
    "test_import_command", "test_bad_input", "test_inspect_folder", "test_sweep_command", "test_effects",
    "test_feature_folder", "test_attribution", "test_wire", "test_sweep_memory",
)  # fmt: skip

SEED = 1799  # unlike those that tests give themselves

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_collection_finish() -> None:
    """What is imported and collected stays to the end: the collector of garbage need not look at it again and again.

    Nor need the commands of an application be built anew, of signatures that do not change, each time that one is run.
    """
    if "typer.testing" in sys.modules:
        testing = sys.modules["typer.testing"]
        testing._get_command = functools.cache(testing._get_command)
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Each test begins with the same random numbers of numpy and torch, whichever test drew some before.

    Not of `random`, with which Ray chooses its ports, on a machine where another run of the tests may do the same.
    """
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(SEED)
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.manual_seed(SEED)


@pytest.fixture
def weights_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are read in this process, by the program that another process runs elsewhere once it has torch."""
    from gmsa_models.checkpoints.importing import state_file, state_process

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess:
        *_, program, source, target, _seconds, _memory, key = command
        assert program == state_process.__file__
        with warnings.catch_warnings(action="ignore"):
            return subprocess.CompletedProcess(command, 0, json.dumps(state_process._answer(source, target, key)))

    here = SimpleNamespace(**{name: getattr(subprocess, name) for name in subprocess.__all__} | {"run": run})
    monkeypatch.setattr(state_file, "subprocess", here)


@pytest.fixture
def pages_left_empty(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple, dict]]:
    """What `gmsa inspect` draws, as it is asked for; it saves an empty page in place of each picture.

    To lay out and save the pages takes longer than all else that the command does.
    """
    from matplotlib.figure import Figure

    asked: list[tuple[tuple, dict]] = []
    empty = Figure(figsize=(1, 1))
    monkeypatch.setattr("figures.inspection.draw", lambda *given, **more: asked.append((given, more)) or empty)
    return asked


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; skips the test where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data: ../shared/data is not beside the project")
    return SHARED_DATA
