"""ModuleStack: which submodules of a module are running, and what they were given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from analysis.capture.intercept import refuse_unreadable

__all__ = ["ModuleStack", "RunningModule", "stated_heads"]

# Modules that make no attention and ask for nothing: a third of a small model's extra time was hooks on them.
_NO_ATTENTION = {
    nn.Linear, nn.LayerNorm, nn.GroupNorm, nn.Embedding, nn.Identity, nn.Dropout, nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh,
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d,
}  # fmt: skip
_HEADS = ("num_heads", "n_heads", "nhead", "n_head", "num_attention_heads", "heads", "nheads", "head_count")


@dataclass(eq=False)
class RunningModule:
    """A submodule while it runs.

    Attributes:
        path: of it.
        module: itself.
        args, kwargs: what it was given.
        number: how often it ran before, under this path.
        calls: path of a submodule -> attention calls that it has made since.
    """

    path: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    number: int = 0
    calls: Counter[str] = field(default_factory=Counter)

    @property
    def heads(self) -> int | None:
        """How many heads it says that it has; see `stated_heads`."""
        return stated_heads(self.module)[0]


def stated_heads(module: nn.Module) -> tuple[int | None, bool]:
    """How many heads a module says that it has, and whether it would be the one that makes them.

    Returns:
        The number, an attribute of its own or of its configuration, or None; and False where it has neither a number
        nor weights, as a softmax, so that it is given heads by the module around it.
    """
    for place in (module, getattr(module, "config", None)):
        for name in _HEADS:
            value = getattr(place, name, None)
            if type(value) is int and value > 0:
                return value, True
    return None, next(module.parameters(), None) is not None


class ModuleStack:
    """Which submodules are running, outermost first.

    A module that is used in several places has several paths; the one below the module that called it counts.

    Attributes:
        running: they.
        ran: whether any module was called.
        reordered: whether a function ran that may have put clips in another order.

    Args:
        module: the outermost.
    """

    def __init__(self, module: nn.Module) -> None:
        self.running: list[RunningModule] = []
        self.ran = False
        self.reordered = False
        self._runs: Counter[str] = Counter()
        self._paths: dict[nn.Module, list[str]] = {}
        for path, each in module.named_modules(remove_duplicate=False):
            self._paths.setdefault(each, []).append(path)

    @contextmanager
    def watching(self) -> Iterator[ModuleStack]:
        """Hooks on all submodules, taken off at the end; an error inside a module empties its place too."""
        with ExitStack() as stack:
            for each, paths in self._paths.items():
                if paths[0] and type(each) in _NO_ATTENTION:
                    continue
                hooks = (
                    each.register_forward_pre_hook(partial(self._enter, paths), with_kwargs=True),
                    each.register_forward_hook(self._leave, always_call=True),
                )
                for hook in hooks:
                    stack.callback(hook.remove)
            yield self

    def _enter(self, paths: list[str], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Take note of a module that begins; what is returned, if anything, it is given instead."""
        inside = self.running[-1].path + "." if self.running and self.running[-1].path else ""
        self.ran = True
        path = next((path for path in paths if path.startswith(inside)), paths[0])
        self.running.append(RunningModule(path, module, args, kwargs, self._runs[path]))
        self._runs[path] += 1
        if isinstance(module, nn.MultiheadAttention):  # whose own words would be of the mode that watches
            refuse_unreadable(args, {}, f"module {path!r} (nn.MultiheadAttention)")
        return None

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self.running.pop()

    @property
    def runs(self) -> dict[str, int]:
        """Path of each running module, outermost first -> how often it ran before."""
        return {each.path: each.number for each in self.running}

    @property
    def innermost(self) -> str | None:
        """Path of the innermost module; None while the outermost is not running."""
        return self.running[-1].path if self.running and self.running[0].path == "" else None

    def count_call(self, path: str) -> None:
        """Take note of an attention call of a submodule."""
        for each in self.running:
            each.calls[path] += 1

    @property
    def known_heads(self) -> int | None:
        """How many heads the module that makes the calls says; None: nothing.

        It is the innermost one with weights, or that says so.
        """
        for each in reversed(self.running):
            heads, makes = stated_heads(each.module)
            if makes:
                return heads
        return None

    @property
    def hinted_heads(self) -> int | None:
        """How many heads the innermost module that says so has, which may be of others, of a decoder's, say."""
        return next((each.heads for each in reversed(self.running) if each.heads is not None), None)

    @contextmanager
    def running_as(self, count: int) -> Iterator[None]:
        """The first `count` running modules alone run meanwhile, as the next one is called again; runs do not count."""
        before, self.running = self.running, self.running[:count]
        runs = Counter(self._runs)
        try:
            yield
        finally:
            self.running, self._runs = before, runs
