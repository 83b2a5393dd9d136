import os
from itertools import chain

import numpy as np
import pytest

from gmsa_models.data.paths import expand
from gmsa_models.data.shuffle import count_clips, index_records, shuffled_clips
from gmsa_models.data.sources import SkippedWarning, SourceNotFoundError, read_clips
from gmsa_models.data.tfrecord.errors import TFRecordError
from gmsa_models.data.tfrecord.files import write_clips
from gmsa_models.data.tfrecord.framing import RecordFile
from gmsa_models.errors import ArgumentError, UnknownNameError
from tests.gmsa_models.data.test_clip import clip

SHARDS = {"a": 5, "b": 7, "c": 11}  # name -> records


@pytest.fixture
def shards(tmp_path):
    """Three shards; clip 4 of shard b is `b4`."""
    for name, count in SHARDS.items():
        write_clips(tmp_path / f"{name}.tfrecord", [clip(f"{name}{number}", 2) for number in range(count)])
    return tmp_path


ALL = [f"{name}{number}" for name, count in SHARDS.items() for number in range(count)]


def ids(clips):
    return [one.id for one in clips]


def damage(path, record, byte=30):
    """Flip a bit in the data of one record."""
    with RecordFile(path) as file:
        span = list(file.places())[record]
    data = bytearray(path.read_bytes())
    data[span.offset + byte] ^= 1
    path.write_bytes(bytes(data))


def test_paths_globs_and_lists(shards):
    assert ids(read_clips(shards / "b.tfrecord")) == ALL[5:12]
    assert ids(read_clips(str(shards / "*.tfrecord"))) == ALL
    assert ids(read_clips([shards / "c.tfrecord", f"{shards}/a*"])) == ALL[12:] + ALL[:5]


def test_one_clip_by_id(shards):
    (one,) = read_clips(f"{shards}/*.tfrecord#b4")
    assert one.id == "b4"
    assert one.source == f"{shards}/b.tfrecord#b4"
    assert ids(read_clips(one.source)) == ["b4"]


def test_number_signs_in_names_and_ids(tmp_path):
    path = tmp_path / "take#2.tfrecord"
    write_clips(path, [clip("x#y"), clip("z")])
    assert ids(read_clips(path)) == ["x#y", "z"]
    assert ids(read_clips(f"{path}#z")) == ["z"]
    assert ids(read_clips(f"{path}#x#y")) == ["x#y"]


def test_a_glob_with_brackets_in_a_real_name(tmp_path):
    path = tmp_path / "odd[1].tfrecord"
    write_clips(path, [clip("x")])
    assert expand(path) == [path]


def test_an_id_that_is_not_there(shards):
    with pytest.raises(UnknownNameError, match=r"^no clip 'nope' among the 7 records of .*b\.tfrecord$"):
        list(read_clips(f"{shards}/b.tfrecord#nope"))
    with pytest.raises(KeyError, match=r"among the 23 records of 3 files, .*a\.tfrecord to .*c\.tfrecord"):
        list(read_clips(f"{shards}/*.tfrecord#nope"))


@pytest.mark.parametrize(
    ("source", "error", "part"),
    [
        ("absent.tfrecord", SourceNotFoundError, "no file 'absent.tfrecord'"),
        ("absent*.tfrecord", FileNotFoundError, r"no file matches 'absent\*.tfrecord'"),
        ("absent.parquet", SourceNotFoundError, "no file"),
        ("absent.tfrecord#id", SourceNotFoundError, "no file 'absent.tfrecord'"),
        ("absent#", ArgumentError, "expected 'path#id'"),
        ("#id", ArgumentError, "expected 'path#id'"),
        ([], ArgumentError, "empty list"),
        ("demo:x", ArgumentError, "expected 'demo:3', or 'demo:0-8'"),
        ("demo:", ArgumentError, "expected 'demo:3'"),
        ("demo:3-3", ArgumentError, "demo videos are demo:0 to demo:"),
        ("demo:99999999", ArgumentError, "demo videos are demo:0 to demo:"),
    ],
)
def test_bad_sources_fail_at_once(source, error, part):
    with pytest.raises(error, match=part):
        read_clips(source)


def test_bad_on_error():
    with pytest.raises(ArgumentError, match="'ignore'; expected 'fail' or 'skip'"):
        read_clips("x", on_error="ignore")


def test_demo_videos():
    from gmsa_models.data.montage import make as montage

    assert ids(read_clips("demo:3")) == ids([montage.demo_clip(3)])
    assert ids(read_clips(["demo:1-3", "demo:0"])) == ids(montage.demo_clip(index) for index in (1, 2, 0))


def test_a_montage_survives_writing_and_reading(tmp_path):
    (made,) = read_clips("demo:2")
    write_clips(tmp_path / "m.tfrecord", [made])
    (read,) = read_clips(tmp_path / "m.tfrecord")
    assert read.segments == made.segments
    assert read.labels == made.labels
    for modality, values in made.features.items():
        np.testing.assert_array_equal(read.features[modality], values)


