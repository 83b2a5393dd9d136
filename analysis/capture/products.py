"""Products of a followed map with values that are understood: of matrices, by einsum, element by element and summed."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analysis.capture.followed import FollowedMap
from analysis.capture.maps import GivenMaps

__all__ = [
    "Product",
    "Raised",
    "einsum_letters",
    "einsum_operands",
    "einsum_product",
    "matrix_product",
    "summed_product",
]


@dataclass(frozen=True)
class Product:
    """A map that was multiplied with values.

    Attributes:
        maps: it, the values and the result.
        dropout: p of a dropout that was on.
        between: the functions between the softmax and the product that made another map of it.
    """

    maps: GivenMaps
    dropout: float
    between: tuple[str, ...]


@dataclass(frozen=True)
class Raised:
    """A map with an axis of 1 behind, or its elementwise product with values.

    Attributes:
        known: of the map.
        operand: the map.
        value: what it was multiplied with; None: nothing yet.
    """

    known: FollowedMap
    operand: Tensor
    value: Tensor | None = None


def matrix_product(
    first: Tensor, second: Tensor, known: tuple[FollowedMap | None, FollowedMap | None], result: Tensor
) -> Product | None:
    """P V, or V^T P^T; `known`: of both operands."""
    if known[0] is not None and known[0].key == -1:
        return _as_product(known[0], first, second, result)
    if known[1] is not None and known[1].key == -2:
        return _as_product(known[1].turned(lambda each: each.mT), second.mT, first.mT, result.mT)
    return None


def einsum_operands(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of an einsum: its equation, then its operands one by one."""
    return (args[0], *args[1]) if len(args) == 2 and isinstance(args[1], tuple | list) else args


def einsum_product(
    equation: str, own: int, known: FollowedMap, operands: tuple[Tensor, Tensor], result: Tensor
) -> Product | None:
    """Two operands in the form of letters: keys are summed over, queries are the map's alone.

    Args:
        equation: of the einsum.
        own: which operand the map is.
        known: of the map.
        operands: both.
        result: of the einsum.
    """
    *letters, out = einsum_letters(equation, [each.ndim for each in operands])
    of_map, of_value = letters[own], letters[1 - own]
    operand, value = operands[own], operands[1 - own]
    assert known.key is not None
    key = of_map[known.key]
    queries = [letter for letter in of_map if letter != key and letter in out and letter not in of_value]
    dims = [letter for letter in of_value if letter not in of_map]
    fits = key in of_value and key not in out and len(queries) == 1 and len(dims) == 1
    if not fits or set(of_map) - {key} - set(out) or len(set(of_map)) < len(of_map):
        return None
    query = queries[0]
    lead = "".join(letter for letter in of_map if letter not in (key, query))
    missing = [letter for letter in lead if letter not in of_value]
    for _ in missing:
        value = value.unsqueeze(0)
    return _as_product(
        known.turned(lambda each: _turned(each, of_map, lead + query + key)),
        _turned(operand, of_map, lead + query + key),
        _turned(value, "".join(missing) + of_value, lead + key + dims[0]),
        _turned(result, out, lead + query + dims[0]),
    )


def summed_product(raised: Raised, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Product | None:
    """Sum over keys of a map times values, one after another: (..., query, key, 1) * (..., 1, key, dim).

    Where the values differ from query to query there is one query only, as in pooling by attention: its axis is 1.

    Args:
        raised: what is summed.
        args, kwargs, result: of the sum.
    """
    ndim = args[0].ndim
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    dim = dim[0] if isinstance(dim, tuple | list) and len(dim) == 1 else dim
    keep = kwargs.get("keepdim", args[2] if len(args) > 2 else False)
    if raised.value is None or raised.known.key is None or type(dim) is not int:
        return None
    key = raised.known.key - 1  # of the product, which has one axis more
    if dim % ndim - ndim != key or key not in (-2, -3):
        return None
    value = raised.value.reshape((1,) * (ndim - raised.value.ndim) + raised.value.shape)
    query = -5 - key  # the other one of the map's last two axes
    output = result.squeeze(key) if keep else result
    if value.shape[key] != args[0].shape[key]:
        return None
    if value.shape[query] == 1:
        operand, turn = raised.operand, (lambda each: each if key == -2 else each.mT)
        return _as_product(raised.known.turned(turn), turn(operand), value.squeeze(query), output)
    if key == -2 and raised.operand.ndim <= 3:
        known = raised.known.turned(lambda each: each.unsqueeze(-2))
        return _as_product(known, raised.operand.unsqueeze(-2), value, output.unsqueeze(-2))
    return None


def _as_product(known: FollowedMap, operand: Tensor, value: Tensor, output: Tensor) -> Product | None:
    if known.logarithm or min(value.ndim, operand.ndim) < 2:
        return None
    weights, scores = operand if known.before is None else known.before, known.scores
    if any(each.layout != torch.strided or each.is_complex() for each in (weights, operand, value, output)):
        return None
    if output.shape[:-1] != operand.shape[:-1]:  # one map of several values, say of all heads
        shape = (*output.shape[:-1], operand.shape[-1])
        if _broadcast(operand.shape, shape) != shape:
            return None
        own = weights is operand
        operand = operand.expand(shape)
        weights = operand if own else weights.expand(shape)
        scores = None if scores is None else scores.expand(shape)
    storage = operand.untyped_storage().data_ptr()
    written = tuple(each.written[storage] for each in known.softmaxes if storage in each.written)
    between = (*known.between, *(name for name in written if name not in known.between))
    dropped = known.dropout > 0 and known.before is not None
    maps = GivenMaps(weights, operand, value, output, known.kept, dropped, known.softmaxes, known.reordered, scores)
    return Product(maps, known.dropout, between)


def _broadcast(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return tuple(torch.broadcast_shapes(one, other))
    except RuntimeError:
        return None


def einsum_letters(equation: str, axes: list[int]) -> list[str]:
    """Letters of the operands and of the result; "..." is written out in letters that the equation does not use.

    Args:
        equation: of an einsum.
        axes: how many each operand has.
    """
    inputs, arrow, out = equation.replace(" ", "").partition("->")
    operands = inputs.split(",")
    extra = [count - len(each.replace("...", "")) for each, count in zip(operands, axes, strict=True)]
    most = max([count for each, count in zip(operands, extra, strict=True) if "..." in each], default=0)
    free = "".join(letter for letter in string.ascii_letters if letter not in equation)[:most]
    if not arrow:
        letters = inputs.replace("...", "").replace(",", "")
        out = "..." * ("..." in inputs) + "".join(sorted(each for each in set(letters) if letters.count(each) == 1))
    written = [each.replace("...", free[most - count :]) for each, count in zip(operands, extra, strict=True)]
    return [*written, out.replace("...", free)]


def _turned(values: Tensor, letters: str, wanted: str) -> Tensor:
    return values if letters == wanted else values.permute([letters.index(letter) for letter in wanted])
