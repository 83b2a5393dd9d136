"""What `gmsa inspect` shows and writes: whose it is, under which name, and what it refuses before it computes."""

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from registries import only
from small_models import VOCABULARY, small_clip, small_model

import gmsa
from analysis import DEFAULT_PARTS, combine_models, inspect_clip
from analysis.errors import RecordError
from analysis.explanations.faithfulness import curve_counts
from analysis.explanations.registry import EXPLANATIONS, applicable
from analysis.explanations.scores import score_explanation
from analysis.inspect.source import inspect_source
from analysis.record.files import open_record, save_record
from analysis.record.progress import STEPS
from figures.inspection import saved_records, write_inspection
from figures.inspector.header import describe_clip, describe_model
from figures.inspector.records import split_records
from figures.overview import draw
from gmsa_models import Vocabulary, load, read_clips, save, write_clips
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import Toeplitz
from tests.gmsa.test_command_line import run

pytestmark = pytest.mark.usefixtures("pages_left_empty")


@pytest.fixture
def two_explanations():
    """Only two explanations are known: a plain one, and one that is made in threads."""
    with only(EXPLANATIONS, ("saliency", "segment-shapley")):
        yield


@pytest.fixture
def made(tmp_path):
    """A file of two clips, and two trainings of one variant in folders of their own."""
    write_clips(tmp_path / "clips.tfrecord", [small_clip(7), small_clip(5, seed=1)])
    for seed in (7, 8):
        model = small_model()
        model.card.update(seed=seed)
        save(model, tmp_path / f"runs/{seed}/model.safetensors")
    return tmp_path


def two(made, *more):
    """`gmsa inspect` of one clip by both trainings."""
    words = ("--model", made / "runs/7/model.safetensors", "--against", made / "runs/8/model.safetensors")
    return run("inspect", made / "clips.tfrecord#clip1", *words, "--out", made / "out", *more)


class TestTwoModelsOfOneName:
    def test_both_are_shown_and_kept_under_names_of_their_own(self, made):
        done = two(made, "--html", "--top", 2)
        assert done.exit_code == 0, done.output
        assert "small-gate-op@7" in done.stdout
        assert "predictions of small-gate-op@8" in done.stdout
        assert done.stderr.count("is shown as 'small-gate-op@") == 2
        records = [open_record(path) for path in sorted((made / "out").glob("*.nc"))]
        assert [record["model"].item() for record in records] == ["small-gate-op@7", "small-gate-op@8"]
        for record, seed in zip(records, (7, 8), strict=True):
            assert record.attrs["checkpoint_name"] == "small-gate-op"
            assert record.attrs["checkpoint_path"] == str(made / f"runs/{seed}/model.safetensors")
        assert len({record.attrs["checkpoint_sha256"] for record in records}) == 2
        assert len(list((made / "out").glob("*.html"))) == 1
        about = json.loads(next((made / "out").glob("*-against-*.json")).read_text())
        assert [each["name"] for each in about["models"]] == ["small-gate-op@7", "small-gate-op@8"]

    def test_both_are_certified_where_that_is_asked_for(self, made):
        assert "passed" not in two(made).stdout
        done = two(made, "--certify")
        assert done.exit_code == 0, done.output
        assert done.stdout.count("passed") == 8  # two models, two modalities, two branches
        paths = sorted((made / "out").glob("*.nc"))
        assert all("certificate" in open_record(path) for path in paths)
        again = run("inspect", paths[0], "--out", made / "again")
        assert again.stdout.count("passed") == 4
        refused = run("inspect", paths[0], "--certify", "--out", made / "again")
        assert refused.exit_code == 2
        assert "is a saved record: it is shown without a model. Give the video to certify its maps" in refused.stderr

    def test_one_model_twice_is_refused_before_anything_is_made(self, made):
        model = made / "runs/7/model.safetensors"
        done = run("inspect", made / "clips.tfrecord#clip1", "--model", model, "--against", model, "--out", made / "o")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "given twice" in done.stderr
        assert not (made / "o").exists()

    def test_one_after_the_other_they_overwrite_nothing_but_a_model_trained_anew_its_own(self, made):
        for seed in (7, 8, 7, 8):
            run("inspect", made / "clips.tfrecord#clip1", "--model", made / f"runs/{seed}/model.safetensors",
                "--out", made / "out")  # fmt: skip
        records = {open_record(path).attrs["checkpoint_path"]: path for path in (made / "out").glob("*.nc")}
        assert len(list((made / "out").glob("*.nc"))) == len(records) == 2
        model = small_model()
        model.card["seed"] = 9
        save(model, made / "runs/7/model.safetensors")
        run("inspect", made / "clips.tfrecord#clip1", "--model", made / "runs/7/model.safetensors", "--out",
            made / "out")  # fmt: skip
        assert len(list((made / "out").glob("*.nc"))) == 2

    def test_joined_records_keep_which_checkpoint_each_is_of(self, made):
        two(made)
        records = [open_record(path) for path in sorted((made / "out").glob("*.nc"))]
        for one, again in zip(records, split_records(combine_models(records)), strict=True):
            for name in ("checkpoint_name", "checkpoint_path", "checkpoint_sha256"):
                assert again.attrs[name] == one.attrs[name]

    def test_three_joined_records_are_each_written(self, tmp_path):
        records = [inspect_clip(small_model(kind), small_clip()) for kind in ("gate-op", "baseline", "none")]
        save_record(combine_models(records), tmp_path / "three.nc")
        written = write_inspection(saved_records([tmp_path / "three.nc"]), tmp_path / "out", 3, "test", html=True)
        assert len([path for path in written if path.suffix == ".nc"]) == 3
        assert written[-1].name == "clip0-small-gate-op-against-2-others.html"


