"""How much of a long computation is done, told to a caller many calls further out, which shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["advance", "watched"]

_WATCH: ContextVar[Callable[[float], None] | None] = ContextVar("watch", default=None)


@contextmanager
def watched(watch: Callable[[float], None]) -> Iterator[None]:
    """In the block, and in this thread, `watch` is called with each share that `advance` tells, in place of another."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


def advance(share: float) -> None:
    """Tell that a further share of the computation is done; the shares of a whole one sum to 1."""
    if (watch := _WATCH.get()) is not None:
        watch(share)
