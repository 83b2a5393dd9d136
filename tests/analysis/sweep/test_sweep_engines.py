"""Engines: the same bytes whoever did the shards, also when workers or the whole sweep are killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from multiprocessing import active_children
from pathlib import Path

import pytest
from sweep_shards import SETTINGS, DeadlyTask, write_models, write_shards

from analysis.errors import SweepError
from analysis.sweep import run_sweep
from analysis.sweep.cluster import on_ray, ray_module, start_here
from analysis.sweep.engines import EngineOptions
from analysis.sweep.pool import in_processes
from analysis.sweep.run import Watch, plan_sweep
from analysis.sweep.work import SHARDS

PROGRAM = Path(__file__).parents[2].joinpath("sweep_shards.py")
ROOT = Path(__file__).parents[3]
ENVIRONMENT = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module", autouse=True)
def patient():
    """Ray gives its own processes 15 to 30 s to start, whatever the machine does: it is tried more often here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.sweep.cluster.STARTS", 20)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model, five shards, and the files of their sweep by this process."""
    folder = tmp_path_factory.mktemp("engines")
    models, shards = (
        write_models(folder, ("gate-op",)),
        write_shards(folder, ((13, 5, 23), (7, 19), (3,), (17, 9), (11,))),
    )
    run_sweep(models, [str(path) for path in shards], folder / "out", SETTINGS)
    return models, [str(path) for path in shards], contents(folder / "out")


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two CPUs on this machine, for the tests that need one to be there."""
    ray = ray_module()
    start_here(ray, 2)
    yield ray
    ray.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a sweep but its plan; a note on a failure would be one more, a temporary file too."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "shards.txt"}


def deadly(made, tmp_path: Path) -> list:
    """Tasks of the sweep, of which the second kills whoever does it."""
    models, shards, _ = made
    tasks = plan_sweep(models, shards, tmp_path, SETTINGS)
    values = {field.name: getattr(tasks[1], field.name) for field in fields(tasks[1])}
    return [tasks[0], DeadlyTask(**values), *tasks[2:]]


class KillsWorkers(Watch):
    """Kills every worker process after the first shard that is done."""

    def __init__(self) -> None:
        self.killed: set[int] = set()

    def end_shard(self, outcome) -> None:
        """Kill, once."""
        if not self.killed:
            self.killed = {child.pid for child in active_children() if child.name.startswith("sweep-")}
            for pid in self.killed:
                os.kill(pid, signal.SIGKILL)


class TestProcesses:
    def test_the_same_bytes_as_in_one_process_and_lost_workers_are_replaced(self, made, tmp_path):
        models, shards, expected = made
        watch = KillsWorkers()
        result = run_sweep(models, shards, tmp_path, SETTINGS, engine="processes", workers=2, watch=watch)
        assert len(watch.killed) == 2
        assert (result.videos, result.failed) == (9, [])
        assert finished(tmp_path) == expected
        assert not [child for child in active_children() if child.name.startswith("sweep-")]

    def test_a_shard_that_kills_its_workers_fails_and_the_rest_go_on(self, made, tmp_path):
        outcomes = list(in_processes(SHARDS, deadly(made, tmp_path), workers=1))
        states = {outcome.task.shard.name: outcome.state for outcome in outcomes}
        assert [name for name, state in states.items() if state == "failed"] == ["part1.tfrecord"]
        assert len(states) == 5
        (failed,) = [outcome for outcome in outcomes if outcome.state == "failed"]
        assert failed.kind == "worker lost"
        assert failed.reason.startswith("the worker was lost 3 times (exit code -9)")

    def test_closing_ends_the_workers_at_once(self, made, tmp_path):
        models, shards, _ = made
        outcomes = in_processes(SHARDS, plan_sweep(models, shards, tmp_path, SETTINGS), workers=2)
        next(outcomes)
        outcomes.close()
        assert not [child for child in active_children() if child.name.startswith("sweep-")]

    def test_gpus_are_taken_in_turn(self, made, tmp_path, monkeypatch):
        from analysis.sweep.pool import _on_its_gpu

        (task, *_) = plan_sweep(made[0], made[1], tmp_path, replace(SETTINGS, device="cuda"))
        monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
        assert [_on_its_gpu(SHARDS, task, number).settings.device for number in range(3)] == [
            "cuda:0",
            "cuda:1",
            "cuda:0",
        ]
        assert (
            task.provenance()["settings"]["device"]
            == _on_its_gpu(SHARDS, task, 1).provenance()["settings"]["device"]
            == "cuda"
        )


def finished(folder: Path) -> dict[str, bytes]:
    """Files of the table; a killed worker may leave a hidden temporary one."""
    return {name: data for name, data in contents(folder).items() if not name.startswith(".")}


@pytest.mark.parametrize("engine", ["in-process", "processes"])
def test_a_killed_sweep_goes_on_to_the_same_bytes(made, tmp_path, engine):
    models, shards, expected = made
    command = [sys.executable, str(PROGRAM), models[0], str(Path(shards[0]).parent), str(tmp_path), engine]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout.readline().startswith("part")
        workers = children(process.pid)
        process.kill()
    kept = set(finished(tmp_path))
    assert 1 <= len(kept) < len(expected)  # the program stops after the first shard, until it is killed
    assert bool(workers) == (engine == "processes")
    wait_until_gone(workers)
    result = run_sweep(models, shards, tmp_path, SETTINGS)
    assert result.unchanged == len(kept & set(expected))
    assert finished(tmp_path) == expected


def children(pid: int) -> list[int]:
    """Processes that a process started, where the system tells."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    pids = [int(child) for child in path.read_text().split()] if path.exists() else []
    return [child for child in pids if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


def wait_until_gone(pids: list[int]) -> None:
    """Orphans end by themselves: a resumed sweep must not find the first one's workers at work."""
    for _ in range(6000):
        if not any(Path(f"/proc/{pid}").exists() and "Z" not in state(pid) for pid in pids):
            return
        time.sleep(0.1)
    raise AssertionError(f"workers {pids} outlive the sweep")


def state(pid: int) -> str:
    """One letter, or nothing for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
class TestRay:
    def test_a_cluster_of_its_own_gives_the_same_bytes(self, made, tmp_path):
        import ray

        models, shards, expected = made
        result = run_sweep(models, shards, tmp_path, SETTINGS, engine="ray", workers=2)
        assert (result.videos, result.failed) == (9, [])
        assert contents(tmp_path) == expected
        assert not ray.is_initialized()

    def test_a_cluster_that_is_there_stays(self, made, tmp_path, cluster):
        models, shards, expected = made
        run_sweep(models, shards[:2], tmp_path, SETTINGS, engine="ray")
        assert contents(tmp_path) == {name: expected[name] for name in ("part0.parquet", "part1.parquet")}
        assert cluster.is_initialized()

    def test_a_shard_that_kills_its_workers_fails_and_the_rest_go_on(self, made, tmp_path, cluster):
        outcomes = list(on_ray(SHARDS, deadly(made, tmp_path), workers=2))
        (failed,) = [outcome for outcome in outcomes if outcome.state == "failed"]
        assert (failed.task.shard.name, failed.kind, len(outcomes)) == ("part1.tfrecord", "worker lost", 5)
        assert failed.reason.startswith("the worker was lost 3 times: ")

    def test_what_cannot_be_read_is_recorded(self, made, tmp_path, cluster):
        bad = tmp_path / "bad.tfrecord"
        bad.write_text("not a record, but long enough for a header")
        result = run_sweep(made[0], [str(bad), made[1][1]], tmp_path / "out", SETTINGS, engine="ray")
        assert [outcome.task.shard.name for outcome in result.failed] == ["bad.tfrecord"]
        assert "is not a TFRecord" in result.failed[0].reason
        assert len(result.done) == 1

    def test_without_ray_the_extra_is_named(self, made, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(ImportError, match=r"pip install 'gmsa-workbench\[scale\]'"):
            run_sweep(made[0], made[1], tmp_path, SETTINGS, engine="ray")

    def test_gpus_are_asked_for(self, made, tmp_path, monkeypatch):
        asked = {}
        monkeypatch.setattr(ray_module(), "remote", lambda **more: asked.update(more) or (lambda function: None))
        monkeypatch.setattr("analysis.sweep.cluster._connect", lambda *given: False)
        monkeypatch.setattr("analysis.sweep.cluster._in_flight", lambda *given: iter(()))
        tasks = plan_sweep(made[0], made[1], tmp_path, replace(SETTINGS, device="cuda"))
        assert list(on_ray(SHARDS, tasks)) == []
        assert (asked["num_cpus"], asked["num_gpus"], asked["max_retries"]) == (1, 1, 2)
        with pytest.raises(SweepError, match="on a cluster Ray chooses the GPU"):
            list(on_ray(SHARDS, plan_sweep(made[0], made[1], tmp_path, replace(SETTINGS, device="cuda:1"))))


class TestRequests:
    def test_engines_by_name(self, made, tmp_path):
        with pytest.raises(SweepError, match="unknown engine 'dask'; known: in-process, processes, ray"):
            run_sweep(made[0], made[1], tmp_path, SETTINGS, engine="dask")

    @pytest.mark.parametrize(
        ("engine", "crew", "says"),
        [
            ("in-process", {"workers": 2}, "not for engine 'in-process'"),
            ("in-process", {"address": "auto"}, "not for engine 'in-process'"),
            ("processes", {"address": "auto"}, "'processes' is on this machine"),
            ("processes", {"workers": 0}, "workers is 0"),
        ],
    )
    def test_what_an_engine_does_not_take(self, made, tmp_path, engine, crew, says):
        with pytest.raises(SweepError, match=says):
            run_sweep(made[0], made[1], tmp_path, SETTINGS, engine=engine, **crew)

    def test_a_crew(self):
        assert EngineOptions() == EngineOptions(None, None)
