"""Tiled local attention equals dense masked attention, in every mask, length and padding, and makes nothing dense."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gmsa_models.attention.kernels.local_attention import local_attention
from gmsa_models.attention.kernels.tiling import tile_mask
from gmsa_models.masks import BlockDiagonal, Toeplitz, ToeplitzDilated, neighbourhood_mask
from tests.gmsa_models.attention.test_masks import ANY

PAPER = [BlockDiagonal(10), BlockDiagonal(20), Toeplitz(10), Toeplitz(30), ToeplitzDilated(60, 4), ToeplitzDilated(80)]
CPU = torch.device("cpu")


def dense(query, key, value, neighbourhood, valid=None):
    """softmax(Q K^T / sqrt(d) + mask) V with the whole mask; rows of padded queries are whatever they are."""
    allowed = neighbourhood_mask(neighbourhood, query.shape[-2])
    if valid is not None:
        allowed = (allowed & valid[:, None, None, :]) | torch.eye(query.shape[-2], dtype=torch.bool)
    logits = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return torch.softmax(logits.masked_fill(~allowed, float("-inf")), -1) @ value


def random_heads(batch, heads, frames, head_dim, seed=0, dtype=torch.float32, grad=False):
    generator = torch.Generator().manual_seed(seed)
    # Frames first and heads inside, as a projection leaves them: the tiles are views of that.
    sizes = (batch, frames, heads, head_dim)
    made = [torch.randn(sizes, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)]
    return [each.transpose(1, 2).detach().requires_grad_(grad) for each in made]


@settings(max_examples=120)
@given(
    neighbourhood=ANY,
    frames=st.integers(1, 71),
    lengths=st.lists(st.floats(0, 1), min_size=1, max_size=3),
    heads=st.integers(1, 3),
    head_dim=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_equals_dense_masked_attention(neighbourhood, frames, lengths, heads, head_dim, seed):
    """Float32 to 1e-5, any mask, length and padding; what lies at padded frames is finite."""
    heads_in = random_heads(len(lengths), heads, frames, head_dim, seed)
    valid = torch.arange(frames) < torch.tensor([1 + round(share * (frames - 1)) for share in lengths])[:, None]
    result = local_attention(*heads_in, neighbourhood, valid)
    rows = valid[:, None, :, None]
    torch.testing.assert_close(result * rows, dense(*heads_in, neighbourhood, valid) * rows, rtol=0, atol=1e-5)
    assert result.isfinite().all()
    torch.testing.assert_close(
        local_attention(*heads_in, neighbourhood), dense(*heads_in, neighbourhood), rtol=0, atol=1e-5
    )


@settings(max_examples=40)
@given(neighbourhood=ANY, frames=st.integers(1, 43), padded=st.booleans(), seed=st.integers(0, 99))
def test_gradient_equals_that_of_dense(neighbourhood, frames, padded, seed):
    inputs = random_heads(2, 3, frames, 5, seed, torch.float64, grad=True)
    valid = torch.arange(frames) < torch.tensor([[frames], [max(1, frames // 2)]]) if padded else None
    weight = torch.randn(2, 3, frames, 5, dtype=torch.float64) * (1 if valid is None else valid[:, None, :, None])
    ours = torch.autograd.grad((local_attention(*inputs, neighbourhood, valid) * weight).sum(), inputs)
    theirs = torch.autograd.grad((dense(*inputs, neighbourhood, valid) * weight).sum(), inputs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@settings(max_examples=60)
@given(neighbourhood=ANY, frames=st.integers(1, 71), batch=st.integers(1, 3), numbers=st.sampled_from([1, 64, 1024]))
def test_spans_of_any_length(neighbourhood, frames, batch, numbers):
    """Cutting the row into spans, even one a tile, changes neither contexts nor gradients."""
    inputs = random_heads(batch, 2, frames, 3, dtype=torch.float64, grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gmsa_models.attention.kernels.local_attention.SPAN_NUMBERS", numbers)
        found = local_attention(*inputs, neighbourhood)
        ours = torch.autograd.grad(found.square().sum(), inputs)
    expected = dense(*inputs, neighbourhood)
    theirs = torch.autograd.grad(expected.square().sum(), inputs)
    for one, other in zip((found, *ours), (expected, *theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("neighbourhood", PAPER, ids=str)
def test_paper_masks_at_paper_length(neighbourhood):
    inputs = random_heads(2, 2, 300, 7)
    torch.testing.assert_close(
        local_attention(*inputs, neighbourhood), dense(*inputs, neighbourhood), rtol=0, atol=1e-5
    )


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that an operation returned."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        sizes = [
            leaf.untyped_storage().nbytes() // leaf.element_size()
            for leaf in tree_leaves(out)
            if isinstance(leaf, torch.Tensor)
        ]
        self.numbers = max([self.numbers, *sizes])
        return out


@pytest.mark.parametrize("neighbourhood", PAPER, ids=str)
def test_nothing_frames_by_frames(neighbourhood):
    """No operation, forwards or backwards, returns more than a few times the input."""
    frames = 1013
    inputs = random_heads(1, 2, frames, 3, grad=True)
    tile_mask.cache_clear()
    with Largest() as largest:
        local_attention(*inputs, neighbourhood).sum().backward()
    assert largest.numbers < frames * frames / 4


def test_dilated_classes_do_not_meet():
    """Changing frames of one class leaves the others' contexts as they were."""
    query, key, value = random_heads(1, 2, 23, 3)
    before = local_attention(query, key, value, ToeplitzDilated(40, 5))
    value[:, :, 2::5] += 1
    after = local_attention(query, key, value, ToeplitzDilated(40, 5))
    changed = (before != after).any(-1).any(1)[0]
    assert changed.nonzero().flatten().tolist() == [2, 7, 12, 17, 22]


