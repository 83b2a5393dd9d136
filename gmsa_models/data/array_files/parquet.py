"""Parquet: a row a frame, a column of lists a stream; rows of one `id` that follow each other are one clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gmsa_models.data.array_files.clips import ArrayClips
from gmsa_models.data.array_files.layout import NAMES, check_stream, is_stated
from gmsa_models.data.errors import ClipFileError, brief
from gmsa_models.data.parquet_pages import open_parquet, read_footer, spread_texts
from gmsa_models.errors import ContentError, DamagedError

__all__ = ["ParquetClips", "has_streams"]

_REMEDY = "write it again, with row groups of at most 100 MB (row_group_size of pyarrow.parquet.write_table)"


def has_streams(path: str | Path) -> bool:
    """Whether a Parquet file has a column of lists of numbers other than labels; False where it cannot be told."""
    try:
        with Path(path).open("rb") as file:
            schema = read_footer(file).schema.to_arrow_schema()
    except (pa.ArrowException, OSError, ValueError):
        return False
    return b"gmsa_catalog_version" not in (schema.metadata or {}) and bool(_stream_names(schema))


class ParquetClips(ArrayClips):
    """An open Parquet file of frames. A row group is in memory at a time; rows of a clip may lie in several."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._read: tuple[int, pa.Table] | None = None  # the row group read last
        with self._readable():
            self._check_rows()
            self._table = open_parquet(self.path)
        try:
            with self._readable():
                self._names = _stream_names(self._table.schema_arrow)
                self._check_columns(self._table.schema_arrow)
                self._widths = self._first_widths()
                self._starts, self._heads = self._boundaries()
        except ContentError as error:
            raise ClipFileError(self.path, str(error), kind="layout") from None
        groups = self._table.metadata
        sizes = [groups.row_group(number).num_rows for number in range(groups.num_row_groups)]
        self._group_starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def _check_rows(self) -> None:
        with self.path.open("rb") as file:
            rows = read_footer(file).num_rows
        if not 0 < rows <= self.size:
            reason = f"says {rows} rows in {self.size} bytes; expected one a frame"
            raise ClipFileError(self.path, reason, kind="layout")

    def _check_columns(self, schema: pa.Schema) -> None:
        if not self._names:
            raise ContentError(f"no stream: expected a column of lists of floats among {brief(schema.names)}")
        for name in schema.names:
            if name not in self._names and not is_stated(name, dict.fromkeys(self._names)):
                raise ContentError(
                    f"column {brief(name)} of {schema.field(name).type!s:.60} is neither a stream (lists of floats) "
                    f"nor one of {', '.join(NAMES)}, STREAM_space"
                )

    def _boundaries(self) -> tuple[np.ndarray, pa.Table]:
        """(clips + 1,) first row of each clip and the end of the last; and what those rows say."""
        columns = [name for name in self._table.schema_arrow.names if name not in self._names]
        starts: list[np.ndarray] = []
        heads: list[pa.Table] = []
        last, row = None, 0
        for number in range(self._table.num_row_groups):
            if not columns:
                row += self._table.metadata.row_group(number).num_rows
                continue
            table = self._table.read_row_group(number, columns=columns)
            table = spread_texts(table, [each.name for each in table.schema if pa.types.is_dictionary(each.type)])
            new, last = _new_clips(table, last, first=not starts)
            starts.append(row + new)
            heads.append(table.take(new))
            row += table.num_rows
        if not columns:
            return np.array([0, row]), pa.table({})
        return np.concatenate([*starts, [row]]).astype(np.int64), pa.concat_tables(heads).combine_chunks()

    def _count(self) -> int:
        return len(self._starts) - 1

    def _values(self, number: int) -> Mapping[str, Any]:
        try:
            metadata = {name: self._heads[name][number].as_py() for name in self._heads.column_names}
        except UnicodeDecodeError as error:
            raise ContentError(f"a text is damaged, or not UTF-8: {error}") from None
        return {name: value for name, value in metadata.items() if value is not None}

    def _shapes(self, number: int) -> Mapping[str, tuple[int, int]]:
        frames = int(self._starts[number + 1] - self._starts[number])
        return {name: (frames, width) for name, width in self._widths.items()}

    def _streams(self, number: int) -> Mapping[str, np.ndarray]:
        parts = list(self._rows(int(self._starts[number]), int(self._starts[number + 1])))
        try:
            streams = {name: [_frames(name, part[name], self._widths[name]) for part in parts] for name in self._names}
        except ContentError as error:
            raise ClipFileError(self.path, str(error), number, number, "layout") from None
        return {name: np.concatenate(arrays) for name, arrays in streams.items()}

    def _rows(self, start: int, end: int) -> Iterator[pa.Table]:
        """Rows of the streams, a table a row group that has some."""
        group = int(np.searchsorted(self._group_starts, start, side="right")) - 1
        while start < end:
            first, last = int(self._group_starts[group]), int(self._group_starts[group + 1])
            if self._read is None or self._read[0] != group:
                self._read = None
                with self._readable():
                    self._read = group, self._table.read_row_group(group, columns=self._names)
                self.memory = self._read[1].nbytes
            yield self._read[1].slice(start - first, min(end, last) - start)
            start, group = min(end, last), group + 1

    def _first_widths(self) -> dict[str, int]:
        """Stream -> width of the first frame, which is that of all.

        Raises:
            ContentError: a stream that is none.
        """
        first = next(self._table.iter_batches(batch_size=1, columns=self._names), None)
        if first is None:
            raise ContentError("its row groups have no rows")
        widths = {name: int(pc.list_value_length(first[name])[0].as_py() or 0) for name in self._names}
        for name, width in widths.items():
            if (dtype := _dtype(first.schema.field(name).type)) is not None:
                check_stream(name, (1, width), dtype)
        return widths

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Turns the errors of Parquet in the block into the format's own."""
        try:
            yield
        except DamagedError as error:
            raise ClipFileError(self.path, f"{error}; {_REMEDY}") from None
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, ClipFileError | ContentError):
                raise
            raise ClipFileError(self.path, f"damaged, or not Parquet: {brief(str(error))}; write it again") from None

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._read, self.memory = None, 0
        self._table.close()


