"""Similarity: by hand, against the slow definition, by what must not change it."""

import math

import numpy as np
import pytest
import references.frames as slow
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis.attention.similarity import frame_centred_cosine_similarity, frame_cosine_similarity, linear_cka
from gmsa_models.errors import ArgumentError


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_known_angles():
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-5.0, 0.0]])
    half = math.sqrt(0.5)
    expected = torch.tensor([[1, 0, half, -1], [0, 1, half, 0], [half, half, 1, -half], [-1, 0, -half, 1]])
    torch.testing.assert_close(frame_cosine_similarity(features), expected)


@given(frames=st.integers(1, 7), dim=st.integers(1, 5), seed=st.integers(0, 99))
def test_equals_the_slow_definition(frames, dim, seed):
    features = random(frames, dim, seed=seed)
    np.testing.assert_allclose(frame_cosine_similarity(features), slow.cosine_similarity(features.numpy()), atol=1e-12)


def test_centred_equals_the_slow_definition_on_centred_frames():
    features = random(7, 5) + 3
    expected = slow.cosine_similarity((features - features.mean(0)).numpy())
    np.testing.assert_allclose(frame_centred_cosine_similarity(features), expected, atol=1e-12)


def test_reordering_frames_reorders_both_axes():
    features, order = random(7, 5), torch.tensor([3, 1, 6, 0, 5, 2, 4])
    for similarity in (frame_cosine_similarity, frame_centred_cosine_similarity):
        torch.testing.assert_close(similarity(features[order]), similarity(features)[order][:, order])


def test_scale_of_a_frame_does_not_matter_even_at_the_ends_of_float32():
    features = random(5, 3, dtype=torch.float32)
    scaled = features * torch.tensor([[1e-30], [1.0], [7.0], [1e25], [1e30]])
    torch.testing.assert_close(frame_cosine_similarity(scaled), frame_cosine_similarity(features))


def test_centred_ignores_a_vector_added_to_all_frames():
    features = random(7, 5)
    shifted = 3 * features + random(5, seed=1)
    torch.testing.assert_close(frame_centred_cosine_similarity(shifted), frame_centred_cosine_similarity(features))


@pytest.mark.parametrize("similarity", [frame_cosine_similarity, frame_centred_cosine_similarity])
def test_symmetric_with_unit_diagonal_within_bounds_and_batched(similarity):
    features = random(2, 3, 11, 5, dtype=torch.float32)
    out = similarity(features)
    assert out.shape == (2, 3, 11, 11)
    assert torch.equal(out, out.mT)
    assert torch.equal(out.diagonal(dim1=-2, dim2=-1), torch.ones(2, 3, 11))
    assert out.abs().max() <= 1
    torch.testing.assert_close(out[1, 2], similarity(features[1, 2]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype):
    features = random(5, 3, dtype=dtype)
    for out in (frame_cosine_similarity(features), frame_centred_cosine_similarity(features)):
        assert out.dtype == torch.float32
    assert linear_cka(features, features).dtype == torch.float32


@pytest.mark.parametrize("bad", [0.0, math.inf, -math.inf, math.nan])
def test_a_bad_frame_is_named(bad):
    features = random(7, 3)
    features[2] = bad
    features[5] = bad
    with pytest.raises(ArgumentError, match=r"^frame 2 "):
        frame_cosine_similarity(features)
    with pytest.raises(ValueError, match=r"^frame 2 of batch entry \(1,\) "):
        frame_cosine_similarity(torch.stack([random(7, 3), features]))


def test_centred_names_a_bad_frame_and_a_frame_on_the_mean():
    features = random(7, 3)
    features[4, 1] = math.nan
    with pytest.raises(ArgumentError, match=r"^frame 4 is not finite"):
        frame_centred_cosine_similarity(features)
    with pytest.raises(ArgumentError, match=r"^frame 1 equals the clip's mean frame;"):
        frame_centred_cosine_similarity(torch.tensor([[1.0, 0.0], [2.0, 1.0], [3.0, 2.0]]))


@pytest.mark.parametrize("frames", [1, 7])
def test_a_constant_clip_has_no_centred_similarity_and_is_told_so(frames):
    constant = torch.full((frames, 5), 0.1)
    with pytest.raises(ArgumentError, match=r"frame 0 equals .*\(the clip is constant\)"):
        frame_centred_cosine_similarity(constant)
    torch.testing.assert_close(frame_cosine_similarity(constant), torch.ones(frames, frames))


def test_cka_by_hand():
    line = torch.tensor([[-1.0], [0.0], [1.0]])
    bent = torch.tensor([[1.0], [-2.0], [1.0]])
    corner = torch.tensor([[1.0], [0.0], [0.0]])
    assert linear_cka(line, bent) == pytest.approx(0.0, abs=1e-7)
    # Centred: (-1, 0, 1) and (2, -1, -1) / 3; product -1, so 1 / (2 * 2/3) = 3/4.
    assert linear_cka(line, corner) == pytest.approx(0.75)


def test_cka_equals_the_feature_form():
    first, second = random(11, 5), random(11, 3, seed=1)
    second = second + first[:, :3]
    assert linear_cka(first, second) == pytest.approx(slow.linear_cka(first.numpy(), second.numpy()), rel=1e-12)


def test_cka_ignores_rotation_scale_and_shift_and_sees_a_stretch():
    first, second = random(13, 5), random(13, 7, seed=1)
    rotation = torch.linalg.qr(random(5, 5, seed=2)).Q
    torch.testing.assert_close(linear_cka(first @ rotation * 1e-9 + 3e-9, second), linear_cka(first, second))
    assert linear_cka(first, first @ rotation) == pytest.approx(1.0)
    assert linear_cka(first * torch.tensor([100.0, 1, 1, 1, 1]), first) < 0.9


def test_cka_is_symmetric_and_batched_over_heads():
    first, second = random(3, 11, 5), random(3, 11, 2, seed=1)
    out = linear_cka(first, second)
    assert out.shape == (3,)
    torch.testing.assert_close(out, linear_cka(second, first))
    torch.testing.assert_close(out[1], linear_cka(first[1], second[1]))


def test_cka_refuses_constant_and_non_finite_sides():
    good = random(5, 3)
    with pytest.raises(ArgumentError, match=r"second representation: constant over its 5 frames"):
        linear_cka(good, torch.full((5, 3), 0.3, dtype=torch.float64))
    bad = good.clone()
    bad[3, 0] = math.inf
    with pytest.raises(ArgumentError, match=r"first representation: frame 3 is not finite"):
        linear_cka(bad, good)


def test_similarity_is_differentiable():
    features = random(3, 5).requires_grad_()
    assert torch.autograd.gradcheck(frame_cosine_similarity, features)
