"""The study over seeds and tasks: the same table whoever makes it and wherever it is stopped; tiny ones."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.errors import SweepError
from analysis.study.seeds.cell import gap_parts
from analysis.study.seeds.plan import StudySettings, in_table_order
from analysis.study.seeds.run import run_study
from analysis.study.seeds.table import read_study
from analysis.study.seeds.tasks import MAIN, REAL_FRAMES, TASKS, study_tasks
from analysis.study.seeds.variants import WHOLE, rebuilt
from gmsa_models.data.montage.make import demo_vocabulary
from gmsa_models.data.sources import read_clips
from gmsa_models.errors import UnknownNameError
from gmsa_models.evaluation.metrics import classification_metrics
from gmsa_models.masks import neighbourhood_mask
from gmsa_models.variants import build

SETTINGS = StudySettings(montages=16, steps=2, held_out=6, inspected=2)
TINY = {"variants": ("gate-op-tp30", "baseline"), "seeds": 2}
COMMAND = [
    sys.executable, "-m", "gmsa", "study", "--montages", "16", "--steps", "2", "--held-out", "6", "--inspected", "2",
    "--variants", "gate-op-tp30,baseline", "--seeds", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder with a study that nothing stopped."""
    folder = tmp_path_factory.mktemp("study") / "whole"
    result = run_study(folder, SETTINGS, **TINY)
    assert (result.models, len(result.done), result.failed) == (4, 4, [])
    return folder


def table_of(folder: Path) -> bytes:
    return (folder / "study.parquet").read_bytes()


def without_models(whole: Path, folder: Path) -> Path:
    """A study of which the videos are there."""
    shutil.copytree(whole / "data", folder / "data")
    return folder


class TestTable:
    def test_a_row_a_model_and_held_out_video(self, whole):
        table = read_study(whole / "study.parquet")
        keys = table[["task", "variant", "seed", "video"]].astype({"task": str, "variant": str})
        order = [(MAIN, name, seed, video) for name in TINY["variants"][::-1] for seed in (0, 1) for video in range(6)]
        assert list(keys.itertuples(index=False, name=None)) == order
        inspected = table["video"] < 2
        for name in ("sensitivity", "gini_global", "verticality", "similarity_near"):
            assert table.loc[inspected, name].notna().all()
            assert table.loc[~inspected, name].isna().all()
        local = table["variant"] == "gate-op-tp30"
        assert table.loc[inspected & local, "gini_local"].notna().all()
        assert table.loc[~local, "gini_local"].isna().all()

    def test_every_seed_has_weights_of_its_own(self, whole):
        assert read_study(whole / "study.parquet")["weights"].nunique() == 4

    def test_given_again_nothing_is_done(self, whole):
        before = table_of(whole)
        result = run_study(whole, SETTINGS, **TINY)
        assert (result.unchanged, result.done) == (4, [])
        assert table_of(whole) == before

    def test_widened_step_by_step_it_is_the_same(self, whole, tmp_path):
        folder = without_models(whole, tmp_path)
        run_study(folder, SETTINGS, variants=("baseline",), seeds=2)
        run_study(folder, SETTINGS, variants=("gate-op-tp30",), seeds=1)
        run_study(folder, SETTINGS, **TINY)
        assert table_of(folder) == table_of(whole)

    def test_other_settings_are_refused(self, whole):
        with pytest.raises(SweepError, match=r"-0.parquet was made with other settings; choose another folder"):
            run_study(whole, StudySettings(montages=16, steps=3, held_out=6, inspected=2), **TINY)

    def test_another_file_is_refused(self, whole, tmp_path):
        damaged = bytearray(table_of(whole))
        damaged[100] ^= 1
        for name, content in (("damaged", bytes(damaged)), ("cut", bytes(damaged[:-9])), ("text", b"text")):
            path = tmp_path / name
            path.write_bytes(content)
            with pytest.raises(SweepError, match="not the table of a study"):
                read_study(path)


class TestStopped:
    """Killed at some moment of the work, and given again."""

    @pytest.mark.parametrize("moment", ["data/*/train/montage-00003*", "runs/*/*/state.pt", "cells/*/*-0.parquet"])
    def test_it_comes_to_the_same_table(self, whole, tmp_path, moment):
        folder = tmp_path / "study"
        process = subprocess.Popen([*COMMAND, "--out", str(folder)], stderr=subprocess.DEVNULL)
        while not list(folder.glob(moment)) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert len(list(folder.glob("cells/*/*.parquet"))) < 4
        run_study(folder, SETTINGS, **TINY)
        assert table_of(folder) == table_of(whole)


