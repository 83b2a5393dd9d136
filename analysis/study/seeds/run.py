"""run_study: make the videos, train and measure the models that are not there, write the table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from analysis.errors import SweepError
from analysis.study.seeds.cell import CellOutcome, do_cell
from analysis.study.seeds.data import DataSource, check_real_frames, task_data
from analysis.study.seeds.plan import Cell, StudySettings, cells_of, check_variants, in_table_order
from analysis.study.seeds.table import STUDY, write_table
from analysis.study.seeds.tasks import MAIN, TASKS, StudyTask, study_tasks
from analysis.study.seeds.variants import DEFAULT_VARIANTS
from analysis.sweep.engines import EngineOptions, engine_of
from analysis.sweep.jobs import Job, silent
from gmsa_models.data.atomic import remove_leftovers
from gmsa_models.data.lock import locked
from gmsa_models.errors import OutputError
from gmsa_models.workers import leave_if_imported

__all__ = ["TABLE", "StudyResult", "StudyWatch", "run_study"]

TABLE = "study.parquet"
COMMON = ("format_version", "settings", "versions")  # parts of provenance that are one for all cells of a table


def _lost(cell: Cell, reason: str) -> CellOutcome:
    return CellOutcome(cell, reason=reason)


def _name(cell: Cell) -> str:
    return cell.name


def _device(cell: Cell) -> str:
    return "cpu"


def _on_device(cell: Cell, device: str) -> Cell:
    return cell


CELLS = Job("study", do_cell, _name, _lost, _device, _on_device)


@dataclass
class StudyResult:
    """What a study came to.

    Attributes:
        path: of the table.
        cells: how many models were asked for.
        unchanged: how many of them were there before.
        done, failed: outcomes of those that were not.
        models: how many the table has; those that were asked for before are in it too.
        seconds: in all.
    """

    path: Path
    cells: int = 0
    unchanged: int = 0
    done: list[CellOutcome] = field(default_factory=list)
    failed: list[CellOutcome] = field(default_factory=list)
    models: int = 0
    seconds: float = 0.0


@runtime_checkable
class StudyWatch(Protocol):
    """What a caller may want to show."""

    def make(self, task: StudyTask, videos: int, total: int) -> None:
        """Called after each shard of a task's montages, with its videos and how many the task has."""

    def begin(self, task: StudyTask, cells: int) -> None:
        """Called before the models of a task, with how many are to be trained."""

    def end_cell(self, outcome: CellOutcome) -> None:
        """Called after each model."""


def run_study(
    out: str | Path,
    settings: StudySettings | None = None,
    *,
    tasks: Sequence[str] = (MAIN,),
    variants: Sequence[str] = DEFAULT_VARIANTS,
    seeds: int | None = None,
    source: DataSource | None = None,
    engine: str = "in-process",
    workers: int | None = None,
    address: str | None = None,
    watch: StudyWatch | None = None,
) -> StudyResult:
    """Train every variant with every seed on every task, measure it on held-out videos, and write `out/study.parquet`.

    A model that is there already is left as it is, and the table has all that are there, so a study can be widened
    step by step; of the same settings and versions it comes to the same table, wherever it was killed in between, and
    whichever engine did it.

    Args:
        out: folder of the videos, the models and the table; made if it is not there.
        settings: how much; default: `StudySettings()`.
        tasks: keys of `TASKS`, done one after another in that order.
        variants: of `STUDY_VARIANTS`.
        seeds: how many a variant; default: as many as each task says.
        source: what the videos are made from; default: the shipped class statistics.
        engine: a key of `analysis.sweep.ENGINES`.
        workers, address: see `EngineOptions`.
        watch: told how far it has come.

    Raises:
        SweepError: a plan that makes no sense; `out` holds models that were made otherwise.
        UnknownNameError: a task or a variant that does not exist.
        OutputError: `out` cannot be written, or another process is writing there.
        SweepError: an engine that does not exist, or options that it does not take.
        WorkerError: see `gmsa_models.workers`.
    """
    if engine == "processes":
        leave_if_imported()
    begun, folder, options = time.monotonic(), Path(out).resolve(), EngineOptions(workers, address)
    work, result = _Work(folder, engine, options, watch), StudyResult(folder / TABLE)
    chosen, names = study_tasks(tuple(tasks)), check_variants(variants)
    if seeds is not None and seeds < 1:
        raise SweepError(f"{seeds} seeds a variant; expected at least 1")
    work.check()
    check_real_frames(chosen, source or DataSource())
    with locked(folder, "a study"):
        remove_leftovers(folder, TABLE, *(f"cells/{name}/*.parquet" for name in TASKS))
        for task in chosen:
            data = task_data(task, settings or StudySettings(), source or DataSource(), folder, work.make(task))
            work.do(task, cells_of(task, names, seeds, settings or StudySettings(), folder, data), result)
        result.models = _write_whole(folder)
    result.seconds = time.monotonic() - begun
    return result


class _Work:
    """Who does the cells, and who is told."""

    def __init__(self, folder: Path, engine: str, options: EngineOptions, watch: StudyWatch | None) -> None:
        self.folder, self.engine, self.options, self.watch = folder, engine_of(engine), options, watch

    def check(self) -> None:
        """Refuse, before anything is made, options that the engine does not take.

        Raises:
            SweepError: it does not.
        """
        self.engine(CELLS, [], self.options, silent).close()

    def make(self, task: StudyTask) -> Any:
        """What `task_data` calls."""
        return lambda videos, total: self.watch.make(task, videos, total) if self.watch else None

    def do(self, task: StudyTask, cells: Sequence[Cell], result: StudyResult) -> None:
        """Do the cells that are not there; after each, the table has it.

        Raises:
            OutputError: there is no room.
        """
        left = [cell for cell in cells if not STUDY.is_finished(cell.path, cell.provenance())]
        result.cells, result.unchanged = result.cells + len(cells), result.unchanged + len(cells) - len(left)
        if self.watch:
            self.watch.begin(task, len(left))
        if not left:
            return
        with closing(self.engine(CELLS, left, self.options, silent)) as outcomes:
            for outcome in outcomes:
                if outcome.fatal:
                    raise OutputError(outcome.reason)
                (result.failed if outcome.reason else result.done).append(outcome)
                _write_whole(self.folder)
                if self.watch:
                    self.watch.end_cell(outcome)


def _write_whole(folder: Path) -> int:
    """Write the table of all cells that are there, in an order that does not depend on when they were done.

    Returns:
        How many.

    Raises:
        SweepError: cells that were made otherwise than others.
    """
    places = {}
    for path in (folder / "cells").glob("*/*.parquet"):
        variant, _, seed = path.stem.rpartition("-")
        places[path.parent.name, variant, int(seed)] = path
    tables = [STUDY.read(places[name]) for name in in_table_order(places)]
    made = [STUDY.made_from(table) for table in tables]
    for name in COMMON:
        if len({str(each[name]) for each in made}) > 1:
            raise SweepError(f"{folder}: its models were made with different {name}; choose another folder")
    if tables:
        about = {name: made[0][name] for name in COMMON}
        tasks = {
            task: {key: each[key] for key in ("task", "data")}
            for (task, _, _), each in zip(in_table_order(places), made, strict=True)
        }
        write_table(folder / TABLE, tables, about | {"tasks": tasks})
    return len(tables)
