"""OneCall: takes one attention call of a pass."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Any

from analysis.capture.maps import TokenMaps
from analysis.capture.running import ModuleStack
from analysis.capture.watcher import CallWatcher, unwatched

__all__ = ["OneCall"]


class OneCall(CallWatcher):
    """Takes one attention call, of those of a pass.

    Args:
        modules, written: see `CallWatcher`.
        call: path of the module that attends, and which of its calls, from 0.
    """

    def __init__(self, modules: ModuleStack, call: tuple[str, int], written: bool = False) -> None:
        super().__init__(modules, written)
        self._call = call
        self._calls: Counter[str] = Counter()

    @abstractmethod
    def take(self, maps: TokenMaps) -> None:
        """Take what is wanted of the call, or write into what it returns; in `unwatched`."""

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
                self.take(maps()[0])
        self._calls[where] += 1
