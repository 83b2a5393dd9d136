"""Attention that a module writes out itself: a softmax, then a product with values. Other softmaxes have no product.

The product is a matrix product, an einsum, or an elementwise one that is summed over the keys. A softmax that was
multiplied with something, and reached no product of these kinds, is remembered: nobody should take it for no attention.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from analysis.capture.maps import GivenMaps
from analysis.capture.operations import (
    CHANGES,
    DROPOUTS,
    ELEMENTWISE,
    OTHER_PRODUCTS,
    PRODUCTS,
    REARRANGED,
    SAME,
    SOFTMAXES,
    SUMS,
    TRANSPOSES,
)

__all__ = ["Product", "SeenSoftmax", "SoftmaxProducts"]


@dataclass(eq=False)
class SeenSoftmax:
    """One softmax, and what became of it.

    Attributes:
        module: path of the module that ran.
        shape: of its result.
        multiplied: it, or what was made of it, was multiplied with another tensor.
        recorded: one of these products was a map times values.
    """

    module: str
    shape: tuple[int, ...]
    multiplied: bool = False
    recorded: bool = False


@dataclass(frozen=True)
class _Map:
    """What is known of a tensor that came from a softmax.

    Attributes:
        softmaxes: which ones it was made of.
        weights: before a dropout; None: the tensor itself.
        key: axis of the keys, from behind.
        dropout: p of a dropout that was on.
        changed: whether it is another map than the softmax gave.
    """

    softmaxes: tuple[SeenSoftmax, ...]
    weights: Tensor | None = None
    key: int = -1
    dropout: float = 0.0
    changed: bool = False


@dataclass(frozen=True)
class _Raised:
    """A map with an axis of 1 behind, or its elementwise product with values.

    Attributes:
        known: of the map.
        operand: the map.
        value: what it was multiplied with; None: nothing yet.
    """

    known: _Map
    operand: Tensor
    value: Tensor | None = None


@dataclass(frozen=True)
class Product:
    """A map that was multiplied with values."""

    maps: GivenMaps
    dropout: float
    changed: bool


class SoftmaxProducts:
    """Follows every softmax to the product that uses it.

    Attributes:
        softmaxes: those that were seen.
    """

    def __init__(self) -> None:
        self.softmaxes: list[SeenSoftmax] = []
        self._maps = WeakIdKeyDictionary()
        self._raised = WeakIdKeyDictionary()
        self._rearranged = WeakIdKeyDictionary()

    def see(self, func: Any, args: tuple, kwargs: dict[str, Any], result: Any, module: str = "") -> Product | None:
        """Take note of a call; its product with values, if it is one.

        Args:
            func, args, kwargs, result: of any call of torch.
            module: path of the module that makes it.
        """
        if func in SOFTMAXES and isinstance(result, Tensor):
            self._begin(args, kwargs, result, module)
            return None
        if not self._maps and not self._rearranged:
            return None
        if func in REARRANGED or (func in SAME and result not in self._maps):
            self._rearrange(args, result)
        if not isinstance(result, Tensor):
            return None
        product = None
        if func in PRODUCTS and len(args) > 1:
            product = self._product(args[0], args[1], result)
        elif func is torch.einsum:
            product = self._einsum(args, result)
        elif func in SUMS and self._raised and args and args[0] in self._raised:
            product = self._summed(args, kwargs, result)
        else:
            self._follow(func, args, kwargs, result)
        self._note(func, args, product)
        return product

    def _begin(self, args: tuple, kwargs: dict[str, Any], result: Tensor, module: str) -> None:
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if dim is not None and result.ndim > 1:
            seen = SeenSoftmax(module, tuple(result.shape))
            self.softmaxes.append(seen)
            self._maps[result] = _Map((seen,), key=dim % result.ndim - result.ndim)

    def _note(self, func: Any, args: tuple, product: Product | None) -> None:
        """What was multiplied, and whether the product was understood."""
        if func not in PRODUCTS and func not in ELEMENTWISE and func not in OTHER_PRODUCTS and func not in SUMS:
            if func is not torch.einsum:
                return
            args = (*args[1], args[0]) if len(args) == 2 and not isinstance(args[1], Tensor) else args
        tensors = [each for each in args if isinstance(each, Tensor)]
        if product is None and (func in SUMS or sum(each.numel() > 1 for each in tensors) < 2):
            return
        for each in tensors:
            raised = self._raised.get(each)
            known = self._maps.get(each) if raised is None else raised.known
            softmaxes = () if known is None else known.softmaxes
            if func not in ELEMENTWISE and func not in SUMS:
                softmaxes = (*softmaxes, *self._rearranged.get(each, ()))
            for softmax in softmaxes:
                softmax.multiplied = True
                softmax.recorded |= product is not None

    def _rearrange(self, args: tuple[Any, ...], result: Any) -> None:
        tensors = [one for each in args for one in (each if isinstance(each, tuple | list) else (each,))]
        softmaxes: tuple[SeenSoftmax, ...] = ()
        for each in tensors:
            if isinstance(each, Tensor):
                known = self._maps.get(each)
                softmaxes += self._rearranged.get(each, ()) if known is None else known.softmaxes
        for each in result if isinstance(result, tuple | list) else (result,):
            if softmaxes and isinstance(each, Tensor) and each not in self._maps:
                self._rearranged[each] = softmaxes

    def _follow(self, func: Any, args: tuple, kwargs: dict[str, Any], result: Tensor) -> None:
        if func in ELEMENTWISE:
            self._multiply(args, result)
            if result in self._raised and not any(each in self._maps for each in args if isinstance(each, Tensor)):
                return
        source = next((each for each in args if isinstance(each, Tensor) and each in self._maps), None)
        if source is None:
            return
        known = self._maps[source]
        before = known.weights if known.weights is not None else source
        if result.shape == (*source.shape, 1) and (func in SAME or func is torch.Tensor.__getitem__):
            self._raised[result] = _Raised(known, source)
        elif func in DROPOUTS:
            dropout = _dropout(func, args, kwargs)
            if result is not source and dropout > 0:
                self._maps[result] = replace(known, weights=before, dropout=dropout)
        elif func in SAME and known.key >= -2 and result.shape[known.key :] == source.shape[known.key :]:
            if result is not source:
                self._maps[result] = replace(known, weights=before.reshape(result.shape))
        elif func in TRANSPOSES:
            self._transpose(func, args, kwargs, result)
        elif func in CHANGES and result.ndim > 1 and not _loses_keys(func, args, known, result):
            maps = [self._maps[each] for each in args if isinstance(each, Tensor) and each in self._maps]
            softmaxes = tuple({id(one): one for each in maps for one in each.softmaxes}.values())
            self._maps[result] = replace(known, softmaxes=softmaxes, weights=None, dropout=0.0, changed=True)

    def _multiply(self, args: tuple[Any, ...], result: Tensor) -> None:
        """Follow a map with an axis of 1 behind to its elementwise product with values."""
        operands = [each for each in args if isinstance(each, Tensor)]
        raised = [self._with_one_behind(each) for each in operands]
        if len(operands) == 2 and raised.count(None) == 1:
            own = 0 if raised[0] is not None else 1
            if raised[own].value is None and result.ndim == operands[own].ndim:
                self._raised[result] = replace(raised[own], value=operands[1 - own])

    def _with_one_behind(self, values: Tensor) -> _Raised | None:
        """A map with an axis of 1 behind: raised, or one of a single query that stands behind its keys."""
        known = self._maps.get(values)
        if known is None or known.key != -2 or values.shape[-1] != 1:
            return self._raised.get(values)
        known = _changed(known, lambda each: each.squeeze(-1))
        return _Raised(replace(known, key=-1), values.squeeze(-1))

    def _summed(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Product | None:
        """Sum over keys of a map times values, one after another: (..., query, key, 1) * (..., 1, key, dim).

        Where the values differ from query to query there is one query only, as in pooling by attention: its axis is 1.
        """
        raised, ndim = self._raised[args[0]], args[0].ndim
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        dim = dim[0] if isinstance(dim, tuple | list) and len(dim) == 1 else dim
        keep = kwargs.get("keepdim", args[2] if len(args) > 2 else False)
        key = raised.known.key - 1  # of the product, which has one axis more
        if raised.value is None or type(dim) is not int or dim % ndim - ndim != key or key not in (-2, -3):
            return None
        value = raised.value.reshape((1,) * (ndim - raised.value.ndim) + raised.value.shape)
        query = -5 - key  # the other one of the map's last two axes
        output = result.squeeze(key) if keep else result
        if value.shape[key] != args[0].shape[key]:
            return None
        if value.shape[query] == 1:
            operand, turn = raised.operand, (lambda each: each if key == -2 else each.mT)
            return _as_product(_changed(raised.known, turn), turn(operand), value.squeeze(query), output)
        if key == -2 and raised.operand.ndim <= 3:
            known = _changed(raised.known, lambda each: each.unsqueeze(-2))
            return _as_product(known, raised.operand.unsqueeze(-2), value, output.unsqueeze(-2))
        return None

    def _transpose(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> None:
        """Follow a map whose axes change places."""
        source, *places = args
        if source not in self._maps:
            return
        known = self._maps[source]
        probe = torch.empty(tuple(range(1, source.ndim + 1)), device="meta")  # sizes that tell the axes apart
        order = [size - 1 for size in func(probe, *places, **kwargs).shape]
        weights = None if known.weights is None else func(known.weights, *places, **kwargs)
        key = order.index(source.ndim + known.key) - source.ndim
        self._maps[result] = replace(known, weights=weights, key=key)

    def _product(self, first: Tensor, second: Tensor, result: Tensor) -> Product | None:
        """P V, or V^T P^T."""
        if isinstance(first, Tensor) and first in self._maps and self._maps[first].key == -1:
            return _as_product(self._maps[first], first, second, result)
        if isinstance(second, Tensor) and second in self._maps and self._maps[second].key == -2:
            known = _changed(self._maps[second], lambda each: each.mT)
            return _as_product(known, second.mT, first.mT, result.mT)
        return None

    def _einsum(self, args: tuple, result: Tensor) -> Product | None:
        """Two operands in the form of letters: keys are summed over, queries are the map's alone."""
        if len(args) == 2 and not isinstance(args[1], Tensor):
            args = (args[0], *args[1])
        if len(args) != 3 or not isinstance(args[0], str):
            return None
        *letters, out = _letters(args[0], [each.ndim for each in args[1:]])
        for own, other in ((0, 1), (1, 0)):
            operand = args[1 + own]
            if operand in self._maps:
                return self._from_letters(letters[own], letters[other], out, operand, args[1 + other], result)
        return None

    def _from_letters(
        self, of_map: str, of_value: str, out: str, operand: Tensor, value: Tensor, result: Tensor
    ) -> Product | None:
        known = self._maps[operand]
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
        value = _turned(value, "".join(missing) + of_value, lead + key + dims[0])
        return _as_product(
            _changed(known, lambda each: _turned(each, of_map, lead + query + key)),
            _turned(operand, of_map, lead + query + key),
            value,
            _turned(result, out, lead + query + dims[0]),
        )


