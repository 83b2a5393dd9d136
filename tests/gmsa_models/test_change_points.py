"""Change points: against every segmentation there is, by hand, where costs tie, and on montages that know theirs."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmsa_models.change_points import change_points, frame_kernel, segmentation
from gmsa_models.data.montage.make import demo_clip


def scatter(kernel, first, stop):
    own = kernel[first:stop, first:stop]
    return np.trace(own) - own.sum() / (stop - first)


def cost(kernel, penalty, starts):
    return sum(scatter(kernel, *pair) + penalty for pair in pairwise((*starts, len(kernel))))


def noise(frames, width=3, seed=0):
    return np.random.default_rng(seed).normal(size=(frames, width)).astype(np.float32)


@given(frames=st.integers(1, 8), penalty=st.floats(0, 3), seed=st.integers(0, 99))
def test_no_segmentation_costs_less(frames, penalty, seed):
    kernel = frame_kernel({"one": noise(frames, seed=seed), "other": noise(frames, 5, seed + 1)})
    every = [(0, *rest) for count in range(frames) for rest in combinations(range(1, frames), count)]
    least = min(cost(kernel, penalty, starts) for starts in every)
    assert cost(kernel, penalty, segmentation(kernel, penalty)) == pytest.approx(least, abs=1e-4)


def test_known_segments_of_several_lengths():
    starts = (0, 5, 6, 30, 71)
    lengths = np.diff((*starts, 100))
    levels = np.repeat(noise(5, 20), lengths, axis=0)
    features = {"visual": levels + 0.1 * noise(100, 20, 1), "audio": 0.1 * noise(100, 9, 2)}
    assert change_points({"visual": features["visual"]}, 1.0) == (0, 5, 6, 30, 71)
    scaled = {"audio": features["audio"], "visual": 1000 * features["visual"] - 70}
    assert change_points(scaled, 2.0) == change_points(features, 2.0), "neither order, scale nor offset counts"


def test_one_segment_and_a_segment_a_frame():
    features = {"visual": noise(40, 50)}
    assert change_points(features, 4.0) == (0,)
    assert change_points(features, 0.0) == tuple(range(40))
    assert change_points({"visual": noise(1)}, 4.0) == (0,)


def test_at_most_one_segment_more_for_every_so_many_frames():
    features = {"visual": np.repeat(noise(50, 200), 2, axis=0)}
    assert len(change_points(features, 1.0)) == 50
    assert len(change_points(features, 4.0)) <= 1 + 100 / 4


def test_of_equal_costs_the_longest_last_segment():
    still = {"visual": np.full((9, 4), 0.3, np.float32), "audio": np.zeros((9, 2), np.float32)}
    assert change_points(still, 0.0) == (0,), "frames that are alike are one segment, without a price too"
    kernel = frame_kernel({"visual": np.array([[0], [1], [2]], np.float32)})
    # 0 | 1 2 and 0 1 | 2 leave a scatter of 3/4 and cost two prices, less than one (3) or three (0) from 3/4 to 9/4.
    assert cost(kernel, 1.0, (0, 1)) == pytest.approx(cost(kernel, 1.0, (0, 2)))
    assert segmentation(kernel, 1.0) == (0, 1)
    assert segmentation(kernel, 0.75) == (0, 1), "and rather than three"
    assert segmentation(kernel, 2.25) == (0,), "and one rather than two"
    kernel[0, 0] -= 1e-8
    assert cost(kernel, 1.0, (0, 2)) < cost(kernel, 1.0, (0, 1))
    assert segmentation(kernel, 1.0) == (0, 1), "costs that differ by rounding are equal"


def test_a_modality_that_stands_still_has_no_say():
    moving = noise(30, 8)
    moving[11:] += 5
    assert change_points({"visual": moving, "audio": np.ones((30, 3), np.float32)}, 4.0) == (0, 11)


def test_montages_know_their_segments():
    """The events and backgrounds of demo videos, within 2 s; `python benchmarks/segments.py` has more of them."""
    found = right = known = 0
    for index in (300, 301, 302):
        clip = demo_clip(index)
        starts = change_points({name: clip.floats(name) for name in clip.features}, 4.0)[1:]
        true = [int(segment.start) for segment in clip.segments][1:]
        found, known = found + len(starts), known + len(true)
        right += sum(min(abs(start - each) for each in true) <= 2 for start in starts)
    assert 2 * right / (found + known) > 0.85
