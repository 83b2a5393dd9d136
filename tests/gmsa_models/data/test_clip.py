import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from references.reading import dequantize_value
from small_models import small_model

from analysis.inspect.clips import inspect_clip
from analysis.view import features_sha256
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Clip, ClipError, Segment, dequantize, quantize
from gmsa_models.data.tfrecord.examples import decode_clip, encode_clip
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.feeding import Collation

VOCABULARY = Vocabulary("toy", (7, 3, 11), ("seven", "three", "eleven"))


def clip(name="a", frames=5, labels=(), dtype=np.uint8, visual=3, audio=2, **others):
    random = np.random.default_rng(frames)
    features = {
        "visual": random.integers(0, 256, (frames, visual)).astype(dtype),
        "audio": random.integers(0, 256, (frames, audio)).astype(dtype),
    }
    return Clip(name, features, labels, **others)


def test_dequantize_is_the_starter_codes_formula():
    values = np.arange(256, dtype=np.uint8)
    expected = [dequantize_value(int(value)) for value in values]
    # TensorFlow computes it in float32, from constants rounded to float32.
    scalar, bias = np.float32(4 / 255), np.float32(4 / 512 - 2)
    np.testing.assert_array_equal(dequantize(values), values.astype(np.float32) * scalar + bias)
    np.testing.assert_allclose(dequantize(values), expected, atol=3e-7, rtol=0)


def test_dequantize_by_hand():
    assert dequantize(np.array([0], np.uint8))[0] == -1.9921875
    assert dequantize(np.array([255], np.uint8))[0] == pytest.approx(2.0078125)


def test_quantize_inverts_dequantize_and_clips():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(quantize(dequantize(values)), values)
    np.testing.assert_array_equal(quantize(np.array([-9.0, 9.0])), [0, 255])


@given(st.floats(-1.99, 2.0))
def test_quantize_is_the_nearest(value):
    nearest = np.abs(dequantize(np.arange(256, dtype=np.uint8)).astype(float) - value)
    assert nearest[quantize(np.array([value]))[0]] <= nearest.min() + 1e-6


@pytest.mark.parametrize(
    ("features", "part"),
    [
        ({}, "no features"),
        ({"visual": np.zeros(3, np.uint8)}, r"'visual' has shape \(3,\)"),
        ({"visual": np.zeros((3, 0), np.uint8)}, r"shape \(3, 0\)"),
        ({"visual": np.zeros((0, 3), np.uint8)}, "0 frames"),
        ({"visual": np.zeros((3, 2), np.uint8), "audio": np.zeros((4, 2), np.uint8)}, "'visual': 3, 'audio': 4"),
        ({"visual": np.zeros((3, 2), np.int32)}, "int32; expected uint8"),
        ({"visual": np.array([[0.0], [np.nan]])}, "frame 1 that is not finite"),
        ({"visual": np.array([[np.inf], [0.0]], np.float32)}, "frame 0 that is not finite"),
    ],
)
def test_clip_refuses_features(features, part):
    with pytest.raises(ClipError, match=f"clip 'x'.*{part}"):
        Clip("x", features)


@pytest.mark.parametrize(
    "times", [{"frame_seconds": 0.0}, {"frame_seconds": np.inf}, {"start_seconds": np.nan}, {"start_seconds": -1e11}]
)
def test_clip_refuses_times(times):
    with pytest.raises(ClipError, match="expected a start within"):
        clip(**times)


def test_clip_times_and_cut():
    whole = clip(frames=5, frame_seconds=0.5, start_seconds=30.0)
    np.testing.assert_array_equal(whole.seconds, [30.0, 30.5, 31.0, 31.5, 32.0])
    part = whole.cut(2)
    assert part.frames == 2
    np.testing.assert_array_equal(part.features["audio"], whole.features["audio"][:2])
    assert whole.cut(5) is whole


def test_clip_floats():
    quantised, floating = clip(), clip(dtype=np.float16)
    np.testing.assert_array_equal(quantised.floats("visual"), dequantize(quantised.features["visual"]))
    assert floating.floats("audio").dtype == np.float32
    np.testing.assert_array_equal(floating.floats("audio"), floating.features["audio"])
    with pytest.raises(KeyError, match=r"'a' has no modality 'motion'.*audio.*visual"):
        quantised.floats("motion")


