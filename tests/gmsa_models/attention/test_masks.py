"""Neighbourhoods: by hand, against their definition, and what they must always be."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from references.equations import may_attend

from gmsa_models.errors import ArgumentError
from gmsa_models.masks import (
    NEIGHBOURHOODS,
    BlockDiagonal,
    Toeplitz,
    ToeplitzDilated,
    masked_softmax,
    neighbourhood_from_dict,
    neighbourhood_mask,
    neighbourhood_to_dict,
)

SIZES = st.integers(1, 40)
ANY = st.one_of(
    st.builds(BlockDiagonal, SIZES), st.builds(Toeplitz, SIZES), st.builds(ToeplitzDilated, SIZES, st.integers(1, 9))
)


def drawn(neighbourhood, frames):
    return ["".join("x" if cell else "." for cell in row) for row in neighbourhood_mask(neighbourhood, frames).tolist()]


def test_block_diagonal_by_hand():
    assert drawn(BlockDiagonal(3), 5) == ["xxx..", "xxx..", "xxx..", "...xx", "...xx"]


def test_toeplitz_by_hand():
    expected = ["xx...", "xxx..", ".xxx.", "..xxx", "...xx"]
    assert drawn(Toeplitz(2), 5) == expected
    assert drawn(Toeplitz(3), 5) == expected, "|i - j| <= 1.5 is |i - j| <= 1"


def test_toeplitz_dilated_by_hand():
    assert drawn(ToeplitzDilated(4, 2), 5) == ["x.x..", ".x.x.", "x.x.x", ".x.x.", "..x.x"]
    assert ToeplitzDilated(80).dilation == 2


def test_true_means_may_attend():
    assert neighbourhood_mask(Toeplitz(1), 3).tolist() == torch.eye(3, dtype=torch.bool).tolist()


@given(ANY, st.integers(1, 47))
def test_mask_is_its_definition(neighbourhood, frames):
    mask = neighbourhood_mask(neighbourhood, frames)
    expected = [[may_attend(neighbourhood, i, j) for j in range(frames)] for i in range(frames)]
    assert mask.tolist() == expected
    assert mask.diagonal().all()
    assert mask.equal(mask.T)


def test_dilation_1_is_toeplitz():
    assert neighbourhood_mask(ToeplitzDilated(11, 1), 29).equal(neighbourhood_mask(Toeplitz(11), 29))


@given(ANY)
def test_dict_round_trip(neighbourhood):
    values = neighbourhood_to_dict(neighbourhood)
    assert NEIGHBOURHOODS[values["kind"]] is type(neighbourhood)
    assert neighbourhood_from_dict(values) == neighbourhood


@pytest.mark.parametrize("size", [0, -3, True])
def test_sizes_that_cannot_be(size):
    for make in (BlockDiagonal, Toeplitz, ToeplitzDilated):
        with pytest.raises(ArgumentError, match=r"size is .*at least 1"):
            make(size)
    with pytest.raises(ArgumentError, match="dilation is"):
        ToeplitzDilated(5, size)


def test_errors_name_what_is_known():
    with pytest.raises(ArgumentError, match=r"'circle' is unknown.*block-diagonal, toeplitz, toeplitz-dilated"):
        neighbourhood_from_dict({"kind": "circle", "size": 3})
    with pytest.raises(ArgumentError, match="toeplitz has no dilation; it has size"):
        neighbourhood_from_dict({"kind": "toeplitz", "size": 3, "dilation": 2})
    with pytest.raises(ArgumentError, match="needs a size"):
        neighbourhood_from_dict({"kind": "toeplitz"})
    with pytest.raises(ArgumentError, match="0 frames"):
        neighbourhood_mask(Toeplitz(3), 0)


def test_masked_softmax_by_hand():
    logits = torch.tensor([[0.0, torch.log(torch.tensor(3.0)), 50.0], [1.0, 1.0, 1.0]])
    allowed = torch.tensor([[True, True, False], [True, True, True]])
    torch.testing.assert_close(masked_softmax(logits, allowed), torch.tensor([[0.25, 0.75, 0.0], [1 / 3] * 3]))
    assert masked_softmax(logits, allowed)[0, 2] == 0.0, "exactly 0 where it may not attend"


def test_masked_softmax_of_nothing_is_finite():
    assert masked_softmax(torch.randn(2, 5), torch.zeros(2, 5, dtype=torch.bool)).isfinite().all()


def test_masked_softmax_widens_half_precision():
    # 300 equal weights: summed in bfloat16 the denominator would stick at 256.
    weights = masked_softmax(torch.zeros(1, 300, dtype=torch.bfloat16), None)
    assert weights.dtype == torch.bfloat16
    torch.testing.assert_close(weights[0, 0].float(), torch.tensor(1 / 300), rtol=1e-2, atol=0)
