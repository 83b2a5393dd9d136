"""Attention between channels, of the shape of one between tokens where there are as many: told by other inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from analysis.capture.errors import LayoutError
from analysis.capture.maps import ScoredMaps, TokenMaps
from analysis.capture.probing import first_tensor, replaced, run_again
from analysis.capture.running import ModuleStack, RunningModule
from analysis.capture.state import kept_state
from analysis.capture.watcher import CallWatcher, unwatched

__all__ = ["refuse_channels"]

PROBED = 8  # tokens that are replaced, at most
LOCAL = 0.9  # of all that moves: in one row, where it is that of the token that was replaced
Sides = tuple[Float[Tensor, "rows columns"], Float[Tensor, "rows columns"]]


def refuse_channels(modules: ModuleStack, maps: TokenMaps, where: str, name: str) -> None:
    """Refuse a call whose rows of queries or values are no tokens, where their number is that of their channels.

    The innermost module that is given as many tokens runs again with at most 8 of these replaced, one by one. Where it
    cannot be run so, nothing is told.

    Args:
        modules: the running ones.
        maps: of the call.
        where: path of its module.
        name: of the call, for the message.

    Raises:
        LayoutError: it attends between channels.
    """
    tokens = maps.value.shape[-2]
    if maps.value.shape[-1] != tokens or tokens < 3:
        return
    for count in range(len(modules.running) - 1, -1, -1):
        running = modules.running[count]
        values = first_tensor(running)
        if values is not None and values.shape[-2] == tokens:
            break
    else:
        return
    if _between_channels(modules, count, running, where, tokens):
        raise LayoutError(
            f"{name} has as many tokens as channels of its values ({tokens}), and what moves with a token of the "
            "input are channels: it attends between these, or from these to tokens. Leave it out: "
            f"layout={{{where!r}: None, '*': ...}}; or, where it is between tokens, say its axes: TokenLayout(..., "
            "axes='clip head')"
        )


def _between_channels(modules: ModuleStack, count: int, running: RunningModule, where: str, tokens: int) -> bool:
    values = first_tensor(running)
    assert values is not None
    call, axis, wrong = (where, running.calls[where]), values.ndim - 2, 0
    try:
        with kept_state(running.module):
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
    if not total > 0:
        return False
    rows = moved.sum(1)
    if float(rows[position]) > LOCAL * total:
        return False
    others = rows - moved[:, position]  # of a map: its own column moves in each row
    return int(others.argmax()) != position


class _Sides(CallWatcher):
    """Keeps the values of one call, and its queries, or its map where it is written out."""

    def __init__(self, modules: ModuleStack, call: tuple[str, int]) -> None:
        super().__init__(modules)
        self.sides: Sides | None = None
        self._call = call
        self._calls: Counter[str] = Counter()

    def record(
        self,
        maps: Callable[[], tuple[TokenMaps, float]],
        where: str,
        kind: str,
        result: Any,
        between: tuple[str, ...] = (),
    ) -> None:
        """Take one attention call."""
        if (where, self._calls[where]) == self._call:
            with unwatched():
                known = maps()[0]
                rows = known.query if isinstance(known, ScoredMaps) else known.weights
                first, second = (each.to(known.wide).flatten(0, -3)[0] if each.ndim > 2 else each.to(known.wide)
                                 for each in (known.value, rows))  # fmt: skip
                self.sides = first.clone(), second.clone()
        self._calls[where] += 1


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
