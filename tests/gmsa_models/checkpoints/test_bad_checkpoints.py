"""Bad and hostile checkpoints: one clear error each; nothing they hold is run, nothing they claim is allocated."""

import os
import resource
from pathlib import Path

import pytest
from bad_checkpoints import CHECKPOINTS, card, contents, vocabulary
from small_models import small_clip, small_model

from gmsa_models import available, describe, load, save, write_clips
from gmsa_models.checkpoints.header import MAXIMUM_HEADER_BYTES, CheckpointError
from tests.gmsa.test_command_line import run

ALLOWED_KIB = 200_000


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return save(small_model(), tmp_path_factory.mktemp("good") / "good.safetensors").read_bytes()


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_one_error_names_the_file_and_what_to_do(name, good, tmp_path, monkeypatch):
    make, error, said = CHECKPOINTS[name]
    monkeypatch.chdir(tmp_path)  # where the pickles would make a folder
    path = tmp_path / "x.safetensors"
    path.write_bytes(make(good))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(error, match=rf"x\.safetensors: .*{said}") as caught:
        load(path)
    assert type(caught.value) is error
    assert len(str(caught.value)) < 600
    assert any(word in str(caught.value) for word in ("again", "gmsa_models.save", "Upgrade"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < ALLOWED_KIB
    assert not Path("executed").exists()
    done = run("evaluate", "--data", "demo:0", "--model", path)
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.output
    assert done.stderr.startswith(f"gmsa: {path}: ")
    assert done.stderr[:-1].isprintable()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_directories_and_pipes(make, tmp_path):
    make(tmp_path / "x.safetensors")
    for read in (load, describe):
        with pytest.raises(CheckpointError, match=r"x\.safetensors: a directory, pipe or device"):
            read(tmp_path / "x.safetensors")


def test_files_that_the_system_does_not_give(good, tmp_path, monkeypatch):
    (tmp_path / "x.safetensors").write_bytes(good)

    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", broken)
    with pytest.raises(CheckpointError, match=r"x\.safetensors: cannot be read: Input/output error"):
        load(tmp_path / "x.safetensors")


def test_a_file_from_before_there_was_a_checksum_is_read(good, tmp_path):
    (tmp_path / "old.safetensors").write_bytes(contents(lambda values: None)(good))
    assert load(tmp_path / "old.safetensors").card == load(save(small_model(), tmp_path / "new.safetensors")).card


def test_every_layer_is_compared(tmp_path):
    path = save(small_model(layers=3), tmp_path / "deep.safetensors")
    assert load(path).config.layers == 3
    data = path.read_bytes().replace(b"encoders.visual.layers.2.norm", b"encoders.visual.layers.3.norm")
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"4 tensors .* missing: encoders\.visual\.layers\.2\.norm"):
        load(path)


def test_what_could_not_be_read_is_not_written(tmp_path):
    model = small_model()
    model.card["notes"] = "x" * MAXIMUM_HEADER_BYTES
    with pytest.raises(CheckpointError, match="class names and card need a header of"):
        save(model, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_zoo_is_within_the_limits():
    for name in available():
        assert load(name).config == describe(name).config


def test_names_are_text_and_nothing_else(good, tmp_path):
    """A card's and a class's name may look like markup, a formula or a path; it is printed and drawn as it stands."""
    names = ["[/a]", "$\\frac{$", "../../x", "[bold]", "%s {0}"]
    path, clips = tmp_path / "x.safetensors", tmp_path / "clips.tfrecord"
    path.write_bytes(card(name="../[/red] $\\frac{$")(vocabulary(names=names)(good)))
    write_clips(clips, [small_clip(5, id="[/b] $\\frac{$", segments=())])
    done = run("inspect", clips, "--model", path, "--out", tmp_path / "seen")
    assert done.exit_code == 0, done.output
    assert all(name in done.stdout for name in (*names, "[/b] $\\frac{$"))
    assert "[/red]" in run("evaluate", "--data", clips, "--model", path).stdout
    assert {each.parent for each in tmp_path.rglob("*.nc")} == {tmp_path / "seen"}
