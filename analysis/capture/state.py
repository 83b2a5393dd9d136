"""ModuleState: what a module keeps between passes, and how a pass leaves it, and random numbers, as they were."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

__all__ = ["ModuleState", "copied", "kept_random_numbers", "kept_state"]

# What torch keeps in every module: submodules, parameters and hooks are no state of a pass.
_OF_TORCH = frozenset(vars(nn.Module())) - {"_buffers"}
_PLAIN = (str, bytes, int, float, complex, bool, type(None))


class ModuleState:
    """Attributes, buffers and tensors of a module and its submodules, as they are when it is made.

    Those in lists, sets, dictionaries and objects of the module's own classes are among them; parameters are not.

    Args:
        module: it.
    """

    def __init__(self, module: nn.Module) -> None:
        self._tables: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._lists: list[tuple[list[Any] | deque[Any], list[Any]]] = []
        self._sets: list[tuple[set[Any], set[Any]]] = []
        self._tensors: dict[int, tuple[Tensor, Tensor]] = {}
        self._generators: list[tuple[torch.Generator, Tensor]] = []
        self._seen: set[int] = set()
        for each in module.modules():
            names = vars(each)
            self._tables.append((names, dict(names)))
            for name, value in names.items():
                if name not in _OF_TORCH and type(value) not in _PLAIN:
                    self._keep(value)

    def _keep(self, value: Any, objects: int = 2) -> None:
        """Take note of what can be written into, through so many objects."""
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, Tensor):
            if not isinstance(value, nn.Parameter) and _has_own_numbers(value):
                self._tensors[id(value)] = value, value.detach().clone()
        elif isinstance(value, torch.Generator):
            self._generators.append((value, value.get_state()))
        elif isinstance(value, list | deque):
            self._lists.append((value, list(value)))
            self._keep_all(value, objects)
        elif isinstance(value, dict):
            self._tables.append((value, dict(value)))
            self._keep_all(value.values(), objects)
        elif isinstance(value, set):
            self._sets.append((value, set(value)))
        elif isinstance(value, tuple):
            self._keep_all(value, objects)
        elif objects and _is_record(value):
            names = vars(value)
            self._tables.append((names, dict(names)))
            self._keep_all(names.values(), objects - 1)

    def _keep_all(self, values: Iterable[Any], objects: int) -> None:
        for each in [each for each in values if type(each) not in _PLAIN]:
            self._keep(each, objects)

    def restore(self) -> None:
        """Everything is again what it was, in the same objects."""
        self._fill({})
        with torch.no_grad():
            for values, kept in self._tensors.values():
                if values.shape != kept.shape:
                    values.data = kept.clone()
                elif not torch.equal(values, kept):
                    values.copy_(kept)

    def apart(self, values: Any) -> Any:
        """What a module returned, without its own tensors: copies of those that `restore` may write into."""
        own = {each.untyped_storage().data_ptr() for each, _ in self._tensors.values()}

        def copy(each: Any) -> Any:
            strided = isinstance(each, Tensor) and each.layout == torch.strided and not each.is_nested
            return each.clone() if strided and each.untyped_storage().data_ptr() in own else each

        return tree_map(copy, values) if own else values

    def renew(self) -> None:
        """Everything is again what it was, with new tensors, so that nothing is written into those there are."""
        self._fill({place: kept.clone() for place, (_, kept) in self._tensors.items()})

    def _fill(self, tensors: dict[int, Tensor]) -> None:
        for table, entries in self._tables:
            table.clear()
            table.update({name: tensors.get(id(each), each) for name, each in entries.items()} if tensors else entries)
        for values, items in self._lists:
            values.clear()
            values.extend(tensors.get(id(each), each) for each in items)
        for members, kept in self._sets:
            members.clear()
            members.update(kept)
        for generator, state in self._generators:
            generator.set_state(state)


def _has_own_numbers(values: Tensor) -> bool:
    """Whether numbers can be written into it, and compared."""
    if values.layout != torch.strided or values.is_nested or values.is_meta:
        return False
    return all(size < 2 or step for size, step in zip(values.shape, values.stride(), strict=True))


def _is_record(value: Any) -> bool:
    """Whether it is an object of a class of the module's own, not of torch, and no module, class or function."""
    if isinstance(value, nn.Module | type) or callable(value) or not hasattr(value, "__dict__"):
        return False
    return type(value).__module__.partition(".")[0] not in ("torch", "types", "logging", "threading")


@contextmanager
def kept_state(module: nn.Module) -> Iterator[None]:
    """What a module keeps is afterwards as it was: running means, counters, caches, maps and tensors that it stores."""
    state = ModuleState(module)
    try:
        yield
    finally:
        state.restore()


@contextmanager
def kept_random_numbers() -> Iterator[None]:
    """Those of torch, NumPy and Python are afterwards drawn from where they were."""
    python, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002  # the state that modules draw from
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)  # noqa: NPY002


def copied(arguments: Any, replace: Callable[[Any], Any] | None = None) -> Any:
    """Arguments whose tensors are copies, as a module may write into what it is given; differentiable.

    Args:
        arguments: any tuples, lists and dictionaries; a tensor that is among them twice is one again.
        replace: of each of them first.
    """
    known: dict[int, Any] = {}

    def copy(each: Any) -> Any:
        if id(each) not in known:
            new = each if replace is None else replace(each)
            known[id(each)] = new.clone() if isinstance(new, Tensor) and new is each else new
        return known[id(each)]

    return tree_map(copy, arguments)
