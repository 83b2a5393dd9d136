"""Processes that do tasks on one machine, and that may be killed: the task of a lost worker goes to a new one."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, Generic

from analysis.errors import SweepError
from analysis.sweep.jobs import Job, Outcome, Task, silent
from analysis.workers import cores
from gmsa_models.workers import WorkerContext, WorkerProcess

__all__ = ["TRIES", "in_processes"]

TRIES = 3  # of a task whose worker is lost; then the task is to blame
READY = "ready"  # what a worker says first


@dataclass
class _Worker(Generic[Task]):
    process: WorkerProcess
    pipe: connection.Connection
    number: int
    task: Task | None = None
    ready: bool = False


def in_processes(
    job: Job[Task, Outcome], tasks: Sequence[Task], workers: int | None = None
) -> Generator[Outcome, None, None]:
    """Outcomes of tasks as they come, from processes that each do one task at a time.

    A worker that dies is replaced, and its task done again; the third time the task has failed. When the iterator is
    closed, workers are ended at once, whatever they do; so they are when this process dies.

    Args:
        job: what is done.
        tasks: in the order in which they are begun. With device "cuda" the workers take the GPUs in turn.
        workers: how many processes; None: one a core.

    Raises:
        WorkerError: the program that calls this starts workers while they import it.
        SweepError: a worker that cannot import the program for another reason.
    """
    waiting, lost, context = deque(tasks), Counter[str](), WorkerContext()
    started: list[_Worker[Task]] = []
    try:
        for number in range(min(workers or cores(), len(tasks))):
            started.append(_start_worker(job, context, number))
            _give(job, started[-1], waiting)
        while busy := {worker.pipe: (worker, worker.task) for worker in started if worker.task is not None}:
            ready = set(connection.wait(list(busy)))
            for worker, task in [pair for pipe, pair in busy.items() if pipe in ready]:
                message = _message(worker)
                if isinstance(message, str):
                    worker.ready = message == READY
                    continue
                if message is None:
                    _end(worker)
                    _check_start(job, context, worker)
                    message = _after_loss(job, worker, task, waiting, lost)
                    started[worker.number] = _start_worker(job, context, worker.number)
                if message is not None:
                    yield message
                _give(job, started[worker.number], waiting)
    finally:
        for worker in started:
            worker.process.kill()
        for worker in started:
            _end(worker)


def _start_worker(job: Job[Task, Outcome], context: WorkerContext, number: int) -> _Worker[Task]:
    parent_end, child_end = context.Pipe()
    process = context.Process(target=_serve, args=(child_end, job), daemon=True, name=f"{job.what}-{number}")
    process.start()
    child_end.close()  # so that its end is closed when the worker dies
    return _Worker(process, parent_end, number)


def _end(worker: _Worker[Any]) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def _check_start(job: Job[Any, Any], context: WorkerContext, worker: _Worker[Any]) -> None:
    """Refuse to go on where no worker can start; one that was killed meanwhile may start another time."""
    context.check_start()
    if not worker.ready and worker.process.exitcode == 1:
        raise SweepError(
            f"a worker process ended while it imported the program, by the error above; correct it, or {job.what} with "
            "engine 'in-process'"
        )


def _give(job: Job[Task, Outcome], worker: _Worker[Task], waiting: deque[Task]) -> None:
    worker.task = waiting.popleft() if waiting else None
    if worker.task is not None:
        with suppress(OSError):  # it died while idle: the wait for its answer finds that out
            worker.pipe.send(_on_its_gpu(job, worker.task, worker.number))


def _message(worker: _Worker[Any]) -> Any:
    """What the worker has to say; None where it is dead."""
    try:
        return worker.pipe.recv()
    except (EOFError, OSError):
        return None


def _after_loss(
    job: Job[Task, Outcome], worker: _Worker[Task], task: Task, waiting: deque[Task], lost: Counter[str]
) -> Outcome | None:
    """Put the task of a lost worker first in the queue, or give it up."""
    name = job.name(task)
    lost[name] += 1
    if lost[name] < TRIES:
        waiting.appendleft(task)
        return None
    reason = f"the worker was lost {TRIES} times (exit code {worker.process.exitcode}); it may need more memory"
    return job.lost(task, reason)


def _on_its_gpu(job: Job[Task, Outcome], task: Task, number: int) -> Task:
    if job.device(task) != "cuda":
        return task
    import torch

    return job.on_device(task, f"cuda:{number % max(torch.cuda.device_count(), 1)}")


def _serve(pipe: connection.Connection, job: Job[Any, Any]) -> None:
    """A worker's life: a task, its outcome, the next task."""
    pipe.send(READY)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(job.do(task, silent))
