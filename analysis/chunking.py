"""Work in chunks that a number of bytes bounds."""

from __future__ import annotations

from collections.abc import Iterator

from gmsa_models.errors import ArgumentError

__all__ = ["chunks"]


def chunks(count: int, max_bytes: int, bytes_each: int) -> Iterator[slice]:
    """Consecutive slices of `range(count)`, each as long as `max_bytes` allows, and never empty.

    Args:
        count: how many there are to do.
        max_bytes: about the most that one slice may take; at least 1. One alone may take more.
        bytes_each: what one takes.

    Raises:
        ArgumentError: `max_bytes` below 1.
    """
    if max_bytes < 1:
        raise ArgumentError(f"max_bytes is {max_bytes!r}; expected at least 1")
    size = max(1, max_bytes // bytes_each)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
