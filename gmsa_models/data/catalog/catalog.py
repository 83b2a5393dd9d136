"""Catalogue: a Parquet table of where each video lies, so that one video of 1.5 TB opens at once by its id.

One row a record: `id`, `shard` (relative to the catalogue, with forward slashes), `shard_bytes`, `record`, `offset`,
`length`, `frames`, `labels`, `dataset` (whose classes the labels count, "" where that is not known) and `spaces` (of
the features, `{modality: {"name": ..., "width": ...}}` as JSON). pandas, DuckDB and pyarrow read it as any other table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gmsa_models.data.atomic import replaced_when_done
from gmsa_models.data.catalog.table import NEEDED, ROWS, SCHEMA, batches, check_full, opened, writer
from gmsa_models.data.clip import Clip
from gmsa_models.data.errors import ClipFileError, OnSkip, UnreadableError, brief
from gmsa_models.data.formats import open_clips
from gmsa_models.data.parquet_pages import spread_texts
from gmsa_models.data.paths import Source, expand, skip_handler
from gmsa_models.data.reader import ClipEntry, ClipFile, Place, once_an_id, read_each
from gmsa_models.data.spaces import spaces_to_dict
from gmsa_models.errors import UnknownNameError

__all__ = ["CatalogSummary", "build_catalog", "open_clip", "read_catalog", "read_places"]

Progress = Callable[[int, int, int], None]
_NAMED = 3  # records of one id that a message names


@dataclass(frozen=True)
class CatalogSummary:
    """What `build_catalog` did.

    Attributes:
        path: the catalogue.
        shards: files looked at.
        records: rows written.
        skipped: records and files that were left out because they cannot be read.
    """

    path: Path
    shards: int
    records: int
    skipped: int


def build_catalog(
    source: Source,
    out_path: str | Path,
    progress: Progress = lambda shards_done, shards, records: None,
    *,
    on_error: str = "fail",
    on_skip: OnSkip | None = None,
) -> CatalogSummary:
    """Read every record of some shards and write the catalogue; it appears whole or not at all.

    Memory holds one row group, whatever the size of the data.

    Args:
        source: files of clips or globs.
        out_path: the `.parquet` file; shards are named relative to its folder, so both can move together.
        progress: called after each shard with shards done, shards in all, records so far.
        on_error: "fail" or "skip"; `on_skip` takes what is skipped.

    Raises:
        ClipFileError: a record that cannot be read.
        SourceNotFoundError: no shard.
        UnreadableError: the name does not end in `.parquet`, or no record could be read.
    """
    out_path = Path(out_path)
    if out_path.suffix != ".parquet":
        raise UnreadableError(
            f"{out_path}: a catalogue's name ends in .parquet, so that it is recognised", kind="catalogue"
        )
    paths = expand(source)
    skipped: list[None] = []
    handler = _counting(skip_handler(on_error, on_skip), skipped)
    with replaced_when_done(out_path) as temporary:
        with writer(temporary) as file:
            records = _write_rows(file, paths, out_path.parent, handler, progress)
        if records == 0:
            raise UnreadableError(
                f"{out_path}: not one record of {len(paths)} files could be read; not written", kind="catalogue"
            )
    return CatalogSummary(out_path, len(paths), records, len(skipped))


def open_clip(path: str | Path, identity: str) -> Clip:
    """One clip by its id: reads the id column, one row of the others, and the record.

    Raises:
        UnknownNameError: no such id; names some that are near; several records have it; names them.
        UnreadableError: not a catalogue, or a shard is missing or has changed since it was written.
        ClipFileError: the record is damaged.
    """
    with opened(path) as table:
        rows, count = _find_rows(table, identity)
        if not rows:
            raise UnknownNameError(
                f"{path}: no clip {identity!r} among {table.metadata.num_rows}{_near(table, identity)}"
            )
    check_full(path, pa.Table.from_pylist(rows, SCHEMA), NEEDED)
    if count > 1:
        places = ", ".join(f"{row['shard']} record {row['record']}" for row in rows)
        raise UnknownNameError(f"{path}: {count} records have the id {identity!r} ({places}); read their file")
    with _open_shard(Path(path), rows[0]["shard"], rows[0]["shard_bytes"]) as file:
        return _read_row(Path(path), file, rows[0])


def read_catalog(path: str | Path, on_skip: OnSkip | None = None) -> Iterator[Clip]:
    """Every clip of a catalogue, in its order.

    Args:
        path: the catalogue.
        on_skip: called with the error of each record, row or shard that cannot be read, instead of raising it; the rows
            of a shard that cannot be opened are left out together.

    Raises:
        UnreadableError: not a catalogue; a shard that is missing or has changed, unless `on_skip` takes it.
        ClipFileError: a damaged record, unless `on_skip` takes it.
    """
    name, file = None, None
    try:
        for row in read_rows(path):
            try:
                if row["shard"] != name:
                    if file is not None:
                        file.close()
                    name, file = row["shard"], None
                    file = _open_shard(Path(path), row["shard"], row["shard_bytes"])
                clip = None if file is None else _read_row(Path(path), file, row)
            except UnreadableError as error:
                if on_skip is None:
                    raise
                on_skip(error)
            else:
                if clip is not None:  # None: of a shard that was left out
                    yield clip
    finally:
        if file is not None:
            file.close()


def read_rows(path: str | Path) -> Iterator[dict[str, Any]]:
    """Every row of a catalogue, one row group in memory at a time.

    Raises:
        UnreadableError: not a catalogue.
    """
    with opened(path) as table:
        for batch in batches(table):
            check_full(path, batch, NEEDED)
            yield from batch.to_pylist()


def read_places(path: str | Path, on_skip: OnSkip | None = None) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Where every record of a catalogue lies, for reading them in any order.

    Args:
        path: the catalogue.
        on_skip: called with the error of each shard that is missing or has changed, whose rows are then left out.

    Returns:
        The shards; (records,) the number of each record's shard; (3, records) record number, offset, length.

    Raises:
        UnreadableError: not a catalogue; a shard that is missing or has changed, unless `on_skip` takes it.
    """
    wanted = ["shard", "shard_bytes", "record", "offset", "length"]
    with opened(path) as table:
        columns = table.read(wanted)
    check_full(path, columns, wanted)
    shards = columns["shard"].unify_dictionaries().combine_chunks()
    if not pa.types.is_dictionary(shards.type):  # written by another program
        shards = shards.dictionary_encode()
    numbers = shards.indices.to_numpy(zero_copy_only=False)
    names = shards.dictionary.to_pylist()
    kept = np.ones(len(numbers), bool)
    for number, row in zip(*np.unique(numbers, return_index=True), strict=True):
        try:
            _open_shard(Path(path), names[number], columns["shard_bytes"][int(row)].as_py()).close()
        except UnreadableError as error:
            if on_skip is None:
                raise
            on_skip(error)
            kept &= numbers != number
    places = np.stack([columns[name].to_numpy() for name in wanted[2:]])
    return [Path(path).parent / name for name in names], numbers[kept], places[:, kept]


