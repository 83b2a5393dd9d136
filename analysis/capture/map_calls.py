"""A call of torch on a map that is followed: where the axis of its keys goes, and what a scaling after a dropout is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from analysis.capture.followed import FollowedMap, TensorTable, tensors_of
from analysis.capture.operations import (
    ADDED_PRODUCTS,
    AXES_KEPT,
    BESIDE,
    CUTS,
    ELEMENTWISE,
    JOINS,
    MOVES,
    PICKS,
    PRODUCTS,
    REDUCTIONS,
    SCALINGS,
    SCATTERS,
    SPLITS,
    function_name,
)
from analysis.capture.products import einsum_letters, einsum_operands

__all__ = ["MapCall", "before_changed", "in_order", "is_piece", "key_after", "reorders", "takes_parts"]


@dataclass(eq=False)
class MapCall:
    """A call of torch that a followed map is among the arguments of.

    Attributes:
        func, args, kwargs: as a torch function mode gets them.
        result: what it returned.
        module: path of the submodule that called.
        tensors: all among the arguments.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    module: str
    tensors: list[Tensor]

    @cached_property
    def name(self) -> str:
        """Of the function, as a user writes it."""
        return function_name(self.func)

    @property
    def targets(self) -> list[Tensor]:
        """What it made, or wrote into."""
        return [self.args[0]] if self.func is torch.Tensor.__setitem__ else list(tensors_of(self.result))

    @cached_property
    def weighted_by_parameters(self) -> bool:
        """Whether a parameter is among the arguments."""
        return any(isinstance(each, nn.Parameter) for each in self.tensors)


def key_after(call: MapCall, source: Tensor, known: FollowedMap, target: Tensor, others: bool) -> int | str | None:
    """Axis of the keys in what a function made of a map; None: not known; "gone": reduced; "picked": one of them."""
    key = known.key
    if key is None and call.func in SCATTERS and all(target.shape == each.shape for each in known.softmaxes):
        return int(call.args[1]) % target.ndim - target.ndim if len(call.args) > 1 else None  # the best keys, put back
    if key is None or known.logarithm:
        return None
    if call.func in REDUCTIONS and len(call.tensors) == 1:
        return _key_reduced(call, source, known, key)
    if call.func is torch.Tensor.__getitem__:
        return _key_of_part(call.args[1], source, key, target)
    if call.func in PICKS:
        return _key_of_pick(call, source, key)
    if call.func is torch.einsum:
        return _key_of_einsum(call, source, key)
    if others and not _keeps_axes(call, source, key):
        return None  # say a product that is added to other numbers
    same = target.ndim == source.ndim
    kept = same and (target.shape[key] == source.shape[key] or call.func in CUTS)
    beside = same and call.func in BESIDE and not others  # maps next to each other
    behind = key >= -2 and target.ndim > 1 and target.shape[-2:] == source.shape[-2:]
    return key if kept or beside or behind else None


def is_piece(call: MapCall) -> bool:
    """Whether a call may take some keys of a map, one after another."""
    return call.func in PICKS or call.func in SPLITS or call.func is torch.Tensor.__getitem__


def takes_parts(call: MapCall, known: TensorTable[FollowedMap]) -> bool:
    """Whether what a map is multiplied with is a part of a larger tensor, as the values of one key are."""
    others = [each for each in call.tensors if each not in known and each.layout == torch.strided]
    return any(each.untyped_storage().nbytes() > each.numel() * each.element_size() for each in others)


def _key_reduced(call: MapCall, source: Tensor, known: FollowedMap, key: int) -> int | str | None:
    """Of what reduces some axes; where it is the keys', and a softmax has one of them a query, no values are left."""
    dim = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
    numbers = dim if isinstance(dim, tuple | list) else range(source.ndim) if dim is None else (dim,)
    if not all(type(each) is int for each in numbers):
        return None
    axes = {each % source.ndim - source.ndim for each in numbers}
    if key in axes:
        if key == -1 and all(source.shape == each.shape for each in known.softmaxes):
            known.excuse()
        return "gone"
    if call.kwargs.get("keepdim", len(call.args) > 2 and call.args[2]):
        return key
    return key + sum(each > key for each in axes) if source.ndim - len(axes) > 1 else None


