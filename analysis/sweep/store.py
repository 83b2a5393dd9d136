"""The tables of a sweep: one Parquet file a shard, with its provenance and checksums inside."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import SweepError
from analysis.sweep import checksums
from analysis.sweep.analyses import LABELS, chosen
from analysis.sweep.bounds import KEY, check_provenance, reason, rows_of_models
from analysis.sweep.checksums import check_columns, checked_metadata, room_for, write_checksums
from analysis.sweep.columns import Column, column_of
from analysis.sweep.places import check_apart
from analysis.sweep.plan import ShardTask, difference
from gmsa_models.data.atomic import cannot_write, replaced_when_done
from gmsa_models.errors import DamagedError, OutputError

__all__ = [
    "MODEL_SHA256",
    "UncheckedWarning",
    "columns_in",
    "common_provenance",
    "finished_parts",
    "provenance_of",
    "read_sweep",
    "schema_of",
    "tables_in",
    "warn_unchecked",
    "write_part",
    "writing",
]

METADATA = b"gmsa_sweep"
MODEL_SHA256 = "model_sha256"


class UncheckedWarning(UserWarning):
    """Tables that were written without checksums."""


def schema_of(task: ShardTask, dataset: str = "") -> pa.Schema:
    """Columns of a shard's table: the key, the clip, and those of each analysis; the same for all shards of a sweep.

    Args:
        task: what the table is of.
        dataset: whose classes the clips' labels count, which the metadata of the column `labels` says; "": not said.
    """
    fields = {
        "model": pa.string(),
        MODEL_SHA256: pa.string(),
        "video": pa.string(),
        "shard": pa.string(),
        "position": pa.int64(),
        "frames": pa.int32(),
        "frame_seconds": pa.float64(),
    }
    columns = [
        each
        for analysis in chosen(task.settings.analyses).values()
        for each in analysis.columns(task.modalities, task.branches)
    ]
    names = [*fields, "labels", *(each.name for each in columns)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise SweepError(
            f"two columns would be called {twice[0]!r}, of the modalities {', '.join(task.modalities)}; sweep the "
            "models of these apart, into two folders"
        )
    plain = [pa.field(name, kind) for name, kind in fields.items()]
    return pa.schema([*plain, Column("labels", LABELS, dataset=dataset).field(), *(each.field() for each in columns)])


def write_part(task: ShardTask, tables: Iterable[pa.Table], about: Mapping[str, Any]) -> int:
    """Write a shard's file, a row group a table; it appears whole or not at all.

    Args:
        task: what it is of.
        tables: made as they are written, so that one is held at a time; all of the first one's schema.
        about: read when all tables are written, and added to the provenance.

    Returns:
        Rows.

    Raises:
        OutputError: the file cannot be written.
        whatever making the tables raises.
    """
    with writing(task.path), replaced_when_done(task.path) as temporary:
        rows, made_tables = 0, _made(tables)
        first = next(made_tables)
        schema = first.schema
        with pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
            for table in chain([first], made_tables):
                writer.write_table(table)
                rows += len(table)
            made = task.provenance() | {"checksums": True} | dict(about)
            writer.add_key_value_metadata({METADATA: json.dumps(made), checksums.KEY: room_for(len(schema))})
        write_checksums(temporary)
    return rows


class _MakingError(Exception):
    """Carries an error of making a table out of the block that takes the system's errors for those of writing."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _made(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    try:
        yield from tables
    except Exception as error:
        raise _MakingError(error) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the system in the block are of writing `path`."""
    try:
        yield
    except _MakingError as error:
        raise error.cause from None
    except OSError as error:
        raise OutputError(f"{cannot_write(path, error)}; then run it again: what is done is kept") from error


def provenance_of(path: Path) -> dict[str, Any] | None:
    """What a shard's file says it was made from; None where there is no such file, or not a whole one of a sweep."""
    with suppress(OSError, SweepError), path.open("rb") as file:
        return _opened(path, file)[1]
    return None


def columns_in(path: Path) -> list[Column]:
    """Columns of a shard's table, as `read_sweep` gives them.

    Raises:
        SweepError: it is not of a sweep, or damaged.
    """
    with path.open("rb") as file:
        columns = [column_of(field) for field in _opened(path, file)[0].schema.to_arrow_schema()]
    if MODEL_SHA256 not in [each.name for each in columns]:
        columns.insert(1, Column(MODEL_SHA256, pa.string()))
    return columns


