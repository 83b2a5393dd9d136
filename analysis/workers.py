"""Several models at once: one thread a core, each doing its own arithmetic alone.

Maps of a few hundred frames are too small to be shared among cores, so models are. As every operation runs on one
thread, no number depends on how many cores there are.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch

__all__ = ["cores", "map_in_threads", "one_thread_each"]

_LOCK = threading.Lock()
_ENTERED: list[int] = []  # for each block that is open, the number of threads to go back to

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`function` of every item, in order, `cores()` at a time; the first error stops those that have not begun."""
    items = list(items)
    workers, alone = min(cores(), max(len(items), 1)), partial(torch.set_num_threads, 1)
    with one_thread_each(), ThreadPoolExecutor(workers, initializer=alone) as pool:
        try:
            return list(pool.map(function, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Operations of torch in the block run on one thread, so that their sums are the same on every machine.

    Of this thread and of those that begin in it; afterwards the number is as it was, also where several threads are in
    such blocks at once, in whichever order they leave.
    """
    with _LOCK:
        # A thread that is new while another is in a block finds that one's 1 here, not the number to go back to.
        before = _ENTERED[0] if _ENTERED else torch.get_num_threads()
        _ENTERED.append(before)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        with _LOCK:
            _ENTERED.remove(before)
            torch.set_num_threads(before)
