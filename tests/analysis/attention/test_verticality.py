"""Verticality: by hand, against least squares and every shuffle, by what must not change it, and its null."""

import math

import numpy as np
import pytest
import references.patterns as slow
import torch

from analysis.attention.verticality import shuffle_within, shuffled_verticality, verticality
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import BlockDiagonal, Toeplitz, ToeplitzDilated, neighbourhood_mask

NEIGHBOURHOODS = (None, Toeplitz(6), BlockDiagonal(5), ToeplitzDilated(8, 2))


def mask_of(neighbourhood, frames: int) -> torch.Tensor:
    if neighbourhood is None:
        return torch.ones(frames, frames, dtype=torch.bool)
    return neighbourhood_mask(neighbourhood, frames)


def softmax_weights(*batch: int, frames: int, mask: torch.Tensor | None = None, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(*batch, frames, frames, generator=generator, dtype=torch.float64)
    return (logits if mask is None else logits.masked_fill(~mask, -math.inf)).softmax(-1)


def lines(frames: int, mask: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Uniform attention plus one appeal a key, less its mean over the keys in reach: (1, frames, frames)."""
    appeal = torch.rand(frames, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) / frames
    count = mask.sum(-1, keepdim=True)
    weights = (1 / count + appeal - (mask * appeal).sum(-1, keepdim=True) / count) * mask
    return weights[None]


def test_by_hand():
    # Deviations from 1/2: (a, -a), (b, -b); means of columns (a + b) / 2. Share: (a + b)^2 / (2 a^2 + 2 b^2).
    weights = torch.tensor([[[0.9, 0.1], [0.6, 0.4]]], dtype=torch.float64)
    out = verticality(weights)
    assert out.value.item() == pytest.approx(0.5**2 / (2 * 0.17))
    # Shuffles give a + b or a - b, up to sign.
    both = np.array([0.5**2, 0.3**2]) / (2 * 0.17)
    assert out.null_mean.item() == pytest.approx(both.mean())
    assert out.null_deviation.item() == pytest.approx(both.std())
    assert out.adjusted.item() == pytest.approx((0.5**2 / 0.34 - 0.5) / 0.5)


@pytest.mark.parametrize("neighbourhood", NEIGHBOURHOODS)
def test_rows_with_one_appeal_a_key_are_one_and_so_is_one_line_that_some_queries_see(neighbourhood):
    mask = mask_of(neighbourhood, 13)
    out = verticality(lines(13, mask), mask)
    for field in (out.value, out.adjusted):
        assert field.item() == pytest.approx(1.0, abs=1e-12)
    uniform = mask / mask.sum(-1, keepdim=True).double()
    one_line = torch.where(mask[:, 6:7], torch.eye(13, dtype=torch.float64)[6], uniform)[None]
    assert verticality(one_line, mask).value.item() == pytest.approx(1.0, abs=1e-12)
    assert verticality(one_line, mask).p_value < 1e-3


def test_equal_rows_are_one_and_a_diagonal_is_below_chance():
    rows = torch.tensor([0.5, 0.1, 0.0, 0.3, 0.1]).expand(1, 5, 5)
    assert verticality(rows).value.item() == pytest.approx(1.0)
    diagonal = verticality(torch.eye(7)[None])
    assert diagonal.value.item() == pytest.approx(0.0, abs=1e-12)
    assert diagonal.adjusted.item() == pytest.approx((0 - 1 / 7) / (6 / 7))
    assert diagonal.p_value.item() == pytest.approx(1.0)


@pytest.mark.parametrize("neighbourhood", NEIGHBOURHOODS)
def test_equals_least_squares(neighbourhood):
    mask = mask_of(neighbourhood, 11)
    weights = softmax_weights(3, frames=11, mask=mask)
    expected = [slow.verticality(each.numpy(), mask.numpy()) for each in weights]
    np.testing.assert_allclose(verticality(weights, mask).value, expected, rtol=1e-9)
    if neighbourhood is None:
        expected = [slow.column_verticality(each.numpy()) for each in weights]
        np.testing.assert_allclose(verticality(weights).value, expected, rtol=1e-9)


# Supports small enough for every shuffle of every row: rows of one to four keys, in one piece and in several.
SMALL = {
    "3 frames": np.ones((3, 3), bool),
    "band": mask_of(Toeplitz(2), 4).numpy(),
    "block": mask_of(BlockDiagonal(3), 5).numpy(),
    "rows of 4": np.array([[1, 1, 1, 1, 0], [0, 1, 1, 1, 1], [0, 0, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 0, 1]], bool),
}


@pytest.mark.parametrize("name", SMALL)
def test_the_null_equals_every_shuffle(name):
    mask = torch.from_numpy(SMALL[name])
    weights = softmax_weights(1, frames=len(mask), mask=mask, seed=3)
    everything = slow.shuffled_verticalities(weights[0].numpy(), mask.numpy())
    out = verticality(weights, mask)
    assert out.null_mean.item() == pytest.approx(everything.mean(), rel=1e-9)
    assert out.null_deviation.item() == pytest.approx(everything.std(), rel=1e-9)


@pytest.mark.parametrize("neighbourhood", NEIGHBOURHOODS)
def test_the_null_equals_sampled_shuffles_and_p_values_too(neighbourhood):
    mask = mask_of(neighbourhood, 13)
    # 8th powers: a few heavy weights a row, as trained maps have.
    weights = softmax_weights(2, frames=13, mask=mask) ** torch.tensor([1.0, 4.0], dtype=torch.float64)[:, None, None]
    out, sampled = verticality(weights, mask), shuffled_verticality(weights, 1500, 1, mask)
    assert sampled.shape == (1500, 2)
    error = out.null_deviation / math.sqrt(1500)
    assert ((sampled.mean(0) - out.null_mean).abs() < 4 * error).all()
    np.testing.assert_allclose(sampled.std(0), out.null_deviation, rtol=0.1)
    # The gamma distribution puts a twentieth above where a twentieth of the shuffles are, give or take.
    edge = sampled.quantile(0.95, dim=0)
    spread = out.null_deviation.square() / out.null_mean
    tail = torch.special.gammaincc(out.null_mean / spread, edge / spread)
    assert ((tail > 0.03) & (tail < 0.08)).all()


def test_the_null_mean_is_one_over_the_frames_where_every_query_sees_every_key():
    out = verticality(softmax_weights(3, frames=17))
    torch.testing.assert_close(out.null_mean, torch.full((3,), 1 / 17, dtype=torch.float64))


def test_shuffled_maps_have_no_verticality_on_average():
    mask = mask_of(Toeplitz(6), 13)
    weights = softmax_weights(1, frames=13, mask=mask)[0]
    generator = np.random.default_rng(0)
    shuffled = [
        weights.take_along_dim(torch.from_numpy(shuffle_within(mask.numpy(), generator)), -1) for _ in range(400)
    ]
    out = verticality(torch.stack(shuffled), mask)
    assert abs(out.adjusted.mean().item()) < 0.02
    assert (out.p_value < 0.05).double().mean().item() == pytest.approx(0.05, abs=0.03)


def test_shuffles_stay_in_the_support_and_reach_every_order():
    mask = SMALL["rows of 4"]
    generator = np.random.default_rng(0)
    seen = set()
    for _ in range(500):
        source = shuffle_within(mask, generator)
        assert (np.sort(source, -1) == np.arange(5)).all()
        assert (source[~mask] == np.broadcast_to(np.arange(5), (5, 5))[~mask]).all()
        seen.add(tuple(source[0, :4]))
    assert len(seen) == 24
    weights = softmax_weights(1, frames=7)
    torch.testing.assert_close(shuffled_verticality(weights, 3, 5), shuffled_verticality(weights, 3, 5))
    assert not torch.equal(shuffled_verticality(weights, 3, 5), shuffled_verticality(weights, 3, 6))


@pytest.mark.parametrize("neighbourhood", NEIGHBOURHOODS)
def test_mixing_with_uniform_and_reordering_frames_change_nothing(neighbourhood):
    mask = mask_of(neighbourhood, 11)
    weights = softmax_weights(3, frames=11, mask=mask)
    expected = verticality(weights, mask)
    mixed = 0.1 * weights + 0.9 * mask / mask.sum(-1, keepdim=True)
    order = torch.tensor([3, 1, 7, 0, 5, 2, 10, 4, 9, 6, 8])
    moved = (weights[:, order][:, :, order], mask[order][:, order])
    for out in (verticality(mixed, mask), verticality(*moved)):
        for name in ("value", "null_mean", "null_deviation", "adjusted", "p_value"):
            torch.testing.assert_close(getattr(out, name), getattr(expected, name))


def test_queries_in_another_order_keep_the_lines_and_keys_shuffled_a_row_do_not():
    weights = softmax_weights(1, frames=11) * 0.1 + lines(11, mask_of(None, 11)) * 0.9
    value = verticality(weights).value
    torch.testing.assert_close(verticality(weights[:, torch.randperm(11)]).value, value)
    assert shuffled_verticality(weights, 20, 0).max() < value


def test_padding_changes_nothing():
    mask = mask_of(Toeplitz(4), 7)
    weights = softmax_weights(3, frames=7, mask=mask)
    padded = torch.zeros(2, 3, 11, 11, dtype=torch.float64)
    padded[0, :, :7, :7] = weights
    padded[1] = softmax_weights(3, frames=11, mask=mask_of(Toeplitz(4), 11), seed=1)
    valid = torch.arange(11) < torch.tensor([[7], [11]])
    out, expected = verticality(padded, mask_of(Toeplitz(4), 11), valid), verticality(weights, mask)
    for name in ("value", "null_mean", "null_deviation", "adjusted", "p_value"):
        torch.testing.assert_close(getattr(out, name)[0], getattr(expected, name))
    sampled = shuffled_verticality(padded, 50, 0, mask_of(Toeplitz(4), 11), valid)
    assert sampled.shape == (50, 2, 3)
    assert ((sampled >= 0) & (sampled <= 1)).all()


def test_a_gated_map_is_judged_by_where_its_weight_goes():
    weights = softmax_weights(3, frames=7)
    factors = torch.linspace(0.3, 1.7, 7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(verticality(weights * factors).value, verticality(weights).value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_attention_has_nothing_to_explain(dtype):
    mask = mask_of(Toeplitz(6), 13)
    out = verticality((mask / mask.sum(-1, keepdim=True)).to(dtype)[None], mask)
    for name in ("value", "null_mean", "null_deviation", "adjusted", "p_value"):
        assert getattr(out, name).isnan().all()
    # Rounding is no structure either.
    noise = 1 + torch.finfo(dtype).eps * torch.randn(1, 13, 13, generator=torch.Generator().manual_seed(0), dtype=dtype)
    assert verticality(noise * mask / mask.sum(-1, keepdim=True), mask).value.isnan().all()
    assert verticality((1 + 1e4 * (noise - 1)) * mask / mask.sum(-1, keepdim=True), mask).value.isfinite().all()
    alone = torch.eye(5, dtype=dtype)[None]
    assert verticality(alone, mask_of(Toeplitz(1), 5)).value.isnan().all()


def test_what_allows_one_value_only_is_not_rare():
    # One query with two keys, the rest alone: whatever its weights, appeals explain them.
    mask = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.bool)
    out = verticality(torch.tensor([[[0.3, 0.7, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]), mask)
    assert (out.value.item(), out.null_mean.item()) == (pytest.approx(1.0), pytest.approx(1.0))
    assert (out.adjusted.item(), out.p_value.item()) == (pytest.approx(0.0, abs=1e-6), 1.0)


def test_weight_outside_the_mask_is_refused():
    with pytest.raises(ArgumentError, match=r"lies outside the mask"):
        verticality(softmax_weights(1, frames=5), mask_of(Toeplitz(2), 5))
