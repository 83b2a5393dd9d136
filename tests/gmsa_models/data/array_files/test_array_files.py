"""Files of a user's own arrays: each format gives the same clips, opens everywhere, and has one error a fault."""

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gmsa_models.data.catalog.catalog import build_catalog, open_clip
from gmsa_models.data.clip import Clip
from gmsa_models.data.errors import ClipFileError, UnreadableError
from gmsa_models.data.fingerprint import fingerprint_source
from gmsa_models.data.formats import is_catalog, open_clips
from gmsa_models.data.reader import ClipFile
from gmsa_models.data.shuffle import count_clips, shuffled_clips
from gmsa_models.data.sources import read_clips
from gmsa_models.data.spaces import FeatureSpace

WIDTHS = {"visual": 5, "audio": 3}


def features(frames, seed=0, dtype=np.float32, widths=WIDTHS):
    random = np.random.default_rng(seed)
    made = {name: random.standard_normal((frames, width)) for name, width in widths.items()}
    return {name: (values * 50 + 100 if dtype == np.uint8 else values).astype(dtype) for name, values in made.items()}


def made_clips(lengths=(4, 7, 2), dtype=np.float32):
    """Clips with everything that a file can say."""
    return [
        Clip(
            f"clip {number}", features(length, number, dtype), tuple(range(number)), 0.5, float(number),
            dataset="mine", spaces={"visual": FeatureSpace("a network", WIDTHS["visual"])},
        )
        for number, length in enumerate(lengths)
    ]  # fmt: skip


def padded(labels):
    most = max(map(len, labels))
    return np.array([[*each, *[-1] * (most - len(each))] for each in labels], np.int64).reshape(len(labels), most)


def write_npz(path, clips):
    np.savez(
        path, ids=[clip.id for clip in clips], lengths=[clip.frames for clip in clips],
        labels=padded([clip.labels for clip in clips]), frame_seconds=0.5, dataset="mine", visual_space="a network",
        start_seconds=[clip.start_seconds for clip in clips],
        **{name: np.concatenate([clip.features[name] for clip in clips]) for name in WIDTHS},
    )  # fmt: skip


def write_hdf5(path, clips):
    with h5py.File(path, "w") as file:
        file.attrs.update({"frame_seconds": 0.5, "dataset": "mine", "visual_space": "a network"})
        for clip in clips:
            group = file.create_group(clip.id)
            group.attrs["start_seconds"] = clip.start_seconds
            group["labels"] = np.array(clip.labels, np.int64)
            for name, values in clip.features.items():
                group[name] = values


def write_parquet(path, clips, rows=5):
    def column(values):
        return [value for clip, value in zip(clips, values, strict=True) for _ in range(clip.frames)]

    table = {
        "id": column([clip.id for clip in clips]),
        "labels": pa.array(column([list(clip.labels) for clip in clips]), pa.list_(pa.int64())),
        "frame_seconds": column([0.5 for _ in clips]),
        "start_seconds": column([clip.start_seconds for clip in clips]),
        "dataset": column(["mine" for _ in clips]),
        "visual_space": column(["a network" for _ in clips]),
    }
    for name in WIDTHS:
        values = np.concatenate([clip.features[name] for clip in clips])
        table[name] = pa.array(list(values), pa.list_(pa.from_numpy_dtype(values.dtype)))
    pq.write_table(pa.table(table), path, row_group_size=rows)


WRITERS = {".npz": write_npz, ".h5": write_hdf5, ".parquet": write_parquet}
MANY = pytest.mark.parametrize("suffix", WRITERS)


def said(clip):
    return clip.id, clip.labels, clip.frame_seconds, clip.start_seconds, clip.dataset, dict(clip.spaces), clip.alignment


def assert_same(clips, expected):
    assert [said(clip) for clip in clips] == [said(clip) for clip in expected]
    for clip, other in zip(clips, expected, strict=True):
        assert clip.features.keys() == other.features.keys()
        for name, values in clip.features.items():
            assert values.dtype == other.features[name].dtype
            np.testing.assert_array_equal(values, other.features[name])


