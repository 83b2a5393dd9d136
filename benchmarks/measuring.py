"""Measuring two or more ways of doing one thing, on a machine that others use too."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


@dataclass
class Times:
    """Seconds of each repeat."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def interleaved(ways: dict[str, Callable[[], object]], rounds: int, calls: int = 1) -> dict[str, Times]:
    """Seconds a call: every way `calls` times a round, after a first round that is not counted.

    The order turns by one each round. Calls of a few milliseconds need several in a row, or what is measured is how
    the one before left the caches.
    """
    found = {name: Times() for name in ways}
    names = list(ways)
    for number in range(-1, rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            wall, processor = time.perf_counter(), time.process_time()
            for _ in range(calls):
                ways[name]()
            if number >= 0:
                found[name].processor.append((time.process_time() - processor) / calls)
                found[name].wall.append((time.perf_counter() - wall) / calls)
    return found


def ratio(of: list[float], to: list[float]) -> float:
    """Median over the rounds of one way's time by another's in the same round."""
    return statistics.median(one / other for one, other in zip(of, to, strict=True))


def peak_mib(way: Callable[[], object]) -> float:
    """Most memory that torch held at once beyond what it held before, in MiB, from the profiler's allocations."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        way()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def machine() -> str:
    """What the numbers were taken on, in a line or two."""
    load = os.getloadavg()[0]
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads on "
        f"{os.cpu_count()} cores, niceness {os.nice(0)},\nload {load:.1f} at the end. Where other work takes part of "
        "the cores, processor seconds are the fairer measure."
    )


def report(lines: list[str], results: Path, write: bool) -> None:
    """Print Markdown, and keep it if asked to."""
    text = "\n".join([*lines, ""])
    print(text)
    if write:
        results.parent.mkdir(exist_ok=True)
        results.write_text(text, encoding="utf-8")
