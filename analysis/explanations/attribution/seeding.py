"""Seeding of libraries that draw from the global generators of torch, numpy and Python."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["seeded"]

# Those generators belong to the whole process: two threads that drew at once would share one stream of numbers, and
# what each got would depend on which was faster.
_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global generators begin at `seed` inside, one thread at a time; they are as they were afterwards."""
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