@MANY
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint8])
def test_a_file_of_many_clips_gives_them_back(suffix, dtype, tmp_path):
    if suffix == ".parquet" and dtype == np.float16:
        pytest.skip("pyarrow before 20 writes no lists of half floats")
    path, clips = tmp_path / f"mine{suffix}", made_clips(dtype=dtype)
    WRITERS[suffix](path, clips)
    assert isinstance(open_clips(path), ClipFile)
    assert_same(list(read_clips(path)), clips)
    assert_same(list(read_clips(f"{path}#clip 1")), clips[1:2])


@MANY
def test_it_opens_where_a_tfrecord_does(suffix, tmp_path):
    path, clips = tmp_path / f"mine{suffix}", made_clips()
    WRITERS[suffix](path, clips)
    assert count_clips(path) == 3
    by_id = {clip.id: clip for clip in clips}
    shuffled = list(shuffled_clips(path, 3, 0))
    assert_same(shuffled, [by_id[clip.id] for clip in shuffled])
    summary = build_catalog(path, tmp_path / "all.parquet")
    assert (summary.records, is_catalog(summary.path), is_catalog(path)) == (3, True, False)
    assert_same([open_clip(summary.path, "clip 2")], clips[2:])
    assert fingerprint_source(summary.path) == fingerprint_source(path)
    before = fingerprint_source(path)
    clips[1].features["audio"][0, 0] += 1
    WRITERS[suffix](path, clips)
    assert fingerprint_source(path) != before


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), rows=st.integers(1, 20), data=st.data())
def test_any_lengths_come_back_from_every_layout(lengths, rows, data, tmp_path):
    clips = made_clips(lengths)
    write_npz(tmp_path / "x.npz", clips)
    write_parquet(tmp_path / "x.parquet", clips, rows)
    number = data.draw(st.integers(0, len(lengths) - 1))
    for name in ("x.npz", "x.parquet"):
        assert_same(list(read_clips(tmp_path / name)), clips)
        assert_same(list(read_clips(f"{tmp_path / name}#clip {number}")), [clips[number]])


def test_a_file_of_one_clip_needs_nothing_but_its_frames(tmp_path):
    one = features(4)
    np.save(tmp_path / "a.npy", one["visual"])
    np.savez(tmp_path / "b.npz", **one)
    with h5py.File(tmp_path / "c.hdf5", "w") as file:
        file.update(one)
    pq.write_table(pa.table({name: list(values) for name, values in one.items()}), tmp_path / "d.parquet")
    for name, streams in (("a.npy", {"visual": one["visual"]}), ("b.npz", one), ("c.hdf5", one), ("d.parquet", one)):
        assert_same(list(read_clips(tmp_path / name)), [Clip(Path(name).stem, streams)])
    assert [clip.id for clip in read_clips(str(tmp_path / "[a-c].*"))] == ["a", "b", "c"]


def test_one_clip_may_say_everything(tmp_path):
    expected = made_clips((4,))[0]
    about = {"id": "clip 0", "frame_seconds": 0.5, "dataset": "mine", "visual_space": "a network"}
    np.savez(tmp_path / "b.npz", **expected.features, **about)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.update(expected.features)
        file.attrs.update(about)
    for name in ("b.npz", "c.h5"):
        assert_same(list(read_clips(tmp_path / name)), [expected])


def test_streams_of_different_lengths_need_a_rule(tmp_path):
    path, uneven = tmp_path / "a.npz", {"visual": features(6)["visual"], "audio": features(4)["audio"]}
    np.savez(path, **uneven)
    with pytest.raises(ClipFileError, match=r"streams differ in frames: .*make them equal, or say align='shortest'"):
        list(read_clips(path))
    with pytest.raises(ClipFileError, match="streams differ"):
        build_catalog(path, tmp_path / "c.parquet")
    np.savez(path, **uneven, align="longest")
    with pytest.raises(ClipFileError, match="align is 'longest'; known: refuse, shortest"):
        list(read_clips(path))
    np.savez(path, **uneven, align="shortest")
    clip = next(read_clips(path))
    assert (clip.frames, clip.alignment) == (4, "shortest: cut to 4 frames, visual from 6")
    np.testing.assert_array_equal(clip.features["visual"], uneven["visual"][:4])
    build_catalog(path, tmp_path / "c.parquet")
    assert pq.read_table(tmp_path / "c.parquet")["frames"].to_pylist() == [4]


