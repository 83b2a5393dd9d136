"""Sweeps: the numbers are those of the record and of evaluate; files, provenance, failures, memory."""

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from small_models import small_clip, small_model
from sweep_shards import LENGTHS, SETTINGS, damage, sizes, write_models, write_shards

from analysis import inspect_clip
from analysis.attention.pattern_table import PATTERNS
from analysis.errors import SweepError
from analysis.sensitivity.norms import frame_gradient_norms, local_sensitivity
from analysis.sweep import SweepSettings, failed_shards, find_shards, read_sweep, run_sweep, sweep_metrics
from gmsa_models import load, read_clips, save, write_clips
from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.errors import ArgumentError, OutputError, UnknownNameError
from gmsa_models.evaluation.metrics import classification_metrics
from gmsa_models.evaluation.scoring import evaluate
from gmsa_models.masks import Toeplitz

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Models, shards, and the sweep of them with every analysis."""
    folder = tmp_path_factory.mktemp("sweep")
    models, shards = write_models(folder), write_shards(folder)
    result = run_sweep(models, [str(folder / "*.tfrecord")], folder / "out", SETTINGS)
    return models, shards, result, read_sweep(folder / "out")


class TestNumbers:
    def test_a_row_a_model_and_video_in_order(self, swept):
        models, shards, result, table = swept
        assert (result.shards, result.unchanged, len(result.done), result.videos) == (3, 0, 3, 9)
        assert table["model"].drop_duplicates().tolist() == [f"small-{Path(name).stem}" for name in models]
        assert not table.duplicated(["model", "shard", "position"]).any()
        one = table[table["model"] == "small-gate-op"]
        assert one["video"].tolist() == [clip.id for path in shards for clip in read_clips(path)]
        assert sizes(one) == [len(lengths) for lengths in LENGTHS]
        assert one["position"].tolist() == [place for lengths in LENGTHS for place in range(len(lengths))]
        assert one["frames"].tolist() == [frames for lengths in LENGTHS for frames in lengths]
        assert [list(labels) for labels in one["labels"]] == [[11, 404]] * 9

    def test_every_video_as_its_record_has_it(self, swept):
        models, shards, _, table = swept
        compared = 0
        for path in models:
            model = load(path)
            for clip in (clip for shard in shards for clip in read_clips(shard)):
                row = table[(table["model"] == model.card["name"]) & (table["video"] == clip.id)].iloc[0]
                record = inspect_clip(model, clip)
                compared += compare_with_record(row, record)
        assert compared > 5 * 9 * 4

    def test_means_of_the_curves(self, swept):
        table = swept[3].dropna(subset=["sensitivity_visual"])
        for name in ("sensitivity_visual", "sensitivity_audio", "own_sensitivity_audio"):
            rows = table.dropna(subset=[name])
            means = [np.nanmean(values.astype(float)) for values in rows[f"frames_{name}"]]
            np.testing.assert_allclose(rows[name], means, rtol=1e-6)
            assert [len(values) for values in rows[f"frames_{name}"]] == rows["frames"].tolist()
        heads = table["heads_keys_for_mass_visual_global"].map(lambda values: np.nanmean(values.astype(float)))
        np.testing.assert_allclose(table["keys_for_mass_visual_global"], heads, rtol=1e-6)

    def test_sensitivity_by_the_shared_neighbourhood_and_the_own(self, swept):
        models, shards, _, table = swept
        model, clip = load(models[0]), next(read_clips(shards[0]))
        row = table[(table["model"] == "small-gate-op") & (table["video"] == clip.id)].iloc[0]
        norms = frame_gradient_norms(model, clip, "audio", method="autograd")
        for name, by in (("sensitivity", Toeplitz(30)), ("own_sensitivity", model.config.neighbourhood)):
            expected = local_sensitivity(norms, by).detach().numpy()
            found = row[f"frames_{name}_audio"]
            np.testing.assert_allclose(found.astype(float), expected, rtol=1e-4)

    def test_scores_are_those_of_evaluate(self, swept):
        models, shards, _, table = swept
        found = sweep_metrics(table)
        for path in models:
            expected = evaluate(load(path), [str(shard) for shard in shards])
            for name, value in expected.items():
                assert found.loc[f"small-{Path(path).stem}", name] == pytest.approx(value, abs=1e-6), name

    def test_videos_of_more_labels_than_kept_predictions(self):
        generator = np.random.default_rng(0)
        scores = generator.random((40, 60)).astype(np.float32)
        labels = generator.random((40, 60)) < 0.5  # about 30 a video; 20 predictions are kept
        expected = classification_metrics(scores, labels)
        highest = np.argsort(-scores, axis=1, kind="stable")[:, :20]
        table = pd.DataFrame({
            "model": "one", "known_labels": [np.flatnonzero(row) for row in labels], "top_classes": list(highest),
            "top_scores": list(np.take_along_axis(scores, highest, 1)),
            "perr": expected["perr"], "hit_at_1": expected["hit_at_1"],
        })  # fmt: skip
        found = sweep_metrics(table).loc["one"]
        assert labels.sum(1).min() > 20
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)

    def test_the_order_of_shards_and_the_batch_change_only_rounding(self, swept, tmp_path):
        models, shards, _, table = swept
        again = SweepSettings(SETTINGS.analyses, batch_size=5)
        run_sweep(models, [str(path) for path in reversed(shards)], tmp_path / "out", again)
        other = read_sweep(tmp_path / "out")
        assert other["video"].tolist() == table["video"].tolist()
        for name in table.select_dtypes("number"):
            np.testing.assert_allclose(other[name], table[name], rtol=2e-4, atol=2e-5, err_msg=name)

    def test_demo_videos(self, tmp_path):
        run_sweep(["control"], ["demo:3-5"], tmp_path, SweepSettings(("scores",)))
        table = read_sweep(tmp_path, columns=["frames"])
        assert table["video"].tolist() == [clip.id for clip in read_clips("demo:3-5")]
        assert list(table) == ["model", "video", "shard", "position", "frames"]


def compare_with_record(row, record) -> int:
    """Compare a row with a record of the same clip; returns how many values were compared."""
    count, branches = 0, [str(name) for name in record["branch"].to_numpy()] if "branch" in record.coords else []
    scores = record["score"].to_series().sort_values(ascending=False, kind="stable")
    assert row["top_classes"].tolist() == scores.index.tolist()
    np.testing.assert_allclose(row["top_scores"], scores, rtol=1e-5)
    for modality in ("visual", "audio"):
        for branch in ("global", "local", "combined"):
            where = f"{modality}_{branch}"
            if branch not in branches:
                assert np.isnan(row[f"gini_{where}"])
                continue
            part = record.sel(modality=modality, branch=branch)
            np.testing.assert_allclose(row[f"profile_{where}"], part["profile"], rtol=1e-4)
            assert row[f"gini_{where}"] == pytest.approx(float(part["profile_gini"]), rel=1e-4, abs=1e-6)
            for name in PATTERNS:
                mean = float(part[name].mean("head"))
                assert row[f"{name}_{where}"] == pytest.approx(mean, rel=1e-3, abs=1e-5, nan_ok=True), name
            count += 2 + len(PATTERNS)
        if "gate" in record and record.attrs["attention_kind"] == "gate-op":
            gate = float(record["gate"].sel(modality=modality, branch="local").mean())
            assert row[f"gate_local_{modality}"] == pytest.approx(gate, rel=1e-5)
    return count


class TestFiles:
    def test_schema_and_provenance_are_inside(self, swept):
        models, shards, result, _ = swept
        file = pq.ParquetFile(result.folder / "part0.parquet")
        made = json.loads(file.metadata.metadata[b"gmsa_sweep"])
        assert made["models"]["small-gate-op"] == load(models[0]).origin["sha256"]
        assert made["data"]["name"] == "part0.tfrecord"
        assert made["data"]["bytes"] == shards[0].stat().st_size
        assert made["settings"]["batch_size"] == 2
        assert made["settings"]["neighbourhood"] == {"kind": "toeplitz", "size": 30}
        assert set(made["versions"]) == {"gmsa-workbench", "torch", "numpy"}
        assert (made["videos"], made["left_out"]) == (4, {})

    def test_duckdb_reads_it_as_one_table(self, swept):
        _, _, result, table = swept
        means = "avg(gini_visual_global), avg(gate_local_visual)"
        query = f"select model, count(*), {means} from '{result.folder}/*.parquet' group by model"
        for name, count, gini, gate in duckdb.sql(query).fetchall():
            rows = table[table["model"] == name]
            assert count == len(rows)
            for found, column in ((gini, "gini_visual_global"), (gate, "gate_local_visual")):
                assert (found is None) == rows[column].isna().all()
                if found is not None:
                    assert found == pytest.approx(rows[column].mean())

    def test_a_second_run_does_nothing(self, swept):
        models, shards, result, _ = swept
        before = {path: path.stat().st_mtime_ns for path in result.folder.iterdir()}
        again = run_sweep(models, [str(path) for path in shards], result.folder, SETTINGS)
        assert (again.unchanged, again.done, again.failed) == (3, [], [])
        assert {path: path.stat().st_mtime_ns for path in result.folder.iterdir()} == before

    def test_other_settings_are_refused_and_done_again_when_asked(self, swept, tmp_path):
        models, shards = swept[0][:1], [str(path) for path in swept[1]]
        run_sweep(models, shards, tmp_path, SweepSettings(("scores",)))
        with pytest.raises(SweepError, match=r"part0\.parquet was made with other analyses; choose another folder"):
            run_sweep(models, shards, tmp_path, SweepSettings(("gates",)))
        with pytest.raises(SweepError, match="was made with other models"):
            run_sweep(swept[0][1:2], shards, tmp_path, SweepSettings(("scores",)))
        assert run_sweep(models, shards, tmp_path, SweepSettings(("scores",), memory=2**27)).unchanged == 3
        assert len(run_sweep(models, shards, tmp_path, SweepSettings(("gates",)), again=True).done) == 3
        assert "gate_local_visual" in read_sweep(tmp_path)

    def test_a_shard_that_changed_is_done_again(self, tmp_path):
        models, shards = write_models(tmp_path, ("baseline",)), write_shards(tmp_path)
        settings = SweepSettings(("scores",))
        run_sweep(models, [str(path) for path in shards], tmp_path / "out", settings)
        write_clips(shards[1], [small_clip(5, 77)])
        result = run_sweep(models, [str(path) for path in shards], tmp_path / "out", settings)
        assert [outcome.task.shard.name for outcome in result.done] == ["part1.tfrecord"]
        assert sizes(read_sweep(tmp_path / "out")) == [4, 1, 2]

    def test_files_of_two_sweeps_are_not_one_table(self, swept, tmp_path):
        models, shards = swept[0][:1], swept[1]
        run_sweep(models, [str(shards[0])], tmp_path, SweepSettings(("scores",)))
        (tmp_path / "part1.parquet").write_bytes((swept[2].folder / "part1.parquet").read_bytes())
        with pytest.raises(SweepError, match="were made with other models, analyses, batch_size"):
            read_sweep(tmp_path)
        (tmp_path / "part1.parquet").write_bytes(b"PAR1 and no more")
        with pytest.raises(SweepError, match=r"part1\.parquet was not written by a sweep"):
            read_sweep(tmp_path)

    def test_shards_of_one_name_are_told_apart_by_their_folders(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            write_shards(tmp_path / name, ((3,), (5,)))
        names = [shard.name for shard in find_shards([str(tmp_path / "*" / "*.tfrecord")])]
        assert names == ["a/part0.tfrecord", "a/part1.tfrecord", "b/part0.tfrecord", "b/part1.tfrecord"]
        with pytest.raises(SweepError, match="is named twice"):
            find_shards([str(tmp_path / "a" / "part0.tfrecord")] * 2)


class TestFailures:
    def test_a_shard_that_cannot_be_read_is_recorded_and_the_rest_go_on(self, tmp_path):
        models, shards = write_models(tmp_path, ("baseline",)), write_shards(tmp_path)
        whole = shards[1].read_bytes()
        damage(shards[1], len(whole) - 20)
        settings, data = SweepSettings(("scores",)), [str(path) for path in shards]
        result = run_sweep(models, data, tmp_path / "out", settings)
        assert not result.good
        assert sizes(read_sweep(tmp_path / "out")) == [4, 2]
        (row,) = failed_shards(tmp_path / "out").to_dict("records")
        assert (row["shard"], row["kind"]) == ("part1.tfrecord", "checksum")
        assert "record 2 at byte" in row["reason"]
        shards[1].write_bytes(whole)  # fetched again: it is done, and the note goes
        result = run_sweep(models, data, tmp_path / "out", settings)
        assert (result.good, result.unchanged, len(result.done)) == (True, 2, 1)
        assert failed_shards(tmp_path / "out").empty
        assert sizes(read_sweep(tmp_path / "out")) == [4, 3, 2]

    def test_records_that_are_left_out_are_counted_in_the_file(self, tmp_path):
        models, (shard,) = write_models(tmp_path, ("baseline",)), write_shards(tmp_path, ((7, 19, 11),))
        damage(shard, 200)
        result = run_sweep(models, [str(shard)], tmp_path / "out", SweepSettings(("scores",), on_error="skip"))
        assert result.good
        assert result.done[0].left_out[0].startswith("left out 1 ")
        assert read_sweep(tmp_path / "out")["frames"].tolist() == [19, 11]
        made = json.loads(pq.read_metadata(tmp_path / "out" / "part0.parquet").metadata[b"gmsa_sweep"])
        assert made["left_out"] == {"checksum": 1}
        assert run_sweep(models, [str(shard)], tmp_path / "out", SweepSettings(("scores",), on_error="skip")).unchanged
        assert not run_sweep(models, [str(shard)], tmp_path / "out", SweepSettings(("scores",))).good

    @pytest.mark.parametrize("on_error", ["fail", "skip"])
    def test_what_holds_no_video_at_all(self, tmp_path, on_error):
        models, (shard,) = write_models(tmp_path, ("baseline",)), write_shards(tmp_path, ((7,),))
        (tmp_path / "folder.tfrecord").mkdir()
        (tmp_path / "text.tfrecord").write_text("not a record, but long enough for a header")
        data = [str(shard), str(tmp_path / "folder.tfrecord"), str(tmp_path / "text.tfrecord")]
        result = run_sweep(models, data, tmp_path / "out", SweepSettings(("scores",), on_error=on_error))
        reasons = failed_shards(tmp_path / "out").set_index("shard")["reason"]
        assert "is a directory" in reasons["folder.tfrecord"]
        assert "is not a TFRecord" in reasons["text.tfrecord"]
        assert sizes(read_sweep(tmp_path / "out")) == [1]
        assert len(result.failed) == 2

    def test_a_clip_that_does_not_fit_the_model(self, tmp_path):
        models = [
            str(save(small_model("baseline", input_widths={"visual": 16, "audio": 8}), tmp_path / "m.safetensors"))
        ]
        (shard,) = write_shards(tmp_path, ((7,),))
        result = run_sweep(models, [str(shard)], tmp_path / "out", SweepSettings(("scores",)))
        assert "'visual' is 12 wide; the model takes 16" in result.failed[0].reason

    def test_no_room_stops_the_sweep_and_keeps_what_is_done(self, tmp_path):
        models, shards = write_models(tmp_path, ("baseline",)), write_shards(tmp_path)
        code = (
            "import resource, sys; from analysis.sweep import run_sweep; from sweep_shards import SETTINGS\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), -1))\n"
            "run_sweep([sys.argv[1]], [sys.argv[2] + '/*.tfrecord'], sys.argv[3], SETTINGS)"
        )
        run_sweep(models, [str(path) for path in shards], tmp_path / "whole", SETTINGS)
        files = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.parquet")}
        shards[0].rename(tmp_path / "part9.tfrecord")  # the largest comes last
        room = str(max(len(files["part1.parquet"]), len(files["part2.parquet"])) + 1)
        done = subprocess.run(
            [sys.executable, "-c", code, models[0], str(tmp_path), str(tmp_path / "out"), room],
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "OutputError: cannot write" in done.stderr, done.stderr
        assert "this user's limits do not allow a file so large" in done.stderr, done.stderr
        found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        assert found.pop("shards.txt").split()[::2] == [b"part1.parquet", b"part2.parquet", b"part9.parquet"]
        assert found == {name: files[name] for name in ("part1.parquet", "part2.parquet")}
        (tmp_path / "file" / "part1.parquet").mkdir(parents=True)
        with pytest.raises(OutputError, match=r"cannot write .*a folder of that name is there"):
            run_sweep(models, [str(shards[1])], tmp_path / "file", SETTINGS)


class TestRequests:
    @pytest.mark.parametrize(
        ("models", "data", "settings", "error", "says"),
        [
            ([], ["demo:0"], {}, SweepError, "expected at least one"),
            (["control", "control"], ["demo:0"], {}, CheckpointError, "given twice"),
            (["control"], ["demo:0", "demo:0"], {}, SweepError, "named twice"),
            (["control"], ["demo:x"], {}, ArgumentError, "is not a demo video"),
            (["control"], ["absent.tfrecord#id"], {}, SweepError, "reads whole files of clips"),
            (["control"], ["demo:0"], {"analyses": ("score",)}, UnknownNameError, "known: scores, unevenness"),
            (["control"], ["demo:0"], {"batch_size": 0}, SweepError, "batch_size is 0"),
            (["control"], ["demo:0"], {"on_error": "stop"}, SweepError, "expected 'fail' or 'skip'"),
        ],
    )
    def test_what_makes_no_sense_is_refused_before_anything_is_done(
        self, tmp_path, models, data, settings, error, says
    ):
        with pytest.raises(error, match=says):
            run_sweep(models, data, tmp_path / "out", SweepSettings(**settings))
        assert not (tmp_path / "out").exists()

    def test_a_model_without_class_names(self, tmp_path):
        path = save(small_model("baseline", classes=4), tmp_path / "model.safetensors")
        with pytest.raises(ArgumentError):
            run_sweep([str(path)], ["demo:0"], tmp_path / "out")

    def test_a_column_or_model_that_is_not_there(self, swept):
        with pytest.raises(SweepError, match="no column 'ginni'"):
            read_sweep(swept[2].folder, columns=["ginni"])
        with pytest.raises(SweepError, match="no model 'mine' in this sweep; it has small-gate-op"):
            read_sweep(swept[2].folder, models=["mine"])
        assert read_sweep(swept[2].folder, models=["small-none"])["model"].unique().tolist() == ["small-none"]
