"""Processes that compute tables of several models at once: as many as there are cores, each of one thread.

Threads of one process wait for each other wherever Python, not torch, is at work, which is half of the time of an
explanation. Numbers are the same: here too every operation runs on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from typing import Protocol, runtime_checkable

import xarray as xr

from gmsa_models.checkpoints.model_file import ModelFile
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.workers import WorkerContext

__all__ = ["Compute", "ModelWorkers"]

MOST = 4  # each has its own torch: about half a gigabyte


@runtime_checkable
class Compute(Protocol):
    """Makes a table of a model."""

    def __call__(self, model: GMSAClassifier, *, progress: Callable[[int], None] = ...) -> xr.Dataset:
        """The table; `progress` is called with the number of clips that are done since the last call."""


class ModelWorkers:
    """The processes; they start with the first tables and stay until `close`."""

    def __init__(self, workers: int | None = None) -> None:
        """None is started yet.

        Args:
            workers: how many; None: one a core, at most `MOST`.
        """
        self.workers = workers
        self._context: WorkerContext | None = None
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> ModelWorkers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def tables(self, compute: Compute, models: Mapping[str, ModelFile]) -> Iterator[tuple[str, xr.Dataset]]:
        """Name and table of each model as they come; the table of a model whose process is lost is computed here.

        Args:
            compute: stands in a module, so that it travels; `functools.partial` of such a function does too.
            models: name -> file.

        Raises:
            WorkerError: no process can start, since the program has no main guard.
        """
        names = {self._submit(compute, file): name for name, file in models.items()}
        for future in as_completed(names):
            try:
                table = future.result()
            except BrokenProcessPool:
                self.close()
                table = _table(compute, models[names[future]])
            yield names[future], table

    def close(self) -> None:
        """End the processes at once, whatever they do."""
        if self._pool is None or self._context is None:
            return
        for process in self._context.started:
            if process.is_alive():
                process.kill()
        self._pool.shutdown(cancel_futures=True)
        self._pool = self._context = None

    def _submit(self, compute: Compute, file: ModelFile) -> Future[xr.Dataset]:
        try:
            return self._started().submit(_table, compute, file)
        except BrokenProcessPool as error:
            broken: Future[xr.Dataset] = Future()
            broken.set_exception(error)
            return broken

    def _started(self) -> ProcessPoolExecutor:
        """The pool, started where it is not."""
        if self._pool is None:
            from analysis.workers import cores

            self._context = WorkerContext()
            workers = self.workers or min(cores(), MOST)
            self._pool = ProcessPoolExecutor(workers, self._context, initializer=_begin)
            try:
                self._pool.submit(list).result()
            except BrokenProcessPool:
                self._pool.shutdown()  # waits until the exit code is known
                self._context.check_start()
        return self._pool


def _begin() -> None:
    """What a process does first."""
    import torch

    from gmsa_models.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(1)


def _table(compute: Compute, file: ModelFile) -> xr.Dataset:
    from analysis.workers import one_thread_each

    with one_thread_each():
        return compute(_model(file))


@lru_cache(maxsize=16)
def _model(file: ModelFile) -> GMSAClassifier:
    from gmsa_models.checkpoints.files import load

    return load(file.path)
