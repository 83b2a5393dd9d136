"""Leaving out what cannot be read: the same word everywhere, counted by kind, and nothing else lost."""

import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_models import VOCABULARY, small_clip, small_model

from gmsa_models import read_clips, save, write_clips
from gmsa_models.data.catalog.catalog import build_catalog
from gmsa_models.data.errors import UnfitClipError, UnreadableError
from gmsa_models.data.index import index_records
from gmsa_models.data.paths import SkippedWarning
from gmsa_models.data.shuffle import shuffled_clips
from gmsa_models.data.skipped import Skipped
from gmsa_models.data.tfrecord.errors import TFRecordError
from gmsa_models.data.tfrecord.framing import frame_record
from gmsa_models.evaluation.scoring import evaluate, predict
from gmsa_models.feeding import Inputs, TrainingClips, check_fits, fitting
from gmsa_models.training.loop import fit
from gmsa_models.training.recipe import Recipe
from tests.gmsa.test_command_line import run
from tests.gmsa_models.data.test_sources import damage, ids

WIDTHS = {"visual": 12, "audio": 8}


def wide(seed):
    """A clip whose audio is wider than the small models take."""
    return small_clip(5, seed, features={name: np.zeros((5, 12), np.uint8) for name in WIDTHS}, segments=())


@pytest.fixture
def spoilt(tmp_path):
    """Two shards of five clips; in the first the data of record 1 is damaged, in the second clip 13 is too wide."""
    write_clips(tmp_path / "a.tfrecord", [small_clip(5, seed) for seed in range(5)])
    write_clips(tmp_path / "b.tfrecord", [wide(seed) if seed == 13 else small_clip(5, seed) for seed in range(10, 15)])
    damage(tmp_path / "a.tfrecord", 1)
    return tmp_path


GOOD = ["clip0", "clip2", "clip3", "clip4", "clip10", "clip11", "clip12", "clip14"]


def test_errors_are_counted_by_kind_and_once():
    skipped = Skipped()
    for offset in (0, 9, 9):
        skipped(TFRecordError("x", "bad", 1, offset, kind="checksum"))
    skipped(TFRecordError("y", "odd", 2, 5, "frames"))
    assert (len(skipped), dict(skipped.counts)) == (3, {"checksum": 2, "frames": 1})
    assert skipped.lines() == [
        "left out 3 that cannot be read or used:",
        "2 x checksum, the first: x, record 1 at byte 0: bad",
        "1 x frames, the first: y, record 2 at byte 5: odd",
    ]
    assert Skipped().lines() == []


def test_clips_that_do_not_fit_name_their_file():
    one = small_clip(source="some.tfrecord#x")
    check_fits(one, Inputs({"audio": 8}))
    with pytest.raises(UnfitClipError, match=r"some\.tfrecord#x.*'audio' is 8 wide; the model takes 9"):
        check_fits(one, Inputs(WIDTHS | {"audio": 9}))
    with pytest.raises(UnfitClipError, match=r"no modality 'motion'.*\['audio', 'visual'\]"):
        check_fits(one, Inputs({"motion": 3}))
    skipped = Skipped()
    assert ids(fitting([one, wide(3), one], Inputs(WIDTHS), skipped)) == ["clip0", "clip0"]
    assert dict(skipped.counts) == {"does not fit the model": 1}


def test_evaluation_leaves_out_what_cannot_be_used(spoilt):
    model, source = small_model(), str(spoilt / "*.tfrecord")
    with pytest.raises(TFRecordError, match=r"a\.tfrecord, record 1"):
        evaluate(model, source)
    with pytest.raises(UnfitClipError, match=r"b\.tfrecord#clip13"):
        evaluate(model, str(spoilt / "b.tfrecord"))
    skipped = Skipped()
    found = predict(model, source, on_error="skip", on_skip=skipped, batch_size=3)
    assert (list(found.ids), len(skipped)) == (GOOD, 2)
    clips = [small_clip(5, int(name.removeprefix("clip"))) for name in GOOD]
    assert evaluate(model, source, on_error="skip", on_skip=skipped) == evaluate(model, clips)
    assert evaluate(model, source, on_error="skip", on_skip=skipped, limit=5)["videos"] == 5
    with pytest.warns(SkippedWarning, match="skipped: "):
        evaluate(model, source, on_error="skip")


def test_a_file_that_goes_while_others_are_read(spoilt):
    skipped = Skipped()
    clips = read_clips([spoilt / "a.tfrecord", spoilt / "b.tfrecord"], on_error="skip", on_skip=skipped)
    next(clips)
    (spoilt / "b.tfrecord").unlink()
    assert ids(clips) == ["clip2", "clip3", "clip4"]
    assert dict(skipped.counts) == {"checksum": 1, "file not given by the system": 1}


# Shuffled


def check(clip):
    check_fits(clip, Inputs(WIDTHS))


