"""Attention profiles and unevenness: by hand, against the slow definition, by what must not change them."""

import math

import numpy as np
import pytest
import references.frames as slow
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis.attention.profiles import attention_profile, head_profiles, unevenness
from gmsa_models.errors import ArgumentError


def band(frames: int, reach: int) -> torch.Tensor:
    """|i - j| <= reach."""
    position = torch.arange(frames)
    return (position[:, None] - position[None]).abs() <= reach


def softmax_weights(*batch: int, frames: int, mask: torch.Tensor | None = None, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(*batch, frames, frames, generator=generator, dtype=torch.float64)
    return (logits if mask is None else logits.masked_fill(~mask, -math.inf)).softmax(-1)


def test_by_hand():
    weights = torch.tensor([[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]])
    # Column sums 1.5, 1, 0.5; uniform over three frames gives 1 to each.
    torch.testing.assert_close(attention_profile(weights), torch.tensor([1.5, 1.0, 0.5]))
    # Over the band of reach 1 uniform attention gives 1/2 + 1/3, 1/2 + 1/3 + 1/2, 1/3 + 1/2.
    expected = torch.tensor([1.5 / (5 / 6), 1 / (4 / 3), 0.5 / (5 / 6)])
    torch.testing.assert_close(attention_profile(weights, band(3, 1)), expected)


@pytest.mark.parametrize("reach", [0, 1, 3, 100])
def test_uniform_attention_over_the_mask_is_one_everywhere(reach):
    mask = band(11, reach)
    weights = (mask / mask.sum(-1, keepdim=True)).expand(5, 11, 11)
    torch.testing.assert_close(attention_profile(weights, mask), torch.ones(11))


@given(heads=st.integers(1, 3), frames=st.integers(1, 7), real=st.integers(1, 7), reach=st.integers(0, 3))
def test_equals_the_slow_definition_with_padding(heads, frames, real, reach):
    valid = torch.arange(frames) < real
    mask = band(frames, reach)
    allowed = mask & valid & valid[:, None]
    weights = softmax_weights(heads, frames=frames, mask=allowed).nan_to_num(0.0)
    expected = slow.attention_profile(weights.numpy(), mask.numpy(), valid.numpy())
    np.testing.assert_allclose(attention_profile(weights, mask, valid), expected, rtol=1e-12)


def test_padding_is_nan_and_changes_nothing_else():
    weights = softmax_weights(3, frames=7)
    padded = torch.zeros(2, 3, 11, 11, dtype=torch.float64)
    padded[0, :, :7, :7] = weights
    padded[1] = softmax_weights(3, frames=11, seed=1)
    valid = torch.arange(11) < torch.tensor([[7], [11]])
    out = attention_profile(padded, None, valid)
    torch.testing.assert_close(out[0, :7], attention_profile(weights))
    assert out[0, 7:].isnan().all()
    assert not out[1].isnan().any()


def test_global_profiles_average_to_one_and_heads_average_to_the_profile():
    weights = softmax_weights(2, 5, frames=11)
    each = head_profiles(weights)
    assert each.shape == (2, 5, 11)
    torch.testing.assert_close(each.mean(-1), torch.ones(2, 5, dtype=torch.float64))
    torch.testing.assert_close(each.mean(-2), attention_profile(weights))


def test_a_transposed_map_has_another_profile():
    weights = torch.zeros(1, 5, 5)
    weights[..., 3] = 1.0  # every frame attends to frame 3: a vertical line
    torch.testing.assert_close(attention_profile(weights), torch.tensor([0.0, 0, 0, 5, 0]))


def test_reordering_frames_reorders_the_profile():
    weights, mask, order = softmax_weights(3, frames=5, mask=band(5, 1)), band(5, 1), torch.tensor([3, 0, 4, 1, 2])
    moved = attention_profile(weights[:, order][:, :, order], mask[order][:, order])
    torch.testing.assert_close(moved, attention_profile(weights, mask)[order])


def test_weight_outside_the_mask_or_on_padding_is_refused_and_placed():
    weights = softmax_weights(3, frames=5)
    with pytest.raises(ArgumentError, match=r"head 0: query 0 puts weight on key 2"):
        attention_profile(weights, band(5, 1))
    with pytest.raises(ArgumentError, match=r"head 0: query 0 puts weight on key 3"):
        attention_profile(weights, None, torch.arange(5) < 3)
    with pytest.raises(ArgumentError, match=r"5 query and 3 key frames"):
        attention_profile(weights[..., :3])


def test_half_precision_is_widened():
    assert attention_profile(softmax_weights(3, frames=5).bfloat16()).dtype == torch.float32


def test_unevenness_by_hand():
    even = unevenness(torch.full((4,), 3.0))
    assert even.entropy == pytest.approx(math.log(4))
    assert even.relative_entropy == pytest.approx(1.0)
    assert even.gini == pytest.approx(0.0)
    spike = unevenness(torch.tensor([0.0, 0.0, 8.0, 0.0]))
    assert spike.entropy == pytest.approx(0.0)
    assert spike.uniform_entropy == pytest.approx(math.log(4))
    assert spike.gini == pytest.approx(3 / 4)
    assert unevenness(torch.tensor([1.0, 3.0])).gini == pytest.approx(0.25)


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=9).filter(lambda values: sum(values) > 1e-3))
def test_unevenness_equals_the_slow_definition(values):
    profile = torch.tensor(values, dtype=torch.float64)
    out = unevenness(profile)
    assert out.entropy == pytest.approx(slow.entropy(np.array(values)), abs=1e-9)
    assert out.gini == pytest.approx(slow.gini(np.array(values)), abs=1e-9)
    assert 0 <= out.relative_entropy <= 1


def test_unevenness_ignores_order_scale_and_padding():
    profile = torch.tensor([0.5, 2.0, 1.0, 0.1, 1.4])
    padded = torch.tensor([[1.4, 0.1, math.nan, 2.0, 0.5, math.nan, 1.0]]) * 7
    for name in ("entropy", "uniform_entropy", "relative_entropy", "gini"):
        torch.testing.assert_close(getattr(unevenness(padded), name)[0], getattr(unevenness(profile), name))


def test_one_frame_is_even():
    out = unevenness(torch.tensor([1.0]))
    assert (out.entropy, out.relative_entropy, out.gini) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("bad", [[1.0, -0.1], [1.0, math.inf], [0.0, 0.0], [math.nan, math.nan]])
def test_unevenness_refuses_what_is_no_profile(bad):
    with pytest.raises(ArgumentError):
        unevenness(torch.tensor(bad))