class TestFiles:
    def test_ids_that_look_alike_have_files_of_their_own(self, tmp_path):
        ids = ["cam1/0001", "cam2/0001", "abc", "-abc", "abc-", "..abc", "ABC", "x" * 300, "電" * 120]
        write_clips(tmp_path / "clips.tfrecord", [small_clip(5, seed, id=each) for seed, each in enumerate(ids)])
        save(small_model("none"), tmp_path / "none.safetensors")
        for each in ids:
            done = run("inspect", f"{tmp_path / 'clips.tfrecord'}#{each}", "--model", tmp_path / "none.safetensors",
                       "--out", tmp_path / "out")  # fmt: skip
            assert done.exit_code == 0, done.output
        found = {path.name.casefold(): open_record(path).attrs["clip"] for path in (tmp_path / "out").glob("*.nc")}
        assert sorted(found.values()) == sorted(ids)
        assert found["abc-small-none.nc"] == "abc"

    def test_one_id_in_two_files_is_two_clips(self, tmp_path):
        save(small_model("none"), tmp_path / "none.safetensors")
        for camera in (1, 2):
            write_clips(tmp_path / f"cam{camera}.tfrecord", [small_clip(5, camera, id="0001")])
            for _ in range(2):
                run("inspect", tmp_path / f"cam{camera}.tfrecord", "--model", tmp_path / "none.safetensors", "--out",
                    tmp_path / "out")  # fmt: skip
        sources = {open_record(path).attrs["source"] for path in (tmp_path / "out").glob("*.nc")}
        assert len(list((tmp_path / "out").glob("*.nc"))) == len(sources) == 2

    def test_names_that_join_alike_are_kept_apart(self, tmp_path):
        records = [inspect_clip(small_model("none"), small_clip(5, id=each)) for each in ("a-b", "a")]
        for record, name in zip(records, ("c", "b-c"), strict=True):
            write_inspection([record.assign_coords(model=np.array(name, dtype=object))], tmp_path, 3, "test")
        assert sorted(open_record(path).attrs["clip"] for path in tmp_path.glob("*.nc")) == ["a", "a-b"]

    def test_saved_zarr_folders_with_a_slash(self, made, tmp_path):
        for kind in ("gate-op", "none"):
            inspect_clip(small_model(kind), small_clip()).to_zarr(tmp_path / f"{kind}.zarr", consolidated=False)
        done = run("inspect", f"{tmp_path}/gate-op.zarr/", "--against", f"{tmp_path}/none.zarr/", "--out", made / "out")
        assert done.exit_code == 0, done.output
        assert (made / "out/clip0-small-gate-op-against-small-none.png").exists()


