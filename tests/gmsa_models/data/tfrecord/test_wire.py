"""Records that would take far more memory than their bytes are refused before they are parsed."""

import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from references.reading import (
    bytes_feature,
    example,
    features,
    field,
    float_feature,
    int_feature,
    sequence_example,
    varint,
)

from gmsa_models.data.tfrecord import frames, wire
from gmsa_models.data.tfrecord.examples import decode_clip
from gmsa_models.data.tfrecord.extension import EXTENSION
from gmsa_models.data.tfrecord.schema import FeatureList, Features, PackedSequenceExample
from gmsa_models.data.tfrecord.video_level import decode_video_level
from gmsa_models.errors import ContentError

ID = {"id": bytes_feature(b"vid")}
FRAMES = {"rgb": [bytes_feature(b"abc")]}
MANY = 1 << 22


def grown(read, data):
    """MiB that reading takes at most, whatever comes of it."""
    tracemalloc.start()
    try:
        with pytest.raises(ContentError) as caught:
            read(data)
        return tracemalloc.get_traced_memory()[1] / 2**20, str(caught.value)
    finally:
        tracemalloc.stop()


@given(st.lists(st.tuples(st.integers(1, 9000), st.binary(max_size=40))))
def test_fields_are_what_was_written(parts):
    data = b"".join(field(number, content) for number, content in parts)
    found = [(number, data[start:stop]) for number, kind, start, stop in wire.fields(data)]
    assert found == parts


def test_fields_by_hand():
    data = varint(3 * 8) + varint(300) + varint(4 * 8 + 1) + bytes(8) + varint(5 * 8 + 5) + bytes(4) + field(6, b"xy")
    assert [(number, kind, stop - start) for number, kind, start, stop in wire.fields(data)] == [
        (3, 0, 2), (4, 1, 8), (5, 5, 4), (6, 2, 2),
    ]  # fmt: skip


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_an_error(data):
    try:
        spans = list(wire.fields(data))
    except ContentError:
        return
    assert all(start <= stop <= len(data) for _, _, start, stop in spans)


@given(st.lists(st.binary(max_size=20), max_size=5), st.binary(max_size=6))
def test_frames_are_those_of_protobuf(frames, rest):
    packed = b"".join(field(1, frame) for frame in frames) + rest
    try:
        parsed = len(FeatureList.FromString(packed).feature)
    except Exception:
        return  # ours is stricter nowhere that protobuf is content
    try:
        assert len(list(wire.frame_messages(packed))) == parsed
    except ContentError:
        assert rest  # groups and field 0, which no writer makes


def protobuf_parts(data):
    """Context and frame lists as protobuf has them; None where it refuses the bytes."""
    try:
        message = PackedSequenceExample.FromString(data)
    except Exception:
        return None
    return message.context.SerializeToString(deterministic=True), dict(message.feature_lists.feature_list)


def same_parts(data):
    """Whether the parts are those of protobuf, where there are parts at all."""
    parts = wire.usual_parts(data)
    if parts is None:
        return True
    try:
        context = Features.FromString(parts[0])
    except Exception:
        return protobuf_parts(data) is None  # and its caller says so
    packed = {name: bytes(view) for name, view in parts[1].items()}
    return protobuf_parts(data) == (context.SerializeToString(deterministic=True), packed)


NAMES = st.sampled_from(["rgb", "audio", "", "é"])


@given(st.lists(st.tuples(NAMES, st.binary(max_size=300)), min_size=1, max_size=4), st.binary(max_size=8))
def test_the_usual_form_is_what_protobuf_reads(lists, identity):
    context = field(1, field(1, b"id") + field(2, bytes_feature(identity)))
    entries = [field(1, field(1, name.encode()) + field(2, packed)) for name, packed in lists]
    data = field(1, context) + field(2, b"".join(entries))
    assert wire.usual_parts(data) is not None
    assert same_parts(data)


