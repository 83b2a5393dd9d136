"""Who does the shards: this process, several on this machine, or a Ray cluster. Each yields outcomes as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.errors import SweepError
from analysis.sweep.plan import ShardTask
from analysis.sweep.pool import in_processes
from analysis.sweep.work import Advance, Outcomes, do_shard

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


Engine = Callable[[Sequence[ShardTask], EngineOptions, Advance], Outcomes]


def _in_process(tasks: Sequence[ShardTask], options: EngineOptions, advance: Advance) -> Outcomes:
    _refuse(options, "in-process")
    return (do_shard(task, advance) for task in tasks)


def _processes(tasks: Sequence[ShardTask], options: EngineOptions, advance: Advance) -> Outcomes:
    if options.address is not None:
        raise SweepError(f"address {options.address!r} is of a Ray cluster; engine 'processes' is on this machine")
    return in_processes(tasks, options.workers)


def _ray(tasks: Sequence[ShardTask], options: EngineOptions, advance: Advance) -> Outcomes:
    from analysis.sweep.cluster import on_ray

    return on_ray(tasks, options.workers, options.address)


def _refuse(options: EngineOptions, name: str) -> None:
    if options != EngineOptions():
        raise SweepError(f"workers and address are not for engine {name!r}; choose processes or ray")


ENGINES: dict[str, Engine] = {"in-process": _in_process, "processes": _processes, "ray": _ray}


def engine_of(name: str) -> Engine:
    """An engine by name.

    Raises:
        SweepError: none has it; lists those that are.
    """
    if name not in ENGINES:
        raise SweepError(f"unknown engine {name!r}; known: {', '.join(ENGINES)}")
    return ENGINES[name]