@pytest.mark.usefixtures("two_explanations")
class TestOneClassIsExplained:
    def explained(self, made, *more):
        done = two(made, *more)
        assert done.exit_code == 0, done.output
        return [open_record(path)["explanation"].attrs for path in sorted((made / "out").glob("*.nc"))]

    def test_the_first_models_likeliest_by_both(self, made):
        other = small_model()
        other.classifier.bias.data[4] += 100  # its own likeliest is the last
        save(other, made / "runs/8/model.safetensors")
        first = inspect_clip(small_model(), small_clip(5, seed=1), parts=("score",))
        likeliest = int(first["score"].values.argmax())
        assert likeliest != 4
        told = self.explained(made, "--explain")
        assert [each["class_name"] for each in told] == [VOCABULARY.names[likeliest]] * 2

    def test_curves_have_as_many_points_as_asked_for(self, tmp_path):
        save(small_model(max_frames=80), tmp_path / "model.safetensors")
        write_clips(tmp_path / "long.tfrecord", [small_clip(70)])
        options = ["inspect", tmp_path / "long.tfrecord", "--model", tmp_path / "model.safetensors", "--out", tmp_path]
        assert len(curve_counts(70, 8)) < 30
        for more, steps in (([], len(curve_counts(70, 64))), (["--curve-points", "8"], len(curve_counts(70, 8))),
                            (["--curve-points", "0"], 71)):  # fmt: skip
            done = run(*map(str, options), "--explain", "saliency", *more)
            assert done.exit_code == 0, done.output
            said = " ".join(done.output.split())
            assert (f"the mean frame; curves of {steps} of 71 steps" in said) is (steps < 71)
            (path,) = tmp_path.glob("*.nc")
            assert open_record(path)["faithfulness"].attrs["curve_steps"] == steps
            path.unlink()
        done = run(*map(str, options), "--curve-points", "2")
        assert done.exit_code == 2
        assert "add --explain" in done.output

    def test_in_another_vocabulary_it_is_found_by_label_or_by_name(self, made):
        other = small_model()
        other.vocabulary = Vocabulary("youtube-8m", VOCABULARY.indices[::-1], VOCABULARY.names[::-1])
        save(other, made / "runs/8/model.safetensors")
        told = self.explained(made, "--target", "food")
        assert [(each["target"], each["class_name"]) for each in told] == [(2, "Food"), (2, "Food")]
        told = self.explained(made, "--target", "Car")
        assert [(each["target"], each["class_name"]) for each in told] == [(1, "Car"), (3, "Car")]
        other.vocabulary = Vocabulary("other", (0, 1, 2, 3, 4), ("Sky", "car", "Sea", "Sun", "Game"))
        save(other, made / "runs/8/model.safetensors")
        told = self.explained(made, "--target", "Game")
        assert [each["target"] for each in told] == [0, 4]

    def test_a_class_that_the_second_lacks_is_refused_at_once(self, made, monkeypatch):
        other = small_model()
        other.vocabulary = Vocabulary("other", (0, 1, 2, 3, 4), ("Sky", "car", "Sea", "Sun", "Game"))
        save(other, made / "runs/8/model.safetensors")
        monkeypatch.setattr("analysis.explanations.class_explanations.explain_each", None)  # not begun
        done = two(made, "--target", "Food")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "model 'small-gate-op@8': no class 'Food' among the 5 of other" in done.stderr
        assert "--target" in done.stderr

    def test_saved_records_that_explain_different_classes_are_not_put_together(self, tmp_path):
        parts = (*DEFAULT_PARTS, "explanation")
        records = [
            inspect_clip(small_model(kind), small_clip(5), parts=parts, target=target)
            for kind, target in (("gate-op", 0), ("baseline", 1))
        ]
        paths = [save_record(record, tmp_path / f"{place}.nc") for place, record in enumerate(records)]
        with pytest.raises(ArgumentError, match=r"different classes: 'Game' by model 'small-gate-op', 'Car'"):
            saved_records(paths)
        with pytest.raises(RecordError, match="the explained class differs, model 'small-baseline' has 'Car'"):
            combine_models(records)