def test_segment_checks():
    with pytest.raises(ClipError, match=r"5\.0 to 4\.0"):
        Segment(5.0, 4.0)
    with pytest.raises(ClipError, match="1 scores for 2 labels"):
        Segment(0.0, 1.0, (1, 2), (1.0,))


def test_batch_pads_behind_and_keeps_values():
    clips = [clip("a", 2, (3, 99)), clip("b", 5, (7, 11)), clip("c", 3)]
    batch = Batch.from_clips(clips, vocabulary=VOCABULARY)
    assert batch.ids == ("a", "b", "c")
    assert len(batch) == 3
    assert not batch.full
    assert batch.valid.sum(1).tolist() == [2, 5, 3]
    torch.testing.assert_close(batch.labels, torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 0, 0]]))
    for row, one in enumerate(clips):
        values = batch.features["visual"][row]
        torch.testing.assert_close(values[: one.frames], torch.from_numpy(one.floats("visual")), rtol=0, atol=0)
        assert not values[one.frames :].any()


def test_batch_takes_modalities_in_order_and_cuts():
    batch = Batch.from_clips([clip(frames=5), clip(frames=7)], modalities=("audio",), max_frames=3)
    assert {name: tuple(values.shape) for name, values in batch.features.items()} == {"audio": (2, 3, 2)}
    assert batch.full
    assert batch.labels is None


def test_batch_moves():
    batch = Batch.from_clips([clip()], vocabulary=VOCABULARY).to(dtype=torch.float64)
    assert batch.features["visual"].dtype == torch.float64
    assert batch.labels.dtype == torch.float32


def test_batch_errors():
    with pytest.raises(ClipError, match="at least one clip"):
        Batch.from_clips([])
    with pytest.raises(ClipError, match="'b': 'visual' is 5 wide; clip 'a' has 3"):
        Batch.from_clips([clip("a"), clip("b", visual=5)])
    with pytest.raises(KeyError, match="no modality 'motion'"):
        Batch.from_clips([clip()], modalities=("motion",))


# What may come in: Clip takes it and holds Python's numbers, and arrays that everything behind it can use


@st.composite
def any_array(draw, frames=4, dim=3):
    """Frames in any type, layout and order of bytes, and the values that they hold."""
    kind = draw(st.sampled_from(["u1", "f2", "f4", "f8", ">f2", ">f4", ">f8"]))
    values = np.asarray(draw(st.lists(st.integers(0, 255), min_size=frames * dim, max_size=frames * dim)))
    values = values.reshape(frames, dim).astype(kind)
    layout = draw(st.sampled_from(["plain", "flipped", "mirrored", "transposed", "strided", "read-only"]))
    if layout == "flipped":
        values = values[::-1].copy()[::-1]
    elif layout == "mirrored":
        values = values[:, ::-1].copy()[:, ::-1]
    elif layout == "transposed":
        values = np.asfortranarray(values)
    elif layout == "strided":
        values = np.repeat(values, 2, axis=0)[::2]
    elif layout == "read-only":
        values.flags.writeable = False
    return values


@given(any_array(), any_array(dim=2))
def test_any_layout_and_precision_comes_to_the_same_tensors(visual, audio):
    made = Clip("a", {"visual": visual, "audio": audio}, labels=np.array([3, 7]))
    plain = Clip("a", {"visual": np.array(visual, visual.dtype.newbyteorder("=")), "audio": audio.copy()}, (3, 7))
    for modality, values in (("visual", visual), ("audio", audio)):
        held = made.features[modality]
        assert held.flags.c_contiguous
        assert held.dtype.isnative
        assert held.dtype.itemsize == values.dtype.itemsize
        np.testing.assert_array_equal(held, values)
        assert made.floats(modality).flags.writeable
    batch, expected = (Batch.from_clips([one], vocabulary=VOCABULARY) for one in (made, plain))
    raw = Collation(("visual", "audio"), VOCABULARY, 9)([made]).batch()
    for modality, values in expected.features.items():
        torch.testing.assert_close(batch.features[modality], values, rtol=0, atol=0)
        torch.testing.assert_close(raw.features[modality], values, rtol=0, atol=0)
    assert features_sha256(made) == features_sha256(plain)
    assert encode_clip(made) == encode_clip(plain)
    np.testing.assert_array_equal(quantize(made.floats("visual")), quantize(plain.floats("visual")))


