"""Job: what an engine needs to know of the work that it hands out, be it shards of a sweep or models of a study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Advance", "Job", "Outcome", "Task", "silent"]

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")
Advance = Callable[[int, int], None]  # clips and bytes of frames that are done since the last call


@dataclass(frozen=True)
class Job(Generic[Task, Outcome]):
    """A kind of work in many tasks. Its functions stand in modules, so that they travel to other processes.

    Attributes:
        what: what a worker does, for messages: "sweep".
        do: does a task; never raises but for the keyboard.
        name: tells a task from the others.
        lost: the outcome of a task whose worker was lost too often, with the reason.
        device: where a task computes: "cpu", "cuda", "cuda:1".
        on_device: the same task elsewhere.
    """

    what: str
    do: Callable[[Task, Advance], Outcome]
    name: Callable[[Task], str]
    lost: Callable[[Task, str], Outcome]
    device: Callable[[Task], str]
    on_device: Callable[[Task, str], Task]


def silent(videos: int, size: int) -> None:
    """Where nobody is told how far a task has come."""
