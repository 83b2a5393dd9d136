"""Attention between channels or heads, of the shape of one between tokens where there are as many: by other inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_leaves

from analysis.capture.errors import LayoutError
from analysis.capture.given import frame_tensors, tensors_given
from analysis.capture.maps import GivenMaps, ScoredMaps, TokenMaps
from analysis.capture.one_call import OneCall
from analysis.capture.probing import replaced, run_again
from analysis.capture.running import ModuleStack, RunningModule

__all__ = ["refuse_channels"]

PROBED = 8  # tokens that are replaced, at most
LOCAL = 0.9  # of all that moves: in one row, where it is that of the token that was replaced
CLEAR = 1e-3  # of the largest change: by how much weights divided by their sum move where they do
LEAST = 0.1  # of the largest number: what all of it moves, where anything can be told
Sides = tuple[Float[Tensor, "key dim"], Float[Tensor, "rows columns"]]


def refuse_channels(modules: ModuleStack, maps: TokenMaps, where: str, name: str) -> None:
    """Refuse a call whose rows of queries or values are no tokens, where there are as many channels or heads.

    The innermost module that is given as many tokens runs again with at most 8 of these replaced, one by one. Where it
    cannot be run so, nothing is told.

    Args:
        modules: the running ones.
        maps: of the call.
        where: path of its module.
        name: of the call, for the message.

    Raises:
        LayoutError: it attends between channels or heads.
    """
    tokens = maps.value.shape[-2]
    of_values = maps.value.shape[-1] == tokens
    written = isinstance(maps, GivenMaps) and (_as_many_heads(maps) or _as_many_channels(maps, modules.running[-1]))
    if tokens < 3 or not (of_values or written):
        return
    for count in range(len(modules.running) - 1, -1, -1):
        running = modules.running[count]
        tensors = [each for each in tensors_given((running.args, running.kwargs)) if each.shape[-2] == tokens]
        if tensors:
            break
    else:
        return
    if _between_channels(modules, count, running, where, frame_tensors(tensors, tokens)[0]):
        kind = "channels of its values" if of_values else "heads or channels"
        raise LayoutError(
            f"{name} has as many tokens as {kind} ({tokens}), and what moves with a token of the input are these: it "
            "attends between them, or from them to tokens. Leave it out: "
            f"layout={{{where!r}: None, '*': ...}}; or, where it is between tokens, say its axes: TokenLayout(..., "
            "axes='clip head')"
        )


def _as_many_heads(maps: GivenMaps) -> bool:
    """Whether its rows may be the heads, or clips, of its softmax: as many as the queries or the keys."""
    queries, keys = maps.shape[2:]
    return any(each.shape.count(queries) > 1 + (queries == keys) for each in maps.softmaxes)


def _as_many_channels(maps: GivenMaps, running: RunningModule) -> bool:
    """Whether a parameter of its module, or what that was given, has as many channels a head as the map has rows."""
    heads = {1, *maps.lead, math.prod(maps.lead)}
    sizes = {count * tokens for count in heads for tokens in maps.shape[2:]}
    tensors = [each for each in tree_leaves((running.args, running.kwargs)) if isinstance(each, Tensor) and each.ndim]
    weights = [each for each in running.module.parameters() if each.ndim == 2]
    return any(each.shape[-1] in sizes for each in tensors) or any(sizes & set(each.shape) for each in weights)


def _between_channels(modules: ModuleStack, count: int, running: RunningModule, where: str, values: Tensor) -> bool:
    call, axis, wrong = (where, running.calls[where]), values.ndim - 2, 0
    tokens = values.shape[axis]
    try:
        before = _sides(modules, count, running, call, None)
        positions = sorted({round(each * (tokens - 1) / (PROBED - 1)) for each in range(PROBED)})
        for position in positions:
            after = _sides(modules, count, running, call, partial(replaced, values.shape, axis, position))
            wrong += any(_is_of_channels(*pair, position) for pair in zip(before, after, strict=True))
    except Exception:  # whatever a module does that other numbers are no input for
        return False
    return wrong > len(positions) / 2


def _is_of_channels(before: Tensor, after: Tensor, position: int) -> bool:
    """Whether a replaced token moves its column, or all rows alike, and not its row."""
    moved = (after - before).abs()
    total = float(moved.sum())
    if not total > LEAST * float(before.abs().max()):
        return False
    rows = moved.sum(1)
    if len(rows) <= position:
        return False  # other queries than the tokens
    if float(rows[position]) > LOCAL * total:
        return False
    if moved.shape[0] == moved.shape[1]:
        rows = rows - moved[:, position]  # of a map: its own column moves in each row
        if bool((before >= 0).all()):  # and what it takes from the others there is shared by them
            shares = (_shares(after, position) - _shares(before, position)).abs().sum(1)
            rows = shares if float(shares.max()) > CLEAR * float(moved.max()) else rows
    return int(rows.argmax()) != position


def _shares(weights: Tensor, position: int) -> Tensor:
    """Of each row, without one column."""
    others = weights.clone()
    others[:, position] = 0
    return others / others.sum(1, keepdim=True).clamp(min=1e-12)


class _Sides(OneCall):
    """Keeps the values of one call, and its queries, or its map where it is written out."""

    def __init__(self, modules: ModuleStack, call: tuple[str, int]) -> None:
        super().__init__(modules, call)
        self.sides: Sides | None = None

    def take(self, maps: TokenMaps) -> None:
        rows = maps.query if isinstance(maps, ScoredMaps) else maps.weights
        first, second = (each.to(maps.wide).flatten(0, -3)[0] if each.ndim > 2 else each.to(maps.wide)
                         for each in (maps.value, rows))  # fmt: skip
        self.sides = first.clone(), second.clone()


def _sides(
    modules: ModuleStack,
    count: int,
    running: RunningModule,
    call: tuple[str, int],
    replace: Callable[[Any], Any] | None,
) -> Sides:
    seen = _Sides(modules, call)
    run_again(modules, count, running, replace, seen)
    assert seen.sides is not None
    return seen.sides
