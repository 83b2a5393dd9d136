"""Recorder: computes the attention calls of a module, and keeps of them what is wanted, under the submodule's path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch

from analysis.capture.arrangement import AxisFinder
from analysis.capture.axes import Axes
from analysis.capture.call import AttentionCall, Options, make_call
from analysis.capture.errors import module_place
from analysis.capture.followed import SeenSoftmax, Use
from analysis.capture.intercept import refuse_empty
from analysis.capture.layout import layout_of
from analysis.capture.maps import GivenMaps, TokenMaps
from analysis.capture.running import ModuleStack
from analysis.capture.watcher import CallWatcher, unwatched

__all__ = ["Recorder", "Rewrite"]

# Called with a call, its maps and the tensor that it returns.
Rewrite = Callable[[AttentionCall, TokenMaps, torch.Tensor], None]


class Recorder(CallWatcher):
    """Records attention calls while it is active.

    Args:
        modules: the running submodules.
        options: what to keep of a call; a function, since a layout may be known only when the module was called.
        rewrite: see `capture`.
        axes: name of a call -> its axes, where another pass has told them.
    """

    def __init__(
        self,
        modules: ModuleStack,
        options: Callable[[], Options],
        rewrite: Rewrite | None = None,
        axes: Mapping[str, Axes] | None = None,
    ) -> None:
        super().__init__(modules, written=rewrite is not None)
        self.options = options
        self.calls: list[AttentionCall] = []
        self.skipped: Counter[str] = Counter()
        self._rewrite = rewrite
        self._axes = AxisFinder(modules, axes or {})
        self._sites: list[str] = []
        self._softmaxes: dict[str, tuple[SeenSoftmax, ...]] = {}
        self._kept = False  # whether the last call was

    def unexplained(self) -> dict[tuple[str, tuple[int, ...], Use], int]:
        """Module, shape and first other use of the softmaxes that were in no product that is understood -> how many."""
        options = self.options()
        numbers: dict[tuple[str, tuple[int, ...], str, str], tuple[Use, int]] = {}
        for each in self.softmaxes.softmaxes:
            use = next((use for use in each.uses if not use.excused), None)
            if use is None or each.recorded or not options.wants(each.module, -1):
                continue
            key = (each.module, each.shape, use.function, use.module)
            numbers[key] = (use, numbers.get(key, (use, 0))[1] + 1)
        return {(key[0], key[1], use): count for key, (use, count) in numbers.items()}

    def shared_maps(self) -> dict[str, tuple[str, ...]]:
        """Name of a call -> the products that what was made of its softmax went into, where these are several."""
        products = {
            name: tuple(product for each in softmaxes for product in each.products)
            for name, softmaxes in self._softmaxes.items()
        }
        return {name: each for name, each in products.items() if len(each) > len(self._softmaxes[name])}

    def record(
        self,
        maps: Callable[[], tuple[TokenMaps, float]],
        where: str,
        kind: str,
        result: Any,
        between: tuple[str, ...] = (),
    ) -> None:
        """Compute a call, and keep it."""
        index = self._index(where)
        if where not in self._sites:
            self._sites.append(where)
        options = self.options()
        self._kept = not self._left_out(options, where)
        if not self._kept:
            self.skipped[where] += 1
            self.modules.count_call(where)
            return
        with unwatched():
            recorded, dropout = maps()
        refuse_empty(recorded.shape, f"{self.name_call(where)} ({kind})")
        layout = layout_of(options.layout, where)
        axes = None if layout is None else self._axes.find(layout, recorded, where, index, kind)
        self.modules.count_call(where)
        with unwatched():
            call = make_call(recorded, where, index, kind, options, dropout, between, axes, self.modules.runs)
            self.calls.append(call)
            if isinstance(recorded, GivenMaps):
                self._softmaxes[call.name] = recorded.softmaxes
            if self._rewrite is not None:
                self._rewrite(call, recorded, result[0] if isinstance(result, tuple) else result)

    def map_returned(self, softmax: SeenSoftmax) -> None:
        """The last call's map goes on from its softmax, so that other products of it are known to be of one map."""
        if self._kept:
            self._softmaxes[self.calls[-1].name] = (softmax,)

    def name_call(self, where: str) -> str:
        """The next call of a module, for messages."""
        return f"call {self._index(where)} of {module_place(where)}"

    def _index(self, where: str) -> int:
        return sum(call.module == where for call in self.calls) + self.skipped[where]

    def _left_out(self, options: Options, where: str) -> bool:
        if not options.wants(where, self._sites.index(where)):
            return True
        return options.reduce == "frames" and layout_of(options.layout, where) is None