def _counting(handler: OnSkip | None, skipped: list[None]) -> OnSkip | None:
    if handler is None:
        return None

    def count(error: UnreadableError) -> None:
        skipped.append(None)
        handler(error)

    return count


def _write_rows(
    writer: pq.ParquetWriter, paths: list[Path], folder: Path, on_skip: OnSkip | None, progress: Progress
) -> int:
    rows: list[dict[str, Any]] = []
    records = 0
    for done, path in enumerate(paths, 1):
        for row in _shard_rows(path, folder, on_skip):
            rows.append(row)
            records += 1
            if len(rows) == ROWS:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                rows.clear()
        progress(done, len(paths), records)
    if rows:
        writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    return records


def _shard_rows(path: Path, folder: Path, on_skip: OnSkip | None) -> Iterator[dict[str, Any]]:
    shard = PurePosixPath(Path(os.path.relpath(path.resolve(), folder.resolve()))).as_posix()
    read = once_an_id(lambda file, place: file.entry(place))
    return read_each(path, open_clips, lambda file, place: _row(read(file, place), shard, file.size, place), on_skip)


def _row(entry: ClipEntry, shard: str, size: int, place: Place) -> dict[str, Any]:
    return {
        "id": entry.id,
        "shard": shard,
        "shard_bytes": size,
        "record": place.number,
        "offset": place.offset,
        "length": place.length,
        "frames": entry.frames,
        "labels": entry.labels,
        "dataset": entry.dataset,
        "spaces": json.dumps(spaces_to_dict(entry.spaces or {})),
    }


