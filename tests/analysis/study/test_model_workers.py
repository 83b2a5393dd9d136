"""Tables of several models from processes: the same to the bit as here, lost processes, and no process left."""

from __future__ import annotations

import os
import signal
from multiprocessing import parent_process

import pytest
import torch
import xarray as xr
from small_models import small_clip, small_model

from analysis.study.model_workers import ModelWorkers
from analysis.study.study import NoCache, Settings, Study
from gmsa_models import save, write_clips
from gmsa_models.checkpoints.model_file import ModelFile
from gmsa_models.errors import ArgumentError

KINDS = ("baseline", "share-att", "gate-op")


def where_it_runs(model, *, progress=lambda clips: None) -> xr.Dataset:
    """Process and threads of the computation."""
    return xr.Dataset(
        attrs={"process": os.getpid(), "threads": torch.get_num_threads(), "kind": model.config.attention}
    )


def lost(model, *, progress=lambda clips: None) -> xr.Dataset:
    """A computation whose process is killed where that is a worker."""
    if parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return where_it_runs(model)


def refused(model, *, progress=lambda clips: None) -> xr.Dataset:
    """A computation that cannot be made."""
    raise ArgumentError(f"no table of {model.config.attention}")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, ModelFile]:
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        save(small_model(kind), folder / f"{kind}.safetensors")
    return {kind: ModelFile(kind, folder / f"{kind}.safetensors", kind) for kind in KINDS}


@pytest.fixture(scope="module")
def workers():
    with ModelWorkers(2) as started:
        yield started


def test_a_study_has_the_same_tables_from_processes_to_the_bit(files, workers, tmp_path):
    write_clips(tmp_path / "clips.tfrecord", [small_clip(11 + seed, seed) for seed in range(5)])
    source, settings, steps = [str(tmp_path / "clips.tfrecord")], Settings(videos=3), []
    here = Study(list(files.values()), source, "data", settings, NoCache())
    beside = Study(list(files.values()), source, "data", settings, NoCache(), lambda *step: steps.append(step), workers)
    for name in ("lines", "statistics", "ablations"):
        one, other = getattr(here, name), getattr(beside, name)
        assert list(one) == list(other) == list(KINDS)
        for kind in KINDS:
            xr.testing.assert_identical(one[kind], other[kind])
    assert [step[1:] for step in steps if step[0] == "vertical lines"] == [(0, 9), (3, 9), (6, 9), (9, 9)]


def test_processes_stay_and_compute_on_one_thread(files, workers):
    tables = [dict(workers.tables(where_it_runs, files)) for _ in range(2)]
    seen = {table.attrs["process"] for each in tables for table in each.values()}
    assert os.getpid() not in seen
    assert len(seen) <= 2
    for each in tables:
        assert {name: table.attrs["kind"] for name, table in each.items()} == {kind: kind for kind in KINDS}
        assert {table.attrs["threads"] for table in each.values()} == {1}


def test_an_error_comes_as_it_is(files, workers):
    with pytest.raises(ArgumentError, match="no table of"):
        list(workers.tables(refused, files))


def test_models_of_a_lost_process_are_computed_here_and_processes_start_again(files, workers):
    tables = dict(workers.tables(lost, files))
    assert {table.attrs["process"] for table in tables.values()} == {os.getpid()}
    again = dict(workers.tables(where_it_runs, {"baseline": files["baseline"]}))
    process = again["baseline"].attrs["process"]
    assert process != os.getpid()
    workers.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    workers.close()
