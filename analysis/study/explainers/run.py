"""benchmark_explainers: measure explainers on videos with known seconds; a stopped run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pandas as pd
import pyarrow as pa

from analysis.errors import SweepError
from analysis.explanations.benchmark.clip_scores import BenchmarkSettings
from analysis.explanations.benchmark.explainers import Explainers, OwnExplainer, load_explainer
from analysis.explanations.registry import EXPLANATIONS, check_method
from analysis.study.explained import explained_clips
from analysis.study.explainers.cell import BenchmarkCell, BenchmarkOutcome, do_cell
from analysis.study.explainers.table import ROWS, read_benchmark
from analysis.sweep.engines import EngineOptions, engine_of
from analysis.sweep.jobs import Job, silent
from gmsa_models.checkpoints.files import load
from gmsa_models.checkpoints.model_file import ModelFile
from gmsa_models.checkpoints.names import name_checkpoints
from gmsa_models.data.atomic import remove_leftovers
from gmsa_models.data.lock import locked
from gmsa_models.errors import ArgumentError, OutputError
from gmsa_models.evaluation.scoring import vocabulary_of
from gmsa_models.workers import leave_if_imported

__all__ = ["TABLE", "benchmark_explainers"]

TABLE = "explainers.parquet"


def _lost(cell: BenchmarkCell, reason: str) -> BenchmarkOutcome:
    return BenchmarkOutcome(cell, reason)


def _name(cell: BenchmarkCell) -> str:
    return cell.name


def _device(cell: BenchmarkCell) -> str:
    return "cpu"


def _on_device(cell: BenchmarkCell, device: str) -> BenchmarkCell:
    return cell


CELLS = Job("explainers", do_cell, _name, _lost, _device, _on_device)


def benchmark_explainers(
    out: str | Path,
    models: Sequence[str | Path] = ("gate-op-bd20",),
    data: Sequence[str] = ("demo:0-400",),
    settings: BenchmarkSettings | None = None,
    *,
    methods: Sequence[str] | None = None,
    own: Mapping[str, OwnExplainer] | Iterable[str] = (),
    engine: str = "in-process",
    workers: int | None = None,
    address: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """Measure explainers on videos whose seconds are known, and write `out/explainers.parquet`.

    Each video of each model is a file in `out`; those that are there are left as they are, so a run that was stopped
    goes on, and comes to the same table. Numbers depend on models, videos, explainers, settings and versions, and not
    on the engine.

    Args:
        out: folder, made if it is not there.
        models: names of the zoo or files, with vocabularies.
        data: what `read_clips` takes, with known segments.
        settings: how much; default: `BenchmarkSettings()`.
        methods: keys of `EXPLANATIONS`; default: all that apply to a model.
        own: one's own explainers, name -> a function of model, clip (without its segments) and position of the class
            that gives one number a frame; or names `module:function`.
        engine: a key of `analysis.sweep.ENGINES`.
        workers, address: see `EngineOptions`.
        progress: called with how many videos of models are done, and of how many.

    Returns:
        A row a model, video, explainer and measure: columns of `analysis.study.explainers.table`.

    Raises:
        ArgumentError: too few videos with known seconds, or an explainer of the user's that is none.
        UnknownNameError: a method that is not on offer.
        SweepError: `out` is of another benchmark, or a video could not be measured; what is finished is kept.
        OutputError: `out` cannot be written, or another process is writing there.
        WorkerError: see `gmsa_models.workers`.
    """
    if engine == "processes":
        leave_if_imported()
    functions = tuple(own.items()) if isinstance(own, Mapping) else tuple((name, load_explainer(name)) for name in own)
    explainers = Explainers(None if methods is None else tuple(methods), functions)
    _check_names(explainers)
    folder = Path(out).resolve()
    cells = _cells(models, data, settings or BenchmarkSettings(), explainers, folder)
    options = EngineOptions(workers, address)
    engine_of(engine)(CELLS, [], options, silent).close()
    with locked(folder, "a benchmark of explainers"):
        remove_leftovers(folder, TABLE, "videos/*/*.parquet")
        left = [cell for cell in cells if not ROWS.is_finished(cell.path, cell.provenance())]
        done = len(cells) - len(left)
        progress(done, len(cells))
        with closing(engine_of(engine)(CELLS, left, options, silent)) as outcomes:
            for outcome in outcomes:
                _check(outcome)
                done += 1
                progress(done, len(cells))
        _write_whole(cells, folder)
    return read_benchmark(folder / TABLE)


def _cells(
    models: Sequence[str | Path],
    data: Sequence[str],
    settings: BenchmarkSettings,
    explainers: Explainers,
    folder: Path,
) -> list[BenchmarkCell]:
    files = [ModelFile(each.name, each.path, each.sha256) for each in name_checkpoints(models)]
    if not files:
        raise ArgumentError("no models; expected at least one name or path")
    cells = []
    for file in files:
        clips = explained_clips(data, vocabulary_of(load(file.path)), settings.videos, settings.frames)
        if len(clips) < 2:
            raise ArgumentError(
                f"{len(clips)} of the videos of {', '.join(data)} show a label of {file.name} in some of their first "
                f"{settings.frames} frames and not in others, by their known segments; expected at least 2: "
                "`gmsa montage` makes such videos"
            )
        for place, clip in enumerate(clips):
            others = (clips[place + 1 :] + clips[:place])[: settings.others]
            cells.append(BenchmarkCell(file, place, clip, tuple(others), explainers, settings, folder))
    return cells


def _check_names(explainers: Explainers) -> None:
    for name in explainers.methods or ():
        check_method(name)
    own = [name for name, _ in explainers.own]
    for name in own:
        if name in EXPLANATIONS or own.count(name) > 1:
            raise ArgumentError(f"explainer {name!r} is there twice; give each a name of its own")


def _check(outcome: BenchmarkOutcome) -> None:
    if outcome.fatal:
        raise OutputError(outcome.reason)
    if outcome.reason:
        raise SweepError(
            f"{outcome.cell.name}: {outcome.reason}; what is finished is kept, and the same command goes on"
        )


def _write_whole(cells: Sequence[BenchmarkCell], folder: Path) -> None:
    """All rows in the order of the cells."""
    tables = [ROWS.read(cell.path) for cell in cells]
    made = {
        name: value for name, value in cells[0].provenance().items() if name in ("settings", "explainers", "versions")
    }
    models = {cell.model.name: cell.model.sha256 for cell in cells}
    ROWS.write(folder / TABLE, pa.concat_tables(tables), made | {"models": models})
