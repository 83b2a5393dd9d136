"""Drawing an item from its saved numbers: here, or in a process of its own while the next numbers are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from figures.pipeline.catalogue import Item
from figures.pipeline.table_files import load_tables
from figures.style import use_style
from gmsa_models.workers import WorkerContext

__all__ = [
    "Drawing",
    "InlineExecutor",
    "ProcessExecutor",
    "drawn",
    "inline_executor",
    "numbers_file",
    "process_executor",
]

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Drawing:
    """What is to be drawn, and where.

    Attributes:
        item: which figure, table or list.
        folder: has its numbers; gets its files.
        formats: of "pdf", "svg", "png".
        width: in inches; None: the figure's own.
        style: a matplotlib style file, on top of the house style.
    """

    item: Item
    folder: Path
    formats: tuple[str, ...]
    width: float | None
    style: Path | None

    def __call__(self) -> list[str]:
        """Draw, and return the names of the files.

        Raises:
            DamagedError: numbers that cannot be read.
        """
        with use_style(self.style):
            output = self.item.output(load_tables(numbers_file(self.folder, self.item)), self.width)
            return [file.name for file in output.write(self.folder / self.item.name, self.formats)]


def numbers_file(folder: Path, item: Item) -> Path:
    """Where an item's numbers lie."""
    return folder / f"{item.name}.npz"


class InlineExecutor(Executor):
    """Draws at once, in this process."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """A future that is done."""
        future: Future[R] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class ProcessExecutor(ProcessPoolExecutor):
    """Draws in one other process, which starts with the first drawing."""

    def __init__(self) -> None:
        self._context = WorkerContext()
        super().__init__(1, self._context)

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """As of any executor.

        Raises:
            WorkerError: the other process cannot start.
        """
        if not self._context.started:
            try:
                super().submit(list).result()
            except BrokenProcessPool:
                self.shutdown()  # waits until the exit code is known
                self._context.check_start()
        return super().submit(fn, *args, **kwargs)


@contextmanager
def inline_executor(notify: Callable[[str], object]) -> Iterator[Executor]:
    """Draws in this process; `notify` is not needed."""
    yield InlineExecutor()


@contextmanager
def process_executor(notify: Callable[[str], object]) -> Iterator[Executor]:
    """Draws in one other process, which starts with the first drawing and is stopped by nothing but the end.

    A script that uses this needs the usual `if __name__ == "__main__"`, and is told so. When the block is left
    by an error or the keyboard, what is being drawn, or was next, is finished, and `notify` is told so; the rest is
    called off.
    """
    pool = ProcessExecutor()
    try:
        yield pool
    except BaseException:
        notify("stopping: finishing what is being drawn")
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def drawn(drawing: Drawing, future: Future[list[str]]) -> list[str]:
    """The files of a drawing; drawn here if the other process was killed.

    Raises:
        Exception: what the drawing raised.
    """
    try:
        return future.result()
    except BrokenProcessPool:
        return drawing()
