"""run_sweep: plan, leave out what is finished, do the rest, keep account."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from analysis.sweep.engines import Crew, engine_of
from analysis.sweep.plan import (
    ShardTask,
    SweepError,
    SweepSettings,
    difference,
    find_models,
    find_shards,
    part_name,
)
from analysis.sweep.store import OutputError, failure_path, provenance_of, record_failure, record_plan
from analysis.sweep.work import DONE, FAILED, STOPPED, Outcome


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
    done: list[Outcome] = field(default_factory=list)
    failed: list[Outcome] = field(default_factory=list)
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
    """What a caller may want to show; as it is here it does nothing."""

    def begin(self, size: int, left: int) -> None:
        """Called once, with the bytes of all shards and of those that are to be done."""

    def advance(self, videos: int, size: int) -> None:
        """Called as clips of a shard are done, where the engine can tell, with clips and bytes of frames."""

    def end_shard(self, outcome: Outcome) -> None:
        """Called after each shard."""


class _Silent(Watch):
    """Shows nothing."""


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
        data: paths or globs of TFRecord shards, or `demo:A-B`.
        out: made if it is not there.
        settings: what is computed, how; default: `SweepSettings()`.
        engine: a key of `ENGINES`.
        workers, address: see `Crew`.
        again: do shards anew that were made with other models, settings or versions.
        watch: told how far it has come.

    Raises:
        SweepError: a plan that makes no sense, or `out` holds shards made otherwise, without `again`.
        OutputError: `out` cannot be written; what is finished there is kept.
        SourceNotFoundError, UnknownCheckpointError, UnknownAnalysisError: before anything is done.
    """
    begun, settings, watch = time.monotonic(), settings or SweepSettings(), watch or _Silent()
    do, crew = engine_of(engine), Crew(workers, address)
    tasks = plan_sweep(models, data, Path(out), settings)
    Path(out).mkdir(parents=True, exist_ok=True)
    left = [task for task in tasks if not _is_finished(task, again)]
    record_plan(Path(out), [task.path.name for task in tasks])
    result = SweepResult(Path(out), len(tasks), len(tasks) - len(left))
    watch.begin(sum(task.shard.bytes for task in tasks), sum(task.shard.bytes for task in left))
    with closing(do(left, crew, watch.advance) if left else _nothing()) as outcomes:
        for outcome in outcomes:
            _keep(outcome, result)
            watch.end_shard(outcome)
    result.seconds = time.monotonic() - begun
    return result


def _nothing() -> Iterator[Outcome]:
    yield from ()


def plan_sweep(models: Sequence[str], data: Sequence[str], out: Path, settings: SweepSettings) -> list[ShardTask]:
    """A task a shard, in order.

    Raises:
        SweepError: no models or shards, or two shards whose tables would have one name.
    """
    files, modalities = find_models(models)
    shards = find_shards(data)
    names = [part_name(shard) for shard in shards]
    if not shards or len(set(names)) < len(names):
        raise SweepError(f"{len(shards)} shards in {', '.join(data) or 'no data'}; expected at least one, names apart")
    folder = out.resolve()
    return [
        ShardTask(shard, files, modalities, settings, folder / name) for shard, name in zip(shards, names, strict=True)
    ]


def _is_finished(task: ShardTask, again: bool) -> bool:
    """True when the shard's table is there and was made from the same.

    Raises:
        SweepError: it was made in another way, and `again` is False.
    """
    made, wanted = provenance_of(task.path), task.provenance()
    if made is None:
        return False
    if differing := difference(made, wanted):
        if again:
            return False
        raise SweepError(
            f"{task.path} was made with other {', '.join(differing)}; choose another folder, or do its shards again"
        )
    whole = task.settings.on_error == "skip" or not made.get("left_out")
    return whole and made["data"] == wanted["data"]


def _keep(outcome: Outcome, result: SweepResult) -> None:
    if outcome.state == STOPPED:
        raise OutputError(outcome.reason)
    if outcome.state == FAILED:
        record_failure(outcome.task, outcome.kind, outcome.reason)
        result.failed.append(outcome)
    if outcome.state == DONE:
        failure_path(outcome.task.path).unlink(missing_ok=True)
        result.done.append(outcome)