@pytest.mark.usefixtures("two_explanations")
class TestStoppedWhileExplaining:
    def check_files(self, folder, models):
        """Records and pictures are there."""
        records = [open_record(path) for path in folder.glob("*.nc")]
        assert len(records) == models
        assert len(list(folder.glob("*.png"))) == len(list(folder.glob("*.pdf"))) == (1 if models == 1 else 3)
        return records

    @pytest.mark.parametrize("step", [0, 1, 3])  # of the first model, twice, and of the second
    def test_the_record_the_pictures_and_what_was_explained_stay(self, made, monkeypatch, step):
        calls = []

        def interrupted(*given):
            calls.append(given)
            if len(calls) > step:
                raise KeyboardInterrupt
            return score_explanation(*given)

        monkeypatch.setattr("analysis.explanations.class_explanations.score_explanation", interrupted)
        done = two(made, "--explain")
        assert done.exit_code == 130
        *_, last = done.stderr.splitlines()
        names = ", ".join(applicable(small_model()))
        assert last == f"gmsa: explaining was stopped; the records and the pictures are written with {names}"
        assert len(calls) == step + 1
        assert done.stdout.count("wrote ") == len(list((made / "out").iterdir()))
        records = {one.attrs["checkpoint_path"]: one for one in self.check_files(made / "out", 2)}
        target = next(int(one["explanation"].attrs["target"]) for one in records.values() if "explanation" in one)
        monkeypatch.setattr("analysis.explanations.class_explanations.score_explanation", score_explanation)
        explained = 0
        for path, one in records.items():
            (clip,) = read_clips(made / "clips.tfrecord#clip1")
            parts = [*DEFAULT_PARTS, "explanation"] if "explanation" in one else DEFAULT_PARTS
            again = inspect_clip(load(path), clip, parts=parts, target=target)
            if "explanation" in one:
                measured = one["faithfulness"].sel(measure="deletion").notnull()
                explained += int(measured.sum())
                again["faithfulness"] = again["faithfulness"].where(measured)
            xr.testing.assert_identical(
                one.drop_attrs(deep=False), again.assign_coords(model=one["model"]).drop_attrs(deep=False)
            )
        assert explained == step

    def test_an_interrupt_in_a_thread_that_explains_is_one_too(self, made, monkeypatch):
        def interrupted(*given, **options):
            raise KeyboardInterrupt

        offer = replace(EXPLANATIONS["segment-shapley"], explain=interrupted)
        monkeypatch.setitem(EXPLANATIONS, "segment-shapley", offer)
        done = run("inspect", made / "clips.tfrecord#clip1", "--model", made / "runs/7/model.safetensors",
                   "--explain", "--out", made / "out")  # fmt: skip
        assert done.exit_code == 130
        (record,) = self.check_files(made / "out", 1)
        assert "segment-shapley" not in record.get("explainer", [])

    def test_before_anything_is_explained_the_records_are_without(self, made, monkeypatch):
        def interrupted(*given, **options):
            raise KeyboardInterrupt

        for name in applicable(small_model()):
            monkeypatch.setitem(EXPLANATIONS, name, replace(EXPLANATIONS[name], explain=interrupted))
        done = two(made, "--explain")
        assert done.exit_code == 130
        *_, last = done.stderr.splitlines()
        assert last == "gmsa: explaining was stopped; the records and the pictures are written without explanations"
        assert all("explanation" not in record for record in self.check_files(made / "out", 2))

    def test_a_real_interrupt_of_a_process_whose_terminal_shows_how_far_it_is(self, made):
        pty = pytest.importorskip("pty")
        words = ["inspect", f"{made}/clips.tfrecord#clip1", "--model", f"{made}/runs/7/model.safetensors",
                 "--explain", "--out", f"{made}/out"]  # fmt: skip
        endless = (
            "import time, gmsa, figures.inspection, analysis.explanations.class_explanations as room\n"
            "from matplotlib.figure import Figure\nfrom analysis.explanations.registry import EXPLANATIONS\n"
            "figures.inspection.draw = lambda *given, **more: Figure(figsize=(1, 1))\n"
            f"for name in set(EXPLANATIONS) - {set(EXPLANATIONS)}: del EXPLANATIONS[name]\n"
            f"room.score_explanation = lambda *given: time.sleep(600)\ngmsa.app({words})"
        )
        ours, theirs = pty.openpty()
        with subprocess.Popen([sys.executable, "-c", endless], stdout=subprocess.PIPE, stderr=theirs) as process:
            os.close(theirs)
            shown = b""
            while b"explaining" not in shown:
                shown += os.read(ours, 4096)
            process.send_signal(signal.SIGINT)
            wrote = process.stdout.read()
        shown += os.read(ours, 2**20)
        os.close(ours)
        assert process.returncode == 130
        assert b"explaining was stopped" in shown
        assert f"/{2 * len(applicable(small_model()))}".encode() in shown
        assert wrote.count(b"wrote ") == len(list((made / "out").iterdir()))
        self.check_files(made / "out", 1)

    def test_what_was_explained_to_the_end_is_the_record_that_python_makes(self, made):
        told = []
        path, clip = made / "runs/7/model.safetensors", f"{made}/clips.tfrecord#clip1"
        (record,) = inspect_source(
            clip, [str(path)], torch.device("cpu"), target="Car", progress=lambda *at: told.append(at)
        )
        again = inspect_clip(
            load(path), next(iter(read_clips(clip))), parts=[*DEFAULT_PARTS, "explanation"], target="Car"
        )
        xr.testing.assert_identical(record.drop_attrs(deep=False), again.drop_attrs(deep=False))
        assert told == [(done, told[0][1]) for done in range(told[0][1] + 1)]

    def test_steps_of_two_models_are_counted_together(self, made):
        told = []
        names = [str(made / f"runs/{seed}/model.safetensors") for seed in (7, 8)]
        inspect_source(f"{made}/clips.tfrecord#clip1", names, torch.device("cpu"), explain=True,
                progress=lambda *at: told.append(at))  # fmt: skip
        total = 4 * len(applicable(small_model()))
        assert told == [(done, total) for done in range(total + 1)]

    def test_steps_of_all_records_and_of_all_files_are_counted_together(self, made):
        steps, written = [], []
        names = [str(made / f"runs/{seed}/model.safetensors") for seed in (7, 8)]
        records = inspect_source(
            f"{made}/clips.tfrecord#clip1", names, torch.device("cpu"), edits=["force-gate visual/0/gate to 0.5"],
            record_progress=lambda *at: steps.append(at),
        )  # fmt: skip
        done = [at for at, _ in steps]
        assert {total for _, total in steps} == {3 * STEPS}
        assert done == sorted(done)
        assert {0, STEPS, 2 * STEPS, 3 * STEPS} <= set(done)
        write_inspection(records[:2], made / "out", 3, "", True, progress=lambda *at: written.append(at))
        assert written == [(at, 6) for at in range(7)]  # two pictures, their records, both side by side, the page


