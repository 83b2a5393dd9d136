"""Who does the work: this process, several on this machine, or a Ray cluster. Each yields outcomes as they come."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from analysis.errors import SweepError
from analysis.sweep.jobs import Advance, Job, Outcome, Task
from analysis.sweep.pool import in_processes

__all__ = ["ENGINES", "Engine", "EngineOptions", "engine_of"]


@dataclass(frozen=True)
class EngineOptions:
    """How many work, and where.

    Attributes:
        workers: processes, or shards at once on a cluster; None: as many as there are cores.
        address: of a Ray cluster: "auto", "HOST:PORT", "ray://HOST:PORT"; None: one is started here, and stopped.
    """

    workers: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise SweepError(f"workers is {self.workers}; expected at least 1")


@runtime_checkable
class Engine(Protocol):
    """Does all tasks of a job, in order but for those that are done at once."""

    def __call__(
        self, job: Job[Task, Outcome], tasks: Sequence[Task], options: EngineOptions, advance: Advance
    ) -> Generator[Outcome, None, None]:
        """Outcomes as they come; closed, the work ends."""


def _in_process(
    job: Job[Task, Outcome], tasks: Sequence[Task], options: EngineOptions, advance: Advance
) -> Generator[Outcome, None, None]:
    if options != EngineOptions():
        raise SweepError("workers and address are not for engine 'in-process'; choose processes or ray")
    return (job.do(task, advance) for task in tasks)


def _processes(
    job: Job[Task, Outcome], tasks: Sequence[Task], options: EngineOptions, advance: Advance
) -> Generator[Outcome, None, None]:
    if options.address is not None:
        raise SweepError(f"address {options.address!r} is of a Ray cluster; engine 'processes' is on this machine")
    return in_processes(job, tasks, options.workers)


def _ray(
    job: Job[Task, Outcome], tasks: Sequence[Task], options: EngineOptions, advance: Advance
) -> Generator[Outcome, None, None]:
    from analysis.sweep.cluster import on_ray

    return on_ray(job, tasks, options.workers, options.address)


ENGINES: dict[str, Engine] = {"in-process": _in_process, "processes": _processes, "ray": _ray}


def engine_of(name: str) -> Engine:
    """An engine by name.

    Raises:
        SweepError: none has it; lists those that are.
    """
    if name not in ENGINES:
        raise SweepError(f"unknown engine {name!r}; known: {', '.join(ENGINES)}")
    return ENGINES[name]
