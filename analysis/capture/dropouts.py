"""Dropouts of a followed map: by torch's functions, in place, or by a mask of random numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from analysis.capture.followed import FollowedMap, TensorTable, merged, tensors_of
from analysis.capture.map_calls import MapCall
from analysis.capture.operations import DROPOUTS, NOISY, RANDOM, SAME

__all__ = [
    "RandomNumbers",
    "after_dropout",
    "after_mask",
    "dropout_in_place",
    "dropout_probability",
    "written_tensor",
]

_NAMES = {torch.dropout: "train", torch.dropout_: "train", torch.feature_dropout: "train"}


def dropout_probability(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """p of a call of a dropout that is on, else 0."""
    switch = _NAMES.get(func, "training")
    arguments = {"p": 0.5, switch: True} | dict(zip(("input", "p", switch), args, strict=False)) | kwargs
    if func in NOISY and switch not in kwargs and len(args) < 3:
        return 0.0  # off where nothing is said
    return float(arguments["p"]) if arguments[switch] else 0.0


def dropout_in_place(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call of a dropout writes into the map that it is given."""
    if func is torch.dropout_:
        return True
    return func in DROPOUTS and func not in _NAMES and bool(kwargs.get("inplace", args[3] if len(args) > 3 else False))


def written_tensor(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Tensor | None:
    """The tensor that a call wrote into in place; None: none."""
    if func is torch.Tensor.__setitem__:
        return args[0] if args and isinstance(args[0], Tensor) else None
    if isinstance(kwargs.get("out"), Tensor):
        return kwargs["out"]
    same = args and result is args[0] and func not in SAME
    if not same or not isinstance(result, Tensor):
        return None
    return None if func in DROPOUTS and not dropout_in_place(func, args, kwargs) else result


def mask_rate(mask: Tensor) -> tuple[float, float] | None:
    """p of a dropout, and by what its result is multiplied to be the map again; None: no mask of zeros and one number.

    Args:
        mask: random numbers by which a map was multiplied.
    """
    if torch._C._functorch.is_functorch_wrapped_tensor(mask):
        return None
    values = mask.detach().double()
    kept = values[values != 0]
    if not len(kept) or len(kept) == values.numel() or bool(kept.min() != kept.max()):
        return None
    scale = float(kept[0])
    return (float((values == 0).double().mean()), 1.0) if scale == 1 else (1 - 1 / scale, 1 / scale)


def after_dropout(call: MapCall, source: Tensor, known: FollowedMap, undropped: Tensor | None) -> FollowedMap:
    """What is known of a map behind one of torch's dropouts.

    Args:
        call: of the dropout.
        source, known: the map in front of it.
        undropped: its numbers, where the dropout wrote into it.
    """
    dropout = dropout_probability(call.func, call.args, call.kwargs)
    if dropout == 0:
        return known
    if call.func in NOISY or (known.dropout > 0 and known.before is not None):
        first = ("dropout",) if known.before is not None and known.dropout > 0 else ()
        between = merged((known.between, first, (call.name,)))
        return replace(known, before=None, scores=None, dropout=dropout, between=between)
    before = known.before if known.before is not None else source if undropped is None else undropped
    return replace(known, before=before, dropout=dropout, kept=1 - dropout)


def after_mask(
    mask: Tensor, call: MapCall, source: Tensor, known: FollowedMap, undropped: Tensor | None
) -> FollowedMap:
    """The same behind a product with a mask of random numbers, which is a dropout by another name."""
    rate = mask_rate(mask)
    if rate is None or known.dropout > 0 or call.result.shape != source.shape:
        between = (*known.between, f"{call.name} by random numbers")
        return replace(known, before=None, scores=None, between=between)
    before = known.before if known.before is not None else source if undropped is None else undropped
    return replace(known, before=before, dropout=rate[0], kept=rate[1])


class RandomNumbers:
    """Tensors of random numbers, and what was made of them alone, while a map is followed."""

    def __init__(self) -> None:
        self._drawn = TensorTable[bool]()

    def __contains__(self, tensor: object) -> bool:
        return tensor in self._drawn

    def see(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Take note of a call that has no map among its arguments."""
        if not isinstance(result, Tensor) or result in self._drawn:
            return
        drawn = func in RANDOM or (func in DROPOUTS and dropout_probability(func, args, kwargs) > 0)
        if not drawn and len(self._drawn):
            tensors = list(tensors_of((*args, *kwargs.values())))
            drawn = bool(tensors) and all(each in self._drawn or each.numel() == 1 for each in tensors)
        if drawn:
            self._drawn[result] = True