def test_the_name_of_a_folder_reaches_no_terminal_as_it_is(made):
    out = made / "o\x1b]0;owned\x07\u202e\n[red]<b>"
    done = run("inspect", made / "clips.tfrecord#clip1", "--model", made / "runs/7/model.safetensors", "--out", out)
    assert done.exit_code == 0
    assert not set(done.output) & set("\x1b\x07\u202e")
    wrote = [line for line in done.stdout.splitlines() if line.startswith("wrote ")]
    assert wrote
    assert all(r"/o\x1b]0;owned\x07\u202e\n[red]<b>/" in line for line in wrote)
    assert len(wrote) == len(list(out.iterdir()))


def python_of(record):
    """The inspector's Python of a record of one layer."""
    return describe_model(record, (record.attrs["layer"],))["python"]


class TestPythonThatShowsItAgain:
    def again(self, records):
        """What the code of the inspector makes of these records, run in another folder."""
        code = ["import gmsa_models", "from analysis import DEFAULT_PARTS, inspect_clip"]
        code += [describe_clip(records)["python"]]
        code += [f"records = [{', '.join(python_of(record) for record in records)}]"]
        names: dict = {}
        exec("\n".join(code), names)
        return names["records"]

    @pytest.mark.usefixtures("two_explanations")
    def test_of_own_models_and_a_file_in_a_folder(self, made, monkeypatch):
        monkeypatch.chdir(made)
        done = run("inspect", "clips.tfrecord#clip1", "--model", "runs/7/model.safetensors", "--against",
                   "runs/8/model.safetensors", "--target", "Car", "--out", "out")  # fmt: skip
        assert done.exit_code == 0, done.output
        records = [open_record(path) for path in sorted(Path("out").glob("*.nc"))]
        clip = describe_clip(records)["python"]
        assert clip == f"clip = next(iter(gmsa_models.read_clips({str(made / 'clips.tfrecord#clip1')!r})))"
        for one, again in zip(records, self.again(records), strict=True):
            xr.testing.assert_identical(one.drop_attrs(deep=False), again.drop_attrs(deep=False))
            for name in ("checkpoint_path", "checkpoint_sha256", "features_sha256", "clip"):
                assert one.attrs[name] == again.attrs[name]
            assert again["explanation"].attrs["class_name"] == "Car"

    def test_with_weights_that_changed_meanwhile_it_says_so(self, made):
        two(made)
        records = [open_record(path) for path in sorted((made / "out").glob("*.nc"))]
        os.replace(made / "runs/8/model.safetensors", made / "runs/7/model.safetensors")
        with pytest.raises(ValueError, match="another model, or trained anew"):
            self.again(records[:1])

    def test_of_the_demo_and_the_zoo(self):
        from gmsa_models import load

        (clip,) = read_clips("demo:7")
        record = inspect_clip(load("control"), clip, parts=("score",))
        assert describe_clip([record])["python"] == "clip = next(iter(gmsa_models.read_clips('demo:7')))"
        sha256 = record.attrs["checkpoint_sha256"]
        expected = f"inspect_clip(gmsa_models.load('control', sha256={sha256!r}), clip)"
        assert python_of(record) == expected
        assert "checkpoint_path" not in record.attrs

    def test_of_another_layer_and_neighbourhood(self, made):
        save(small_model(layers=2), made / "deep.safetensors")
        from gmsa_models import load

        (clip,) = read_clips(made / "clips.tfrecord#clip1")
        record = inspect_clip(load(made / "deep.safetensors"), clip, layer=1, neighbourhood=Toeplitz(2))
        (again,) = self.again([record])
        xr.testing.assert_identical(record, again)

    @pytest.mark.parametrize("identity", ["demo-0007", "a#b", 'it\'s "x"', "電影"])
    def test_of_ids_of_every_kind(self, made, identity):
        write_clips(made / "one.tfrecord", [small_clip(5, id=identity)])
        (clip,) = read_clips(made / "one.tfrecord")
        names: dict = {}
        exec("import gmsa_models\n" + describe_clip([inspect_clip(small_model(), clip)])["python"], names)
        assert names["clip"].id == identity

    def test_a_clip_of_no_file_says_so(self):
        line = describe_clip([inspect_clip(small_model(), small_clip(id="x\n1"))])["python"]
        assert line == "clip = ...  # 'x\\n1' came from no file ('made0'): put the Clip here"


