"""The progress bar of everything that takes long. Light to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["progress_bar"]


def progress_bar(counted: str | None = None, note: str | None = None) -> Progress:
    """A progress bar on stderr, so that stdout stays fit for a pipe.

    Args:
        counted: what stands after the bar, with a task's fields by name: "{task.fields[videos]} videos"; default: how
            many steps are done, of how many.
        note: what stands after the time left, likewise; default: nothing.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    steps = MofNCompleteColumn() if counted is None else TextColumn(counted)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), steps, TimeRemainingColumn())
    notes = () if note is None else (TextColumn(note),)
    console = Console(stderr=True)
    # The time left is estimated over the last minutes, since one step may take one; an output that is no terminal
    # would get an empty line.
    return Progress(
        *columns, *notes, console=console, transient=True, speed_estimate_period=300, disable=not console.is_terminal
    )