def _find_rows(table: pq.ParquetFile, identity: str) -> tuple[list[dict[str, Any]], int]:
    """The first rows of an id, as many as a message names, and how many there are."""
    rows: list[dict[str, Any]] = []
    count = 0
    for group in range(table.num_row_groups):
        places = _equal_texts(table.read_row_group(group, columns=["id"], use_threads=False)["id"], identity)
        count += len(places)
        if len(places) and len(rows) < _NAMED:
            rows += table.read_row_group(group, columns=NEEDED).take(places[: _NAMED - len(rows)]).to_pylist()
    return rows, count


def _equal_texts(column: pa.ChunkedArray, text: str) -> pa.UInt64Array:
    """Numbers of the rows with this text; a column of dictionaries is compared text by text, not row by row."""
    equal = [
        pc.equal(chunk.dictionary, text).take(chunk.indices)
        if pa.types.is_dictionary(chunk.type)
        else pc.equal(chunk, text)
        for chunk in column.chunks
    ]
    return pc.indices_nonzero(pa.chunked_array(equal, pa.bool_()))


def _near(table: pq.ParquetFile, identity: str) -> str:
    near: list[str] = []
    for group in range(table.num_row_groups):
        ids = spread_texts(table.read_row_group(group, columns=["id"]), ["id"])["id"]
        lower, wanted = pc.utf8_lower(ids), identity.lower()
        near += ids.filter(pc.starts_with(lower, wanted[: max(1, len(wanted) - 1)]))[:5].to_pylist()
        if len(near) >= 5:
            break
    hint = "list them with pandas.read_parquet(path, columns=['id'])"
    return f"; near it: {', '.join(near[:5])}; {hint}" if near else f"; {hint}"


def _open_shard(catalog: Path, shard: str, size: int) -> ClipFile:
    if Path(shard).is_absolute():
        raise UnreadableError(
            f"{catalog}: its shard {shard!r} is an absolute path; shards are named relative to the catalogue: write it "
            "again with `gmsa catalog`",
            kind="catalogue's shard",
        )
    try:
        file = open_clips(catalog.parent / shard)
    except (OSError, ClipFileError) as error:
        raise UnreadableError(
            f"{catalog}: its shard {shard!r} cannot be opened ({error}); shards are looked for beside the catalogue: "
            "move them there, or write the catalogue again",
            kind="catalogue's shard",
        ) from None
    if file.size != size:
        size_now = file.size
        file.close()
        raise UnreadableError(
            f"{catalog}: its shard {shard!r} had {size} bytes and has {size_now} now; write the catalogue again",
            kind="catalogue's shard",
        )
    return file


def _read_row(catalog: Path, file: ClipFile, row: dict[str, Any]) -> Clip:
    stale = (
        f"{catalog}: its row for {brief(row['id'])} does not fit {brief(row['shard'])} any more; "
        "write the catalogue again"
    )
    if not 0 <= row["offset"] < file.size:
        raise UnreadableError(f"{stale} (offset {row['offset']} of {file.size} bytes)", kind="catalogue's row")
    try:
        place = file.place(row["offset"], row["record"])
    except ClipFileError as error:
        raise UnreadableError(f"{stale} ({error.reason})", kind="catalogue's row") from None
    clip = file.clip(place)
    if clip.id != row["id"]:
        raise UnreadableError(f"{stale} (there is {brief(clip.id)})", kind="catalogue's row")
    return clip