@given(st.data())
def test_any_other_form_is_left_to_protobuf_or_read_alike(data):
    whole = sequence_example(ID, {"rgb": [bytes_feature(b"abc")] * 2, "audio": [bytes_feature(b"d")] * 2})
    place = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.integers(0, 3))
    assert same_parts(whole[:place] + data.draw(st.binary(max_size=3)) + whole[place + cut :])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        field(1, b""),
        field(2, b"") + field(1, b""),
        sequence_example(ID, FRAMES) * 2,
        sequence_example(ID, FRAMES) + field(3, b""),
        field(1, b"") + field(2, field(1, field(2, b"x") + field(1, b"rgb"))),
        field(1, b"") + field(2, field(1, field(1, b"rgb"))),
        field(1, b"") + field(2, field(1, field(1, b"\xff") + field(2, b"x"))),
        field(1, b"") + field(2, field(1, field(1, b"rgb") + field(2, b"x") + field(3, b""))),
        field(1, b"") + field(2, field(1, field(1, b"rgb") + field(2, b"x")))[:-1],
        field(1, b"") + b"\x12\xff\xff\xff\xff\x00",
        field(1, b"") + field(2, field(1, field(1, b"") + field(2, b"")) * (wire.MOST_LISTS + 1)),
    ],
)
def test_what_is_not_the_usual_form(data):
    assert wire.usual_parts(data) is None


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (
            lambda: sequence_example(ID, {"rgb": [bytes_feature(b"a")] * (wire.MOST_FRAMES + 1)}),
            "more than 100000 frames",
        ),
        (lambda: field(1, features(**ID)) + field(2, features(rgb=field(1, b"") * MANY)), "frame 0: holds nothing"),
        (lambda: sequence_example(ID, {"rgb": [field(3, field(1, bytes(MANY - 99)))]}), "frame 0: holds a int64_list"),
        (lambda: sequence_example(ID, {"rgb": [field(3, field(1, bytes(2 * MANY)))]}), "frame 0 has 8388"),
        (
            lambda: sequence_example(ID | {"labels": int_feature(*range(1, 101)) * 1001}, FRAMES),
            "has 100100 values; at most",
        ),
        (lambda: sequence_example(ID | {"x": bytes_feature(bytes(2 * MANY))}, FRAMES), "context has 8388.* at most"),
        (lambda: sequence_example(ID, FRAMES) + field(2, field(1, b"") * MANY), "more than 1000 frame"),
        (lambda: sequence_example(ID, FRAMES) + field(7, bytes(2 * MANY)), "has a field 7"),
        (lambda: sequence_example(ID, FRAMES) + field(1, bytes(2 * MANY))[:-9], "ends 9 bytes after"),
    ],
)
def test_what_would_swell_is_refused(make, part):
    data = make()
    mib, message = grown(decode_clip, data)
    assert part in message or re.search(part, message)
    assert mib < 200 + len(data) / 2**20


def test_a_width_seen_before_changes_no_limit(monkeypatch):
    for module in (wire, frames):
        monkeypatch.setattr(module, "MOST_FRAMES", 50)
    for count in (2, 50):
        clip = decode_clip(sequence_example(ID, {"rgb": [bytes_feature(b"abcde")] * count}))
        assert clip.features["visual"].shape == (count, 5)
    with pytest.raises(ContentError, match="more than 50 frames"):
        decode_clip(sequence_example(ID, {"rgb": [bytes_feature(b"abcde")] * 51}))


def test_a_video_level_record_has_one_vector():
    mib, message = grown(decode_video_level, example(**ID, mean_rgb=float_feature(*[0.0] * MANY)))
    assert "one vector a modality" in message
    assert mib < 20


def test_large_honest_records_are_read():
    clip = decode_clip(sequence_example(ID, {"rgb": [bytes_feature(bytes(1000))] * 5000}))
    assert clip.features["visual"].shape == (5000, 1000)


@pytest.mark.parametrize(
    "content",
    [
        b'{"version":1,"frame_seconds":1' + b"0" * 400 + b',"start_seconds":0,"segments":[]}',
        b'{"version":1,"frame_seconds":1,"start_seconds":0,"segments":[[0,1' + b"0" * 400 + b',[],[],"",""]]}',
        b'{"version":true,"frame_seconds":1,"start_seconds":0,"segments":[]}',
        b'{"version":1,"frame_seconds":1,"start_seconds":0,"segments":[[0,1,[true],[],"",""]]}',
        b'{"version":1,"frame_seconds":1,"start_seconds":0,"segments":{"a":1}}',
    ],
)
def test_numbers_too_large_and_types_that_look_alike(content):
    with pytest.raises(ContentError, match=EXTENSION):
        decode_clip(sequence_example(ID | {EXTENSION: bytes_feature(content)}, FRAMES))


def test_messages_stay_short():
    for data in (
        sequence_example({"x" * 100_000: bytes_feature(b"a")}, FRAMES),
        sequence_example(ID, {"x" * 100_000: [b""]}),
        sequence_example({"id": bytes_feature(b"i" * 100_000)}, {}),
    ):
        with pytest.raises(ContentError) as caught:
            decode_clip(data)
        assert len(str(caught.value)) < 500
