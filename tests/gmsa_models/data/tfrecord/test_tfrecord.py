import contextlib
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from references.reading import (
    bytes_feature,
    example,
    features,
    field,
    float_feature,
    int_feature,
    record,
    sequence_example,
)

from gmsa_models.data.clip import LARGEST_LABEL, Clip, Segment
from gmsa_models.data.formats import read_file
from gmsa_models.data.tfrecord.errors import TFRecordError
from gmsa_models.data.tfrecord.examples import decode_clip, encode_clip
from gmsa_models.data.tfrecord.extension import EXTENSION
from gmsa_models.data.tfrecord.files import read_video_level, write_clips
from gmsa_models.data.tfrecord.schema import SequenceExample
from gmsa_models.errors import ContentError
from tests.gmsa_models.data.test_clip import clip

SOME_FRAMES = {
    "rgb": [bytes_feature(b"abc"), bytes_feature(b"def")],
    "audio": [bytes_feature(b"x"), bytes_feature(b"y")],
}


def assert_same(clip, other):
    assert (clip.id, clip.labels, clip.segments) == (other.id, other.labels, other.segments)
    assert (clip.frame_seconds, clip.start_seconds) == (other.frame_seconds, other.start_seconds)
    assert set(clip.features) == set(other.features)
    for modality, values in clip.features.items():
        np.testing.assert_array_equal(values, other.features[modality])
        assert other.features[modality].dtype == (np.uint8 if values.dtype == np.uint8 else np.float32)


