"""Limits of processor time and memory, for processes that read what others wrote."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["limit_process"]


def limit_process(seconds: int, memory: int) -> None:
    """Limit this process for good; without effect where the system has no such limits.

    Args:
        seconds: of processor time, counted from the start of the process; a signal ends it after them.
        memory: bytes that it may take beside those taken already; more is a MemoryError.
    """
    try:
        import resource
    except ImportError:  # not on this system; the clock of whoever started the process alone limits there
        return
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # where the system does not say how much is taken, or knows no such limit
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))
