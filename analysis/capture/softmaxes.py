"""Attention that a module writes out itself: a softmax, then a product with values. Other softmaxes have no product."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from analysis.capture.maps import GivenMaps

__all__ = ["Product", "SoftmaxProducts"]

SOFTMAXES = {torch.softmax, torch.special.softmax, torch.Tensor.softmax, F.softmax}
PRODUCTS = {
    torch.matmul,
    torch.bmm,
    torch.mm,
    torch.Tensor.matmul,
    torch.Tensor.__matmul__,
    torch.Tensor.bmm,
    torch.Tensor.mm,
}
DROPOUTS = {F.dropout, torch.dropout}
# What leaves the numbers of a map as they are, but for their type and the split of their leading axes.
SAME = {
    torch.reshape,
    torch.squeeze,
    torch.unsqueeze,
    torch.flatten,
    torch.unflatten,
    torch.clone,
    torch.Tensor.to,
    torch.Tensor.type,
    torch.Tensor.type_as,
    torch.Tensor.float,
    torch.Tensor.half,
    torch.Tensor.bfloat16,
    torch.Tensor.double,
    torch.Tensor.contiguous,
    torch.Tensor.clone,
    torch.Tensor.view,
    torch.Tensor.reshape,
    torch.Tensor.expand,
    torch.Tensor.squeeze,
    torch.Tensor.unsqueeze,
    torch.Tensor.flatten,
    torch.Tensor.unflatten,
}
TRANSPOSES = {
    torch.transpose,
    torch.permute,
    torch.Tensor.transpose,
    torch.Tensor.permute,
    torch.Tensor.mT.__get__,
    torch.Tensor.swapaxes,
}
# What makes another map of one: gates, masks after the softmax, sums of branches, a key that is cut off.
CHANGES = {
    torch.add,
    torch.sub,
    torch.mul,
    torch.div,
    torch.where,
    torch.masked_fill,
    torch.Tensor.__getitem__,
    *(
        getattr(torch.Tensor, name)
        for verb in ("add", "sub", "mul", "div", "masked_fill")
        for name in (verb, f"{verb}_")
    ),
    *(
        getattr(torch.Tensor, f"__{mark}{verb}__")
        for verb in ("add", "sub", "mul")
        for mark in ("", "r", "i")
    ),
    torch.Tensor.__truediv__,
    torch.Tensor.__itruediv__,
}  # fmt: skip


@dataclass(frozen=True)
class _Map:
    """What is known of a tensor that came from a softmax.

    Attributes:
        weights: before a dropout; None: the tensor itself.
        keys_last: whether the keys are the last axis, else the last but one.
        dropout: p of a dropout that was on.
        changed: whether it is another map than the softmax gave.
    """

    weights: Tensor | None = None
    keys_last: bool = True
    dropout: float = 0.0
    changed: bool = False


@dataclass(frozen=True)
class Product:
    """A map that was multiplied with values."""

    maps: GivenMaps
    dropout: float
    changed: bool


class SoftmaxProducts:
    """Follows every softmax to the product that uses it."""

    def __init__(self) -> None:
        self._maps = WeakIdKeyDictionary()

    def see(self, func: Any, args: tuple, kwargs: dict[str, Any], result: Any) -> Product | None:
        """Take note of a call; its product with values, if it is one.

        Args:
            func, args, kwargs, result: of any call of torch.
        """
        if not isinstance(result, Tensor):
            return None
        if func in SOFTMAXES:
            self._begin(args, kwargs, result)
        elif not self._maps:
            return None
        elif func in PRODUCTS and len(args) > 1:
            return self._product(args[0], args[1], result)
        elif func is torch.einsum:
            return self._einsum(args, result)
        else:
            self._follow(func, args, kwargs, result)
        return None

    def _begin(self, args: tuple, kwargs: dict[str, Any], result: Tensor) -> None:
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if dim is not None and result.ndim > 1 and dim % result.ndim >= result.ndim - 2:
            self._maps[result] = _Map(keys_last=dim % result.ndim == result.ndim - 1)

    def _follow(self, func: Any, args: tuple, kwargs: dict[str, Any], result: Tensor) -> None:
        source = next((each for each in args if isinstance(each, Tensor) and each in self._maps), None)
        if source is None:
            return
        known = self._maps[source]
        before = known.weights if known.weights is not None else source
        if func in DROPOUTS:
            dropout = _dropout(func, args, kwargs)
            if result is not source and dropout > 0:
                self._maps[result] = replace(known, weights=before, dropout=dropout)
        elif func in SAME and result.shape[-2:] == source.shape[-2:]:
            if result is not source:
                self._maps[result] = replace(known, weights=before.reshape(result.shape))
        elif func in TRANSPOSES:
            self._transpose(func, args, kwargs, result)
        elif func in CHANGES and result.ndim > 1:
            self._maps[result] = replace(known, weights=None, dropout=0.0, changed=True)

    def _transpose(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> None:
        """Follow a map whose queries and keys are its last two axes still, in whichever order."""
        source, *places = args
        if source not in self._maps:
            return
        known = self._maps[source]
        probe = torch.empty(tuple(range(1, source.ndim + 1)), device="meta")  # sizes that tell the axes apart
        order = [size - 1 for size in func(probe, *places, **kwargs).shape]
        if set(order[-2:]) != {source.ndim - 2, source.ndim - 1}:
            return
        swapped = order[-1] != source.ndim - 1
        weights = None if known.weights is None else func(known.weights, *places, **kwargs)
        self._maps[result] = replace(known, weights=weights, keys_last=known.keys_last != swapped)

    def _product(self, first: Tensor, second: Tensor, result: Tensor) -> Product | None:
        """P V, or V^T P^T."""
        if isinstance(first, Tensor) and first in self._maps and self._maps[first].keys_last:
            return _as_product(self._maps[first], first, second, result)
        if isinstance(second, Tensor) and second in self._maps and not self._maps[second].keys_last:
            known = self._maps[second]
            before = None if known.weights is None else known.weights.mT
            return _as_product(replace(known, weights=before), second.mT, first.mT, result.mT)
        return None

    def _einsum(self, args: tuple, result: Tensor) -> Product | None:
        """Two operands in the form of letters: keys are summed over, queries are the map's other axis."""
        if len(args) == 2 and not isinstance(args[1], Tensor):
            args = (args[0], *args[1])
        if len(args) != 3 or not isinstance(args[0], str) or "->" not in args[0] or "." in args[0]:
            return None
        inputs, out = args[0].replace(" ", "").split("->")
        letters = inputs.split(",")
        for own, other in ((0, 1), (1, 0)):
            operand = args[1 + own]
            if operand in self._maps:
                return self._from_letters(letters[own], letters[other], out, operand, args[1 + other], result)
        return None

    def _from_letters(
        self, of_map: str, of_value: str, out: str, operand: Tensor, value: Tensor, result: Tensor
    ) -> Product | None:
        known = self._maps[operand]
        key, query = (of_map[-1], of_map[-2]) if known.keys_last else (of_map[-2], of_map[-1])
        dims = [letter for letter in of_value if letter not in of_map]
        fits = key in of_value and key not in out and query in out and query not in of_value and len(dims) == 1
        if not fits or set(of_map) - {key} - set(out):
            return None
        lead = of_map[:-2]
        before = None if known.weights is None else _turned(known.weights, of_map, lead + query + key)
        missing = [letter for letter in lead if letter not in of_value]
        for _ in missing:
            value = value.unsqueeze(0)
        value = _turned(value, "".join(missing) + of_value, lead + key + dims[0])
        return _as_product(
            replace(known, weights=before),
            _turned(operand, of_map, lead + query + key),
            value,
            _turned(result, out, lead + query + dims[0]),
        )


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
    given = {"p": 0.5, "training": True, "train": True} | dict(zip(names, args, strict=False)) | kwargs
    return float(given["p"]) if given[names[2]] else 0.0