ONE = {"visual": np.ones((3, 2), np.float32)}
BAD_NPZ = {
    "a vector": ({"visual": np.ones(3, np.float32)}, "no stream: expected an array"),
    "whole numbers": ({"visual": np.ones((3, 2), np.int64)}, "'visual' is int64; expected floating point, or uint8"),
    "no frames": ({"visual": np.ones((0, 2), np.float32)}, "at least one frame"),
    "not finite": ({"visual": np.full((3, 2), np.nan, np.float32)}, "a value in frame 0 that is not finite"),
    "a typing error": ({**ONE, "lables": np.array([1])}, "'lables' of shape .* is neither a stream .* nor one of id"),
    "labels of halves": ({**ONE, "labels": np.array([0.5])}, "'labels' are .*; expected whole numbers"),
    "labels below 0": ({**ONE, "labels": np.array([-2])}, "has labels from -2"),
    "an id of two": ({**ONE, "id": np.array(["a", "b"])}, "'id' has 2 values; expected one"),
    "an id that a terminal obeys": ({**ONE, "id": "a\x1b[2J"}, "none a control one"),
    "seconds in words": ({**ONE, "frame_seconds": "one"}, "'frame_seconds' is 'one'; expected a number"),
    "no seconds": ({**ONE, "frame_seconds": 0.0}, "0.0 s a frame"),
    "a space without a name": ({**ONE, "visual_space": ""}, "expected 1 to 100 characters"),
    "ids without lengths": ({**ONE, "ids": np.array(["a", "b"])}, "expected as many whole numbers"),
    "lengths too short": ({**ONE, "ids": np.array(["a"]), "lengths": np.array([2])}, "3 frames; the lengths sum to 2"),
    "lengths that overflow": (
        {**ONE, "ids": np.array(["a", "b", "c"]), "lengths": np.array([2**62, 2**62, 3])}, "more than any stream",
    ),
    "labels for too few": (
        {**ONE, "ids": np.array(["a", "b"]), "lengths": np.array([1, 2]), "labels": np.array([1])},
        "'labels' has 1 values of 2 clips",
    ),
    "one id twice": ({**ONE, "ids": np.array(["a", "a"]), "lengths": np.array([1, 2])}, "the id 'a', as record 0 has"),
    "pickles": ({"visual": np.array([[{}]], object)}, "is pickled"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_NPZ)
def test_each_fault_of_an_npz_is_one_error(name, tmp_path):
    arrays, message = BAD_NPZ[name]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ClipFileError, match=message) as caught:
        list(read_clips(tmp_path / "bad.npz"))
    assert str(tmp_path / "bad.npz") in str(caught.value)


def rows(**columns):
    return pa.table({"visual": pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32())), **columns})


BAD_PARQUET = {
    "an empty id": (rows(id=["a", None, "a"]), "column 'id' has empty cells"),
    "a typing error": (rows(lables=[1, 1, 1]), "column 'lables' of int64 is neither a stream"),
    "an id that comes again": (rows(id=["a", "b", "a"]), "has the id 'a', as record 0 has"),
    "uneven frames": (pa.table({"visual": [[1.0], [1.0, 2.0]]}), "not 1 wide as the file's first is"),
    "an empty frame": (pa.table({"visual": [[1.0], None]}), "a frame that is empty"),
    "an empty value": (pa.table({"visual": [[1.0], [None]]}), "an empty value in a frame"),
    "a first frame of nothing": (
        pa.table({"visual": pa.array([[]], pa.list_(pa.float32()))}),
        "expected .frames",
    ),
    "no rows": (rows().slice(0, 0), "says 0 rows"),
}


@pytest.mark.parametrize("name", BAD_PARQUET)
def test_each_fault_of_a_parquet_file_is_one_error(name, tmp_path):
    table, message = BAD_PARQUET[name]
    pq.write_table(table, tmp_path / "bad.parquet")
    with pytest.raises(ClipFileError, match=message):
        list(read_clips(tmp_path / "bad.parquet"))


def bad_hdf5(path, kind):
    with h5py.File(path, "w") as file:
        file["visual"] = ONE["visual"]
        if kind == "groups beside datasets":
            file.create_group("a")["visual"] = ONE["visual"]
        elif kind == "a link to another file":
            file["audio"] = h5py.ExternalLink("other.h5", "x")
        elif kind == "a typing error":
            file["lables"] = [1]
        elif kind == "far more than its bytes":
            file.create_dataset("audio", (10**6, 1000), "f4", chunks=(1000, 1000), compression="gzip")
        elif kind == "an attribute of another kind":
            file.attrs["frame_seconds"] = "one"


