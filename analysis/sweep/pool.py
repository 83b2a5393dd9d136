"""Processes that do shards on one machine, and that may be killed: the shard of a lost worker goes to a new one."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection

from analysis.errors import SweepError
from analysis.sweep.plan import ShardTask
from analysis.sweep.work import FAILED, Outcomes, ShardOutcome, do_shard
from analysis.workers import cores
from gmsa_models.workers import WorkerContext, WorkerProcess

__all__ = ["LOST", "TRIES", "in_processes"]

TRIES = 3  # of a shard whose worker is lost; then the shard is to blame
LOST = "worker lost"
READY = "ready"  # what a worker says first


@dataclass
class _Worker:
    process: WorkerProcess
    pipe: connection.Connection
    number: int
    task: ShardTask | None = None
    ready: bool = False


def in_processes(tasks: Sequence[ShardTask], workers: int | None = None) -> Outcomes:
    """Outcomes of shards as they come, from processes that each do one shard at a time.

    A worker that dies is replaced, and its shard done again; the third time the shard has failed. When the iterator is
    closed, workers are ended at once, whatever they do; so they are when this process dies.

    Args:
        tasks: in the order in which they are begun. With device "cuda" the workers take the GPUs in turn.
        workers: how many processes; None: one a core.

    Raises:
        WorkerError: the program that calls this starts workers while they import it.
        SweepError: a worker that cannot import the program for another reason.
    """
    waiting, lost, context = deque(tasks), Counter[str](), WorkerContext()
    started: list[_Worker] = []
    try:
        for number in range(min(workers or cores(), len(tasks))):
            started.append(_start_worker(context, number))
            _give(started[-1], waiting)
        while busy := {worker.pipe: (worker, worker.task) for worker in started if worker.task is not None}:
            ready = set(connection.wait(list(busy)))
            for worker, task in [pair for pipe, pair in busy.items() if pipe in ready]:
                message = _message(worker)
                if isinstance(message, str):
                    worker.ready = message == READY
                    continue
                if message is None:
                    _end(worker)
                    _check_start(context, worker)
                    message = _after_loss(worker, task, waiting, lost)
                    started[worker.number] = _start_worker(context, worker.number)
                if message is not None:
                    yield message
                _give(started[worker.number], waiting)
    finally:
        for worker in started:
            worker.process.kill()
        for worker in started:
            _end(worker)


def _start_worker(context: WorkerContext, number: int) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True, name=f"sweep-{number}")
    process.start()
    theirs.close()  # so that its end is closed when the worker dies
    return _Worker(process, ours, number)


def _end(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def _check_start(context: WorkerContext, worker: _Worker) -> None:
    """Refuse to go on where no worker can start; one that was killed meanwhile may start another time."""
    context.check_start()
    if not worker.ready and worker.process.exitcode == 1:
        raise SweepError(
            "a worker process ended while it imported the program, by the error above; correct it, or sweep with "
            "engine 'in-process'"
        )


def _give(worker: _Worker, waiting: deque[ShardTask]) -> None:
    worker.task = waiting.popleft() if waiting else None
    if worker.task is not None:
        with suppress(OSError):  # it died while idle: the wait for its answer finds that out
            worker.pipe.send(_on_its_gpu(worker.task, worker.number))


def _message(worker: _Worker) -> ShardOutcome | str | None:
    """What the worker has to say; None where it is dead."""
    try:
        return worker.pipe.recv()
    except (EOFError, OSError):
        return None


def _after_loss(worker: _Worker, task: ShardTask, waiting: deque[ShardTask], lost: Counter[str]) -> ShardOutcome | None:
    """Put the shard of a lost worker first in the queue, or give it up."""
    lost[task.shard.name] += 1
    if lost[task.shard.name] < TRIES:
        waiting.appendleft(task)
        return None
    reason = f"the worker was lost {TRIES} times (exit code {worker.process.exitcode}); it may need more memory"
    return ShardOutcome(task, FAILED, kind=LOST, reason=reason)


def _on_its_gpu(task: ShardTask, number: int) -> ShardTask:
    if task.settings.device != "cuda":
        return task
    import torch

    device = f"cuda:{number % max(torch.cuda.device_count(), 1)}"
    return replace(task, settings=replace(task.settings, device=device))


def _serve(pipe: connection.Connection) -> None:
    """A worker's life: a shard, its outcome, the next shard."""
    pipe.send(READY)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(do_shard(task))