def test_shuffled_reading_replaces_what_cannot_be_used(spoilt):
    source, skipped = str(spoilt / "*.tfrecord"), Skipped()
    assert ids(shuffled_clips(source, 0, 0, on_skip=skipped))  # clip13 is a clip, where no model is asked
    order = ids(shuffled_clips(source, 5, 2, on_skip=skipped, check=check))
    assert (len(order), set(order)) == (10, set(GOOD))
    assert len(skipped) == 2
    for skip in range(10):
        assert ids(shuffled_clips(source, 5, 2, skip=skip, on_skip=skipped, check=check)) == order[skip:]
    shares = [ids(shuffled_clips(source, 5, 2, rank, 3, on_skip=skipped, check=check)) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 3, 3]
    assert not set(shares[0]) & set(shares[1])
    with pytest.raises(UnreadableError):
        list(shuffled_clips(source, 5, 2, check=check))


def test_a_replacement_is_the_next_of_the_share(spoilt):
    whole = spoilt / "whole.tfrecord"
    write_clips(whole, [small_clip(5, seed) for seed in range(5)])
    order = ids(shuffled_clips(whole, 1, 0))
    bad = order.index("clip1")
    expected = [*order[:bad], order[(bad + 1) % 5], *order[bad + 1 :]]
    assert ids(shuffled_clips(spoilt / "a.tfrecord", 1, 0, on_skip=Skipped())) == expected


def test_a_shard_is_indexed_as_far_as_its_headers_go(spoilt):
    damage(spoilt / "a.tfrecord", 3, byte=2)
    source, skipped = str(spoilt / "*.tfrecord"), Skipped()
    for _ in range(2):  # the second time from memory
        with pytest.raises(TFRecordError, match=r"a\.tfrecord, record 3"):
            index_records(source)
        assert len(index_records(source, skipped)) == 3 + 5
    assert dict(skipped.counts) == {"checksum": 1}
    (spoilt / "c.tfrecord").write_bytes(b"nothing of use")
    assert len(index_records(source, skipped)) == 3 + 5
    assert len(TrainingClips(source, on_skip=skipped)) == 3 + 5


def test_nothing_that_can_be_read_ends(spoilt):
    one = spoilt / "one.tfrecord"
    one.write_bytes(frame_record(b"no clip") * 3)
    with pytest.raises(ValueError, match="none of 3 records can be read"):
        next(shuffled_clips(one, 0, 0, on_skip=Skipped()))


def test_training_goes_on_to_the_same_weights(spoilt, tmp_path):
    recipe = Recipe(batch_size=2, steps=6, warmup=1, save_every=2, log_every=2)
    source = str(spoilt / "*.tfrecord")
    with pytest.raises(UnreadableError):
        fit(small_model(), source, None, recipe, tmp_path / "fail", progress=False)
    weights = []
    for name in ("one", "two"):
        skipped = Skipped()
        result = fit(
            small_model(), source, source, recipe, tmp_path / name, progress=False, on_error="skip", on_skip=skipped
        )
        weights.append((tmp_path / name / "model.safetensors").read_bytes()[-400:])
        assert result.scores["videos"] == 8
        assert dict(skipped.counts) == {"checksum": 1, "does not fit the model": 1}
    assert weights[0] == weights[1]


# Catalogues


@pytest.fixture
def listed(spoilt):
    path = spoilt / "all.parquet"
    summary = build_catalog(f"{spoilt}/*.tfrecord", path, on_error="skip", on_skip=Skipped())
    assert (summary.records, summary.skipped) == (9, 1)
    return path


def test_a_catalogue_whose_shard_is_gone(listed):
    (listed.parent / "b.tfrecord").unlink()
    skipped = Skipped()
    assert ids(read_clips(listed, on_error="skip", on_skip=skipped)) == ["clip0", "clip2", "clip3", "clip4"]
    assert dict(skipped.counts) == {"catalogue's shard": 1}
    assert len(index_records(listed, skipped)) == 4
    for read in (lambda: list(read_clips(listed)), lambda: index_records(listed)):
        with pytest.raises(UnreadableError, match=r"'b\.tfrecord' cannot be opened"):
            read()


def rewritten(path, **columns):
    table = pq.read_table(path)
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, values if isinstance(values, pa.Array) else pa.array(values))
    pq.write_table(table, path)


def test_a_row_that_points_elsewhere_is_left_out_alone(listed):
    offsets = pq.read_table(listed)["offset"].to_pylist()
    rewritten(listed, offset=[offsets[0], offsets[1] + 1, *offsets[2:]])
    skipped = Skipped()
    assert len(list(read_clips(listed, on_error="skip", on_skip=skipped))) == 8
    assert dict(skipped.counts) == {"catalogue's row": 1}
    with pytest.raises(UnreadableError, match="write the catalogue again"):
        list(read_clips(listed))


