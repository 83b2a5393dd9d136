"""`gmsa study`: the paper's models trained with several seeds on several tasks, and when local attention helps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmsa.commands.figures import words
from gmsa.terminal import FAILED, one_line, visible
from gmsa_models.progress import progress_bar

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress

    from analysis.study.seeds.cell import CellOutcome
    from analysis.study.seeds.tasks import StudyTask

__all__ = ["study"]


def study(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of videos, models and table; given again, a study goes on. Without: what the shipped "
                     "study says."),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(help="Of events, topic, all-labelled, topic-few, few, short, long, redundant, noisy, audioset; "
                     "with commas, or all; default: events."),
    ] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option(help="Of the paper's ten columns, control, gate-op-whole (GateOp without locality), and of those "
                     "that the paper leaves for later: share-att-seg, gate-att-seg, gate-op-seg, gate-op-scales, "
                     "local-then-global; with commas; default: one a family, control, gate-op-whole."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="A variant; default: 5 of events, 3 of other tasks.")] = None,
    vectors: Annotated[
        str | None, typer.Option(help="Video-level vectors (.npz); default: the shipped class statistics.")
    ] = None,
    audioset: Annotated[
        Path | None, typer.Option(help="Folder of AudioSet's shards and class table, for the task audioset.")
    ] = None,
    montages: Annotated[int, typer.Option(min=16, help="Training videos of a task.")] = 8000,
    steps: Annotated[int, typer.Option(min=1, help="Of the optimiser, 16 videos each.")] = 500,
    held_out: Annotated[int, typer.Option(min=2, help="Videos that models are scored by.")] = 2000,
    inspected: Annotated[int, typer.Option(min=2, help="How many of them maps and gradients are computed of.")] = 64,
    engine: Annotated[str, typer.Option(help="in-process, processes, or ray (a cluster).")] = "in-process",
    workers: Annotated[int | None, typer.Option(min=1, help="Models at once; default: one a core.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster: auto, HOST:PORT, ray://HOST:PORT; default: one here.")
    ] = None,
) -> None:  # fmt: skip
    """Models trained with several seeds on several tasks, in one table. Exit code 1 if one could not be trained."""
    from analysis.study.seeds import SHIPPED
    from analysis.study.seeds.data import DataSource
    from analysis.study.seeds.plan import StudySettings
    from analysis.study.seeds.run import run_study
    from analysis.study.seeds.tasks import MAIN, TASKS
    from analysis.study.seeds.variants import DEFAULT_VARIANTS

    if out is None:
        print("\n".join(_study_lines(SHIPPED)))
        return
    chosen = words(tasks) or (MAIN,)
    with progress_bar() as progress:
        result = run_study(
            out, StudySettings(montages, steps, held_out, inspected),
            tasks=tuple(TASKS) if chosen == ("all",) else chosen, variants=words(variants) or DEFAULT_VARIANTS,
            seeds=seeds, source=DataSource(vectors, audioset), engine=engine, workers=workers, address=address,
            watch=StudyBar(progress),
        )  # fmt: skip
    done = f"{len(result.done)} models trained, {result.unchanged} were there"
    failed = f", {len(result.failed)} FAILED" if result.failed else ""
    if result.models:
        print("\n".join(_study_lines(result.path)))
    print(f"{done}{failed}; the table of {result.models} models is {visible(result.path)}")
    if result.failed:
        for outcome in result.failed:
            print(f"gmsa: {one_line(f'{outcome.cell.name}: {outcome.reason}')}", file=sys.stderr)
        raise typer.Exit(FAILED)


def _study_lines(path: Path) -> list[str]:
    """GAP of every variant on every task less Baseline's, and the verdicts on the paper's claims, a line each.

    Args:
        path: table of a study.
    """
    from analysis.study.seeds.comparison import differences_to_baseline, locality_alone, study_claims, task_models
    from analysis.study.seeds.table import read_study

    table = read_study(path)
    models = task_models(table)
    lines = []
    for row in differences_to_baseline(models).itertuples():
        ends = "" if row.low != row.low else f" [{row.low:+.2f}, {row.high:+.2f}]"
        lines.append(
            f"{row.task:13} {row.variant:14} GAP {row.gap:6.2f}, less Baseline's {row.difference:+6.2f}{ends} "
            f"({row.seeds} seed{'' if row.seeds == 1 else 's'}, {row.videos} videos)"
        )
    for row in locality_alone(models).itertuples():
        ends = "" if row.low != row.low else f" [{row.low:+.2f}, {row.high:+.2f}]"
        lines.append(f"{row.task:13} locality alone (gate-op-tp30 less gate-op-whole) {row.difference:+6.2f}{ends}")
    for task, each in models.items():
        verdicts = ", ".join(f"{claim.name} {claim.verdict}" for claim in study_claims(each))
        lines.append(f"{task:13} {verdicts}")
    return lines + _later_lines(table)


def _later_lines(table: pd.DataFrame) -> list[str]:
    """GAP of the variants that the paper leaves for later, less that of what each grew from and less Baseline's."""
    from analysis.study.seeds.later import differences_to_parents, later_models

    lines = []
    for row in differences_to_parents(later_models(table)).itertuples():
        others = {row.parent: (row.difference, row.low, row.high)}
        others["baseline"] = (row.baseline_difference, row.baseline_low, row.baseline_high)
        text = [f", less {name}'s{_signed(*values)}" for name, values in others.items() if values[0] == values[0]]
        counts = f"({row.seeds} seed{'' if row.seeds == 1 else 's'}, {row.videos} videos)"
        lines.append(f"{row.task:13} {row.variant:17} GAP {row.gap:6.2f}{''.join(text)} {counts}")
    return lines


def _signed(value: float, low: float, high: float) -> str:
    return f" {value:+.2f}" + ("" if low != low else f" [{low:+.2f}, {high:+.2f}]")


class StudyBar:
    """Progress bars: the montages of a task, then its models."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.bar = progress.add_task("study", total=None)
        self.task = ""

    def make(self, task: StudyTask, videos: int, total: int) -> None:
        """Montages of a shard that is there."""
        self._show(f"{task.name}: montages", total)
        self.progress.advance(self.bar, videos)

    def begin(self, task: StudyTask, cells: int) -> None:
        """Models to train."""
        self._show(f"{task.name}: models", cells)

    def end_cell(self, outcome: CellOutcome) -> None:
        """A model that is done, or has failed."""
        self.progress.advance(self.bar, 1)

    def _show(self, text: str, total: int) -> None:
        if self.task != text:
            self.task = text
            self.progress.reset(self.bar, description=text, total=total)
