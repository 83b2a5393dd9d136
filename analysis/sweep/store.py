"""The files of a sweep: one Parquet file a shard with its provenance inside, and a note for each shard that failed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.sweep.analyses import LABELS, chosen
from analysis.sweep.plan import ShardTask, SweepError, difference
from gmsa_models.data.atomic import cannot_write, replaced_when_done

METADATA = b"gmsa_sweep"
FAILED = "failed"  # folder of the notes
SHARDS = "shards.txt"  # a line a file that the sweep is to have
KEY = ("model", "shard", "position")
FAILED_COLUMNS = ("shard", "source", "kind", "reason")


class OutputError(OSError):
    """The folder of a sweep cannot be written: no space, no permission. What is finished there is kept."""


def schema_of(task: ShardTask) -> pa.Schema:
    """Columns of a shard's table: the key, the clip, and those of each analysis; the same for all shards of a sweep."""
    columns = {
        "model": pa.string(),
        "video": pa.string(),
        "shard": pa.string(),
        "position": pa.int64(),
        "frames": pa.int32(),
        "frame_seconds": pa.float64(),
        "labels": LABELS,
    }
    for analysis in chosen(task.settings.analyses).values():
        columns |= analysis.columns(task.modalities)
    return pa.schema(list(columns.items()))


def write_part(task: ShardTask, tables: Iterable[pa.Table], about: Mapping[str, Any]) -> int:
    """Write a shard's file, a row group a table; it appears whole or not at all.

    Args:
        task: what it is of.
        tables: made as they are written, so that one is held at a time.
        about: read when all tables are written, and added to the provenance.

    Returns:
        Rows.

    Raises:
        OutputError: the file cannot be written.
        whatever making the tables raises.
    """
    rows = 0
    with (
        _writing(task.path),
        replaced_when_done(task.path) as temporary,
        pq.ParquetWriter(temporary, schema_of(task), compression="zstd") as writer,
    ):
        for table in _made(tables):
            writer.write_table(table)
            rows += len(table)
        writer.add_key_value_metadata({METADATA: json.dumps(task.provenance() | dict(about))})
    return rows


class _MakingError(Exception):
    """Carries an error of making a table out of the block that takes the system's errors for those of writing."""


