"""Columns of a sweep say what they are of as data; names with underscores come back whole, old tables open."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_models import moved, small_clip, small_model

from analysis.attention.pattern_table import PATTERNS
from analysis.errors import SweepError
from analysis.study.study import Settings
from analysis.study.swept import SweptStudy
from analysis.sweep.analyses import ANALYSES, LABELS
from analysis.sweep.columns import BRANCH_STATISTICS, BRANCHES, MODALITY_STATISTICS, Column, column_of
from analysis.sweep.contents import sweep_contents
from analysis.sweep.plan import SweepSettings
from analysis.sweep.run import run_sweep
from analysis.sweep.store import finished_parts, read_sweep
from gmsa_models import save, write_clips
from gmsa_models.masks import Toeplitz

MODALITIES = ("front_camera", "audio")


def test_every_column_is_read_back_as_what_it_is():
    for analysis in ANALYSES.values():
        for column in analysis.columns(MODALITIES):
            assert column_of(column.field()) == column
            assert column.name == column.field().name


def test_a_column_without_metadata_is_told_by_the_known_names():
    for analysis in ANALYSES.values():
        for column in analysis.columns(MODALITIES):
            assert column_of(pa.field(column.name, column.kind)) == column
    known = {(each.statistic, bool(each.branch)) for each in _columns() if each.modality}
    assert known == {(name, True) for name in BRANCH_STATISTICS} | {(name, False) for name in MODALITY_STATISTICS}
    assert column_of(pa.field("video", pa.string())) == Column("video", pa.string())
    assert {f"heads_{name}" for name in PATTERNS} <= set(BRANCH_STATISTICS)


def _columns():
    return [column for analysis in ANALYSES.values() for column in analysis.columns(("visual",))]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of a sweep of three clips by a model whose first stream has an underscore in its name."""
    folder = tmp_path_factory.mktemp("sweep")
    widths = {"front_camera": 12, "audio": 8}
    model = moved(small_model("share-att", modalities=MODALITIES, input_widths=widths))
    clips = []
    for seed, frames in enumerate((13, 9, 11)):
        clip = small_clip(frames, seed)
        features = {"front_camera": clip.features["visual"], "audio": clip.features["audio"]}
        clips.append(small_clip(frames, seed, features=features))
    save(model, folder / "model.safetensors")
    write_clips(folder / "clips.tfrecord", clips)
    settings = SweepSettings(tuple(ANALYSES), neighbourhood=Toeplitz(5))
    run_sweep([str(folder / "model.safetensors")], [str(folder / "clips.tfrecord")], folder / "out", settings)
    return folder / "out"


def study_of(folder):
    contents = sweep_contents(folder)
    return SweptStudy(contents, dict.fromkeys(contents.models), Settings(modality="front_camera", videos=3))


def test_the_study_reads_what_the_sweep_wrote(swept):
    study, rows = study_of(swept), read_sweep(swept)
    assert study.modalities == ["front_camera", "audio"]
    (gini,) = (table["gini"] for table in study.unevenness.values())
    assert gini["modality"].values.tolist() == ["front_camera", "audio"]
    assert gini["branch"].values.tolist() == list(BRANCHES)
    for modality in MODALITIES:
        for branch in BRANCHES:
            expected = rows[f"gini_{modality}_{branch}"]
            np.testing.assert_array_equal(gini.sel(modality=modality, branch=branch), expected)
    (table,) = study.mean_sensitivity.values()
    np.testing.assert_array_equal(table["own_sensitivity"], rows["own_sensitivity_front_camera"])
    (curves,) = study.statistics.values()
    np.testing.assert_allclose(curves["sensitivity"][1], rows["frames_sensitivity_front_camera"][1][:9])
    (lines,) = (table["verticality_adjusted"] for table in study.vertical.values())
    expected = rows["verticality_adjusted_front_camera_global"]
    np.testing.assert_array_equal(lines.sel(modality="front_camera", branch="global"), expected)


