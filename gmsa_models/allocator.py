"""The C library's allocator, told to serve a program of large tensors and few threads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

__all__ = ["keep_freed_memory", "return_freed_memory"]

# Of glibc's malloc.h: keep this much at the top of the heap, give blocks up to this size from it, this many heaps.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEPT, LARGEST_BLOCK = 2**31 - 1, 2**25  # 32 MiB is the most that glibc takes


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed, in one heap for all threads; False where there is no glibc.

    By default it hands large blocks back, and every large tensor is paid for again page by page. It holds for the whole
    process, and is for programs, not libraries, to call: before threads start.
    """
    if (mallopt := _function("mallopt")) is None:
        return False
    options = {M_TRIM_THRESHOLD: KEPT, M_MMAP_THRESHOLD: LARGEST_BLOCK, M_ARENA_MAX: 1}
    return all(mallopt(option, value) == 1 for option, value in options.items())


def return_freed_memory() -> bool:
    """Give back to the system what glibc keeps of freed memory, of all threads; False where there is no glibc.

    Threads that have ended leave what they freed in their heaps, where it counts as the program's memory.
    """
    if (trim := _function("malloc_trim")) is None:
        return False
    trim(0)
    return True


def _function(name: str) -> Callable[..., int] | None:
    """Of the C library; None where it has no such function, or is not there to be asked (Windows)."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
