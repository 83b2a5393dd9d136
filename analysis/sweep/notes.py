"""What a sweep notes beside its tables: which files it is to have, and why shards have none."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import SweepError
from analysis.sweep.places import part_name
from analysis.sweep.plan import ShardTask, demo_range, difference, name_of, plain_text, source_id
from analysis.sweep.store import finished_parts, provenance_of, writing
from gmsa_models.data.atomic import replaced_when_done

__all__ = ["FAILED", "failed_shards", "failure_path", "notes_in", "planned_parts", "record_failure", "record_plan"]

FAILED = "failed"  # folder of the notes on failures
SHARDS = "shards.txt"  # a line a file that the sweep is to have
COLUMNS = ("shard", "source", "kind", "reason")


def record_failure(task: ShardTask, kind: str, reason: str) -> str:
    """Note why a shard has no table of its present bytes, and what became of the table that it had.

    A table of the same models and settings stays; one of others goes into the folder of the notes, so that all tables
    of the sweep are comparable.

    Returns:
        The reason, with what became of the table.
    """
    note, reason = failure_path(task.path), plain_text(reason)
    made = provenance_of(task.path)
    with writing(note):
        note.parent.mkdir(exist_ok=True)
        if made is not None and difference(made, task.provenance()):
            os.replace(task.path, note.parent / task.path.name)
            reason += f"; its table of an earlier run, made otherwise, is kept in {note.parent}"
        elif made is not None:
            reason += "; its table of an earlier run is kept"
        about: dict[str, Any] = {
            "shard": task.shard.name,
            "source": plain_text(task.shard.source),
            "kind": kind,
            "reason": reason,
        }
        about |= {"source_id": source_id(task.shard.source), "provenance": task.provenance()}
        with replaced_when_done(note) as temporary:
            temporary.write_text(json.dumps(about, indent=2), encoding="utf-8")
    return reason


def notes_in(folder: Path) -> dict[str, list[Path]]:
    """Source -> the notes on failures of that shard, under this name or an earlier one."""
    notes: dict[str, list[Path]] = {}
    for path, note in _notes(folder):
        notes.setdefault(note.get("source_id") or source_id(note["source"]), []).append(path)
    return notes


def _notes(folder: str | Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((Path(folder) / FAILED).glob("*.json")):
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            if missing := set(COLUMNS) - set(note):
                raise ValueError(f"it lacks {sorted(missing)}")
        except (ValueError, TypeError) as error:
            raise SweepError(f"{path} is not a note of a sweep, or is damaged ({error}); remove it") from None
        yield path, note


def failure_path(path: Path) -> Path:
    """Where the note on a shard's failure lies."""
    return path.parent / FAILED / f"{path.stem}.json"


def failed_shards(folder: str | Path) -> pd.DataFrame:
    """Shards of a sweep that could not be read: `shard`, `source`, `kind` and `reason`, a row each; empty when none."""
    rows = [note for _, note in _notes(folder)]
    return pd.DataFrame([{name: row[name] for name in COLUMNS} for row in rows], columns=list(COLUMNS))


def record_plan(folder: Path, tasks: Sequence[ShardTask]) -> None:
    """Note which files the sweep is to have, beside those that earlier runs were to make; read by `planned_parts`.

    What an earlier run was to make of the same shards, under other names, is not to come any more.

    Raises:
        OutputError: the folder cannot be written.
    """
    recorded, finished = _plan(folder), {path.name for path in finished_parts(folder)}
    sources = {task.path.name: source_id(task.shard.source) for task in tasks}
    kept = {
        name: source for name, source in recorded.items() if name in finished or not _is_replanned(name, source, tasks)
    }
    if (plan := kept | sources) == recorded:
        return
    lines = "".join(f"{name}\t{plan[name]}\n" for name in sorted(plan))
    with writing(folder / SHARDS), replaced_when_done(folder / SHARDS) as temporary:
        temporary.write_text(lines, encoding="utf-8")


def _is_replanned(name: str, source: str, tasks: Sequence[ShardTask]) -> bool:
    """Whether a file that is not there was to be of a shard that one of the tasks is of, or of demo videos of it."""
    planned = re.fullmatch(r"demo-(\d+)-(\d+)\.parquet", name)
    for task in tasks:
        span = demo_range(task.shard.data())
        if planned and span:
            overlaps = span[0] < int(planned[2]) and int(planned[1]) < span[1]
        elif source:
            overlaps = source == source_id(task.shard.source)
        else:  # of an earlier version, which noted the name only
            parts = Path(task.shard.source).parts
            overlaps = any(name == part_name(name_of(parts[-count:])) for count in range(1, len(parts) + 1))
        if overlaps:
            return True
    return False


def _plan(folder: str | Path) -> dict[str, str]:
    """File -> source of its shard, empty where an earlier version noted the name only."""
    try:
        lines = (Path(folder) / SHARDS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    except UnicodeDecodeError as error:
        raise SweepError(f"{Path(folder) / SHARDS} is damaged ({error}); remove it and sweep again") from None
    return {line.partition("\t")[0]: line.partition("\t")[2] for line in lines}


def planned_parts(folder: str | Path) -> list[str]:
    """Names of the files that a sweep is to have; empty for a sweep of an earlier version, which took no note.

    Raises:
        SweepError: the note is damaged.
    """
    return list(_plan(folder))