@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_the_same_table_whichever_engine(whole, tmp_path, engine, monkeypatch):
    monkeypatch.setattr("analysis.sweep.cluster.STARTS", 20)  # of Ray, which gives up early on a busy machine
    folder = without_models(whole, tmp_path)
    result = run_study(folder, SETTINGS, **TINY, engine=engine, workers=2)
    assert (len(result.done), result.failed) == (4, [])
    assert table_of(folder) == table_of(whole)


class TestTasks:
    def test_montages_have_the_classes_of_the_shipped_models(self, whole):
        known = set(demo_vocabulary().indices)
        labels = [clip.labels for clip in read_clips(str(whole / "data" / MAIN / "*" / "*.tfrecord"))]
        assert len(labels) == 22
        assert all(own and set(own) <= known for own in labels)

    def test_few_uses_the_first_of_the_videos_of_events(self, whole, tmp_path):
        from analysis.study.seeds.data import DataSource, task_data

        folder = without_models(whole, tmp_path)
        main, few = (task_data(TASKS[name], SETTINGS, DataSource(), folder) for name in (MAIN, "few"))
        assert few.train == main.train[:1]
        assert len(main.train) == 8
        assert few.held_out == main.held_out

    def test_each_differs_from_the_main_one(self):
        about = [str(task.to_dict()) for task in TASKS.values()]
        assert len(set(about)) == len(about)
        assert [name for name, task in TASKS.items() if task.recipe is None] == [REAL_FRAMES]

    def test_unknown_names_list_the_known(self, tmp_path):
        with pytest.raises(UnknownNameError, match="unknown task 'evnts'; known: events, topic"):
            study_tasks(("evnts",))
        with pytest.raises(UnknownNameError, match="unknown variant 'gate-op'; known: baseline"):
            run_study(tmp_path, SETTINGS, variants=("gate-op",))

    def test_real_frames_need_their_folder(self, tmp_path):
        with pytest.raises(SweepError, match="give their folder with --audioset"):
            run_study(tmp_path, SETTINGS, tasks=(REAL_FRAMES,))

    def test_the_order_of_the_table_is_that_of_tasks_and_variants(self):
        names = [
            ("few", "control", 0),
            ("events", "gate-op-tp30", 1),
            ("events", "baseline", 2),
            ("events", "baseline", 0),
        ]
        assert in_table_order(names) == [names[3], names[2], names[1], names[0]]

    def test_segments_of_the_clip_are_not_scaled(self):
        model = build("gate-op-seg", "demo", classes=5, seed=3)
        assert rebuilt(model, "gate-op-seg", TASKS[REAL_FRAMES].scaled, 3).config == model.config

    def test_without_locality_gate_op_begins_with_the_same_weights(self):
        local = build("gate-op-tp30", "demo", classes=5, seed=3)
        whole = rebuilt(local, WHOLE, None, 3)
        assert whole.config.neighbourhood != local.config.neighbourhood
        assert neighbourhood_mask(whole.config.neighbourhood, 300).all()
        for name, value in local.state_dict().items():
            assert torch.equal(value, whole.state_dict()[name]), name


class TestGapParts:
    def test_against_leaving_each_video_out(self):
        rng = np.random.default_rng(0)
        scores, labels = rng.random((13, 31)).astype(np.float32), rng.random((13, 31)) < 0.2
        labels[5] = False
        known = labels.any(1)
        gap = lambda rows: classification_metrics(scores[rows], labels[rows])["gap"]  # noqa: E731
        whole, count = gap(known), int(known.sum())
        rows = np.arange(13)
        slow = [100 * (count * whole - (count - 1) * gap(known & (rows != row))) for row in rows[known]]
        parts = gap_parts(scores, labels)
        np.testing.assert_allclose(parts[known], slow)
        assert np.isnan(parts[5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"montages": 15}, "montages is 15; expected at least 16"),
        ({"steps": 0}, "steps is 0; expected at least 1"),
        ({"held_out": 10, "inspected": 11}, "11 videos to inspect of 10 held-out ones"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(SweepError, match=message):
        StudySettings(**settings)
