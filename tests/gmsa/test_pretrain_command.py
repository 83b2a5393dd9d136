"""`gmsa pretrain`, and `gmsa train --from`: encoders learned without labels, inspected, and trained on."""

import inspect as introspect
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from small_models import VOCABULARY, small_clip
from typer.testing import CliRunner

import gmsa
from gmsa_models import describe, load, write_clips
from gmsa_models.data.feature_folder import write_classes
from gmsa_models.pretraining import PretrainingRecipe

NONE_AS_ZERO = ("clip_norm", "ema_decay")
OF_LABELS = ("initial_probability", "monitor")
PREDICTS_NOTHING = "has no classifier and predicts nothing: its encoders were pretrained without labels"


def run(*words):
    return CliRunner().invoke(gmsa.app, [str(word) for word in words])


def wide_clip(seed: int, frames: int = 8, labels: tuple[int, ...] = (11,)):
    values = np.random.default_rng(seed).integers(0, 256, (frames, 128), np.uint8)
    return small_clip(frames, seed, features={"audio": values}, segments=(), labels=labels)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a file of clips, a class table, and pretrained encoders of the Toeplitz variant."""
    folder = tmp_path_factory.mktemp("made")
    write_clips(folder / "clips.tfrecord", [wide_clip(seed) for seed in range(8)])
    rows = "\n".join(f"{index},{name}" for index, name in zip(VOCABULARY.indices, VOCABULARY.names, strict=True))
    (folder / "classes.csv").write_text(f"Index,Name\n{rows}\n")
    done = run(*pretraining(folder, "pre"))
    assert done.exit_code == 0, done.output
    assert "pretrained.safetensors (step 3," in done.stdout
    assert "variance_explained " in done.stdout
    return folder


def pretraining(folder: Path, out: str, steps: int = 3) -> list[object]:
    return [
        "pretrain", "--data", folder / "clips.tfrecord", "--validation", folder / "clips.tfrecord", "--out",
        folder / out, "--variant", "gate-op-tp30", "--modality", "audio", "--steps", steps, "--batch-size", 4,
        "--max-frames", 8, "--accelerator", "cpu", "--threads", 1, "--save-every", 1,
    ]  # fmt: skip


def training(folder: Path, out: Path, *more: object) -> list[object]:
    return [
        "train", "--data", folder / "clips.tfrecord", "--out", out, "--variant", "gate-op-tp30", "--modality", "audio",
        "--vocabulary", folder / "classes.csv", "--steps", 2, "--batch-size", 2, "--max-frames", 8, "--accelerator",
        "cpu", "--threads", 1, *more,
    ]  # fmt: skip


def test_it_has_every_field_of_the_recipe_with_its_default():
    options = introspect.signature(gmsa.pretrain).parameters
    for field in fields(PretrainingRecipe):
        if field.name not in OF_LABELS:
            expected = 0.0 if field.name in NONE_AS_ZERO and field.default is None else field.default
            assert options[field.name].default == expected, field.name
    assert not set(OF_LABELS) & set(options)


def test_given_again_it_stays_and_another_recipe_is_refused(made):
    before = (made / "pre/pretrained.safetensors").read_bytes()
    again = run(*pretraining(made, "pre"))
    assert again.exit_code == 0, again.output
    assert "pretrained.safetensors was finished already, and stays as it is (step 3," in again.stdout
    assert (made / "pre/pretrained.safetensors").read_bytes() == before
    other = run(*pretraining(made, "pre"), "--span", 2)
    assert other.exit_code == 2
    assert "holds a run with other recipe (span 5, now 2)" in other.stderr
    demo = run("pretrain", "--data", "demo:0-3", "--out", made / "demo")
    assert demo.exit_code == 2
    assert "`gmsa montage` writes such videos to train on" in demo.stderr


def test_ctrl_c_stops_it_and_the_same_command_goes_on(made):
    words = [str(word) for word in pretraining(made, "stopped", steps=4000)]
    process = subprocess.Popen([sys.executable, "-m", "gmsa", *words], stderr=subprocess.PIPE, text=True)
    state = made / "stopped" / "state.pt"
    while not state.exists() and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert state.exists()
    assert not (made / "stopped" / "pretrained.safetensors").exists()
    other = run(*pretraining(made, "stopped", steps=5))
    assert "holds a run with other recipe (steps 4000, now 5)" in other.stderr


def test_its_maps_are_inspected_and_it_predicts_nothing(made, tmp_path):
    model, clips = made / "pre/pretrained.safetensors", made / "clips.tfrecord"
    done = run("inspect", clips, "--model", model, "--out", tmp_path, "--html")
    assert done.exit_code == 0, done.output
    assert "no predictions: " in done.stdout
    assert list(tmp_path.glob("*.png"))
    assert list(tmp_path.glob("*.html"))
    (path,) = tmp_path.glob("*.nc")
    with xr.open_dataset(path) as record:
        assert "no classifier" in record.attrs["no_predictions"]
        assert "score" not in record
        assert record["attention"].sizes["head"] == 4
        assert np.isfinite(record["profile"].values).any()
    for words in (
        ("evaluate", "--data", clips), ("inspect", clips, "--explain", "gradient", "--out", tmp_path / "e"),
        ("inspect", clips, "--target", "Food", "--out", tmp_path / "t"), ("whatif", clips),
        ("inspect", clips, "--html", "--live", "--out", tmp_path / "l"),
        ("sweep", "--data", clips, "--out", tmp_path / "s"),
    ):  # fmt: skip
        refused = run(*words, "--model", model)
        assert refused.exit_code == 2, words
        assert PREDICTS_NOTHING in refused.stderr, words


def test_train_starts_from_it_with_a_share_of_the_labels(made, tmp_path):
    start = made / "pre/pretrained.safetensors"
    words = training(made, tmp_path / "run", "--from", start, "--labelled-share", 0.5, "--share-seed", 3)
    done = run(*words)
    assert done.exit_code == 0, done.output
    card = describe(tmp_path / "run/model.safetensors").card
    assert card["pretrained"] == {"name": "pre", "sha256": load(start).origin["sha256"]}
    assert card["training"]["labelled_share"] == {"share": 0.5, "seed": 3}
    assert card["training"]["clips"] == 4
    assert run(*words).exit_code == 0
    for changed, says in (
        ([*words[:-6], *words[-4:]], "pretrained encoders ("),
        (words[:-4], "labelled share ("),
        ([*words[:-1], 4], "labelled share (seed 3, now 4)"),
    ):  # fmt: skip
        refused = run(*changed)
        assert refused.exit_code == 2
        assert says in refused.stderr


def test_train_refuses_encoders_of_another_model(made, tmp_path):
    start = made / "pre/pretrained.safetensors"
    for changes, says in (
        (("--variant", "gate-op-bd20"), "pretrained.safetensors is of another model: neighbourhood "),
        (("--modality", "visual"), "modalities {'audio': 128}, not {'audio': 128, 'visual': 1024}"),
        (("--size", "paper"), "widths {'audio': 64}, not None; heads 4, not 8"),
    ):
        refused = run(*training(made, tmp_path / "refused", "--from", start), *changes)
        assert refused.exit_code == 2
        assert says in refused.stderr
        assert not (tmp_path / "refused").exists()
    refused = run(*training(made, tmp_path / "share", "--labelled-share", 0))
    assert refused.exit_code == 2
    assert "a share of 0.0" in refused.stderr


def test_a_folder_of_features_needs_no_labels(tmp_path):
    """What follows from the folder is what `gmsa train` takes of it, so that one starts from the other."""
    folder = tmp_path / "features"
    folder.mkdir()
    for seed in range(8):
        labels = (seed % 2,) if seed < 5 else ()
        write_clips(folder / f"clip{seed}.tfrecord", [wide_clip(seed, 6, labels)])
    words = ("pretrain", "--data", folder, "--variant", "gate-att-tp10", "--steps", 2, "--accelerator", "cpu")
    done = run(*words, "--out", tmp_path / "pre")
    assert done.exit_code == 0, done.output
    assert describe(tmp_path / "pre/pretrained.safetensors").card["training"]["clips"] == 8
    write_classes(folder, ["cat", "dog"])
    trained = run("train", "--data", folder, "--variant", "gate-att-tp10", "--steps", 2, "--accelerator", "cpu",
                  "--from", tmp_path / "pre/pretrained.safetensors", "--out", tmp_path / "run")  # fmt: skip
    assert trained.exit_code == 0, trained.output
    card = describe(tmp_path / "run/model.safetensors").card
    assert json.loads(json.dumps(card["pretrained"]))["name"] == "pre"
    (tmp_path / "empty").mkdir()
    assert "no clip in it" in run("pretrain", "--data", tmp_path / "empty", "--out", tmp_path / "none").stderr
