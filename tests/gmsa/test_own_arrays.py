"""The example of docs/your_own_arrays.md, run as it stands; and what the commands refuse of one's own arrays."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import gmsa
from gmsa_models.data.array_files.layout import NAMES

PAGE = Path(__file__).parents[2] / "docs" / "your_own_arrays.md"
runner = CliRunner()


def run(*words):
    return runner.invoke(gmsa.app, [str(word) for word in words])


def test_the_example_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(python|bash)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "bash", "python"]
    for kind, code in blocks:
        if kind == "python":
            exec(compile(code, str(PAGE), "exec"), {})
            continue
        for line in code.splitlines():
            done = run(*shlex.split(line)[1:])
            assert done.exit_code == 0, f"{line}: {done.output}"
    done = run("evaluate", "--data", "mine.npz", "--model", "mine/model.safetensors", "--json")
    assert json.loads(done.stdout)["hit_at_1"] > 0.9  # 0.5 by chance
    assert sorted(path.name for path in Path("swept").glob("*.parquet")) == ["mine.npz.parquet"]


def test_the_page_names_what_the_layout_knows():
    assert set(NAMES) <= set(re.findall(r"^\| `(\w+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("option", ["visual:", "visual:0", ":16", "visual:x", "audio", "audio:16:20"])
def test_a_width_that_is_none_is_refused(option, tmp_path):
    np.savez(tmp_path / "a.npz", visual=np.ones((3, 16), np.float32))
    done = run("train", "--data", tmp_path / "a.npz", "--out", tmp_path / "run", "--modality", "visual:16",
               "--modality", option)  # fmt: skip
    assert done.exit_code == 2
    assert "expected all as NAME:WIDTH" in done.stderr


def test_features_of_another_space_are_refused_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", visual=np.ones((3, 1024), np.float32), audio=np.ones((3, 128), np.float32),
             visual_space="my network")  # fmt: skip
    done = run("inspect", tmp_path / "a.npz", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "'visual' lies in the feature space 'my network' (1024-d), the model takes 'youtube-8m-rgb'" in done.stderr


def test_a_width_that_the_heads_do_not_divide_names_an_option_that_trains(tmp_path):
    np.savez(tmp_path / "a.npz", motion=np.random.default_rng(0).random((6, 17), np.float32), labels=[1])
    (tmp_path / "classes.csv").write_text("index,display_name\n0,first\n1,second\n")
    words = ["train", "--data", tmp_path / "a.npz", "--out", tmp_path / "run", "--vocabulary", tmp_path / "classes.csv",
             "--steps", 1, "--batch-size", 1]  # fmt: skip
    done = run(*words, "--modality", "motion:17")
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    (option,) = re.findall(r"`gmsa train (--modality [\w:]+)`", done.stderr)
    assert option == "--modality motion:17:20"
    done = run(*words, *option.split())
    assert done.exit_code == 0, done.output
