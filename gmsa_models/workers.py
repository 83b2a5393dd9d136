"""Worker processes: how each pool of this project starts one, and what is said when one cannot start. Without torch.

A worker is started by "spawn": a fork of a process with threads may hang. It is deaf to Ctrl-C from its first
instruction, which is the parent's business, and it ends when its parent does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import current_process, parent_process, resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any

from gmsa_models.errors import WorkerError

__all__ = ["WorkerContext", "WorkerProcess", "leave_if_imported"]

NO_GUARD = 79  # exit code of a worker whose program starts workers while it is imported; no signal, no usual code
GUARD = (
    "put what the program does into a function and call it under `if __name__ == '__main__':`, since each worker "
    "process imports the program first"
)


class WorkerContext(SpawnContext):
    """Starts the workers of one pool; a `multiprocessing` context, so that executors take it too.

    Attributes:
        started: the workers, in the order of their start.
    """

    def __init__(self) -> None:
        """None is started yet.

        Raises:
            WorkerError: the program comes from standard input, where no worker can read it.
        """
        super().__init__()
        self.started: list[WorkerProcess] = []
        leave_if_imported()
        _check_program()

    # Executors call it as a method; the base class has a class there.
    def Process(self, *args: Any, **more: Any) -> WorkerProcess:  # type: ignore[override]  # noqa: N802
        """A worker that is not started yet; arguments as those of `multiprocessing.Process`."""
        self.started.append(WorkerProcess(*args, **more))
        return self.started[-1]

    def check_start(self) -> None:
        """To be called when a worker was lost, and has ended.

        Raises:
            WorkerError: the program has no main guard.
        """
        if any(worker.exitcode == NO_GUARD for worker in self.started):
            raise WorkerError(
                f"{_program()} starts worker processes and has no main guard: {GUARD}"
            ) from None  # the loss of the worker says nothing more


class WorkerProcess(SpawnProcess):
    """A worker."""

    def start(self) -> None:
        """Start it, with Ctrl-C held back until it has all that it needs."""
        with _interrupts_held_back():
            super().start()

    def run(self) -> None:
        """Its life, in the new process."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # where signals cannot be held back, from here on
        threading.Thread(target=_end_with_parent, daemon=True).start()
        super().run()


def leave_if_imported() -> None:
    """End this process if it is a worker that is still importing the program: the program has no main guard.

    To be called first by whatever starts workers, so that a worker does none of the program's work. An error here would
    be one traceback a worker; the parent says it once, by the exit code.
    """
    if getattr(current_process(), "_inheriting", False):
        sys.stdout.flush()
        os._exit(NO_GUARD)


def _program() -> str:
    return str(getattr(sys.modules["__main__"], "__file__", None) or "the program")


def _check_program() -> None:
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if getattr(main, "__spec__", None) is None and path is not None and not Path(path).exists():
        raise WorkerError(f"the program is {path}, which worker processes cannot read: write it to a file; and {GUARD}")


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C comes when the block ends; a process that is started in the block never hears of it.

    As `multiprocessing` does for its resource tracker: a blocked signal stays blocked in a child.
    """
    resource_tracker.ensure_running()  # starting it lifts the block
    signals: list[int] = []
    handled = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if handled else None
    handled = handled and callable(before)  # else it is ignored, or is not Python's to handle
    blocked = hasattr(signal, "pthread_sigmask")
    if handled:  # it may come to another thread, such as one of torch
        signal.signal(signal.SIGINT, lambda number, frame: signals.append(number))
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if blocked else set()
    try:
        yield
    finally:
        if blocked:
            signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
        if handled:
            signal.signal(signal.SIGINT, before)
            if signals:
                signal.raise_signal(signal.SIGINT)


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
    os._exit(1)
