"""`gmsa ls`, `gmsa lab`, and what the shell's tab key asks."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import gmsa
from gmsa.commands.docs import documentation
from gmsa.commands.inspect import _others
from gmsa.options import complete_model
from gmsa.terminal import ClickError
from gmsa_models import available, write_clips
from gmsa_models.data import Clip

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def run(*words):
    return CliRunner().invoke(gmsa.app, [str(word) for word in words])


@pytest.fixture
def clips(tmp_path):
    """A file of two clips, of 3 and of 5 frames; only the labels of the first count the model's classes."""
    features = [np.ones((frames, 4), np.float32) for frames in (3, 5)]
    first = Clip("first", {"visual": features[0]}, (0, 1), 0.5, dataset="youtube-8m")
    second = Clip("second", {"visual": features[1]}, (0,), 0.5, dataset="mine")
    write_clips(tmp_path / "clips.tfrecord", [first, second])
    return tmp_path / "clips.tfrecord"


def test_ls_as_csv_has_a_row_a_clip(clips):
    done = run("ls", clips, "--csv")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["id"] for row in rows] == ["first", "second"]
    assert [(row["seconds"], row["frames"], row["streams"]) for row in rows] == [
        ("1.5", "3", "visual:4"),
        ("2.5", "5", "visual:4"),
    ]
    assert [row["labels"] for row in rows] == ["Game; Video game", "label 0"]


def test_ls_on_the_screen_counts(clips):
    done = run("ls", clips, "--limit", 1)
    assert "first" in done.stdout
    assert "label 0" not in done.stdout
    assert done.stdout.endswith("1 clip\n")
    assert run("ls", clips).stdout.splitlines()[-2] == "2 clips"


def test_ls_names_the_labels_of_each_clip_by_a_model_of_its_data_set_and_says_what_a_number_is(tmp_path):
    features = {"audio": np.ones((3, 4), np.float32)}
    kinds = [("youtube-8m", 0), ("audioset", 0), ("mine", 0)]
    write_clips(
        tmp_path / "clips.tfrecord", [Clip(name, features, (label,), 1.0, dataset=name) for name, label in kinds]
    )
    rows = list(csv.reader(io.StringIO(run("ls", tmp_path / "clips.tfrecord", "--csv").stdout)))[1:]
    assert [row[-1] for row in rows] == ["Game", "Speech", "label 0"]
    *_, count, note = run("ls", tmp_path / "clips.tfrecord").stdout.splitlines()
    assert (count, note) == ("3 clips", "label N: class N of the data set, which its vocabulary gives no name")
    named = run("ls", tmp_path / "clips.tfrecord", "--model", "audioset-gate-op", "--csv").stdout
    assert [row[-1] for row in csv.reader(io.StringIO(named))][1:] == ["label 0", "Speech", "label 0"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere.tfrecord",), "no file"),
        (("demo:3", "--model", "nothing"), "neither a file nor a trained model"),
        (("demo:900",), "demo"),
        (("x" * 300 + ".mp4",), "no file"),
        (("video.mp4",), "is a video: `gmsa inspect` shows it, and `gmsa features` makes the features"),
        (("record.nc",), "is a saved record of one clip by one model: `gmsa inspect` shows it"),
        (("model.safetensors",), "is a model: `--model` takes it"),
        (("demo:3", "--model", "run"), "run: a directory, pipe or device; expected a .safetensors file, as run/"),
    ],
)
def test_ls_of_what_is_not_there_is_one_line(words, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("video.mp4", "record.nc", "model.safetensors", "run/model.safetensors"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"0")
    done = run("ls", *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_lab_copies_what_a_folder_lacks_and_hands_options_on(monkeypatch, tmp_path):
    calls = []

    def record(command, **options):
        calls.append(command)
        return subprocess.CompletedProcess(command, 3)

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "01_inspect_a_video.ipynb").write_text("changed")
    monkeypatch.setattr(subprocess, "run", record)
    done = run("lab", "--folder", tmp_path / "mine", "--", "--no-browser", "--port", "8899")
    assert done.exit_code == 3  # JupyterLab's own
    assert calls == [[sys.executable, "-m", "jupyterlab", str(tmp_path / "mine"), "--no-browser", "--port", "8899"]]
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == sorted(
        path.name for path in NOTEBOOKS.glob("*.ipynb")
    )
    assert (tmp_path / "mine" / "01_inspect_a_video.ipynb").read_text() == "changed"
    assert "7 notebooks copied" in done.stdout


def test_lab_refuses_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("lab", "--folder", tmp_path / "file", "--copy-only")
    assert done.exit_code == 2
    assert str(tmp_path / "file") in done.stderr


def test_the_tab_key_knows_the_models():
    assert complete_model("") == sorted(available())
    assert complete_model("gate-op-t") == ["gate-op-td60x4", "gate-op-tp30"]
    assert complete_model("baseline,control")[0].startswith("baseline,control")
    script = (
        "import sys; from gmsa.options import complete_model; assert complete_model('base'); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_shell_asks_for_commands_and_models():
    def asked(*words):
        typed = {"_GMSA_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        return CliRunner().invoke(gmsa.app, [], prog_name="gmsa", env=typed).stdout.split()

    assert "inspect" in asked("gmsa", "ins")
    assert asked("gmsa", "figures", "--model", "share") == ["share-att-bd", "share-att-td", "share-att-tp"]


def test_docs_opens_what_came_with_the_package_or_was_built_or_says_how(tmp_path):
    package = tmp_path / "gmsa"
    with pytest.raises(ClickError, match=r"the pages are missing from .*; install the package again"):
        documentation(package)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "conf.py").touch()
    with pytest.raises(ClickError, match="build the documentation with `make docs` in "):
        documentation(package)
    for index in (tmp_path / "build" / "docs" / "index.html", package / "docs" / "index.html"):
        index.parent.mkdir(parents=True)
        index.touch()
        assert documentation(package) == index


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("catalog", "demo:0-3"), "lies in no file to list"),
        (("train", "--data", "demo:0-3", "--out", "run"), "`gmsa montage` writes such videos to train on"),
    ],
)
def test_demo_videos_are_refused_where_files_are_needed(words, said):
    done = run(*words)
    assert done.exit_code == 2
    assert said in done.stderr


def test_against_lists_models_with_commas_and_by_turns(tmp_path):
    file = tmp_path / "a,b.nc"
    file.touch()
    assert _others(["baseline,control", "gate-op-tp30", str(file)]) == [
        "baseline", "control", "gate-op-tp30", str(file),
    ]  # fmt: skip
    assert _others(None) == []
