"""`gmsa figures`: options in, one line a figure out. Light to import; the work comes later."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmsa.options import complete_model
from gmsa.terminal import ClickError, one_line, visible
from gmsa_models.data.atomic import check_folder
from gmsa_models.progress import progress_bar

if TYPE_CHECKING:
    from figures.pipeline.pipeline import FiguresOutcome
    from figures.pipeline.request import Request

__all__ = ["figures", "inches", "words"]

OK, FAILED = 0, 1
WIDTHS = {"column": 3.39, "page": 7.0}  # inches, ICASSP


def figures(
    data: Annotated[
        list[str] | None,
        typer.Option(help="Videos: file of clips or glob, file#id, catalogue, demo:0-400, or a .txt with one a line."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "--models",
            help="Trained models or files, with commas; default: the zoo's.",
            autocompletion=complete_model,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the files.")] = Path("figures/out"),
    only: Annotated[
        list[str] | None, typer.Option(help="1 to 11, table, claims, tasks, with commas; default: everything.")
    ] = None,
    sweep: Annotated[
        Path | None,
        typer.Option(
            help="Take the numbers from this folder of `gmsa sweep`; what it lacks is computed if --data is "
            "given, else skipped."
        ),
    ] = None,
    redraw_from: Annotated[
        Path | None, typer.Option("--from", help="Draw from the numbers saved in this folder; no model is needed.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compute everything again, write nothing, say whether the numbers are the same."),
    ] = False,
    width: Annotated[str | None, typer.Option(help="column, page, or inches; default: each figure's own.")] = None,
    style: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="A matplotlib style file.")] = None,
    formats: Annotated[list[str] | None, typer.Option(help="Of pdf, svg, png, with commas; default: all.")] = None,
    videos: Annotated[
        int | None,
        typer.Option(min=1, help="Videos whose maps and gradients are looked at; default: 32, of a sweep all."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Scores are of the first so many videos.")] = 2000,
    explained: Annotated[int, typer.Option(min=1, help="Videos that every method explains (Figure 7).")] = 16,
    ablated: Annotated[int, typer.Option(min=1, help="Videos on which heads are ablated (8) or knocked out (9).")] = 32,
    neighbourhood: Annotated[
        str | None,
        typer.Option(
            help="BD20, TP30, TD60x4 ...: the N_i by which all models' sensitivity is compared; default: TP30, "
            "or the sweep's."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of resampling and permutations.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Make everything anew, changed or not.")] = False,
) -> None:
    """Draw the paper's figures and table; only what has changed. Exit code 1 if a figure failed or numbers differ."""
    from figures.pipeline.request import FORMATS, Request
    from figures.style import check_formats

    if sweep is not None and redraw_from is not None:
        raise typer.BadParameter("--sweep and --from: numbers come from one place; give one of them")
    request = Request(
        data=tuple(data) if data else None, models=words(models), out=out, sweep=sweep,
        redraw_from=redraw_from, only=words(only),
        formats=words(formats) or FORMATS, width=inches(width), style=style, videos=videos, limit=limit,
        explained=explained, ablated=ablated,
        neighbourhood=neighbourhood, seed=seed, force=force, command=_command(),
    )  # fmt: skip
    check_formats(request.formats)
    if redraw_from is not None and not redraw_from.is_dir():
        raise ClickError(f"--from {visible(redraw_from)}: no such folder; expected one that `gmsa figures` wrote")
    if not check:
        check_folder(request.out)
    _tell_new_names(request.models)
    if code := run(request, check):
        raise typer.Exit(code)


def run(request: Request, check: bool = False) -> int:
    """Make or check the figures with a progress bar on stderr and a line each on stdout; returns the exit code."""
    from figures.pipeline import pipeline
    from gmsa_models.allocator import keep_freed_memory

    keep_freed_memory()
    with progress_bar() as progress:
        task = progress.add_task("figures", total=None)

        def advance(stage: str, done: int, total: int | None) -> None:
            progress.update(task, description=stage, completed=done, total=total)

        def report(name: str, state: str, detail: str) -> None:
            line = one_line(f"{name}: {state}{': ' + detail if detail else ''}")  # a reason may quote a file: no markup
            progress.console.print(line, highlight=False, soft_wrap=True, markup=False, emoji=False)

        outcome = (
            pipeline.check(request, report, advance, beside=True)
            if check
            else pipeline.render(request, report, advance, beside=True)
        )
    print(f"{_summary(outcome)}, in {visible(request.out)}")
    return OK if outcome.good else FAILED


def inches(width: str | None) -> float | None:
    """A width in inches from "column", "page" or a number.

    Raises:
        typer.BadParameter: neither, or outside 2 to 20 inches.
    """
    if width is None or width in WIDTHS:
        return None if width is None else WIDTHS[width]
    try:
        value = float(width)
    except ValueError:
        value = 0.0
    if not 2.0 <= value <= 20.0:
        raise typer.BadParameter(f"width {width!r}; expected column, page, or 2 to 20 inches")
    return value


def words(values: Sequence[str] | None) -> tuple[str, ...]:
    """Option values, each of which may hold several with commas."""
    return tuple(word for value in values or () for word in value.split(",") if word)


def _tell_new_names(models: Sequence[str]) -> None:
    """Say on stderr which models are not called by what their cards say."""
    from figures.pipeline.provenance import find_checkpoints, zoo

    if not set(models) <= set(zoo()):
        find_checkpoints(models, notify=lambda line: print(f"gmsa: {one_line(line)}", file=sys.stderr))


def _summary(outcome: FiguresOutcome) -> str:
    states = list(outcome.states.values())
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "nothing"


def _command() -> str:
    return " ".join(["gmsa", shlex.join(sys.argv[1:])]).strip()
