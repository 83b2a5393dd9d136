"""Types and shapes are checked once for each combination of them."""

from dataclasses import dataclass

import pytest
import torch
from beartype import beartype
from checked_calls import _decorator, kind, once_a_shape
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


def test_a_dataclass_is_checked_once_a_combination_and_for_itself():
    checks = []

    def check(cls):
        def counted(plain, **options):
            checks.append(plain)
            return jaxtyped(plain, **options)

        return _decorator(counted, typechecker=beartype)(dataclass(cls))

    @check
    class Numbers:
        first: int
        second: Float[Tensor, "rows"]

    @check
    class Texts:
        first: str
        second: Float[Tensor, "rows"]

    assert [Numbers(value, torch.ones(2)).first for value in (1, 2, 3)] == [1, 2, 3]
    assert Texts("a", torch.ones(2)).first == "a"
    for wrong in (lambda: Texts(1, torch.ones(2)), lambda: Numbers("a", torch.ones(2)), lambda: Numbers(1, None)):
        with pytest.raises(TypeCheckError):
            wrong()
    assert len(checks) == 2


def test_where_an_argument_stands_is_part_of_the_combination():
    checks = []

    def function(*args: object, **kwargs: object) -> None:
        checks.append((args, kwargs))

    call = once_a_shape(lambda *args, **kwargs: None, lambda plain: function)
    for _ in range(2):
        call("a", 1)
        call(1, "a")
        call(a=1)
        call("a", b=1)
        call(a=1, b=1)
    assert len(checks) == 5


def test_the_packages_are_checked_so():
    from gmsa_models.masks import neighbourhood_mask

    assert neighbourhood_mask.__wrapped__.__code__.co_filename.endswith("masks.py")
    with pytest.raises(TypeCheckError):
        neighbourhood_mask("toeplitz", 3)


def test_dataclasses_of_the_packages_are_checked_so():
    from gmsa_models.masks import Toeplitz

    assert Toeplitz.__init__.__wrapped__.__code__.co_filename == "<string>"  # as `dataclass` wrote it
    assert Toeplitz(3) == Toeplitz(3)
    with pytest.raises(TypeCheckError):
        Toeplitz("3")
