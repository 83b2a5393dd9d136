"""One pass of a module whose attention calls are seen under their names, and which leaves everything as it was."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from analysis.capture.adapter import Inputs
from analysis.capture.capture import uncompiled
from analysis.capture.maps import TokenMaps
from analysis.capture.running import ModuleStack
from analysis.capture.watcher import CallWatcher, unwatched
from analysis.module_runs import evaluating_module
from analysis.module_sites import call_module

__all__ = ["NamedCalls", "watched_pass"]


class NamedCalls(CallWatcher):
    """Sees what attention calls return, by their names.

    Args:
        module: whose pass it will see.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(ModuleStack(module), written=True)
        self._counts: Counter[str] = Counter()

    @abstractmethod
    def returned(self, name: str, kind: str, result: Any, maps: Callable[[], TokenMaps]) -> None:
        """Take one call.

        Args:
            name, kind: see `AttentionCall`.
            result: what it returned.
            maps: makes its maps.
        """

    def record(
        self,
        maps: Callable[[], tuple[TokenMaps, float]],
        where: str,
        kind: str,
        result: Any,
        between: tuple[str, ...] = (),
    ) -> None:
        """Take one attention call."""
        count = self._counts[where]
        self._counts[where] += 1
        with unwatched():
            self.returned(f"{where}#{count}" if count else where, kind, result, lambda: maps()[0])


def watched_pass(module: nn.Module, inputs: Inputs, watcher: NamedCalls) -> Any:
    """What a module returns, in evaluation mode; its state, and random numbers, are as before afterwards.

    Args:
        module, inputs: see `analysis.inspect_module`.
        watcher: of this module; new.
    """
    with ExitStack() as stack:
        for context in (
            evaluating_module(module), torch.no_grad(), uncompiled(), watcher.modules.watching(), watcher
        ):  # fmt: skip
            stack.enter_context(context)
        return call_module(module, inputs)