def write(tmp_path, data, name="x.tfrecord"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


# Records


def test_youtube_8m_by_hand():
    data = sequence_example({"id": bytes_feature(b"SjJ3"), "labels": int_feature(11, 300)}, SOME_FRAMES)
    clip = decode_clip(data, "f")
    assert (clip.id, clip.labels, clip.source, clip.segments) == ("SjJ3", (11, 300), "f#SjJ3", ())
    assert list(clip.features) == ["visual", "audio"]
    assert clip.features["visual"].tolist() == [list(b"abc"), list(b"def")]
    assert clip.features["audio"].tolist() == [list(b"x"), list(b"y")]


def test_segment_ratings_by_hand():
    rated = {
        "segment_labels": int_feature(5, 6),
        "segment_start_times": int_feature(10, 40),
        "segment_end_times": int_feature(15, 45),
        "segment_scores": float_feature(1.0, 0.0),
    }
    expected = (Segment(10.0, 15.0, (5,), (1.0,), "rated"), Segment(40.0, 45.0, (6,), (0.0,), "rated"))
    assert decode_clip(sequence_example({"id": bytes_feature(b"a"), **rated}, SOME_FRAMES)).segments == expected
    del rated["segment_end_times"], rated["segment_scores"]
    segments = decode_clip(sequence_example({"id": bytes_feature(b"a"), **rated}, SOME_FRAMES)).segments
    assert segments == (Segment(10.0, 15.0, (5,), (), "rated"), Segment(40.0, 45.0, (6,), (), "rated"))


def test_audioset_by_hand():
    context = {
        "video_id": bytes_feature(b"--4g"),
        "start_time_seconds": float_feature(30.0),
        "end_time_seconds": float_feature(40.0),
        "labels": int_feature(72),
    }
    clip = decode_clip(sequence_example(context, {"audio_embedding": [bytes_feature(b"ab")] * 3}))
    assert (clip.id, clip.labels, clip.start_seconds) == ("--4g", (72,), 30.0)
    assert clip.features["audio"].shape == (3, 2)


def test_features_that_nobody_asked_for_do_no_harm():
    context = {"id": bytes_feature(b"a"), "title": bytes_feature(b"\xff", b"x"), "empty": b""}
    lists = SOME_FRAMES | {"motion": [float_feature(0.5, 1.5)] * 2}
    clip = decode_clip(sequence_example(context, lists) + field(9, b"unknown field"))
    assert clip.features["motion"].tolist() == [[0.5, 1.5]] * 2
    assert clip.features["motion"].dtype == np.float32


ID = {"id": bytes_feature(b"vid")}
RATED = {"segment_labels": int_feature(1, 2), "segment_start_times": int_feature(1)}


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"\xff\xff\xff", "not a SequenceExample"),
        (b"", "neither 'id' nor 'video_id'.*nothing"),
        (sequence_example({"name": bytes_feature(b"a")}, SOME_FRAMES), r"neither 'id' nor 'video_id'.*\['name'\]"),
        (sequence_example({"id": bytes_feature()}, SOME_FRAMES), "'id' has 0 values"),
        (sequence_example({"id": bytes_feature(b"a", b"b")}, SOME_FRAMES), "'id' has 2 values"),
        (sequence_example({"id": int_feature(3)}, SOME_FRAMES), "'id' holds int; expected bytes"),
        (sequence_example({"id": bytes_feature(b"\xff")}, SOME_FRAMES), "expected UTF-8"),
        (sequence_example(ID | {"labels": float_feature(1.0)}, SOME_FRAMES), "'labels' holds float"),
        (sequence_example(ID | {"labels": field(3, field(1, b"\xff" * 9 + b"\x01"))}, SOME_FRAMES), "'labels' has -1"),
        (sequence_example(ID, {}), "'vid' has no frame lists; expected 'rgb'"),
        (example(**ID, mean_rgb=float_feature(1.0)), "video-level record: use read_video_level"),
        (sequence_example(ID, {"rgb": []}), "'rgb' has 0 frames"),
        (sequence_example(ID, {"rgb": [b""]}), "'rgb', frame 0: holds nothing"),
        (sequence_example(ID, {"rgb": [bytes_feature(b"")]}), "frame 0: holds an empty string"),
        (sequence_example(ID, {"rgb": [bytes_feature(b"a", b"b")]}), "frame 0: holds a bytes_list of 2"),
        (sequence_example(ID, {"rgb": [int_feature(1)]}), "frame 0: holds a int64_list of 1"),
        (sequence_example(ID, {"rgb": [bytes_feature(b"ab"), bytes_feature(b"a")]}), "frame 1: 1 uint8.*frame 0 has 2"),
        (sequence_example(ID, {"rgb": [bytes_feature(b"a"), float_feature(1)]}), "frame 1: 1 float32.*frame 0 has 1 u"),
        (sequence_example(ID, {"rgb": [float_feature(1, float("nan"))]}), "frame 0: value 1 is nan"),
        (sequence_example(ID, {"rgb": [float_feature(float("inf"))]}), "frame 0: value 0 is inf"),
        (sequence_example(ID, {"rgb": [bytes_feature(b"a")] * 2, "audio": [bytes_feature(b"a")]}), "differ in frames"),
        (sequence_example(ID, {"audio": [bytes_feature(b"a")], "audio_embedding": [bytes_feature(b"a")]}), "two lists"),
        (sequence_example(ID | RATED, SOME_FRAMES), "segment features differ in length"),
        (
            sequence_example(ID | {"start_time_seconds": float_feature(float("nan"))}, SOME_FRAMES),
            "is nan; exp",
        ),
        (field(1, features(**ID)) + field(2, field(1, field(1, b"rgb") + field(2, b"\x0a\x05a"))), "not a FeatureList"),
    ],
)
def test_bad_records_say_what_is_wrong(tmp_path, data, part):
    with pytest.raises(ContentError, match=part):
        decode_clip(data)
    path = write(tmp_path, record(data) + record(sequence_example(ID, SOME_FRAMES)))
    with pytest.raises(TFRecordError, match=f"record 0 at byte 0.*{part}"):
        list(read_file(path))
    errors = []
    assert [clip.id for clip in read_file(path, errors.append)] == ["vid"]
    assert len(errors) == 1


