"""Which axes of what a module that attends is given, and of what it returns, are rows and tokens of its call.

The sizes tell it where one reading alone fits. Else, and to make sure, single tokens are replaced, and single contexts
of the call: by the right reading the call's own token moves, and the output's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from analysis.capture import AttentionCall
from analysis.capture.capture import uncompiled
from analysis.capture.layout import TokenTable
from analysis.capture.maps import ScoredMaps, TokenMaps
from analysis.capture.one_call import OneCall
from analysis.capture.running import ModuleStack

__all__ = ["AxisProbe", "TokenAxes", "axis_readings", "by_token"]

TokenAxes = tuple[int, int]  # of the rows, and of the tokens
Moved = Float[Tensor, "rows tokens"]
Result = TypeVar("Result")

TRIALS = 8  # tokens that are replaced to tell readings apart
CHECKS = 3  # to make sure of a single one
CLEAR = 2.0  # by how much another token must move more than the one that was replaced


def axis_readings(shape: Sequence[int], table: TokenTable) -> list[TokenAxes]:
    """The axes of three that may be rows and tokens by their sizes, the usual first: (rows, tokens, dim).

    Args:
        shape: of a tensor.
        table: of the call's queries.
    """
    if len(shape) != 3:
        return []
    sizes = table.fold, table.tokens
    pairs = [(rows, tokens) for rows, tokens in permutations(range(3), 2) if (shape[rows], shape[tokens]) == sizes]
    if table.fold > 1:
        return pairs
    return list({tokens: (rows, tokens) for rows, tokens in reversed(pairs)}.values())[::-1]  # of a single row any axis


def by_token(values: Tensor, axes: TokenAxes) -> Float[Tensor, "rows tokens dim"]:
    """With the rows first, then the tokens."""
    return values.movedim(axes, (0, 1))


@dataclass(eq=False)
class AxisProbe:
    """A module that attends, by itself, ready to be run with other tokens.

    Attributes:
        module: it.
        run: makes what it returns of other tokens, and leaves it, and random numbers, as they were.
        call: one that it makes.
        path: of the call's module, from this one.
        numbers: of two of the calls that its module makes in a run, alike: the first is given the tokens, and of the
            second the output is made.
        tokens: what it was given.
        output_place: number of its output, of several that it returns.
    """

    module: nn.Module
    run: Callable[[Tensor], Any]
    call: AttentionCall
    path: str
    numbers: tuple[int, int]
    tokens: Tensor
    output_place: int = 0

    def input_axes(self, readings: Sequence[TokenAxes]) -> TokenAxes | None:
        """The reading of its tokens by which a token that is replaced is the one that moves; None: none or several."""
        strict = len(readings) > 1
        fitting = [each for each in readings if self._all(self._tokens_moved, each, strict)]
        return fitting[0] if len(fitting) == 1 else None

    def output_axes(self, readings: Sequence[TokenAxes]) -> TokenAxes | None:
        """The reading of its output by which the token moves whose context is replaced; None: none or several."""
        if len(readings) < 2:
            return readings[0] if readings else None
        fitting = [each for each in readings if self._all(self._output_moved, each, True)]
        return fitting[0] if len(fitting) == 1 else None

    def _all(self, moved_by: Callable[[TokenAxes, int, int, int], Moved | None], axes: TokenAxes, strict: bool) -> bool:
        """Whether it is the right token each time; `strict`: that none moves more, else that none clearly does."""
        assert self.call.tables is not None
        table = self.call.tables[0]
        total, trials = table.fold * table.tokens, TRIALS if strict else CHECKS
        spread = [round(each * (total - 1) / (trials - 1)) for each in range(trials)]
        if total < trials:
            spread = [each % total for each in range(trials)]
        for trial, place in enumerate(spread):
            row, token = divmod(place, table.tokens)
            moved = self._quiet(moved_by, axes, row, token, trial)
            if moved is None or not float(moved.max()) > 0:
                return False
            if float(moved.max()) > (1.0 if strict else CLEAR) * float(moved[row, token]):
                return False
        return True

    def _quiet(self, moved_by: Callable[..., Result], *args: Any) -> Result | None:
        """None where the module cannot be run so."""
        try:
            with torch.no_grad(), uncompiled():
                return moved_by(*args)
        except Exception:  # whatever a module does that other numbers are no input for
            return None

    def _tokens_moved(self, axes: TokenAxes, row: int, token: int, trial: int) -> Moved | None:
        """How far the call's tokens move where one that the module is given is replaced."""
        replaced = self.tokens.detach().clone()
        part = by_token(replaced, axes)[row, token]
        part += _noise(part, self.tokens, trial)
        before, after = (self._sides(tokens) for tokens in (self.tokens, replaced))
        for side in before:
            moved = (after[side] - before[side]).abs()
            if float(moved.max()) > 0:
                return moved
        return None

    def _sides(self, tokens: Tensor) -> dict[str, Moved]:
        """A number for each of the call's tokens, of its values and of its queries."""
        seen = _Seen(self.module, self.path, self.numbers[0])
        self._watched(seen, tokens)
        assert seen.maps is not None
        sides = {}
        assert self.call.tables is not None
        if self.call.tables[0] is self.call.tables[1]:
            sides["value"] = seen.maps.value
        if isinstance(seen.maps, ScoredMaps):
            sides["query"] = seen.maps.query
        return {name: self._by_row(values, seen.maps) for name, values in sides.items()}

    def _by_row(self, values: Tensor, maps: TokenMaps) -> Moved:
        assert self.call.axes is not None
        direction = torch.randn(values.shape[-1], generator=torch.Generator().manual_seed(5)).to(values)
        numbers = (values @ direction).expand(*maps.lead, -1)
        return self.call.axes.arranged(numbers[..., None, :]).nan_to_num().double().mean(1)[:, 0]

    def _output_moved(self, axes: TokenAxes, row: int, token: int, trial: int) -> Moved | None:
        """How far the output's tokens move where the context of one of the call is replaced."""

        def change(maps: TokenMaps) -> None:
            for place in self._places(maps, row):
                part = maps.output[(*place, token)]
                part += _noise(part, maps.output, trial)

        one, other = (each[self.output_place] for each in self._outputs(change))
        return by_token((other - one).abs(), axes).nan_to_num().sum(-1).double()

    def outputs_reached(self) -> set[int]:
        """Numbers of what the module returns, one after another, that move with all contexts of the call."""

        def change(maps: TokenMaps) -> None:
            maps.output.add_(_noise(maps.output, maps.output, 0))

        before, after = self._quiet(self._outputs, change) or ([], [])
        pairs = enumerate(zip(before, after, strict=False))
        return {number for number, (one, other) in pairs if isinstance(one, Tensor) and not _alike(one, other)}

    def _outputs(self, change: Callable[[TokenMaps], None]) -> tuple[list[Any], list[Any]]:
        """What the module returns, one after another, and what it returns where its call's output is changed."""
        seen = (_Seen(self.module, self.path, self.numbers[1], each) for each in (None, change))
        before, after = (tree_leaves(self._watched(each, self.tokens)) for each in seen)
        return before, after

    def _places(self, maps: TokenMaps, row: int) -> list[tuple[int, ...]]:
        """Where the contexts of a row lie among the axes in front of the call's tokens."""
        assert self.call.axes is not None
        if isinstance(maps, ScoredMaps) and maps.project is not None:
            return [(row,)]  # the heads are joined
        numbers = torch.arange(max(1, int(torch.tensor(maps.lead).prod())), dtype=torch.float64)
        flat = self.call.axes.arranged(numbers.reshape(*maps.lead, 1, 1))[row].flatten().long()
        return [tuple(int(each) for each in torch.unravel_index(number, maps.lead)) for number in flat]

    def _watched(self, seen: _Seen, tokens: Tensor) -> Any:
        with seen.modules.watching(), seen, sdpa_kernel(SDPBackend.MATH):
            return self.run(tokens)


class _Seen(OneCall):
    """Keeps the maps of one call of a module, and changes what it returns."""

    def __init__(
        self, module: nn.Module, path: str, number: int, change: Callable[[TokenMaps], None] | None = None
    ) -> None:
        super().__init__(ModuleStack(module), (path, number), written=True)
        self.maps: TokenMaps | None = None
        self._change = change

    def take(self, maps: TokenMaps) -> None:
        self.maps = maps
        if self._change is not None:
            self._change(maps)


def _alike(one: Tensor, other: Any) -> bool:
    return isinstance(other, Tensor) and one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())


def _noise(part: Tensor, values: Tensor, trial: int) -> Tensor:
    spread = float(values.detach().float().std().nan_to_num()) or 1.0
    return spread * torch.randn(part.shape, generator=torch.Generator().manual_seed(trial)).to(part)