def _key_of_part(places: Any, source: Tensor, key: int, target: Tensor) -> int | str | None:
    """Of what was picked by an index."""
    last = places[-1] if isinstance(places, tuple) else None
    picked = isinstance(last, int) and (any(each is ... for each in places) or len(places) == source.ndim)
    fewer = target.ndim < source.ndim
    if any(isinstance(each, Tensor) for each in (places if isinstance(places, tuple) else ())):
        picked = False
    if fewer and picked and key == -1:
        return "picked"
    if target.ndim < max(2, -key) or (target.ndim > source.ndim and target.shape[key] != source.shape[key]):
        return None if isinstance(places, tuple) and any(isinstance(each, Tensor) for each in places) else "gone"
    return "gone" if fewer and key < -2 else key


def _keeps_axes(call: MapCall, source: Tensor, key: int) -> bool:
    """Whether a function that takes other numbers too leaves the keys of a map where they are."""
    first = source is call.args[0]
    return call.func in AXES_KEPT or (first and (call.func in ADDED_PRODUCTS or (call.func is F.linear and key != -1)))


def _key_of_pick(call: MapCall, source: Tensor, key: int) -> int | None:
    """Of one position of an axis, or of each, or of a diagonal: None where the keys are those that were picked."""
    names, counts = PICKS[call.func]
    axes = {
        int(call.kwargs.get(name, call.args[place] if len(call.args) > place else default)) % source.ndim - source.ndim
        for name, place, default in names
    }
    if key in axes:
        return None
    return key + sum(each > key for each in axes) - counts


def _key_of_einsum(call: MapCall, source: Tensor, key: int) -> int | None:
    """Of an einsum of maps alone: where the letter of the keys is."""
    equation, *operands = einsum_operands(call.args)
    if not isinstance(equation, str):
        return None
    *letters, out = einsum_letters(equation, [each.ndim for each in operands])
    letter = letters[next(number for number, each in enumerate(operands) if each is source)][key]
    return out.index(letter) - len(out) if letter in out and len(out) > 1 else None


def before_changed(call: MapCall, source: Tensor, known: FollowedMap, alone: bool) -> FollowedMap:
    """The same map before a dropout that was on, where it is known; else the one behind it is shown, and named so."""
    if known.dropout == 0 or known.before is None:
        return replace(known, before=None)
    if alone and known.kept == 1 and call.func in SCALINGS and _scale(call) is not None:
        kept = known.kept / (_scale(call) or 1.0)  # the dropout's own scaling
        return replace(
            known, kept=kept, dropout=1 - kept if 0 < kept < 1 else known.dropout, between=known.between[:-1]
        )
    if alone and call.func in SCALINGS:
        args = tuple(known.before if each is source else each for each in call.args)
        return replace(known, before=call.func(*args, **call.kwargs))
    return replace(known, before=None, between=(*known.between[:-1], "dropout", known.between[-1]))


def _scale(call: MapCall) -> float | None:
    """By which number alone a map was multiplied; None: something else."""
    numbers = [each for each in call.args if isinstance(each, int | float)]
    if len(numbers) != 1 or not numbers[0] or len(call.tensors) != 1 or call.func is torch.Tensor.__getitem__:
        return None
    return float(numbers[0]) if call.func in ELEMENTWISE else 1 / float(numbers[0])


def reorders(call: MapCall, source: Tensor, known: FollowedMap, count: int) -> bool:
    """Whether a function that made another map of some may have put what lies at a place in another."""
    if call.func is torch.Tensor.__getitem__:
        return not in_order(call.args[1])
    if call.func in PRODUCTS or call.func is F.linear or call.func is torch.Tensor.__rmatmul__:
        return known.key == (-1 if call.args[0] is source else -2)  # keys mixed with each other
    if call.func is torch.einsum:
        equation, *operands = einsum_operands(call.args)
        letters = einsum_letters(equation, [each.ndim for each in operands])
        own = next(number for number, each in enumerate(operands) if each is source)
        return known.key is None or letters[own][known.key] not in letters[-1]
    return call.func in MOVES or (call.func in JOINS and count > 1)


def in_order(index: Any) -> bool:
    """Whether an index of slices and numbers alone leaves what it picks in its order."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(each is None or each is ... or isinstance(each, int | slice) for each in parts)