EXTENSIONS = [
    (b"", "not JSON"),
    (b"{", "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b"[1]", "version None"),
    (b'{"version":2}', "version 2; this software reads 1"),
    (b'{"version":1,"frame_seconds":0,"start_seconds":0,"segments":[]}', "more than 0"),
    (b'{"version":1,"frame_seconds":NaN,"start_seconds":0,"segments":[]}', "not a finite"),
    (b'{"version":1,"frame_seconds":1,"start_seconds":"0","segments":[]}', "not a finite"),
    (b'{"version":1,"frame_seconds":1,"start_seconds":0,"segments":[[1]]}', "cannot be read"),
    (b'{"version":1,"frame_seconds":1,"start_seconds":0,"segments":[[0,1,[-1],[],"",""]]}', "labels are"),
    (b'{"version":1,"frame_seconds":1,"start_seconds":0,"segments":[[0,1,[],[],3,""]]}', "kind and origin"),
    (b'{"version":1,"frame_seconds":1,"start_seconds":0,"segments":[[2,1,[],[],"",""]]}', "ends before"),
    (b"9" * (1 << 21), "at most"),
]


@pytest.mark.parametrize(("extension", "part"), EXTENSIONS)
def test_bad_extensions(extension, part):
    with pytest.raises(ContentError, match=f"{EXTENSION}.*{part}"):
        decode_clip(sequence_example(ID | {EXTENSION: bytes_feature(extension)}, SOME_FRAMES))


@pytest.mark.parametrize("frames", [1, 300, 5000])
def test_any_number_of_frames(frames):
    assert_same(clip(frames=frames), decode_clip(encode_clip(clip(frames=frames))))


def test_fast_and_full_parsing_agree():
    """A width seen before takes the fast path; the full schema reads the same bytes the slow way."""
    known = clip(visual=1024, audio=128)
    for one in (known, clip(visual=1021, audio=131), known):
        data = encode_clip(one)
        lists = SequenceExample.FromString(data).feature_lists.feature_list
        for name, modality in (("rgb", "visual"), ("audio", "audio")):
            slow = [list(frame.bytes_list.value[0]) for frame in lists[name].feature]
            np.testing.assert_array_equal(decode_clip(data).features[modality], slow)


# Writing, and reading it back

seconds = st.floats(0, 1e6)


@st.composite
def segment_parts(draw):
    start, end = sorted((draw(seconds), draw(seconds)))
    labels = draw(st.lists(st.integers(0, LARGEST_LABEL), max_size=3))
    scores = draw(st.sampled_from([(), tuple(0.1 * number for number in range(len(labels)))]))
    kind = draw(st.sampled_from(["event", "background", "rated"]))
    return start, end, tuple(labels), scores, kind, draw(st.text(max_size=4))


@st.composite
def clip_parts(draw):
    frames = draw(st.integers(1, 7))
    kinds = st.sampled_from([(np.uint8, st.integers(0, 255)), (np.float32, st.floats(-1e6, 1e6, width=32))])
    features = {}
    for name in draw(st.lists(st.sampled_from(["visual", "audio", "motion"]), min_size=1, unique=True)):
        kind, values = draw(kinds)
        features[name] = draw(arrays.arrays(kind, (frames, draw(st.integers(1, 5))), elements=values))
    return {
        "id": draw(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=5)),
        "features": features,
        "labels": tuple(draw(st.lists(st.integers(0, LARGEST_LABEL), max_size=4))),
        "frame_seconds": draw(st.sampled_from([1.0, 0.96, 1 / 3])),
        "start_seconds": draw(st.sampled_from([0.0, 30.1])),
        "segments": draw(st.lists(segment_parts(), max_size=3)),
    }


