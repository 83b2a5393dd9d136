"""`gmsa sweep`: what it prints, its exit codes, and what stopping it leaves."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweep_shards import damage, write_models, write_shards
from typer.testing import CliRunner

import gmsa
from analysis.sweep import ANALYSES, ENGINES, failed_shards, read_sweep
from gmsa.commands.sweep import Bar
from gmsa_models.data.lock import locked

runner = CliRunner()
ROOT = Path(__file__).parents[2]


@pytest.fixture
def made(tmp_path):
    """A model, the folder of three shards, and where to write."""
    (model,) = write_models(tmp_path, ("baseline",))
    write_shards(tmp_path)
    return model, tmp_path, tmp_path / "out"


def words(made, *more) -> list[str]:
    """Words of a sweep of the scores."""
    model, folder, out = made
    return [str(word) for word in ("--model", model, "--data", folder / "*.tfrecord", "--out", out, *more)]


def run(made, *more):
    return runner.invoke(gmsa.app, ["sweep", *words(made, "--analyses", "scores", *more)])


def test_a_sweep_and_then_nothing_to_do(made):
    done = run(made)
    assert done.exit_code == 0, done.output
    assert re.fullmatch(rf"3 shards done \(9 videos, [\d.]+ a second\), in {made[2]}\n", done.stdout)
    assert len(read_sweep(made[2])) == 9
    again = run(made)
    assert (again.exit_code, again.stdout) == (0, f"nothing to do: all 3 shards are finished in {made[2]}\n")


def test_a_shard_that_cannot_be_read_is_told_of_and_the_exit_code_says_so(made):
    damage(made[1] / "part1.tfrecord", 200)
    done = run(made)
    assert done.exit_code == 1
    assert "2 shards done (6 videos" in done.stdout
    assert f"1 FAILED, see {made[2] / 'failed'}" in done.stdout
    assert "part1.tfrecord" in failed_shards(made[2])["shard"].tolist()
    skipping = run(made, "--on-error", "skip")
    assert skipping.exit_code == 0, skipping.output
    assert skipping.stdout.startswith("1 shards done (2 videos")
    assert "2 finished before" in skipping.stdout


def test_names_of_shards_reach_no_terminal_as_they_are(made):
    (made[1] / "part1.tfrecord").rename(made[1] / "\x1b[31m\x07[red]\nx.tfrecord")
    damage(made[1] / "\x1b[31m\x07[red]\nx.tfrecord", 200)
    done = run(made)
    assert done.exit_code == 1
    assert "\x1b" not in done.output
    assert "\x07" not in done.output
    assert "\\x1b[31m\\x07[red] x.tfrecord: " in done.stderr


def test_a_second_sweep_into_one_folder_is_refused(made):
    with locked(made[2], "a sweep"):
        done = run(made)
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert f"{made[2]}: in use by a sweep (process {os.getpid()} on " in done.stderr


def test_bad_input_is_one_line(made):
    for more, says in (
        (("--analyses", "score"), "unknown analysis 'score'"),
        (("--engine", "dask"), "unknown engine 'dask'; known: in-process"),
        (("--workers", "2"), "workers and address are not for engine 'in-process'"),
        (("--neighbourhood", "XX3"), "expected BDn, TPn or TDnxd"),
    ):
        done = run(made, *more)
        assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1), done.output
        assert says in done.stderr


def test_the_help_lists_what_there_is():
    shown = " ".join(
        re.sub(r"[^\w\s,.-]", " ", runner.invoke(gmsa.app, ["sweep", "--help"], env={"COLUMNS": "300"}).stdout).split()
    )
    for name in (*ANALYSES, *ENGINES):
        assert name in shown, name


@pytest.mark.parametrize("engine", ["in-process", "processes"])
def test_ctrl_c_keeps_what_is_finished(made, engine):
    """As from a terminal: the interrupt goes to every process of the group."""
    code = "import gmsa; gmsa.main()"
    command = [sys.executable, "-c", code, "sweep", *words(made, "--analyses", ",".join(ANALYSES), "--engine", engine)]
    command += ["--workers", "1"] if engine == "processes" else []
    many = [tuple([23] * 60)] * 6
    write_shards(made[1], many)
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=ROOT,
        # A shell that runs the tests in its background makes them, and all they start, deaf to the interrupt.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    with process:
        wait_for(lambda: list(made[2].glob("*.parquet")), process)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "gmsa: stopped"
    assert "Traceback" not in errors
    left = [path for path in made[2].iterdir() if path.name != "shards.txt"]
    assert 1 <= len(left) < 6
    assert {path.suffix for path in left} <= {".parquet", ".tmp"}
    assert len(read_sweep(made[2])) == 60 * len(list(made[2].glob("*.parquet")))


def wait_for(what, process) -> None:
    """Until there is something, or the process ends."""
    while not what() and process.poll() is None:
        time.sleep(0.01)


class Recording:
    """A progress bar that keeps what it is told."""

    def __init__(self) -> None:
        from rich.progress import Progress

        self.real = Progress(disable=True)
        self.console, self.shown = self.real.console, []

    def add_task(self, *given, **more):
        """As rich has it."""
        return self.real.add_task(*given, **more)

    @property
    def tasks(self):
        """As rich has it."""
        return self.real.tasks

    def update(self, task, **values) -> None:
        """Keep, and pass on."""
        self.shown.append(values)
        self.real.update(task, **values)


def test_the_bar_counts_bytes_and_videos():
    from types import SimpleNamespace

    bar = Bar(Recording())
    bar.begin(300, 200)
    bar.advance(5, 60)
    bar.advance(5, 30)
    shard = SimpleNamespace(bytes=100, name="a")
    bar.end_shard(SimpleNamespace(task=SimpleNamespace(shard=shard), videos=10, reason="", left_out=()))
    bar.advance(3, 500)
    shown = bar.progress.shown
    assert shown[0]["total"] == 200
    assert [(values["completed"], values["videos"]) for values in shown[1:]] == [
        (60, 5),
        (90, 10),
        (100, 10),
        (200, 13),
    ]
