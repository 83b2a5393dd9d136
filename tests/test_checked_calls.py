"""Types and shapes are checked once for each combination of them."""

import pytest
import torch
from beartype import beartype
from checked_calls import kind, once_a_shape
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor


def test_each_combination_is_checked_and_none_twice():
    checks = []

    def check(plain):
        checked = jaxtyped(plain, typechecker=beartype)

        def counted(*args, **kwargs):
            checks.append(kind(args))
            return checked(*args, **kwargs)

        return counted

    def product(
        left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner columns"]
    ) -> Float[Tensor, "rows columns"]:
        return left @ right

    call = once_a_shape(product, check)
    square, wide = torch.ones(2, 2), torch.ones(2, 3)
    for _ in range(3):
        assert call(square, square).shape == (2, 2)
        assert call(square, wide).shape == (2, 3)
    assert len(checks) == 2
    for _ in range(2):
        with pytest.raises(TypeCheckError, match="right"):
            call(wide, wide)
        with pytest.raises(TypeCheckError, match="left"):
            call(square.int(), square)


def test_what_an_argument_can_be_is_part_of_the_combination():
    kinds = [
        torch.ones(2),
        torch.ones(3),
        torch.ones(2).double(),
        "a",
        "b",
        1,
        None,
        (1,),
        (1, None),
        {"a": 1},
        {"b": 1},
    ]
    assert len({kind(value) for value in kinds}) == len(kinds)


def test_inner_functions_share_what_passed():
    built = []

    def outer():
        def inner(value: int) -> int:
            return value

        return once_a_shape(inner, lambda plain: built.append(plain) or plain)

    assert [outer()(1) for _ in range(3)] == [1, 1, 1]
    assert len(built) == 1


def test_the_packages_are_checked_so():
    from gmsa_models.masks import neighbourhood_mask

    assert neighbourhood_mask.__wrapped__.__code__.co_filename.endswith("masks.py")
    with pytest.raises(TypeCheckError):
        neighbourhood_mask("toeplitz", 3)
