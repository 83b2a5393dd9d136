"""`gmsa study`: what it prints, and how it refuses."""

import re

import pytest
from typer.testing import CliRunner

import gmsa
from analysis.study.seeds.figure_tables import local_attention
from analysis.study.seeds.tasks import TASKS
from analysis.study.seeds.variants import WHOLE

runner = CliRunner()


def run(*words):
    return runner.invoke(gmsa.app, ["study", *map(str, words)])


def test_without_a_folder_it_says_what_the_shipped_study_says():
    shown = run()
    assert shown.exit_code == 0, shown.output
    differences = local_attention()["differences"]
    for task in differences["task"].to_numpy():
        one = differences.sel(task=task, variant="gate-op-tp30")
        row = next(line for line in shown.stdout.splitlines() if line.split()[:2] == [task, "gate-op-tp30"])
        ends = f" [{float(one['low']):+.2f}, {float(one['high']):+.2f}]" if int(one["seeds"]) > 1 else " ("
        assert f"{float(one['difference']):+.2f}{ends}" in row
        assert f", {int(one['videos'])} videos)" in row
        assert re.search(rf"^{task} +C1 ", shown.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--tasks", "evnts"), "unknown task 'evnts'; known: events"),
        (("--variants", "gate-op"), "unknown variant 'gate-op'; known: baseline"),
        (("--variants", "control,control"), "expected at least one, each once"),
        (("--engine", "threads"), "unknown engine 'threads'; known: in-process"),
        (("--workers", "2"), "workers and address are not for engine 'in-process'"),
        (("--inspected", "3000"), "3000 videos to inspect of 2000 held-out ones"),
        (("--tasks", "audioset"), "give their folder with --audioset"),
        (("--tasks", "events,audioset"), "give their folder with --audioset"),
        (("--tasks", "all"), "give their folder with --audioset"),
        (("--tasks", "all", "--audioset", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, more, says):
    done = run("--out", tmp_path / "study", "--montages", 16, "--steps", 1, *more)
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1), done.output
    assert says in done.stderr
    assert not (tmp_path / "study").exists(), "nothing is made before it is known that all can be"


def test_the_help_lists_what_there_is():
    shown = runner.invoke(gmsa.app, ["study", "--help"], env={"COLUMNS": "300"}).stdout
    for name in (*TASKS, WHOLE):
        assert name in shown, name