def _loses_keys(func: Any, args: tuple[Any, ...], known: _Map, result: Tensor) -> bool:
    """Whether what makes another map of one leaves no axis of keys: one of them was picked, say of a pair of gates."""
    if func is not torch.Tensor.__getitem__:
        return result.ndim < -known.key
    source, places = args
    last = places[-1] if isinstance(places, tuple) else None
    picked = isinstance(last, int) and (any(each is ... for each in places) or len(places) == source.ndim)
    return result.ndim < source.ndim and (known.key < -2 or (picked and known.key == -1))


def _letters(equation: str, axes: list[int]) -> list[str]:
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


def _changed(known: _Map, change: Callable[[Tensor], Tensor]) -> _Map:
    """The same of a map whose axes were changed."""
    return known if known.weights is None else replace(known, weights=change(known.weights))


def _turned(values: Tensor, letters: str, wanted: str) -> Tensor:
    return values if letters == wanted else values.permute([letters.index(letter) for letter in wanted])


def _as_product(known: _Map, operand: Tensor, value: Tensor, output: Tensor) -> Product | None:
    if value.ndim < 2 or output.shape[:-1] != operand.shape[:-1]:
        return None
    weights = operand if known.weights is None else known.weights
    return Product(GivenMaps(weights, operand, value, output, 1 - known.dropout), known.dropout, known.changed)


def _dropout(func: Any, args: tuple, kwargs: dict[str, Any]) -> float:
    """p of a dropout that is on, else 0."""
    names = ("input", "p", "training") if func is F.dropout else ("input", "p", "train")
    arguments = {"p": 0.5, "training": True, "train": True} | dict(zip(names, args, strict=False)) | kwargs
    return float(arguments["p"]) if arguments[names[2]] else 0.0