class TestRefusedBeforeComputing:
    @pytest.fixture(autouse=True)
    def nothing_is_computed(self, monkeypatch):
        monkeypatch.setattr("analysis.inspect.source.inspect_clip", None)

    def test_a_folder_that_cannot_be_written(self, made):
        (made / "file").write_text("")
        for out in (made / "file", made / "file/deeper", made / ("x" * 300)):
            done = run("inspect", made / "clips.tfrecord#clip1", "--model", made / "runs/7/model.safetensors",
                       "--out", out)  # fmt: skip
            assert (done.exit_code, done.stdout) == (2, "")
            assert "nothing can be written to folder" in done.stderr
        assert sorted(path.name for path in made.iterdir()) == ["clips.tfrecord", "file", "runs"]

    def test_models_that_take_different_numbers_of_frames(self, made):
        save(small_model(max_frames=3), made / "runs/8/model.safetensors")
        done = two(made)
        assert (done.exit_code, done.stdout) == (2, "")
        expected = "clip 'clip1' has 5 frames, of which small-gate-op@7 the first 5, small-gate-op@8 the first 3"
        assert expected in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("catalog", "CLIPS", "--out", "FILE/all.parquet"),
        ("montage", "--out", "FILE"),
        ("figures", "--only", "2", "--out", "FILE"),
    ],
)
def test_other_commands_check_their_folder_too(made, words):
    (made / "file").write_text("")
    places = {"CLIPS": str(made / "clips.tfrecord"), "FILE": str(made / "file")}
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    done = run(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"nothing can be written to folder {str(made / 'file')!r}" in done.stderr


@pytest.mark.parametrize(("first", "second"), [(("visual", "audio"), ("audio",)), (("audio",), ("visual", "audio"))])
def test_models_of_unlike_modalities_stand_side_by_side(made, pages_left_empty, first, second):
    for seed, modalities in ((7, first), (8, second)):
        save(small_model(modalities=modalities), made / f"runs/{seed}/model.safetensors")
    done = two(made, "--html")
    assert done.exit_code == 0, done.output
    for (records, options), modalities in zip(pages_left_empty, (first, second, first), strict=True):
        figure = draw(*records, **options)
        if len(records) == 2:  # those of one model are drawn elsewhere
            figure.draw_without_rendering()
        maps = [axes.get_title() for axes in figure.axes if axes.images]
        assert {name for name in ("visual", "audio") if any(name in title for title in maps)} == set(modalities)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("command", ["inspect", "models"])
def test_any_encoding_of_the_output_will_do(made, monkeypatch, encoding, command):
    words = [f"{made}/clips.tfrecord#clip1", "--model", f"{made}/runs/7/model.safetensors", "--out", f"{made}/out"]
    for name in ("stdout", "stderr"):  # as they are in a process that PYTHONIOENCODING tells so
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding))
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as done:
        gmsa.app([command, *(words if command == "inspect" else [])])
    sys.stdout.flush()
    shown = sys.stdout.buffer.getvalue().decode(encoding)
    assert done.value.code == 0
    if command == "inspect":
        assert "small-gate-op" in shown
        assert ("█" in shown) == (encoding == "utf-8")
        assert len(list((made / "out").glob("*.nc"))) == 1


def test_files_are_written_before_anything_is_printed(made, monkeypatch):
    def broken(records, top):
        raise OSError("the terminal is gone")

    monkeypatch.setattr("gmsa.screen_tables.clip_summary", broken)
    assert two(made).exit_code == 2
    assert len(list((made / "out").glob("*.nc"))) == 2