def test_a_table_of_an_earlier_version_opens_as_well(swept, tmp_path):
    (part,) = finished_parts(swept)
    table, about = pq.read_table(part), pq.read_metadata(part).metadata[b"gmsa_sweep"]
    fields = [pa.field(field.name, field.type) for field in table.schema]
    about = about.replace(b'"checksums": true', b'"checksums": false')
    pq.write_table(table.cast(pa.schema(fields)).replace_schema_metadata({b"gmsa_sweep": about}), tmp_path / part.name)
    assert all(not field.metadata for field in pq.read_schema(tmp_path / part.name))
    assert sweep_contents(tmp_path).columns == sweep_contents(swept).columns
    with pytest.warns(UserWarning, match="no checksums"):
        (old,) = study_of(tmp_path).unevenness.values()
    (new,) = study_of(swept).unevenness.values()
    np.testing.assert_array_equal(old["gini"], new["gini"])


def test_two_columns_of_one_name_are_refused(tmp_path):
    names = ("adjusted_x", "x")
    model = small_model(modalities=names, input_widths=dict.fromkeys(names, 8))
    save(model, tmp_path / "model.safetensors")
    clip = small_clip(features={name: small_clip().features["audio"] for name in names})
    write_clips(tmp_path / "clips.tfrecord", [clip])
    with pytest.raises(SweepError, match="two columns would be called 'verticality_adjusted_x_global'"):
        run_sweep([str(tmp_path / "model.safetensors")], [str(tmp_path / "clips.tfrecord")], tmp_path / "out",
                  SweepSettings(("patterns",)))  # fmt: skip


class TestWhoseLabels:
    """The column `labels` says whose classes it counts."""

    def swept(self, folder, *clips):
        folder.mkdir()
        save(small_model("none"), folder / "model.safetensors")
        write_clips(folder / "a.tfrecord", clips)
        return run_sweep(
            [str(folder / "model.safetensors")], [str(folder / "a.tfrecord")], folder / "out",
            SweepSettings(("gates",), batch_size=1),
        )  # fmt: skip

    def test_in_its_metadata_and_in_the_table_that_is_read(self, tmp_path):
        one, other = (small_clip(5, seed, dataset="audioset") for seed in (1, 2))
        assert self.swept(tmp_path / "x", small_clip(5, 0, labels=()), one, other).good
        (part,) = finished_parts(tmp_path / "x/out")
        field = pq.read_schema(part).field("labels")
        assert column_of(field) == Column("labels", LABELS, dataset="audioset")
        assert field.metadata[b"dataset"] == b"audioset"
        assert read_sweep(tmp_path / "x/out").attrs["label_datasets"] == ["audioset"]

    def test_not_where_no_clip_says(self, tmp_path):
        self.swept(tmp_path / "x", small_clip(5, 0))
        assert b"dataset" not in pq.read_schema(finished_parts(tmp_path / "x/out")[0]).field("labels").metadata
        assert read_sweep(tmp_path / "x/out").attrs["label_datasets"] == []

    def test_one_column_is_of_one_data_set(self, tmp_path):
        clips = [small_clip(5, seed, dataset=name) for seed, name in enumerate(["audioset", "", "youtube-8m"])]
        (failed,) = self.swept(tmp_path / "x", *clips).failed
        assert "its labels are of 'youtube-8m', those of clips before it of 'audioset'" in failed.reason
        shards = []
        for clip in clips:
            write_clips(tmp_path / f"{clip.id}.tfrecord", [clip])
            shards.append(str(tmp_path / f"{clip.id}.tfrecord"))
        run_sweep([str(tmp_path / "x/model.safetensors")], shards, tmp_path / "apart", SweepSettings(("gates",)))
        assert read_sweep(tmp_path / "apart").attrs["label_datasets"] == ["audioset", "youtube-8m"]