def test_skip_goes_on(shards):
    damage(shards / "a.tfrecord", 1)  # data: the next record is found
    damage(shards / "b.tfrecord", 3, byte=2)  # length: the rest of the file is lost
    (shards / "d.tfrecord").write_bytes(b"not a TFRecord")
    errors = []
    kept = ids(read_clips(f"{shards}/*.tfrecord", on_error="skip", on_skip=errors.append))
    assert kept == ["a0", "a2", "a3", "a4", "b0", "b1", "b2", *ALL[12:]]
    assert [(error.path.name, error.record) for error in errors] == [
        ("a.tfrecord", 1),
        ("b.tfrecord", 3),
        ("d.tfrecord", None),
    ]
    with pytest.warns(SkippedWarning, match=r"skipped: .*a\.tfrecord, record 1"):
        assert len(list(read_clips(shards / "a.tfrecord", on_error="skip"))) == 4
    with pytest.raises(TFRecordError, match="record 1"):
        list(read_clips(f"{shards}/*.tfrecord"))


def test_finding_an_id_goes_past_damage_only_when_asked(shards):
    damage(shards / "a.tfrecord", 1)
    source = f"{shards}/*.tfrecord#c2"
    with pytest.raises(TFRecordError):
        list(read_clips(source))
    assert ids(read_clips(source, on_error="skip", on_skip=lambda error: None)) == ["c2"]


# Shuffled


def test_index_finds_every_record(shards):
    index = index_records(f"{shards}/*.tfrecord")
    assert count_clips(f"{shards}/*.tfrecord") == len(index) == 23
    assert index.shard.tolist() == [0] * 5 + [1] * 7 + [2] * 11
    assert index.number.tolist() == [*range(5), *range(7), *range(11)]


def test_index_notices_a_changed_file(shards):
    path = shards / "a.tfrecord"
    assert count_clips(path) == 5
    write_clips(path, [clip("new")])
    assert count_clips(path) == 1


@pytest.mark.parametrize("buffer", [None, 1, 4, 1000])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_the_clips_evenly(shards, world_size, buffer):
    source = f"{shards}/*.tfrecord"
    shares = [ids(shuffled_clips(source, 5, 2, rank, world_size, buffer=buffer)) for rank in range(world_size)]
    assert {len(share) for share in shares} == {23 // world_size}
    together = list(chain(*shares))
    assert len(set(together)) == len(together) == 23 // world_size * world_size
    assert set(together) <= set(ALL)


@pytest.mark.parametrize("buffer", [None, 4])
def test_order_depends_on_seed_and_epoch_alone(shards, buffer):
    source = f"{shards}/*.tfrecord"
    order = ids(shuffled_clips(source, 5, 2, buffer=buffer))
    assert order != ALL
    assert order == ids(shuffled_clips(source, 5, 2, buffer=buffer))
    assert order != ids(shuffled_clips(source, 5, 3, buffer=buffer))
    assert order != ids(shuffled_clips(source, 6, 2, buffer=buffer))


@pytest.mark.parametrize("skip", [0, 1, 10, 11])
def test_skip_resumes(shards, skip):
    source = f"{shards}/*.tfrecord"
    whole = ids(shuffled_clips(source, 5, 2, 1, 2))
    assert ids(shuffled_clips(source, 5, 2, 1, 2, skip)) == whole[skip:]


def test_a_buffer_keeps_neighbours_together(shards):
    order = ids(shuffled_clips(f"{shards}/*.tfrecord", 0, 0, buffer=1))
    names = [one[0] for one in order]
    assert sorted(order, key=lambda one: (names.index(one[0]), int(one[1:]))) == order  # whole shards, in file order


def test_shuffling_reads_more_files_than_may_be_open(tmp_path):
    for number in range(70):
        write_clips(tmp_path / f"{number}.tfrecord", [clip(f"{number}-{part}", 1) for part in range(2)])
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    assert len(set(ids(shuffled_clips(f"{tmp_path}/*", 0, 0)))) == 140
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("numbers", "part"),
    [
        ({"rank": 2, "world_size": 2}, "rank is 2 of world_size 2"),
        ({"rank": -1}, "rank is -1"),
        ({"world_size": 24}, "23 clips for 24 processes"),
        ({"skip": 24}, "skip is 24; a process has 23"),
        ({"buffer": 0}, "buffer is 0"),
    ],
)
def test_shares_that_make_no_sense(shards, numbers, part):
    with pytest.raises(ArgumentError, match=part):
        shuffled_clips(f"{shards}/*.tfrecord", 0, 0, **numbers)


@pytest.mark.shared_data
def test_real_shards_shuffled(shared_data):
    source = str(shared_data / "audioset" / "eval-*.tfrecord")
    assert count_clips(source) == 10114
    (first, *_), again = list(shuffled_clips(source, 0, 0, skip=10100)), next(shuffled_clips(source, 0, 0, skip=10100))
    assert first.id == again.id
