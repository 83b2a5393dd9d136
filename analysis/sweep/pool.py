"""Processes that do shards on one machine, and that may be killed: the shard of a lost worker goes to a new one."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess

from analysis.sweep.plan import ShardTask
from analysis.sweep.work import FAILED, Outcome, do_shard
from analysis.workers import cores

TRIES = 3  # of a shard whose worker is lost; then the shard is to blame
LOST = "worker lost"


@dataclass
class _Worker:
    process: BaseProcess
    pipe: connection.Connection
    number: int
    task: ShardTask | None = None


def in_processes(tasks: Sequence[ShardTask], workers: int | None = None) -> Iterator[Outcome]:
    """Outcomes of shards as they come, from processes that each do one shard at a time.

    A worker that dies is replaced, and its shard done again; the third time the shard has failed. When the iterator is
    closed, workers are ended at once, whatever they do; so they are when this process dies.

    Args:
        tasks: in the order in which they are begun. With device "cuda" the workers take the GPUs in turn.
        workers: how many processes; None: one a core.
    """
    waiting, lost = deque(tasks), Counter[str]()
    crew = [_hire(number) for number in range(min(workers or cores(), len(tasks)))]
    try:
        for worker in crew:
            _give(worker, waiting)
        while busy := {worker.pipe: worker for worker in crew if worker.task is not None}:
            for pipe in connection.wait(list(busy)):
                worker = busy[pipe]
                outcome = _outcome(worker)
                if outcome is None:
                    outcome = _after_loss(worker, waiting, lost)
                    crew[worker.number] = worker = _replaced(worker)
                if outcome is not None:
                    yield outcome
                _give(worker, waiting)
    finally:
        for worker in crew:
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()


def _hire(number: int) -> _Worker:
    context = get_context("spawn")  # a fork of a process with threads may hang
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True, name=f"sweep-{number}")
    process.start()
    theirs.close()  # so that its end is closed when the worker dies
    return _Worker(process, ours, number)


def _replaced(worker: _Worker) -> _Worker:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()
    return _hire(worker.number)


def _give(worker: _Worker, waiting: deque[ShardTask]) -> None:
    worker.task = waiting.popleft() if waiting else None
    if worker.task is not None:
        with suppress(OSError):  # it died while idle: the wait for its answer finds that out
            worker.pipe.send(_on_its_gpu(worker.task, worker.number))


def _outcome(worker: _Worker) -> Outcome | None:
    """What the worker has to say; None where it is dead."""
    try:
        return worker.pipe.recv()
    except (EOFError, OSError):
        return None


def _after_loss(worker: _Worker, waiting: deque[ShardTask], lost: Counter[str]) -> Outcome | None:
    """Put the shard of a lost worker first in the queue, or give it up."""
    task = worker.task
    lost[task.shard.name] += 1
    if lost[task.shard.name] < TRIES:
        waiting.appendleft(task)
        return None
    worker.process.join()
    reason = f"the worker was lost {TRIES} times (exit code {worker.process.exitcode}); it may need more memory"
    return Outcome(task, FAILED, kind=LOST, reason=reason)


def _on_its_gpu(task: ShardTask, number: int) -> ShardTask:
    if task.settings.device != "cuda":
        return task
    import torch

    device = f"cuda:{number % max(torch.cuda.device_count(), 1)}"
    return replace(task, settings=replace(task.settings, device=device))


def _serve(pipe: connection.Connection) -> None:
    """A worker's life: a shard, its outcome, the next shard. Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(do_shard(task))


def _die_with_parent() -> None:
    parent_process().join()
    os._exit(1)