def _stream_names(schema: pa.Schema) -> list[str]:
    """Columns of lists of numbers, of the kinds that features have."""
    return [field.name for field in schema if field.name not in NAMES and _dtype(field.type) is not None]


def _dtype(kind: pa.DataType) -> np.dtype | None:
    """The type of a frame's values; None for what is no list of floats or bytes."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return None
    value = kind.value_type
    return np.dtype(value.to_pandas_dtype()) if pa.types.is_floating(value) or pa.types.is_uint8(value) else None


def _new_clips(table: pa.Table, last: Any, first: bool) -> tuple[np.ndarray, Any]:
    """Rows at which a clip begins, given the id of the row before the table; and the id of its last row.

    Raises:
        ContentError: an empty id.
    """
    if "id" not in table.column_names:
        return np.arange(1 if first and table.num_rows else 0), None
    ids = table["id"].combine_chunks()
    if ids.null_count:
        raise ContentError("column 'id' has empty cells; expected the clip's id in every row")
    if not len(ids):
        return np.arange(0), last
    changed = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    begins = np.concatenate([[first or ids[0].as_py() != last], changed]).astype(bool)
    return np.flatnonzero(begins), ids[-1].as_py()


def _frames(name: str, column: pa.ChunkedArray, width: int) -> np.ndarray:
    """(frames, width) of some rows.

    Raises:
        ContentError: an empty cell, or a row of another width than the file's first.
    """
    lengths = pc.list_value_length(column)
    if column.null_count or not pc.all(pc.equal(lengths, width)).as_py():
        raise ContentError(f"{brief(name)} has a frame that is empty, or not {width} wide as the file's first is")
    values = pc.list_flatten(column)
    if values.null_count:
        raise ContentError(f"{brief(name)} has an empty value in a frame; expected numbers")
    return values.to_numpy().reshape(-1, width)