@given(any_array(frames=5, dim=12))
@settings(max_examples=20, deadline=None)
def test_a_model_sees_any_layout(visual):
    model = small_model("baseline", modalities=("visual",))
    record = inspect_clip(model, Clip("a", {"visual": visual}))
    plain = inspect_clip(model, Clip("a", {"visual": visual.astype(visual.dtype.newbyteorder("="), order="C")}))
    xr.testing.assert_identical(record, plain)


INTEGERS = (int, np.int8, np.uint8, np.int64, np.array, torch.tensor)
REALS = (float, int, np.float16, np.float32, np.float64, np.int64, np.array, torch.tensor)


@given(st.sampled_from(INTEGERS), st.sampled_from(REALS), st.sampled_from([list, tuple, iter, np.array]))
def test_any_number_becomes_pythons(integer, real, sequence):
    labels = [integer(number) for number in (3, 7)]
    segment = Segment(real(1), real(2), sequence(labels), [real(1), real(0)])
    made = clip(frames=3, labels=sequence(labels), frame_seconds=real(2), start_seconds=real(4), segments=[segment])
    assert made.labels == (3, 7) == segment.labels
    assert {type(label) for label in made.labels + segment.labels} == {int}
    assert (made.frame_seconds, made.start_seconds, segment.start, segment.scores) == (2.0, 4.0, 1.0, (1.0, 0.0))
    numbers = (made.frame_seconds, made.start_seconds, segment.start, segment.end, *segment.scores)
    assert {type(number) for number in numbers} == {float}
    assert made.segments == (segment,)
    again = decode_clip(encode_clip(made))
    assert (again.labels, again.segments, again.start_seconds) == (made.labels, made.segments, 4.0)


def test_arrays_that_fit_are_not_copied():
    values = np.zeros((4, 3), np.uint8)
    values.flags.writeable = False
    assert Clip("a", {"visual": values}).features["visual"] is values
    half = np.zeros((4, 3), np.float16)
    assert Clip("a", {"visual": half}).features["visual"] is half


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"labels": 3}, "has labels 3; expected a sequence of whole numbers"),
        ({"labels": "37"}, "has labels '37'; expected a sequence"),
        ({"labels": [3.5]}, r"has labels \[3\.5\]"),
        ({"labels": np.array([True, False])}, "expected a sequence of whole numbers"),
        ({"labels": np.array([-1])}, "labels from -1 to -1"),
        ({"frame_seconds": "1"}, "frame_seconds is '1'; expected a number"),
        ({"frame_seconds": np.ones(2)}, "frame_seconds is array.*expected a number"),
        ({"start_seconds": 1j}, "start_seconds is 1j"),
        ({"segments": [(0, 1)]}, r"has the segment \(0, 1\); expected a Segment"),
        ({"features": {"visual": np.ma.masked_equal(np.ones((2, 2)), 1)}}, "'visual' is a masked array"),
        ({"features": {"visual": [[1.0], [1.0, 2.0]]}}, "'visual' is no array"),
        ({"features": {"visual": [[1, 2]]}}, "int64; expected uint8 or floating point"),
    ],
)
def test_a_clip_says_what_it_cannot_take(changes, part):
    values = {"features": {"visual": np.zeros((2, 2), np.uint8)}} | changes
    with pytest.raises(ClipError, match=part):
        Clip("x", **values)


@pytest.mark.parametrize("changes", [{"start": "0"}, {"end": float("nan")}, {"labels": (1.5,)}, {"scores": ("high",)}])
def test_a_segment_says_what_it_cannot_take(changes):
    with pytest.raises(ClipError, match="a segment"):
        Segment(**{"start": 0.0, "end": 1.0, "labels": (1,)} | changes)
