import os
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gmsa_models.data.catalog import catalog
from gmsa_models.data.catalog.catalog import build_catalog, open_clip
from gmsa_models.data.errors import UnreadableError
from gmsa_models.data.index import index_records
from gmsa_models.data.paths import SourceNotFoundError
from gmsa_models.data.shuffle import shuffled_clips
from gmsa_models.data.sources import read_clips
from gmsa_models.data.tfrecord.errors import TFRecordError
from gmsa_models.data.tfrecord.files import write_clips
from gmsa_models.errors import ArgumentError, UnknownNameError
from tests.gmsa_models.data.test_clip import clip
from tests.gmsa_models.data.test_sources import damage, ids


@pytest.fixture
def data(tmp_path):
    """Two shards in a folder, and a catalogue beside the folder."""
    folder = tmp_path / "here" / "shards"
    folder.mkdir(parents=True)
    write_clips(folder / "a.tfrecord", [clip(f"a{number}", number + 1, (number, 7)) for number in range(5)])
    write_clips(folder / "b.tfrecord", [clip(f"b{number}", 3) for number in range(7)])
    path = tmp_path / "here" / "catalog.parquet"
    summary = build_catalog(f"{folder}/*.tfrecord", path)
    assert (summary.shards, summary.records, summary.skipped) == (2, 12, 0)
    return path


def test_other_tools_read_it(data):
    table = pd.read_parquet(data)
    assert table.id.tolist() == [f"a{n}" for n in range(5)] + [f"b{n}" for n in range(7)]
    assert table.frames.tolist() == [1, 2, 3, 4, 5] + [3] * 7
    assert table.labels[3].tolist() == [3, 7]
    assert table.shard.tolist() == ["shards/a.tfrecord"] * 5 + ["shards/b.tfrecord"] * 7
    assert table.record.tolist() == [*range(5), *range(7)]
    assert table.offset[0] == table.offset[5] == 0
    assert table.offset[1] == table.length[0] + 16


def test_a_clip_opens_by_id(data):
    one = open_clip(data, "b4")
    assert (one.id, one.frames) == ("b4", 3)
    assert one.source.endswith("shards/b.tfrecord#b4")
    assert ids(read_clips(f"{data}#a3")) == ["a3"]
    assert ids(read_clips(data)) == pd.read_parquet(data).id.tolist()


def test_opening_reads_only_that_record(data):
    damage(data.parent / "shards" / "a.tfrecord", 0)
    assert open_clip(data, "a1").id == "a1"
    with pytest.raises(TFRecordError, match=r"record 0 at byte 0.*checksum"):
        open_clip(data, "a0")
    errors = []
    assert len(ids(read_clips(data, on_error="skip", on_skip=errors.append))) == 11
    assert [error.record for error in errors] == [0]


def test_many_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "ROWS", 5)
    write_clips(tmp_path / "a.tfrecord", [clip(f"v{number}", 1) for number in range(13)])
    build_catalog(tmp_path / "a.tfrecord", tmp_path / "c.parquet")
    assert pq.ParquetFile(tmp_path / "c.parquet").num_row_groups == 3
    assert [open_clip(tmp_path / "c.parquet", f"v{number}").id for number in (0, 5, 12)] == ["v0", "v5", "v12"]