def test_blocks_do_not_care_for_order():
    """Permuting the frames inside a block permutes its contexts."""
    inputs = random_heads(1, 2, 13, 3)
    order = torch.tensor([2, 0, 1, 4, 5, 3, 8, 6, 7, 10, 9, 11, 12])
    permuted = local_attention(*(each[:, :, order] for each in inputs), BlockDiagonal(3))
    torch.testing.assert_close(permuted, local_attention(*inputs, BlockDiagonal(3))[:, :, order])


def test_clips_of_a_batch_do_not_meet():
    inputs = random_heads(3, 2, 17, 3)
    together = local_attention(*inputs, Toeplitz(7))
    for row in range(3):
        torch.testing.assert_close(
            together[row : row + 1], local_attention(*(x[row : row + 1] for x in inputs), Toeplitz(7))
        )


@pytest.mark.parametrize("neighbourhood", [BlockDiagonal(5), Toeplitz(7), ToeplitzDilated(9, 2)], ids=str)
def test_padding_is_not_attended_to(neighbourhood):
    """Whatever padded frames hold, valid frames are as without them."""
    inputs = random_heads(1, 2, 23, 3)
    valid = (torch.arange(23) < 11)[None]
    spoilt = [each.clone() for each in inputs]
    for each in spoilt:
        each[:, :, 11:] = 1e4
    cut = local_attention(*(each[:, :, :11] for each in inputs), neighbourhood)
    torch.testing.assert_close(local_attention(*spoilt, neighbourhood, valid)[:, :, :11], cut)


@pytest.mark.parametrize("neighbourhood", [BlockDiagonal(7), Toeplitz(9), ToeplitzDilated(9, 2)], ids=str)
def test_bfloat16(neighbourhood):
    inputs = random_heads(2, 2, 41, 8, dtype=torch.bfloat16)
    result = local_attention(*inputs, neighbourhood)
    assert result.dtype == torch.bfloat16
    expected = dense(*(each.float() for each in inputs), neighbourhood)
    torch.testing.assert_close(result.float(), expected, rtol=0, atol=3e-2)


def test_masks_made_in_inference_mode_can_train():
    tile_mask.cache_clear()
    inputs = random_heads(1, 2, 19, 3, grad=True)
    with torch.inference_mode():
        local_attention(*inputs, Toeplitz(5))
    local_attention(*inputs, Toeplitz(5)).sum().backward()
    assert inputs[0].grad.isfinite().all()
