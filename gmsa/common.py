"""What several commands do: print, choose a device, tell how they were called."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import torch

__all__ = ["command_line", "device_of", "show", "use_threads"]


def show(shown: Any) -> None:
    """Print tables or text on the screen."""
    from rich.console import Console

    Console(markup=False, emoji=False).print(shown)  # names come from files: "[/x]" in one is no markup


def device_of(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU if there is one.

    Raises:
        typer.BadParameter: unknown, or not on this machine.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise typer.BadParameter(f"device {name!r} is unknown; expected cpu, cuda, cuda:1 or auto") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise typer.BadParameter(f"device {name!r} is not here; torch sees {torch.cuda.device_count()} GPUs")
    return device


def use_threads(threads: int | None) -> None:
    """Set how many CPU threads an operation takes; None leaves it."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def command_line() -> str:
    """The command as it was typed, for the files that it writes."""
    return shlex.join(["gmsa", *sys.argv[1:]])
