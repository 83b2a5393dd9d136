"""run_sweep: plan, leave out what is finished, do the rest, keep account."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from analysis.errors import SweepError
from analysis.sweep.engines import Engine, EngineOptions, engine_of
from analysis.sweep.notes import FAILED as NOTES
from analysis.sweep.notes import failure_path, notes_in, record_failure, record_plan
from analysis.sweep.places import place_shards
from analysis.sweep.plan import ShardTask, SweepSettings, difference, find_models, find_shards, source_id
from analysis.sweep.store import schema_of, tables_in
from analysis.sweep.work import DONE, FAILED, SHARDS, STOPPED, ShardOutcome
from gmsa_models.data.atomic import remove_leftovers
from gmsa_models.data.lock import locked
from gmsa_models.errors import OutputError
from gmsa_models.workers import leave_if_imported

__all__ = ["SweepResult", "Watch", "plan_sweep", "run_sweep"]


@dataclass
class SweepResult:
    """What a sweep came to.

    Attributes:
        folder: of the files.
        shards: how many the data have.
        unchanged: how many of them were finished before.
        done: outcomes of those that were finished now.
        failed: outcomes of those that could not be read.
        seconds: in all.
    """

    folder: Path
    shards: int
    unchanged: int = 0
    done: list[ShardOutcome] = field(default_factory=list)
    failed: list[ShardOutcome] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def videos(self) -> int:
        """How many were looked at now, by every model."""
        return sum(outcome.videos for outcome in self.done)

    @property
    def good(self) -> bool:
        """True when every shard has its table."""
        return not self.failed


@runtime_checkable
class Watch(Protocol):
    """What a caller may want to show."""

    def begin(self, size: int, left: int) -> None:
        """Called once, with the bytes of all shards and of those that are to be done."""

    def advance(self, videos: int, size: int) -> None:
        """Called as clips of a shard are done, where the engine can tell, with clips and bytes of frames."""

    def end_shard(self, outcome: ShardOutcome) -> None:
        """Called after each shard."""


class _Silent:
    """Shows nothing."""

    def begin(self, size: int, left: int) -> None:
        """Nothing."""

    def advance(self, videos: int, size: int) -> None:
        """Nothing."""

    def end_shard(self, outcome: ShardOutcome) -> None:
        """Nothing."""


def run_sweep(
    models: Sequence[str],
    data: Sequence[str],
    out: str | Path,
    settings: SweepSettings | None = None,
    *,
    engine: str = "in-process",
    workers: int | None = None,
    address: str | None = None,
    again: bool = False,
    watch: Watch | None = None,
) -> SweepResult:
    """Look at every video of a data set with some models; one Parquet file a shard in `out`, which `read_sweep` reads.

    A shard that is finished is left as it is; one that cannot be read is recorded (see `failed_shards`) and the rest
    go on. The same call on the same `out` goes on where a killed one stopped, and comes to the same bytes, whichever
    engine did which shard.

    Args:
        models: names in the zoo or files.
        data: paths or globs of files of clips, or `demo:A-B`.
        out: made if it is not there.
        settings: what is computed, how; default: `SweepSettings()`.
        engine: a key of `ENGINES`.
        workers, address: see `EngineOptions`.
        again: do shards anew that were made with other models, settings or versions.
        watch: told how far it has come.

    Raises:
        SweepError: a plan that makes no sense, or `out` holds shards made otherwise, without `again`.
        OutputError: `out` cannot be written; what is finished there is kept; another process is writing to `out`.
        WorkerError: see `gmsa_models.workers`.
        ArgumentError, SourceNotFoundError, CheckpointError, UnknownNameError: before anything is done.
    """
    if engine == "processes":
        leave_if_imported()
    begun, settings, watch = time.monotonic(), settings or SweepSettings(), watch or _Silent()
    do, options = engine_of(engine), EngineOptions(workers, address)
    plan_sweep(models, data, Path(out), settings, again)  # refuses what makes no sense before the folder is made
    with locked(out, "a sweep"):
        remove_leftovers(out, "*.parquet", "*.txt", f"{NOTES}/*.json")
        tables = tables_in(Path(out).resolve())
        tasks = _planned(models, data, Path(out), settings, again, tables)
        left = [task for task in tasks if not _is_finished(task, tables.get(task.path), again)]
        record_plan(Path(out), tasks)
        result = SweepResult(Path(out), len(tasks), len(tasks) - len(left))
        _Account(result, watch).keep(tasks, left, do, options)
    result.seconds = time.monotonic() - begun
    return result


class _Account:
    """What is kept of outcomes as they come."""

    def __init__(self, result: SweepResult, watch: Watch) -> None:
        self.result, self.watch, self.notes = result, watch, notes_in(result.folder)

    def keep(self, tasks: Sequence[ShardTask], left: Sequence[ShardTask], do: Engine, options: EngineOptions) -> None:
        """Do what is left, and note what comes of it."""
        paths = {task.path for task in left}
        for task in tasks:
            if task.path not in paths:
                self._forget_failures(task)
        self.watch.begin(sum(task.shard.bytes for task in tasks), sum(task.shard.bytes for task in left))
        if left:
            with closing(do(SHARDS, left, options, self.watch.advance)) as outcomes:
                for outcome in outcomes:
                    self.watch.end_shard(self._kept(outcome))

    def _kept(self, outcome: ShardOutcome) -> ShardOutcome:
        if outcome.state == STOPPED:
            raise OutputError(outcome.reason)
        self._forget_failures(outcome.task)
        if outcome.state == FAILED:
            reason = record_failure(outcome.task, outcome.kind, outcome.reason)
            outcome = replace(outcome, reason=reason)
            self.result.failed.append(outcome)
        if outcome.state == DONE:
            self.result.done.append(outcome)
        return outcome

    def _forget_failures(self, task: ShardTask) -> None:
        for note in [failure_path(task.path), *self.notes.pop(source_id(task.shard.source), [])]:
            note.unlink(missing_ok=True)


def plan_sweep(
    models: Sequence[str], data: Sequence[str], out: Path, settings: SweepSettings, again: bool = False
) -> list[ShardTask]:
    """A task a shard, in order; see `place_shards`.

    Raises:
        SweepError: no models or shards, shards that cannot be told apart, or columns of one name.
    """
    return _planned(models, data, out, settings, again, tables_in(out.resolve()))


def _planned(
    models: Sequence[str],
    data: Sequence[str],
    out: Path,
    settings: SweepSettings,
    again: bool,
    tables: Mapping[Path, Mapping[str, Any]],
) -> list[ShardTask]:
    """The same, with the finished files of the folder in hand: of very many, to read them takes longest."""
    files, modalities, branches = find_models(models)
    shards, folder = find_shards(data), out.resolve()
    if not shards:
        raise SweepError(f"no shards in {', '.join(data) or 'no data'}; expected at least one")
    placed = place_shards(shards, folder, {path: made["data"] for path, made in tables.items()}, again)
    tasks = [ShardTask(shard, files, modalities, settings, path, branches) for shard, path in placed]
    schema_of(tasks[0])  # columns of one name are refused before anything is read
    return tasks


def _is_finished(task: ShardTask, made: Mapping[str, Any] | None, again: bool) -> bool:
    """True when the shard's table is there and was made from the same.

    Raises:
        SweepError: it was made in another way, and `again` is False.
    """
    if made is None:
        return False
    if differing := difference(made, task.provenance()):
        if again:
            return False
        raise SweepError(
            f"{task.path} was made with other {', '.join(differing)}; choose another folder, or do its shards again"
        )
    whole = task.settings.on_error == "skip" or not made.get("left_out")
    return whole and all(made["data"][name] == task.shard.data()[name] for name in ("bytes", "fingerprint"))
