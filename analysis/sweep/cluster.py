"""Tasks on a Ray cluster. Ray is imported here only, when it is asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Sequence
from types import ModuleType
from typing import Any

from analysis.errors import SweepError
from analysis.sweep.jobs import Job, Outcome, Task, silent
from analysis.sweep.pool import TRIES

__all__ = ["on_ray", "ray_module", "start_here"]

# Tasks that are handed to the cluster ahead of those that run, so that no core waits for this process.
AHEAD = 2
STARTS = 5  # of a cluster on this machine
# Ray sends usage statistics and warns of its own settings unless told not to.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS": "0"}

QUIET_INIT = {"log_to_driver": False, "logging_level": logging.ERROR}


def on_ray(
    job: Job[Task, Outcome], tasks: Sequence[Task], workers: int | None = None, address: str | None = None
) -> Generator[Outcome, None, None]:
    """Outcomes of tasks as they come, each a Ray task of one CPU, and of one GPU where the device is "cuda".

    Ray gives the task of a lost worker to another; the third time the task has failed. Data, models and the output
    must be where all machines see them by the same paths.

    Args:
        job: what is done.
        tasks: in the order in which they are begun.
        workers: tasks at once; None: as many as the cluster has CPUs, also when it grows.
        address: see `EngineOptions`; None starts a cluster of `workers` CPUs on this machine, and stops it at the end.

    Raises:
        ImportError: Ray is not installed; names the extra.
        SweepError: no cluster at the address, or a GPU by number.
    """
    ray = ray_module()
    gpus = _gpus(job, tasks)
    started = _connect(ray, workers, address)
    try:
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=TRIES - 1)(job.do)
        yield from _in_flight(ray, job, remote, tasks, workers)
    finally:
        if started:
            ray.shutdown()


def _in_flight(
    ray: ModuleType, job: Job[Task, Outcome], remote: Any, tasks: Sequence[Task], workers: int | None
) -> Generator[Outcome, None, None]:
    waiting = iter(tasks)
    running: dict[Any, Task] = {}
    more = True
    try:
        while more or running:
            room = workers or AHEAD * max(int(ray.cluster_resources().get("CPU", 1)), 1)
            while more and len(running) < room:
                if (task := next(waiting, None)) is None:
                    more = False
                else:
                    running[remote.remote(task, silent)] = task
            if running:
                (ready,), _ = ray.wait(list(running), num_returns=1)
                yield _outcome(ray, job, ready, running.pop(ready))
    finally:
        for left in running:
            ray.cancel(left, force=True)


def _outcome(ray: ModuleType, job: Job[Task, Outcome], ready: Any, task: Task) -> Outcome:
    try:
        return ray.get(ready)
    except ray.exceptions.RayError as error:
        first = str(error).strip().splitlines()[0]
        return job.lost(task, f"the worker was lost {TRIES} times: {first}")


def ray_module() -> ModuleType:
    """Ray, told to be quiet.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    try:
        import ray
    except ImportError:
        raise ImportError(
            "Ray is not installed; install the scale extra: pip install 'gmsa-workbench[scale]'"
        ) from None
    return ray


def _connect(ray: ModuleType, workers: int | None, address: str | None) -> bool:
    """Join the cluster, or start one; False where this process is in one already."""
    if ray.is_initialized():
        return False
    if address is None:
        start_here(ray, workers)
        return True
    try:
        ray.init(address, **QUIET_INIT)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SweepError(f"no Ray cluster at {address!r}: {error}; start one with `ray start`") from error
    return True


def start_here(ray: ModuleType, workers: int | None = None) -> None:
    """Start a cluster on this machine.

    Ray gives one of its own processes 15 s to start, whatever the machine does meanwhile (ray-project/ray, issue
    65983), so a busy machine gets another chance.

    Args:
        ray: the module.
        workers: its CPUs; None: as many as there are cores.

    Raises:
        SweepError: it did not start; says why.
    """
    for left in reversed(range(STARTS)):
        try:
            # "local": Ray would join a cluster that someone left running here.
            ray.init("local", num_cpus=workers, include_dashboard=False, **QUIET_INIT)
            return
        except Exception as error:  # Ray's own class for it is Exception
            _end_processes(error)
            ray.shutdown()
            if not left or "timed out" not in str(error).lower():
                raise SweepError(f"Ray does not start on this machine: {error}") from error


def _end_processes(error: Exception) -> None:
    """End what a start began: Ray forgets a node that did not come up, and would leave its processes running."""
    trace = error.__traceback__
    while trace is not None:
        node: Any = trace.tb_frame.f_locals.get("self")
        if hasattr(node, "kill_all_processes"):
            node.kill_all_processes(check_alive=False)
            return
        trace = trace.tb_next


def _gpus(job: Job[Task, Outcome], tasks: Sequence[Task]) -> int:
    device = job.device(tasks[0]) if tasks else "cpu"
    if device.startswith("cuda:"):
        raise SweepError(f"device is {device!r}; on a cluster Ray chooses the GPU: give 'cuda'")
    return int(device == "cuda")
