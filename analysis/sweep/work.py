"""One shard's work: read it window by window, look at it with every model, write its table."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.errors import SweepError
from analysis.gmsa_view import view_clips
from analysis.sweep.analyses import SCORES, Analysis, chosen
from analysis.sweep.jobs import Advance, Job, silent
from analysis.sweep.memory import pass_bytes
from analysis.sweep.plan import Shard, ShardTask, identity
from analysis.sweep.store import MODEL_SHA256, schema_of, write_part
from analysis.view import TraceView
from analysis.workers import one_thread_each
from gmsa_models.checkpoints.files import load
from gmsa_models.checkpoints.model_file import ModelFile
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.data.demo_videos import is_demo
from gmsa_models.data.paths import skip_handler
from gmsa_models.data.skipped import Skipped
from gmsa_models.data.sources import read_clips
from gmsa_models.data.spaces import same_labels
from gmsa_models.errors import GMSAError, OutputError
from gmsa_models.evaluating import standard_contexts
from gmsa_models.feeding import Inputs, fitting

__all__ = ["DONE", "FAILED", "SHARDS", "STOPPED", "ShardOutcome", "computed_columns"]

# Batches' worth of clips that are sorted by length together, so that little is padding.
WINDOW = 8
# Of the memory allowed: clips that wait, a pass with its maps, gradients.
CLIPS_SHARE, PASS_SHARE, GRADIENT_SHARE = 0.25, 0.5, 0.25

LONGEST_REASON = 1200  # characters
DONE, FAILED, STOPPED = "done", "failed", "stopped"
LOST = "worker lost"  # the kind of failure


class _ModelError(Exception):
    """A model that no shard can be done with."""


@dataclass(frozen=True)
class ShardOutcome:
    """What became of a shard.

    Attributes:
        task: the shard's.
        state: "done", "failed" (it cannot be read), or "stopped" (nor can any other be done: no room, no model).
        videos: rows, one model's.
        seconds: it took.
        kind, reason: of a failure.
        left_out: lines on the records that were left out, with `on_error` "skip".
    """

    task: ShardTask
    state: str
    videos: int = 0
    seconds: float = 0.0
    kind: str = ""
    reason: str = ""
    left_out: tuple[str, ...] = ()


def do_shard(task: ShardTask, advance: Advance = silent) -> ShardOutcome:
    """Do a shard; never raises but for the keyboard. Numbers depend on the task only, not on who does it.

    Args:
        task: what to do.
        advance: called as clips are done.
    """
    begun, skipped = time.monotonic(), Skipped()
    try:
        with one_thread_each():
            videos = _write(task, skipped, advance)
    except (OutputError, _ModelError) as error:
        return ShardOutcome(task, STOPPED, reason=str(error))
    except Exception as error:
        kind = getattr(error, "kind", type(error).__name__)
        return ShardOutcome(task, FAILED, seconds=time.monotonic() - begun, kind=str(kind), reason=_reason(error))
    return ShardOutcome(task, DONE, videos, time.monotonic() - begun, left_out=tuple(skipped.lines()))


def _name(task: ShardTask) -> str:
    return task.shard.name


def _lost(task: ShardTask, reason: str) -> ShardOutcome:
    return ShardOutcome(task, FAILED, kind=LOST, reason=reason)


def _device(task: ShardTask) -> str:
    return task.settings.device


def _on_device(task: ShardTask, device: str) -> ShardTask:
    return replace(task, settings=replace(task.settings, device=device))


SHARDS = Job("sweep", do_shard, _name, _lost, _device, _on_device)


def _write(task: ShardTask, skipped: Skipped, advance: Advance) -> int:
    models = [_loaded(model, task.settings.device) for model in task.models]
    about: dict[str, object] = {}
    rows = write_part(task, _of_one_state(task.shard, _tables(task, models, skipped, advance, about)), about)
    return rows // len(models)


def _of_one_state(shard: Shard, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same; raises at their end if the shard is not, or was not all the time, what it was when it was planned."""
    changed = SweepError(f"{shard.source}: its bytes have changed since the sweep began; run it again", kind="changed")
    before = _state(shard)
    if before[0] != (shard.bytes, shard.fingerprint):
        raise changed
    yield from tables
    if before != _state(shard):
        raise changed


def _state(shard: Shard) -> tuple[Any, ...]:
    """Size and fingerprint, and what the system says of when the file changed."""
    path = Path(shard.source)
    if is_demo(shard.source):
        return ((shard.bytes, shard.fingerprint),)
    with suppress(OSError):  # the reader says what is wrong
        about = path.stat()
        return identity(path), about.st_ino, about.st_mtime_ns
    return (identity(path),)


def _tables(
    task: ShardTask,
    models: Sequence[GMSAClassifier],
    skipped: Skipped,
    advance: Advance,
    about: dict[str, object],
) -> Iterator[pa.Table]:
    """A table a window and model."""
    videos, schema, dataset = 0, None, ""
    for window in _windows(_clips(task, models, skipped), task):
        if schema is None:
            dataset = next((clip.dataset for clip in window if clip.labels and clip.dataset), "")
            schema = schema_of(task, dataset)
        _check_one_dataset(window, dataset)
        for name, model in zip((each.name for each in task.models), models, strict=True):
            yield _model_table(task, name, model, window, videos, schema)
        videos += len(window)
        advance(len(window), sum(_size(clip) for clip in window))
    if not videos:
        first = next(iter(skipped.first.values()), "it holds no records")
        raise SweepError(f"{task.shard.source}: nothing in it can be used: {first}")
    about |= {"videos": videos, "left_out": dict(skipped.counts)}