def _opened(path: Path, file: BinaryIO) -> tuple[pq.FileMetaData, dict[str, Any]]:
    """What a shard's file says of itself and what it was made from.

    Raises:
        SweepError: it is not of a sweep, or damaged.
    """
    try:
        metadata, checked = checked_metadata(file)
        made = json.loads(metadata.metadata[METADATA])
        if made.get("checksums") and not checked:
            raise DamagedError("its checksums are not where they should be")
        check_provenance(made)
    except (DamagedError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SweepError(
            f"{path} was not written by a sweep, or is damaged ({reason(error)}); remove it and sweep again"
        ) from None
    return metadata, made


def tables_in(folder: str | Path) -> dict[Path, dict[str, Any]]:
    """The finished files of a folder and what they were made from; without those that are damaged."""
    made = {path: provenance_of(path) for path in finished_parts(folder)}
    return {path: each for path, each in made.items() if each is not None}


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
        The table; `attrs` holds what all its files were made from, `models`, `settings` and `versions`, and
        `label_datasets`: whose classes the column `labels` counts, where it is read; one name a data set.

    Raises:
        SweepError: no finished shard, shards that were made in different ways or hold the same videos, a damaged file,
            or a column or model that is not there.
    """
    paths = finished_parts(folder)
    made = common_provenance(paths, folder)
    known = [column.name for column in columns_in(paths[0])]
    names = known if columns is None else list(dict.fromkeys([*KEY, *columns]))
    _check_known("column", names, known)
    wanted = list(made["models"]) if models is None else list(models)
    _check_known("model", wanted, list(made["models"]))
    read = paths if limit is None else _first_parts(paths, limit)
    tables = [_rows(path, names, wanted) for path in read]
    frame = pa.concat_tables(tables).to_pandas()
    order = frame["model"].map({name: place for place, name in enumerate(made["models"])})
    frame = frame.assign(_order=order).sort_values(["_order", "shard", "position"], kind="stable", ignore_index=True)
    frame = frame.drop(columns="_order")
    if limit is not None:
        frame = frame.groupby("model", sort=False).head(limit).reset_index(drop=True)
    frame.attrs = {name: made[name] for name in ("models", "settings", "versions")}
    labels = [column_of(table.schema.field("labels")).dataset for table in tables if "labels" in names]
    frame.attrs["label_datasets"] = list(dict.fromkeys(filter(None, labels)))
    return frame


def common_provenance(paths: Sequence[Path], folder: str | Path) -> dict[str, Any]:
    """What all shards were made from.

    Raises:
        SweepError: there is none, one is not of a sweep or damaged, two differ, or two hold the same videos.
    """
    if not paths:
        raise SweepError(f"no finished shard in {str(folder)!r}; expected the --out of `gmsa sweep`")
    made = []
    for path in paths:
        with path.open("rb") as file:
            made.append(_opened(path, file)[1])
    for path, each in zip(paths, made, strict=True):
        if differing := difference(each, made[0]):
            raise SweepError(
                f"{path.name} and {paths[0].name} were made with other {', '.join(differing)}; "
                "sweep them with the same, or into different folders"
            )
    check_apart((path.name, each["data"]) for path, each in zip(paths, made, strict=True))
    return made[0]


def _rows(path: Path, names: Sequence[str], models: Sequence[str]) -> pa.Table:
    """Some columns of a shard's file, of some models; each byte that is read is checked first."""
    with path.open("rb") as file:
        metadata, made = _opened(path, file)
        existing = [name for name in names if name in metadata.schema.to_arrow_schema().names]
        try:
            if made.get("checksums"):
                check_columns(file, metadata, {*existing, "model"})
            else:
                warn_unchecked(path.parent)
            table = rows_of_models(file, metadata, existing, models)
        except (DamagedError, pa.ArrowException, OSError, ValueError) as error:
            raise SweepError(f"{path} is damaged ({reason(error)}); remove it and sweep again") from None
    if MODEL_SHA256 in names and MODEL_SHA256 not in existing:
        hashes = pa.array([made["models"][name] for name in table["model"].to_pylist()], pa.string())
        table = table.append_column(MODEL_SHA256, hashes)
    return table.select(list(names))


@lru_cache
def warn_unchecked(folder: Path) -> None:
    """Say once a folder that its files cannot be checked."""
    warnings.warn(
        f"{folder}: tables of an earlier version have no checksums, so damage to them may go unseen; remove them and "
        "sweep again to have them checked",
        UncheckedWarning,
        stacklevel=2,
    )


def _first_parts(paths: Sequence[Path], limit: int) -> list[Path]:
    """The files that hold the first videos, in the order of their shards."""
    made = [(path, provenance) for path in paths if (provenance := provenance_of(path)) is not None]
    kept, videos = [], 0
    for path, provenance in sorted(made, key=lambda each: each[1]["data"]["name"]):
        if videos < limit:
            kept.append(path)
            videos += provenance["videos"]
    return kept


def _check_known(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise SweepError(f"no {what} {unknown[0]!r} in this sweep; it has {', '.join(known)}")