@pytest.mark.parametrize(
    ("columns", "part"),
    [
        ({"id": [None, *"abcdefgh"]}, "column 'id' has empty cells"),
        ({"labels": pa.array([None] * 9, pa.list_(pa.int64()))}, "column 'labels' has empty cells"),
        ({"offset": ["0"] * 9}, r"column 'offset' is dictionary.*string.*; expected int64"),
        ({"shard": ["/etc/passwd"] * 9}, "is an absolute path"),
        ({"shard": ["."] * 9}, "is a directory"),
        ({"shard": ["a\0b"] * 9}, "cannot be opened"),
        ({"shard": ["pipe"] * 9}, "pipe or device"),
        ({"offset": [2**62] * 9}, "offset 4611686018427387904 of"),
    ],
)
def test_catalogues_that_lie(listed, columns, part):
    os.mkfifo(listed.parent / "pipe")
    rewritten(listed, **columns)
    with pytest.raises(UnreadableError, match=part):
        list(read_clips(listed))
    with pytest.raises((UnreadableError, KeyError), match=f"{part}|no clip"):
        list(read_clips(f"{listed}#clip0"))


def test_a_catalogue_of_another_version_or_program(listed):
    table = pq.read_table(listed)
    pq.write_table(table.replace_schema_metadata({"gmsa_catalog_version": "3"}), listed)
    with pytest.raises(UnreadableError, match=r"catalogue version '3'.*reads version 2.*write it again"):
        list(read_clips(listed))


def test_a_catalogue_that_pandas_wrote_again_is_read(listed):
    table = pq.read_table(listed)
    plain = table.set_column(1, "shard", table["shard"].cast(pa.string()))
    pq.write_table(plain.replace_schema_metadata({"gmsa_catalog_version": "2"}), listed)
    assert len(list(read_clips(listed))) == len(index_records(listed)) == 9


def test_a_flipped_bit_of_a_catalogue_is_noticed(listed):
    whole, random, noticed = listed.read_bytes(), np.random.default_rng(0), 0
    for position in random.integers(0, len(whole), 60):
        data = bytearray(whole)
        data[position] ^= 1 << random.integers(8)
        listed.write_bytes(bytes(data))
        try:
            found = ids(read_clips(listed))
        except (UnreadableError, TFRecordError):
            noticed += 1
        else:
            assert set(found) <= {"clip13", *GOOD}
    assert noticed > 20


# The command line


@pytest.fixture
def model(spoilt):
    return save(small_model(), spoilt / "mine.safetensors")


@pytest.mark.usefixtures("pages_left_empty")
def test_every_command_that_reads_many_takes_the_same_word(spoilt, model):
    source = spoilt / "*.tfrecord"
    table = spoilt / "classes.csv"
    rows = zip(VOCABULARY.indices, VOCABULARY.names, strict=True)
    table.write_text("Index,Name\n" + "".join(f"{index},{name}\n" for index, name in rows))
    commands = {
        "evaluate": ("evaluate", "--data", source, "--model", model),
        "catalog": ("catalog", source, "--out", spoilt / "out.parquet"),
        "inspect": ("inspect", f"{source}#clip11", "--model", model, "--out", spoilt / "seen"),
    }
    for name, words in commands.items():
        failed = run(*words)
        assert failed.exit_code == 2, name
        assert failed.stderr.startswith(f"gmsa: {spoilt / 'a.tfrecord'}, record 1 at byte ")
        assert len(failed.stderr.splitlines()) == 1
        assert "--on-error skip" in failed.stderr
        done = run(*words, "--on-error", "skip")
        assert done.exit_code == 0, done.output
        assert "gmsa: 1 x checksum, the first: " in done.stderr
        odd = run(*words, "--on-error", "ignore")
        assert (odd.exit_code, "'ignore'; expected 'fail' or 'skip'" in odd.stderr) == (2, True)


def test_counts_go_to_stderr_and_json_stays_json(spoilt, model):
    done = run("evaluate", "--data", spoilt / "*.tfrecord", "--model", model, "--on-error", "skip", "--json")
    assert json.loads(done.stdout)["videos"] == 8
    assert done.stderr.splitlines()[0] == "gmsa: left out 2 that cannot be read or used:"
    assert {line.split(",")[0] for line in done.stderr.splitlines()[1:]} == {
        "gmsa: 1 x checksum",
        "gmsa: 1 x does not fit the model",
    }


def test_where_nothing_is_left_the_reasons_are_told_too(spoilt, model):
    (spoilt / "bad").mkdir()
    shutil.copy(model, spoilt / "bad" / "x.tfrecord")
    done = run("evaluate", "--data", spoilt / "bad/x.tfrecord", "--model", model, "--on-error", "skip")
    assert done.exit_code == 2
    assert "1 x not a TFRecord" in done.stderr
    assert len(done.stderr.splitlines()) == 3
