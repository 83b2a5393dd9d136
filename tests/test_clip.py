import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from references_reading import dequantize_value

from gmsa_models.data.clip import Batch, Clip, ClipError, Segment, dequantize, quantize
from gmsa_models.data.vocabulary import Vocabulary

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
