"""The command line: what it prints, what it writes, and one clear line for what cannot be."""

import inspect as introspect
import json
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import typer
import xarray as xr
from small_models import VOCABULARY, small_clip, small_model
from typer.testing import CliRunner

import gmsa
from gmsa_models import describe, read_clips, save, write_clips
from gmsa_models.training.recipe import Recipe

runner = CliRunner()
NONE_AS_ZERO = {"clip_norm", "initial_probability", "ema_decay"}


def run(*words):
    return runner.invoke(gmsa.app, [str(word) for word in words])


@pytest.fixture
def made(tmp_path):
    """A folder with a model, another one, and a file of two clips."""
    save(small_model("gate-op", ("audio",)), tmp_path / "mine.safetensors")
    save(small_model("none", ("audio",)), tmp_path / "control.safetensors")
    write_clips(tmp_path / "clips.tfrecord", [small_clip(7), small_clip(5, seed=1)])
    return tmp_path


def test_help_lists_the_commands_without_heavy_imports():
    script = (
        "import sys, gmsa\ntry: gmsa.app(['--help'])\nexcept SystemExit as done: assert not done.code\n"
        "assert not {'torch', 'xarray', 'matplotlib', 'pandas', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for name in ("models", "inspect", "evaluate", "pretrain", "train", "catalog", "montage", "figures", "lab"):
        assert name in done.stdout


def test_no_command_shows_the_help_and_version_the_version():
    assert "Usage" in run().stdout
    assert run("--version").stdout.strip() == "0.1.0"


def test_bad_input_is_one_line_in_a_real_process():
    done = subprocess.run(
        [sys.executable, "-m", "gmsa", "inspect", "nowhere.tfrecord"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("gmsa: no file 'nowhere.tfrecord'")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("inspekt",), "No such command 'inspekt'"),
        (("inspect",), "Missing argument 'CLIP'. `gmsa inspect --help` lists what it takes"),
        (("figures", "--only", "2", "--out", "OUT", "--formats", "gif"), "unknown picture format 'gif'"),
        (("figures", "--only", "2", "--out", "OUT", "--from", "nowhere"), "--from nowhere: no such folder"),
        (("inspect", "demo:x", "--model", "MINE"), "'demo:x' is not a demo video"),
        (("inspect", "demo:0", "--model", ""), "'' is neither a file nor a trained model"),
        (("evaluate", "--data", "demo:0-2", "--model", "baseline,control"), "is several models; expected one"),
        (("inspect", "demo:0", "--model", "no-such"), "'no-such' is neither a file nor a trained model"),
        (("inspect", "CLIPS#nobody", "--model", "MINE"), "no clip 'nobody'"),
        (("inspect", "CLIPS", "--model", "MINE", "--device", "tpu9"), "device 'tpu9' is unknown"),
        (("inspect", "CLIPS", "--model", "MINE", "--top", "0"), "--top"),
        (("inspect", "CLIPS", "--model", "CLIPS"), "clips.tfrecord"),
        (("evaluate", "--model", "MINE"), "Missing option '--data'"),
        (("train", "--data", "CLIPS", "--out", "OUT", "--variant", "gate-opp"), "unknown variant 'gate-opp'"),
        (("train", "--data", "CLIPS", "--out", "OUT", "--monitor", "f1"), "monitor is 'f1'"),
        (("catalog", "CLIPS", "--out", "OUT.csv"), "ends in .parquet"),
        (("montage", "--out", "OUT", "--mix", "salad"), "unknown mix 'salad'"),
        (("montage", "--out", "OUT", "--split", "train"), "--split is of --vectors"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(made, words, said):
    places = {"MINE": made / "mine.safetensors", "CLIPS": made / "clips.tfrecord", "OUT": made / "out"}
    for name, place in places.items():
        words = [str(word).replace(name, str(place)) for word in words]
    done = run(*words)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    line = done.stderr.strip()
    assert line.startswith("gmsa: ")
    assert said in line
    assert "\n" not in line
    assert "Traceback" not in line


@pytest.mark.parametrize(("module", "extra"), [("av", "video"), ("transformers.utils", "models"), ("ray", "scale")])
def test_a_package_that_is_not_installed_is_said_with_what_installs_it(module, extra, monkeypatch):
    def missing():
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("gmsa_models.available", missing)
    done = run("models")
    assert done.exit_code == 2
    assert done.stderr == f"gmsa: No module named {module!r}: pip install 'gmsa-workbench[{extra}]'\n"
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert any(re.match(rf"{module.split('.')[0]}\b", each) for each in extras["optional-dependencies"][extra])


def test_debug_shows_where(made):
    done = run("inspect", "nowhere.tfrecord", "--model", made / "mine.safetensors", "--debug")
    assert isinstance(done.exception, FileNotFoundError)


def test_an_error_that_is_nobodys_input_is_told_apart(monkeypatch):
    def broken():
        raise AssertionError("two and two")

    monkeypatch.setattr("gmsa_models.available", broken)
    done = run("models")
    assert done.exit_code == 1
    assert done.stderr == "gmsa: AssertionError: two and two (--debug shows where)\n"


def test_being_stopped_is_130(monkeypatch):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr("gmsa_models.available", stopped)
    assert run("models").exit_code == 130


def test_models_lists_scores(made, monkeypatch):
    model = small_model()
    model.card.update(scores={"held-out": {"gap": 0.5, "map": 0.25, "perr": 0.125, "hit_at_1": 0.75, "videos": 3}})
    save(model, made / "scored.safetensors")
    monkeypatch.setattr("gmsa_models.available", lambda: [made / "scored.safetensors", made / "mine.safetensors"])
    shown = run("models").stdout
    row = next(line for line in shown.splitlines() if line.split()[-4:] == ["50.00", "25.00", "12.50", "75.00"])
    assert row.split()[:3] == ["small-gate-op", "BD", "3"]
    assert "held-out" in shown
    told = json.loads(run("models", "--json").stdout)
    assert told["small-gate-op"]["card"]["name"] == "small-gate-op"


def test_inspect_prints_a_screen_and_writes_pictures_and_records(made):
    out = made / "out"
    done = run("inspect", made / "clips.tfrecord#clip1", "--model", made / "mine.safetensors",
               "--against", made / "control.safetensors", "--out", out, "--top", 3)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "clip clip1  5 frames of 1 s" in done.stdout
    assert "labels Food; label 404" in done.stdout
    assert sum("✓" in line for line in done.stdout.splitlines()) == 2
    assert len(done.stdout.splitlines()) <= 24 + 8  # a screen, and the files
    name = "clip1-small-gate-op"
    expected = {f"{name}{suffix}" for suffix in (".png", ".pdf", ".json", ".nc")}
    expected |= {f"clip1-small-none{suffix}" for suffix in (".png", ".pdf", ".json", ".nc")}
    expected |= {f"{name}-against-small-none{suffix}" for suffix in (".png", ".pdf", ".json")}
    assert {path.name for path in out.iterdir()} == expected
    with xr.open_dataset(out / f"{name}.nc") as record:
        model = small_model("gate-op", ("audio",))
        assert record.attrs["checkpoint_name"] == model.card["name"]
        assert len(record.attrs["checkpoint_sha256"]) == 64
        assert record.sizes["frame"] == 5
    assert json.loads((out / f"{name}.json").read_text())["clip"]["clip"] == "clip1"


@pytest.mark.usefixtures("pages_left_empty")
def test_inspect_shows_saved_records_again_without_their_models(made, tmp_path):
    words = ("inspect", made / "clips.tfrecord#clip1", "--model", made / "mine.safetensors", "--out", made / "again")
    first = run(*words, "--against", made / "control.safetensors")
    saved = [made / f"again/clip1-small-{kind}.nc" for kind in ("gate-op", "none")]
    done = run("inspect", saved[0], "--against", saved[1], "--out", tmp_path, "--html")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "clip1-small-gate-op-against-small-none.html").exists()
    shown = [each.stdout.split("wrote")[0] for each in (first, done)]
    assert shown[0] == shown[1] != ""
    for name in saved:
        xr.testing.assert_identical(xr.open_dataset(name), xr.open_dataset(tmp_path / name.name))
    cut = tmp_path / "cut.nc"
    cut.write_bytes(saved[0].read_bytes()[:-100])
    refused = run("inspect", cut)
    assert refused.exit_code == 2
    assert "cut.nc: damaged" in refused.stderr
    assert "no saved record 'baseline'" in run("inspect", saved[0], "--against", "baseline").stderr
    assert "shown without a model" in run("inspect", saved[0], "--model", "baseline").stderr
    assert "holds what was explained then" in run("inspect", saved[0], "--explain").stderr
    assert "two records of model" in run("inspect", saved[0], "--against", saved[0]).stderr


@pytest.mark.usefixtures("pages_left_empty")
def test_inspect_of_a_file_of_several_takes_the_first_and_says_so(made):
    done = run("inspect", made / "clips.tfrecord", "--model", made / "control.safetensors", "--out", made / "out")
    assert done.exit_code == 0, done.output
    assert "holds more than one video; showing 'clip0'" in done.stderr
    assert (made / "out/clip0-small-none.png").exists()


def test_evaluate(made):
    words = ("evaluate", "--model", made / "mine.safetensors", "--data", made / "clips.tfrecord")
    scores = json.loads(run(*words, "--json").stdout)
    assert scores["videos"] == 2
    assert 0 <= scores["gap"] <= 1
    assert f"{100 * scores['gap']:.2f}" in run(*words).stdout
    limited = json.loads(run(*words, "--json", "--limit", "1").stdout)
    assert limited["videos"] == 1


def test_catalog_then_inspect_by_id(made):
    done = run("catalog", made / "clips.tfrecord", "--out", made / "all.parquet")
    assert done.exit_code == 0, done.output
    assert "2 videos in 1 shards, 0 left out" in done.stdout
    assert next(iter(read_clips(f"{made / 'all.parquet'}#clip1"))).id == "clip1"


def test_montage_writes_the_same_videos_for_the_same_seed(tmp_path):
    for name in ("one", "two"):
        done = run("montage", "--out", tmp_path / name, "--count", 2, "--frames", 60, 61, "--events", 1, 1, "--seed", 5)
        assert done.exit_code == 0, done.output
        assert "wrote 2 videos of 300 classes to 1 shards" in done.stdout
    one, two = (list(read_clips(str(tmp_path / name / "*.tfrecord"))) for name in ("one", "two"))
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first.features["visual"], second.features["visual"])
        assert first.frames in (60, 61)
        assert sum(segment.kind == "event" for segment in first.segments) == 1


def test_train_has_every_field_of_the_recipe_with_its_default():
    options = introspect.signature(gmsa.train).parameters
    for field in fields(Recipe):
        expected = field.default
        if field.name in NONE_AS_ZERO and expected is None:
            expected = 0.0
        assert options[field.name].default == expected, field.name


def test_train_then_go_on_then_evaluate(made):
    table = made / "classes.csv"
    rows = "\n".join(f"{index},{name}" for index, name in zip(VOCABULARY.indices, VOCABULARY.names, strict=True))
    table.write_text(f"Index,Name\n{rows}\n")
    wide = [small_clip(5, seed, features={"audio": np.random.default_rng(seed).integers(0, 256, (5, 128), np.uint8)},
                       segments=()) for seed in range(4)]  # fmt: skip
    write_clips(made / "train.tfrecord", wide)
    words = ("train", "--data", made / "train.tfrecord", "--out", made / "run", "--variant", "baseline",
             "--modality", "audio", "--vocabulary", table, "--steps", 2, "--batch-size", 2, "--max-frames", 5,
             "--accelerator", "cpu", "--clip-norm", 0)  # fmt: skip
    first = run(*words)
    assert first.exit_code == 0, first.output
    assert first.stdout.startswith("wrote ")
    assert "(step 2," in first.stdout
    before = (made / "run/model.safetensors").read_bytes()
    again = run(*words)
    assert again.exit_code == 0, again.output
    assert (made / "run/model.safetensors").read_bytes() == before
    assert "model.safetensors was finished already, and stays as it is (step 2," in again.stdout
    other = run(*words, "--seed", 1)
    assert other.exit_code == 2
    assert "holds a run with other recipe (seed 0, now 1); give what it was begun with" in other.stderr
    added = run(*words, "--validation", made / "train.tfrecord")
    assert added.exit_code == 0, added.output
    assert "videos 4\n" in added.stdout
    assert (made / "run/model.safetensors").read_bytes() == before
    scored = run("evaluate", "--model", made / "run/model.safetensors", "--data", made / "train.tfrecord", "--json")
    assert json.loads(scored.stdout)["videos"] == 4
    assert describe(made / "run/model.safetensors").name == "run"  # its folder
    named = run(*(made / "named" if word == made / "run" else word for word in words), "--name", "My baseline")
    assert named.exit_code == 0, named.output
    assert describe(made / "named/model.safetensors").name == "My baseline"
    refused = run(*(made / "other" if word == made / "run" else word for word in words), "--name", "a\nb")
    assert refused.exit_code == 2
    assert "give a --name" in refused.stderr
    assert not (made / "other").exists()


def test_lab_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = run("lab", "--folder", tmp_path)
    assert done.exit_code == 2
    assert "install the notebooks extra" in done.stderr


def test_the_options_that_typer_refuses_are_typers_own():
    assert issubclass(typer.BadParameter, gmsa.ClickError)