def _made(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    try:
        yield from tables
    except Exception as error:
        raise _MakingError from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Errors of the system in the block are of writing `path`."""
    try:
        yield
    except _MakingError as error:
        raise error.__cause__ from None
    except OSError as error:
        raise OutputError(f"{cannot_write(path, error)}; then run it again: what is done is kept") from error


def provenance_of(path: Path) -> dict[str, Any] | None:
    """What a shard's file says it was made from; None where there is no such file, or not one of a sweep."""
    with suppress(OSError, pa.ArrowInvalid, ValueError, KeyError):
        return json.loads(pq.read_metadata(path).metadata[METADATA])
    return None


def record_failure(task: ShardTask, kind: str, reason: str) -> None:
    """Note why a shard has no table; a table of an earlier run, of other bytes, goes."""
    task.path.unlink(missing_ok=True)
    note = failure_path(task.path)
    about = {"shard": task.shard.name, "source": task.shard.source, "kind": kind, "reason": reason}
    with _writing(note):
        note.parent.mkdir(exist_ok=True)
        with replaced_when_done(note) as temporary:
            temporary.write_text(json.dumps(about | {"provenance": task.provenance()}, indent=2), encoding="utf-8")


def failure_path(path: Path) -> Path:
    """Where the note on a shard's failure lies."""
    return path.parent / FAILED / f"{path.stem}.json"


def failed_shards(folder: str | Path) -> pd.DataFrame:
    """Shards of a sweep that could not be read: `shard`, `source`, `kind` and `reason`, a row each; empty when none."""
    notes = sorted((Path(folder) / FAILED).glob("*.json"))
    rows = [json.loads(note.read_text(encoding="utf-8")) for note in notes]
    return pd.DataFrame([{name: row[name] for name in FAILED_COLUMNS} for row in rows], columns=list(FAILED_COLUMNS))


def record_plan(folder: Path, names: Iterable[str]) -> None:
    """Note which files the sweep is to have, beside those that earlier runs were to make; read by `planned_parts`.

    Raises:
        OutputError: the folder cannot be written.
    """
    known = planned_parts(folder)
    if set(names) <= set(known):
        return
    lines = "".join(f"{name}\n" for name in sorted({*known, *names}))
    with _writing(folder / SHARDS), replaced_when_done(folder / SHARDS) as temporary:
        temporary.write_text(lines, encoding="utf-8")


def planned_parts(folder: str | Path) -> list[str]:
    """Names of the files that a sweep is to have; empty for a sweep of an earlier version, which took no note."""
    try:
        return (Path(folder) / SHARDS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def finished_parts(folder: str | Path) -> list[Path]:
    """The files of the shards that are finished, in order of their names."""
    return sorted(path for path in Path(folder).glob("*.parquet") if not path.name.startswith("."))


def read_sweep(
    folder: str | Path,
    columns: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """A sweep as one table: a row a model and video, in the order of models, shards and videos.

    Args:
        folder: where `run_sweep` wrote it.
        columns: which, beside `model`, `video`, `shard` and `position`; default: all.
        models: which; default: all.
        limit: the first so many videos; shards beyond them are not read. Default: all.

    Returns:
        The table; `attrs` holds what all its files were made from: `models`, `settings`, `versions`.

    Raises:
        SweepError: no finished shard, shards that were made in different ways, or a column or model that is not there.
    """
    paths = finished_parts(folder)
    made = common_provenance(paths, folder)
    schema = pq.read_schema(paths[0])
    names = schema.names if columns is None else list(dict.fromkeys(["model", "video", "shard", "position", *columns]))
    _check_known("column", names, schema.names)
    wanted = list(made["models"]) if models is None else list(models)
    _check_known("model", wanted, list(made["models"]))
    read = paths if limit is None else _first_parts(paths, limit)
    table = pa.concat_tables(pq.read_table(path, columns=names, filters=[("model", "in", wanted)]) for path in read)
    frame = table.to_pandas()
    order = frame["model"].map({name: place for place, name in enumerate(made["models"])})
    frame = frame.assign(_order=order).sort_values(["_order", "shard", "position"], kind="stable", ignore_index=True)
    frame = frame.drop(columns="_order")
    if limit is not None:
        frame = frame.groupby("model", sort=False).head(limit).reset_index(drop=True)
    frame.attrs = {name: made[name] for name in ("models", "settings", "versions")}
    return frame


def common_provenance(paths: Sequence[Path], folder: str | Path) -> dict[str, Any]:
    """What all shards were made from.

    Raises:
        SweepError: there is none, one is not of a sweep, or two differ.
    """
    if not paths:
        raise SweepError(f"no finished shard in {str(folder)!r}; expected the --out of `gmsa sweep`")
    made = [provenance_of(path) for path in paths]
    for path, each in zip(paths, made, strict=True):
        if each is None:
            raise SweepError(f"{path} was not written by a sweep, or is damaged; remove it and sweep again")
        if differing := difference(each, made[0]):
            raise SweepError(
                f"{path.name} and {paths[0].name} were made with other {', '.join(differing)}; "
                "sweep them with the same, or into different folders"
            )
    return made[0]


def _first_parts(paths: Sequence[Path], limit: int) -> list[Path]:
    """The files that hold the first videos, in the order of their shards."""
    made = {path: provenance_of(path) for path in paths}
    kept, videos = [], 0
    for path in sorted(paths, key=lambda path: made[path]["data"]["name"]):
        if videos < limit:
            kept.append(path)
            videos += made[path]["videos"]
    return kept


def _check_known(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise SweepError(f"no {what} {unknown[0]!r} in this sweep; it has {', '.join(known)}")
