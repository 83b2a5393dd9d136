"""The terminal: errors as one line, progress, and what was left out. Light to import."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperGroup

from gmsa.optional_values import with_values
from gmsa_models.errors import GMSAError
from gmsa_models.progress import progress_bar

if TYPE_CHECKING:
    from rich.progress import TaskID

    from gmsa_models.data.skipped import Skipped

__all__ = [
    "FAILED",
    "STOPPED",
    "ClickError",
    "OneLineErrors",
    "left_out",
    "one_line",
    "progress_of",
    "progress_of_stages",
    "say",
    "visible",
]

BAD_INPUT, FAILED, STOPPED = 2, 1, 130
LONGEST_LINE = 1200  # characters of an error
# What typer raises for options and arguments that it cannot read.
ClickError: type[typer.BadParameter] = typer.BadParameter.__base__  # type: ignore[assignment]  # not exported


class OneLineErrors(TyperGroup):
    """A command group whose errors are one line on stderr: 2 for bad input, 1 for anything else, 130 when stopped."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run; `--debug` anywhere shows the whole traceback instead."""
        replace_what_cannot_be_shown()
        arguments = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in arguments
        words = with_values([word for word in arguments if word != "--debug"])
        if debug:
            return sys.exit(super().main(args=words, standalone_mode=False, **extra) or 0)
        try:
            code = super().main(args=words, standalone_mode=False, **extra)
        except ClickError as error:
            _stop(_usage(error), BAD_INPUT)
        except (GMSAError, ValueError, KeyError, OSError, ImportError) as error:
            _stop(_text(error), BAD_INPUT)
        except (KeyboardInterrupt, typer.Abort):
            _stop("stopped", STOPPED)
        except Exception as error:
            _stop(f"{type(error).__name__}: {error} (--debug shows where)", FAILED)
        if code == STOPPED:  # typer takes the interrupt for itself, and says nothing
            _stop("stopped", STOPPED)
        return sys.exit(code or 0)


def replace_what_cannot_be_shown() -> None:
    """Let the standard streams write `?` for letters that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's have none, and take every letter
            stream.reconfigure(errors="replace")


# Control characters, halves of pairs, ends of lines and paragraphs, and what turns the direction of writing round.
_OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: object) -> str:
    """A text from a file as a terminal may show it: what the terminal would obey stands there as an escape."""
    return _OBEYED.sub(lambda match: ascii(match[0])[1:-1], str(text))


@contextmanager
def left_out() -> Iterator[Skipped]:
    """Counts what is left out in the block, and says so on stderr when it ends, well or not."""
    from gmsa_models.data.skipped import Skipped

    skipped = Skipped()
    try:
        yield skipped
    finally:
        for line in skipped.lines():
            say(line)


@contextmanager
def progress_of(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function that shows how many steps of a task are done, of how many, from its first call on.

    Args:
        what: the task, in a word or two.
    """
    with progress_of_stages() as stage:
        yield stage(what)


@contextmanager
def progress_of_stages() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Gives each of several tasks, in a word or two, a function as that of `progress_of`; a line each."""
    with progress_bar() as progress:

        def stage(what: str) -> Callable[[int, int], None]:
            tasks: list[TaskID] = []

            def show(done: int, total: int) -> None:
                if not tasks:
                    tasks.append(progress.add_task(what, total=total))
                progress.update(tasks[0], completed=done, total=total)

            return show

        yield stage


def say(message: str) -> None:
    """Say something on stderr, in one line."""
    print(f"gmsa: {one_line(message)}", file=sys.stderr)


def _usage(error: Any) -> str:
    """What was wrong with a command line; of what is missing or unknown, where to read what there is."""
    message, context = error.format_message(), getattr(error, "ctx", None)
    if message.startswith(("Missing ", "No such option")) and context is not None and context.parent is not None:
        message += f" `gmsa {context.info_name} --help` lists what it takes"
    return message


def _stop(message: str, code: int) -> NoReturn:
    say(message)
    sys.exit(code)


def one_line(message: str) -> str:
    """A message on one line, whatever a file says of itself: no control characters, no megabytes."""
    words = " ".join(message.split())
    if len(words) > LONGEST_LINE:
        words = f"{words[: LONGEST_LINE * 2 // 3]} ... {words[-LONGEST_LINE // 3 :]}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in words)


# A module that is not installed -> the extra that installs it.
_EXTRAS = {
    "IPython": "notebooks", "anywidget": "notebooks", "ipywidgets": "notebooks", "jupyterlab": "notebooks",
    "traitlets": "notebooks", "av": "video", "ray": "scale", "transformers": "models",
}  # fmt: skip


def _text(error: BaseException) -> str:
    """What an error says; of a module that an extra installs, how it is installed."""
    if isinstance(error, ModuleNotFoundError) and str(error) == f"No module named {error.name!r}":
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        return f"{error}: pip install 'gmsa-workbench[{extra}]'" if extra else str(error)
    # str() of a plain KeyError is the repr of its message.
    return str(error.args[0]) if type(error) is KeyError and error.args else str(error) or type(error).__name__
