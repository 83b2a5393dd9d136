"""The example of docs/your_own_weights.md, run as it stands; and what `gmsa import` says of what it cannot take."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from own_gmsa import OwnGmsa

from gmsa_models import describe
from tests.gmsa.test_command_line import run

PAGE = Path(__file__).parents[2] / "docs" / "your_own_weights.md"


@pytest.fixture
def made(tmp_path):
    """A folder with weights and a pair of inputs and outputs."""
    own = OwnGmsa()
    torch.save(own.state_dict(), tmp_path / "weights.pt")
    inputs = own.example()
    with torch.no_grad():
        outputs = own(**inputs)
    np.savez(tmp_path / "pair.npz", visual=inputs["rgb"].numpy(), audio=inputs["sound"].numpy(), logits=outputs.numpy())
    return tmp_path


def test_the_example_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(python|bash)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "bash", "python"]
    names: dict[str, object] = {}
    for kind, code in blocks:
        if kind == "python":
            exec(compile(code, str(PAGE), "exec"), names)
            continue
        for line in code.splitlines():
            done = run(*shlex.split(line)[1:])
            assert done.exit_code == 0, f"{line}: {done.output}"
    assert describe("mine.safetensors").card["imported"]["file"] == "weights.pt"
    assert describe("tagger.safetensors").config == describe("mine.safetensors").config
    assert [path.name for path in Path("inspected").glob("*.nc")] == ["demo-0003-mine.nc"]


@pytest.mark.usefixtures("weights_read_here")
def test_the_table_the_sizes_and_the_origin_are_shown(made):
    done = run("import", made / "weights.pt", "--like", "gate-op-tp4", "--heads", 2, "--proof", made / "pair.npz",
               "--out", made / "mine.safetensors", "--name", "ours")  # fmt: skip
    assert done.exit_code == 0, done.output
    words = " ".join(done.stdout.split())
    assert "encoders.visual. project.weight 12 x 14 towers.rgb.embed.weight by name" in words
    assert "encoders.audio.layers.1. attention.output_bias 8 towers.sound.blocks.1.gmsa.b by shape" in words
    assert (
        "gate-op TP 4; visual 14 wide, audio 10 wide; 2 layers, 2 heads (in no shape: see --heads), pre-norm" in words
    )
    about = describe(made / "mine.safetensors").card
    assert about["name"] == "ours"
    assert f"from weights.pt, SHA-256 {about['imported']['sha256']}" in words
    assert re.search(r"proof pair\.npz: max \|difference\| \d", words)
    assert "not proven" not in done.stderr


@pytest.mark.usefixtures("weights_read_here")
def test_without_a_proof_it_is_said(made):
    done = run("import", made / "weights.pt", "--like", "gate-op-tp4", "--heads", 2, "--out", made / "mine.safetensors")
    assert done.exit_code == 0
    assert done.stderr.startswith("gmsa: not proven: without --proof nothing tells whether heads")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--like": "gate-op-tp30"}, r"weights\.pt: the model's logits differ from those of .*pair\.npz by up to"),
        ({"--like": "gate-op-xx"}, "no variant 'gate-op-xx'; known: baseline"),
        ({"--like": "baseline"}, r"are both .*another variant \(--like\)"),
        ({"--heads": "1"}, r"differ .*\. With --heads 2 the difference is"),
        ({"weights": "no.pt"}, r"no\.pt'?: no such file; expected a file of weights"),
        ({"weights": "."}, "a directory, pipe or device"),
        ({"weights": "pair.npz"}, r"pair\.npz: .*torch\.save\(model\.state_dict"),
        ({"--proof": "weights.pt"}, r"weights\.pt"),
        ({"--proof": "no.npz"}, r"no\.npz: cannot be read: No such file"),
        ({"--rename": "no.toml"}, r"no\.toml: cannot be read"),
        ({"--classes": "no.csv"}, r"no\.csv: cannot be read"),
        ({"--stream": "rgb"}, "as visual or PART|no array|stream"),
        ({"--stream": "=visual"}, "as visual or PART_OF_NAMES=visual"),
        ({"--out": "mine.pt"}, r"expected a name that ends in \.safetensors"),
        ({"--out": "weights.pt/mine.safetensors"}, "nothing can be written to folder"),
    ],
)
@pytest.mark.usefixtures("weights_read_here")
def test_what_cannot_be_is_one_line_and_nothing_is_written(changes, message, made, monkeypatch):
    monkeypatch.chdir(made)
    options = {"weights": "weights.pt", "--like": "gate-op-tp4", "--heads": "2", "--proof": "pair.npz",
               "--out": "mine.safetensors"} | changes  # fmt: skip
    weights = options.pop("weights")
    done = run("import", weights, *(word for option in options.items() for word in option))
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.output
    assert re.search(message, done.stderr), done.stderr
    assert sorted(path.name for path in made.iterdir()) == ["pair.npz", "weights.pt"]


def test_the_file_that_is_read_is_not_written_over(made):
    path = made / "weights.safetensors"
    path.write_bytes(b"weights")
    done = run("import", path, "--like", "gate-op-tp4", "--out", path)
    assert done.exit_code == 2
    assert "the file that is read; give another name" in done.stderr
    assert path.read_bytes() == b"weights"
