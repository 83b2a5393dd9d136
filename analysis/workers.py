"""Several models at once: one thread a core, each doing its own arithmetic alone.

Maps of a few hundred frames are too small to be shared among cores, so models are. As every operation runs on one
thread, no number depends on how many cores there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item, Result = TypeVar("Item"), TypeVar("Result")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`function` of every item, in order, `cores()` at a time; the first error stops those that have not begun."""
    items = list(items)
    with one_thread_each(), ThreadPoolExecutor(min(cores(), max(len(items), 1))) as pool:
        try:
            return list(pool.map(function, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Operations of torch in the block run on one thread, so that their sums are the same on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
