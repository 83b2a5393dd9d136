"""What submodules of a module are given and return, run by run, in one pass; and a pass that ends where it is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from analysis.capture.running import ModuleStack
from analysis.capture.state import ModuleState, copied
from analysis.errors import RecordError

__all__ = ["Change", "Run", "SubmoduleRun", "check_repeated", "end_of_run", "evaluating_module", "is_same", "kept_runs"]

REPEATED = 1000.0  # units of rounding: what torch.compile made runs uncompiled in one of two passes

Run = tuple[str, int]  # path of a submodule, and how often it ran before
Change = Callable[[list[Any]], list[Any]]


@dataclass(frozen=True)
class SubmoduleRun:
    """One run of a submodule.

    Attributes:
        module: it.
        args, kwargs: what it was given, as it was then; copies.
        output: what it returned, as it was then.
        state: of it as it began.
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    state: ModuleState


class _Kept(ModuleStack):
    """Keeps the runs that are wanted."""

    def __init__(self, module: nn.Module, wanted: Collection[Run]) -> None:
        super().__init__(module)
        self.kept: dict[Run, SubmoduleRun] = {}
        self._wanted = wanted
        self._begun: dict[Run, tuple[Any, ModuleState]] = {}

    def _enter(self, paths: list[str], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        super()._enter(paths, module, args, kwargs)
        run = self.running[-1].path, self.running[-1].number
        if run in self._wanted:
            self._begun[run] = copied((args, kwargs)), ModuleState(module)

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        run = self.running[-1].path, self.running[-1].number
        if run in self._begun:
            (args, kwargs), state = self._begun.pop(run)
            self.kept[run] = SubmoduleRun(module, args, kwargs, copied(output), state)
        super()._leave(module, inputs, output)


def kept_runs(
    module: nn.Module, run: Callable[[], Any], wanted: Collection[Run]
) -> tuple[dict[Run, SubmoduleRun], Any]:
    """Some runs of submodules in a pass, and what it returned.

    Args:
        module: the outermost.
        run: makes the pass.
        wanted: which ones; those that are not made are left out.
    """
    seen = _Kept(module, wanted)
    with seen.watching():
        output = run()
    return seen.kept, output


class _Reached(Exception):  # noqa: N818  # no error: a pass that has come far enough
    """What the submodule that was waited for has returned."""


class _Ended(ModuleStack):
    """Ends a pass as a run begins, or as it ends with other arguments."""

    def __init__(self, module: nn.Module, wanted: Run, change: Change | None) -> None:
        super().__init__(module)
        self._wanted, self._change = wanted, change
        self.received: list[Any] = []

    def _enter(self, paths: list[str], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        super()._enter(paths, module, args, kwargs)
        if (self.running[-1].path, self.running[-1].number) != self._wanted:
            return None
        self.received, form = tree_flatten(copied((args, kwargs)))
        if self._change is None:
            raise _Reached(None)
        return tree_unflatten(self._change(list(self.received)), form)

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        last = self.running[-1]
        super()._leave(module, inputs, output)
        if (last.path, last.number) == self._wanted and self._change is not None and output is not None:
            raise _Reached(copied(output))


def end_of_run(
    module: nn.Module, run: Callable[[], Any], wanted: Run, change: Change | None = None
) -> tuple[list[Any], Any] | None:
    """A pass that ends with one run of a submodule.

    Args:
        module: the outermost.
        run: makes the pass.
        wanted: the run.
        change: of what the submodule is given; None: the pass ends before it runs.

    Returns:
        What it was given before the change, one after another, and what it returned; None: it was not run.
    """
    seen = _Ended(module, wanted, change)
    try:
        with seen.watching(), torch.no_grad():
            run()
    except _Reached as reached:
        return seen.received, reached.args[0]
    return None


def check_repeated(module: nn.Module, first: Any, second: Any) -> None:
    """Refuse a module two of whose passes of the same inputs differ by more than rounding.

    Args:
        module: it.
        first, second: what they returned.

    Raises:
        RecordError: they do.
    """
    pairs = zip(tree_leaves(first), tree_leaves(second), strict=False)
    numbers = [(one, other) for one, other in pairs if isinstance(one, Tensor) and isinstance(other, Tensor)]
    for one, other in numbers:
        if not is_same(one, other, REPEATED):
            raise RecordError(
                f"{type(module).__name__} returns other numbers when it is given the same inputs again, so that maps, "
                "similarity and gradient norms would be of different passes: it draws random numbers of its own, or "
                "keeps something between passes that is no attribute or buffer of it (a global, a closure); take "
                "that out"
            )


def is_same(one: Tensor, other: Tensor, rounding: float) -> bool:
    """Whether two tensors are the same up to some units of rounding, of the largest number of the first."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point() or not one.numel():
        return bool(one.equal(other))
    one, other = one.detach(), other.detach()
    bound = rounding * torch.finfo(one.dtype).eps * float(one.abs().nan_to_num(posinf=0.0).amax())
    return bool(((one - other).abs() <= bound).logical_or((one == other) | (one.isnan() & other.isnan())).all())


@contextmanager
def evaluating_module(module: nn.Module) -> Iterator[None]:
    """In evaluation mode meanwhile; every submodule is in its own mode again afterwards.

    The fused path of `nn.TransformerEncoder` is off: a recorded pass cannot take it, it makes jagged tensors of padded
    ones, and writes 0 in place of padded tokens, so that passes with and without it would be of two functions.
    """
    modes = {each: each.training for each in module.modules()}
    fused = torch.backends.mha.get_fastpath_enabled()
    module.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for each, training in modes.items():
            each.training = training