def _check_one_dataset(clips: Iterable[Clip], dataset: str) -> None:
    """One column `labels` is of one data set; a clip that does not say is taken to be of it too.

    Raises:
        SweepError: a clip has labels of another.
    """
    for clip in clips:
        if dataset and clip.labels and not same_labels(clip.dataset, dataset):
            raise SweepError(
                f"{clip.source}: its labels are of {clip.dataset!r}, those of clips before it of {dataset!r}; the "
                "column `labels` of a shard's table is of one data set: give the clips of each in shards of their own"
            )


def _clips(task: ShardTask, models: Sequence[GMSAClassifier], skipped: Skipped) -> Iterator[Clip]:
    on_error = task.settings.on_error
    clips = read_clips(task.shard.source, on_error=on_error, on_skip=skipped)
    for model in models:
        inputs = Inputs.of(model, SCORES in task.settings.analyses, task.settings.neighbourhood)
        clips = fitting(clips, inputs, skip_handler(on_error, skipped))
    return clips


def _windows(clips: Iterable[Clip], task: ShardTask) -> Iterator[list[Clip]]:
    """Clips in order, as many as may wait together."""
    most, room = task.settings.batch_size * WINDOW, task.settings.memory * CLIPS_SHARE
    window: list[Clip] = []
    size = 0
    for clip in clips:
        if window and (len(window) == most or size + _size(clip) > room):
            yield window
            window, size = [], 0
        window.append(clip)
        size += _size(clip)
    if window:
        yield window


def _batches(clips: Sequence[Clip], model: GMSAClassifier, task: ShardTask) -> Iterator[list[int]]:
    """Places of clips that go through the model together: of like length, few enough for the memory.

    Raises:
        SweepError: one clip alone takes more than is allowed.
    """
    room = task.settings.memory * PASS_SHARE
    batch: list[int] = []
    for place in sorted(range(len(clips)), key=lambda at: clips[at].frames):
        one = pass_bytes(model.config, clips[place].frames)
        if one > room:
            raise SweepError(
                f"{clips[place].source}: {clips[place].frames} frames need about {one / PASS_SHARE / 2**20:.0f} MiB; "
                f"{task.settings.memory / 2**20:.0f} MiB are allowed"
            )
        if batch and (len(batch) == task.settings.batch_size or one * (len(batch) + 1) > room):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _model_table(
    task: ShardTask, name: str, model: GMSAClassifier, clips: Sequence[Clip], first: int, schema: pa.Schema
) -> pa.Table:
    """Rows of some clips, in their order, whichever batch each was in."""
    values: dict[str, list[Any]] = {
        "model": [name] * len(clips),
        MODEL_SHA256: [next(each.sha256 for each in task.models if each.name == name)] * len(clips),
        "video": [clip.id for clip in clips],
        "shard": [task.shard.name] * len(clips),
        "position": list(range(first, first + len(clips))),
        "frames": [clip.frames for clip in clips],
        "frame_seconds": [clip.frame_seconds for clip in clips],
        "labels": [list(clip.labels) for clip in clips],
    }
    analyses = list(chosen(task.settings.analyses).values())
    for places in _batches(clips, model, task):
        gradients = int(task.settings.memory * GRADIENT_SHARE)
        batch = [clips[place] for place in places]
        view = view_clips(model, batch, chosen=task.settings.neighbourhood, max_bytes=gradients)
        for column, column_values in computed_columns(view, analyses):
            rows = values.setdefault(column, [None] * len(clips))
            for place, value in zip(places, column_values, strict=True):
                rows[place] = value
    # from_pandas: a NaN is null in the file, so that every reader leaves it out of a mean.
    arrays = [pa.array(values.get(field.name, [None] * len(clips)), field.type, from_pandas=True) for field in schema]
    return pa.table(arrays, schema=schema)


def computed_columns(view: TraceView, analyses: Iterable[Analysis]) -> Iterator[tuple[str, Iterable[Any]]]:
    """Columns with a value a clip of the view."""
    for analysis in analyses:
        with standard_contexts():
            values = analysis.compute(view)
        yield from values.items()


def _size(clip: Clip) -> int:
    return sum(np.asarray(values).nbytes for values in clip.features.values())


def _loaded(model: ModelFile, device: str) -> GMSAClassifier:
    try:
        return _load(model, device)
    except Exception as error:
        raise _ModelError(f"model {model.name!r} cannot be loaded from {model.path}: {error}") from error


@lru_cache(maxsize=32)
def _load(model: ModelFile, device: str) -> GMSAClassifier:
    """A model that stays loaded from shard to shard."""
    loaded = load(model.path, device)
    if loaded.origin["sha256"] != model.sha256:
        raise SweepError("the file has changed since the sweep began; run it again")
    return loaded


def _reason(error: Exception) -> str:
    text = str(error)[:LONGEST_REASON] or type(error).__name__
    return text if isinstance(error, GMSAError) else f"{type(error).__name__}: {text}"