BAD_HDF5 = {
    "groups beside datasets": "has groups and datasets at its root",
    "a link to another file": "link.* to elsewhere",
    "a typing error": "'lables' of shape .* is neither a stream",
    "far more than its bytes": "claim .* variables of 4000000000 bytes",
    "an attribute of another kind": "'frame_seconds' is 'one'; expected a number",
}


@pytest.mark.parametrize("kind", BAD_HDF5)
def test_each_fault_of_an_hdf5_file_is_one_error(kind, tmp_path):
    bad_hdf5(tmp_path / "bad.h5", kind)
    with pytest.raises(ClipFileError, match=BAD_HDF5[kind]):
        list(read_clips(tmp_path / "bad.h5"))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".parquet"])
def test_what_is_no_file_of_arrays_is_one_error(suffix, tmp_path):
    path = tmp_path / f"bad{suffix}"
    for content in (b"", b"text, not arrays", bytes(100)):
        path.write_bytes(content)
        with pytest.raises(Exception, match="bad") as caught:  # a .parquet without features is taken for a catalogue
            list(read_clips(path))
        assert isinstance(caught.value, ClipFileError) or suffix == ".parquet"
    path.unlink()
    path.mkdir()
    with pytest.raises(Exception, match="not an ordinary file"):
        list(read_clips(path))


@MANY
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_damage_is_read_or_is_one_error(suffix, data, tmp_path):
    path = tmp_path / f"damaged{suffix}"
    WRITERS[suffix](path, made_clips((2, 3)))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with suppress(UnreadableError):  # a file, or all in it, of which nothing is left
        list(read_clips(path, on_error="skip", on_skip=lambda error: None))


def test_a_text_that_is_not_utf_8_is_one_error(tmp_path):
    path, text = tmp_path / "a.parquet", pa.array([b"v\xed"], pa.binary()).view(pa.string())
    frames = pa.array([[1.0, 2.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": ["v0"], "dataset": text, "visual": frames}), path)
    with pytest.raises(ClipFileError, match=r"a\.parquet, clip 0: a text is damaged, or not UTF-8"):
        list(read_clips(path))


def write_bomb(path):
    """A small file that claims 400 MB of zeros."""
    shape = (100_000, 1000)
    if path.suffix == ".npz":
        np.savez_compressed(path, visual=np.zeros(shape, np.float32))
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("visual", shape, "f4", chunks=(1000, 1000), compression="gzip")
    else:
        row = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(10**8, np.float32)), 1000)
        pq.write_table(pa.table({"visual": row}), path, use_dictionary=True)


@MANY
def test_a_hostile_file_takes_little_memory(suffix, tmp_path):
    path = tmp_path / f"bomb{suffix}"
    write_bomb(path)
    assert path.stat().st_size < 2_000_000
    code = (
        "import resource, sys; from gmsa_models.data.sources import read_clips; list(read_clips('demo:0'))\n"
        "def most(): return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, -1))\n"
        "before = most()\n"
        "try: list(read_clips(sys.argv[1]))\n"
        "except ValueError as error: print(error)\n"
        "print(most() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    message, grown = done.stdout.splitlines()
    assert re.search("claims? .*400|unpacks to|says", message)
    assert int(grown) < 200_000  # kB


def test_a_clip_that_cannot_be_read_is_skipped_alone(tmp_path):
    clips = made_clips()
    clips[1].features["visual"][0, 0] = np.inf
    write_npz(tmp_path / "a.npz", clips)
    errors = []
    read = list(read_clips(tmp_path / "a.npz", on_error="skip", on_skip=errors.append))
    assert [clip.id for clip in read] == ["clip 0", "clip 2"]
    assert [(error.kind, error.record) for error in errors] == [("frames", 1)]
    assert sorted({clip.id for clip in shuffled_clips(tmp_path / "a.npz", 0, 0, on_skip=errors.append)}) == [
        "clip 0",
        "clip 2",
    ]


def test_a_file_that_is_not_given_is_one_error(tmp_path):
    with pytest.raises(ClipFileError, match="cannot be opened"):
        open_clips(f"{tmp_path}/{'x' * 300}.npz")