# The parts are drawn and the clips made here: a clip's construction is type-checked at random places, and hypothesis
# wants no randomness but its own while it draws.
@given(st.lists(clip_parts(), min_size=1, max_size=3, unique_by=lambda one: one["id"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
def test_round_trip(tmp_path, parts):
    written = [Clip(**one | {"segments": tuple(Segment(*segment) for segment in one["segments"])}) for one in parts]
    path = tmp_path / "r.tfrecord"
    assert write_clips(path, iter(written)) == len(written)
    for one, other in zip(written, read_file(path), strict=True):
        assert_same(one, other)


@given(st.binary(max_size=120))
def test_arbitrary_bytes_raise_nothing_else(data):
    with pytest.raises(ContentError):
        decode_clip(data)


WHOLE = encode_clip(clip(frames=3, labels=(1,), segments=(Segment(0.0, 1.5, (3,)),)))


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300)
def test_mutations_with_right_checksums_raise_nothing_else(changes):
    data = bytearray(WHOLE)
    for position, value in changes:
        data[position] = value
    with contextlib.suppress(ContentError):
        decode_clip(bytes(data))


def test_events_are_youtube_8m_segments_to_other_readers():
    spans = (
        Segment(0.0, 4.0, (), kind="background", origin="bg"),
        Segment(4.0, 12.5, (7, 9), kind="event", origin="ev"),
    )
    context = SequenceExample.FromString(encode_clip(clip(segments=spans))).context.feature
    assert list(context["segment_labels"].int64_list.value) == [7, 9]
    assert list(context["segment_start_times"].int64_list.value) == [4, 4]
    assert list(context["segment_end_times"].int64_list.value) == [13, 13]
    assert list(context["segment_scores"].float_list.value) == [1.0, 1.0]


def test_what_youtube_8m_can_say_needs_no_extension():
    plain = encode_clip(clip(segments=(Segment(10.0, 15.0, (5,), (1.0,), "rated"),)))
    assert EXTENSION not in SequenceExample.FromString(plain).context.feature
    assert EXTENSION in SequenceExample.FromString(encode_clip(clip(frame_seconds=0.96))).context.feature


def test_same_clips_same_bytes():
    one = clip(segments=(Segment(0.0, 1.5, (3,)),))
    turned = Clip("a", dict(reversed(one.features.items())), segments=one.segments)
    assert encode_clip(one) == encode_clip(turned)


def test_clips_that_cannot_be_written():
    with pytest.raises(ContentError, match="do not fit float32"):
        encode_clip(Clip("a", {"visual": np.array([[1e300]])}))
    with pytest.raises(ContentError, match="'rgb' would be read back as 'visual'"):
        encode_clip(Clip("a", {"rgb": np.zeros((1, 1), np.uint8)}))


def test_writing_is_all_or_nothing(tmp_path):
    path = tmp_path / "w.tfrecord"
    write_clips(path, [clip("old")])

    def broken():
        yield clip("new")
        raise RuntimeError("the maker of clips failed")

    with pytest.raises(RuntimeError):
        write_clips(path, broken())
    with pytest.raises(ValueError, match="no clips to write"):
        write_clips(path, [])
    assert [one.id for one in read_file(path)] == ["old"]
    assert os.listdir(tmp_path) == ["w.tfrecord"]


def test_the_tfrecord_package_reads_what_we_write(tmp_path):
    reader = pytest.importorskip("tfrecord.reader")
    one = clip(labels=(4, 5))
    write_clips(tmp_path / "w.tfrecord", [one])
    kinds = {"id": "byte", "labels": "int"}, {"rgb": "byte", "audio": "byte"}
    ((context, lists),) = reader.sequence_loader(str(tmp_path / "w.tfrecord"), None, *kinds)
    assert bytes(context["id"]) == b"a"
    assert list(context["labels"]) == [4, 5]
    np.testing.assert_array_equal(np.stack([np.frombuffer(x, np.uint8) for x in lists["rgb"]]), one.features["visual"])


# Video level


def test_video_level_by_hand(tmp_path):
    means = {"mean_rgb": float_feature(0.5, -0.25, 1.0), "mean_audio": float_feature(2.0)}
    path = write(tmp_path, record(example(id=bytes_feature(b"ab"), labels=int_feature(3, 4), **means)))
    (video,) = read_video_level(path)
    assert (video.id, video.labels) == ("ab", (3, 4))
    assert video.features["visual"].tolist() == [0.5, -0.25, 1.0]
    assert video.features["audio"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"\xff", "not an Example"),
        (example(**ID), "none of.*read_clips"),
        (sequence_example(ID, SOME_FRAMES), "none of.*read_clips"),
        (example(**ID, mean_rgb=float_feature()), "'mean_rgb' has 0 values"),
        (example(**ID, mean_rgb=float_feature(float("nan"))), "all finite"),
        (example(**ID, mean_rgb=int_feature(1)), "holds int; expected float"),
    ],
)
def test_bad_video_level_records(tmp_path, data, part):
    path = write(tmp_path, record(data))
    with pytest.raises(TFRecordError, match=f"record 0 at byte 0.*{part}"):
        list(read_video_level(path))
    errors = []
    assert list(read_video_level(path, on_error="skip", on_skip=errors.append)) == []
    assert len(errors) == 1


# Real data


@pytest.mark.shared_data
def test_the_real_frame_level_video(shared_data):
    (clip,) = read_file(shared_data / "yt8m_frame_SjJ3.tfrecord")
    assert (clip.id, clip.frames, clip.labels) == ("SjJ3", 170, (11,))
    assert {modality: values.shape[1] for modality, values in clip.features.items()} == {"visual": 1024, "audio": 128}


@pytest.mark.shared_data
@pytest.mark.parametrize("part", ["bal_train", "eval"])
def test_every_audioset_file_reads(shared_data, part):
    seen = [clip for path in sorted((shared_data / "audioset").glob(f"{part}-*")) for clip in read_file(path)]
    assert len(seen) == {"bal_train": 22160, "eval": 10114}[part]
    assert len({clip.id for clip in seen}) == len(seen)
    assert all(clip.features["audio"].shape[1] == 128 and 1 <= clip.frames <= 10 for clip in seen)
    assert all(clip.labels and max(clip.labels) < 527 for clip in seen)


@pytest.mark.shared_data
def test_the_real_video_level_shards(shared_data):
    videos = list(read_video_level(shared_data / "yt8m_video_level_shards" / "*.tfrecord"))
    assert len(videos) == 559
    assert all(
        video.features["visual"].shape == (1024,) and video.features["audio"].shape == (128,) for video in videos
    )
    assert all(video.labels and max(video.labels) < 3862 for video in videos)
