"""SHOTS on the command line: from videos to features, a model, its record and a sweep."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sweep_shards import write_models
from typer.testing import CliRunner

pytest.importorskip("av", reason="PyAV, of the extra video, is not installed")

from made_videos import write_video
from small_models import small_clip

import gmsa
from analysis import open_record
from analysis.sweep import read_sweep
from gmsa_models import load, write_clips
from gmsa_models.masks import Shots

pytestmark = pytest.mark.usefixtures("no_pages")


def run(*words):
    return CliRunner().invoke(gmsa.app, [str(word) for word in words])


def coloured(number, size):
    """Twenty pictures a scene, which last for two seconds; a scene is a texture of its own."""
    random = np.random.default_rng(number // 20)
    return random.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


def test_from_videos_to_a_model_that_attends_to_their_shots(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        write_video(tmp_path / label / f"{label}.mkv", np.arange(50) / 10, picture=coloured)
    done = run("features", tmp_path / "?/*.mkv", "--visual", "none", "--labels", "folders", "--out", tmp_path / "f")
    assert done.exit_code == 0, done.output
    train = ("train", "--data", tmp_path / "f", "--steps", 2, "--out", tmp_path / "run", "--neighbourhood", "SHOTS")
    done = run(*train, "--variant", "gate-op-seg")
    assert done.exit_code == 0, done.output
    assert load(tmp_path / "run" / "model.safetensors").config.neighbourhood == Shots()
    done = run("inspect", tmp_path / "a/a.mkv", "--model", tmp_path / "run/model.safetensors", "--out", tmp_path / "o")
    assert done.exit_code == 0, done.output
    (path,) = (tmp_path / "o").glob("*.nc")
    record = open_record(path)
    assert record["neighbourhood"].attrs["spans"] == "SP0-2-4"
    assert json.loads(record.attrs["shots"]) == [0.0, 2.0, 4.0]
    done = run("inspect", "demo:3", "--neighbourhood", "SHOTS", "--out", tmp_path / "o")
    assert done.exit_code != 0
    assert "the shots of its video are not known" in done.output
    assert "gmsa features" in done.output
    refused = run(*train, "--variant", "baseline")
    assert (refused.exit_code, "takes no neighbourhood" in refused.output) == (2, True)


def test_a_sweep_measures_by_the_shots_of_each_video(tmp_path):
    (model,) = write_models(tmp_path, ("baseline",))
    clip = replace(small_clip(8), shots=(0.0, 2.5))
    write_clips(tmp_path / "one.tfrecord", [clip])
    write_clips(tmp_path / "two.tfrecord", [clip, small_clip(8, seed=1)])

    def sweep(out, data, *more):
        return run("sweep", "--model", model, "--data", tmp_path / data, "--out", tmp_path / out, "--analyses",
                   "sensitivity", *more)  # fmt: skip

    assert sweep("shots", "one.tfrecord", "--neighbourhood", "SHOTS").exit_code == 0
    assert sweep("spans", "one.tfrecord", "--neighbourhood", "SP0-3").exit_code == 0
    ours, theirs = (read_sweep(tmp_path / out)["sensitivity_visual"] for out in ("shots", "spans"))
    assert 0 < ours[0] < 1
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    failed = sweep("failed", "two.tfrecord", "--neighbourhood", "SHOTS")
    assert failed.exit_code == 1
    assert "the shots of its video are not known" in failed.output
    assert sweep("skipped", "two.tfrecord", "--neighbourhood", "SHOTS", "--on-error", "skip").exit_code == 0
    assert len(read_sweep(tmp_path / "skipped")) == 1