def test_it_moves_with_its_shards(data, tmp_path, monkeypatch):
    shutil.move(tmp_path / "here", tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    assert open_clip("catalog.parquet", "b6").id == "b6"


def test_unknown_and_double_ids(data, tmp_path):
    with pytest.raises(UnknownNameError, match=r"no clip 'B9' among 12; near it: b0, b1, .*read_parquet"):
        open_clip(data, "B9")
    with pytest.raises(KeyError, match=r"no clip 'zzz' among 12; list them"):
        open_clip(data, "zzz")
    write_clips(tmp_path / "one.tfrecord", [clip("x"), clip("y")])
    write_clips(tmp_path / "two.tfrecord", [clip("z"), clip("x")])
    build_catalog(str(tmp_path / "*.tfrecord"), tmp_path / "twice.parquet")
    with pytest.raises(UnknownNameError, match=r"2 records have the id 'x' \(one.tfrecord record 0, two.* record 1\)"):
        open_clip(tmp_path / "twice.parquet", "x")


def test_a_stale_catalogue_is_noticed(data):
    shard = data.parent / "shards" / "b.tfrecord"
    whole = shard.read_bytes()
    write_clips(shard, [clip(f"c{number}", 3) for number in range(7)])  # as long as before, other ids
    with pytest.raises(
        UnreadableError, match=r"row for 'b4' does not fit 'shards/b.tfrecord'.*again \(there is 'c4'\)"
    ):
        open_clip(data, "b4")
    shard.write_bytes(whole + whole)
    for read in (lambda: open_clip(data, "b4"), lambda: list(read_clips(data)), lambda: index_records(data)):
        with pytest.raises(UnreadableError, match=rf"had {len(whole)} bytes and has {2 * len(whole)} now"):
            read()
    shard.unlink()
    with pytest.raises(UnreadableError, match=r"'shards/b.tfrecord' cannot be opened.*beside the catalogue"):
        open_clip(data, "b4")


@pytest.mark.parametrize(("column", "value"), [("offset", -1), ("offset", 10**12), ("offset", 5)])
def test_a_row_that_points_elsewhere(data, column, value):
    table = pq.read_table(data)
    at = table.schema.get_field_index(column)
    pq.write_table(table.set_column(at, column, pa.array([value] * 12, pa.int64())), data)
    with pytest.raises(UnreadableError, match=r"does not fit.*write the catalogue again"):
        open_clip(data, "a1")


def test_files_that_are_no_catalogue(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 but nothing else")
    with pytest.raises(UnreadableError, match=r"x\.parquet: not a catalogue"):
        list(read_clips(path))
    pd.DataFrame({"id": ["a"]}).to_parquet(path)
    with pytest.raises(UnreadableError, match=r"catalogue version 'none', columns .*write it again"):
        open_clip(path, "a")
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(UnreadableError, match="not an ordinary file"):
        open_clip(tmp_path / "pipe.parquet", "a")


def test_building_is_all_or_nothing(data, tmp_path):
    folder = data.parent / "shards"
    before = data.read_bytes()
    damage(folder / "b.tfrecord", 2)
    with pytest.raises(TFRecordError, match=r"b\.tfrecord, record 2"):
        build_catalog(f"{folder}/*.tfrecord", data)
    assert data.read_bytes() == before
    assert sorted(os.listdir(data.parent)) == ["catalog.parquet", "shards"]
    errors = []
    summary = build_catalog(f"{folder}/*.tfrecord", data, on_error="skip", on_skip=errors.append)
    assert (summary.records, summary.skipped, len(errors)) == (11, 1, 1)
    (tmp_path / "bad.tfrecord").write_bytes(b"nothing of use")
    with pytest.raises(UnreadableError, match="not one record of 1 files"):
        build_catalog(tmp_path / "bad.tfrecord", data, on_error="skip", on_skip=errors.append)


def test_building_checks_its_names(data, tmp_path):
    with pytest.raises(UnreadableError, match=r"ends in \.parquet"):
        build_catalog(data.parent / "shards" / "a.tfrecord", tmp_path / "c.csv")
    with pytest.raises(SourceNotFoundError):
        build_catalog(f"{tmp_path}/none*", tmp_path / "c.parquet")


def test_progress(data):
    calls = []
    build_catalog(f"{data.parent}/shards/*.tfrecord", data, lambda *numbers: calls.append(numbers))
    assert calls == [(1, 2, 5), (2, 2, 12)]


def test_it_serves_shuffled_reading(data):
    shards = f"{data.parent}/shards/*.tfrecord"
    by_header, by_catalog = index_records(shards), index_records(data)
    assert [path.name for path in by_catalog.paths] == ["a.tfrecord", "b.tfrecord"]
    for name in ("shard", "number", "offset", "length"):
        assert getattr(by_header, name).tolist() == getattr(by_catalog, name).tolist()
    assert ids(shuffled_clips(data, 3, 1)) == ids(shuffled_clips(shards, 3, 1))
    with pytest.raises(ArgumentError, match="by itself"):
        index_records([data, shards])


@pytest.mark.shared_data
def test_real_shards(shared_data, tmp_path):
    path = tmp_path / "eval.parquet"
    assert build_catalog(shared_data / "audioset" / "eval-00003-of-00004.tfrecord", path).records == 2182
    assert open_clip(path, "zyF8TGSRvns").labels == (179, 180, 181, 205)
    assert set(pd.read_parquet(path).frames) <= set(range(1, 11))


def test_a_look_up_checks_a_catalogue_that_has_changed(data):
    """What a file says of itself is read once, and again when the file is another one."""
    assert open_clip(data, "b4").id == "b4"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableError, match="not a catalogue"):
        open_clip(data, "b4")
    damaged = bytearray(whole)
    damaged[4:40] = bytes(36)  # the header of the first page
    data.write_bytes(damaged)
    with pytest.raises(UnreadableError):
        open_clip(data, "b4")
    data.write_bytes(whole)
    assert open_clip(data, "b4").id == "b4"
