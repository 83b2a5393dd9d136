"""ScriptedCalls: functions that torch.jit compiled, inside which no attention call is seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from analysis.capture.running import ModuleStack

__all__ = ["ScriptedCalls"]

_ATTENTION = ("softmax", "scaled_dot_product")


class ScriptedCalls:
    """Counts the calls of compiled functions that have a softmax inside.

    Attributes:
        calls: name of a function, path of the module that called it -> how often.

    Args:
        modules: the running ones.
    """

    def __init__(self, modules: ModuleStack) -> None:
        self.calls = Counter[tuple[str, str]]()
        self._modules = modules

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Compiled functions are called as before; the type of them all is what Python lets be watched."""
        kind: Any = torch.jit.ScriptFunction
        before = kind.__call__

        def call(function: Any, *args: Any, **kwargs: Any) -> Any:
            where = self._modules.innermost
            if where is not None and any(name in str(function.inlined_graph) for name in _ATTENTION):
                self.calls[function.name, where] += 1
            return before(function, *args, **kwargs)

        kind.__call__ = call
        try:
            yield
        finally:
            kind.__call__ = before
