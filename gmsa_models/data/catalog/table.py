"""The file of a catalogue: its columns, and opening one whose columns, version and claims have been checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gmsa_models.data.errors import UnreadableError, brief
from gmsa_models.data.parquet_pages import open_parquet, spread_texts
from gmsa_models.errors import DamagedError

__all__ = ["NEEDED", "ROWS", "SCHEMA", "TEXTS", "batches", "check_full", "opened", "writer"]

VERSION = "2"
KNOWN_VERSIONS = ("1", VERSION)
_VERSION_KEY = b"gmsa_catalog_version"
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "shard": pa.dictionary(pa.int32(), pa.string()),
        "shard_bytes": pa.int64(),
        "record": pa.int64(),
        "offset": pa.int64(),
        "length": pa.int64(),
        "frames": pa.int32(),
        "labels": pa.list_(pa.int64()),
        "dataset": pa.dictionary(pa.int32(), pa.string()),
        "spaces": pa.dictionary(pa.int32(), pa.string()),
    },
    metadata={_VERSION_KEY: VERSION.encode()},
)
# What version 1 had, and what reading needs: the record itself says whose labels it has.
NEEDED = SCHEMA.names[:8]
ROWS = 65536  # of a row group: what is in memory at once
_ROWS_A_BYTE = 1  # ids and places differ; the most regular that were tried take ten bytes a row
_LABELS_A_ROW, _MOST_ROWS = 64, 1 << 20  # of a row group
TEXTS = ["id", "shard"]


def writer(path: Path) -> pq.ParquetWriter:
    """A new catalogue's file, to write tables of `SCHEMA` to; its pages have checksums."""
    return pq.ParquetWriter(path, SCHEMA, compression="zstd", write_page_checksum=True)


@contextmanager
def opened(path: str | Path) -> Iterator[pq.ParquetFile]:
    """A catalogue, open for reading; what goes wrong while it is read is an UnreadableError too.

    Raises:
        UnreadableError: not a catalogue, of another version, damaged, or claiming more than its bytes can hold.
    """
    if not Path(path).is_file():  # a pipe would wait for a writer
        raise UnreadableError(
            f"{path}: not a catalogue: not an ordinary file; write one with `gmsa catalog`", kind="catalogue"
        )
    try:
        table = open_parquet(path)
    except DamagedError as error:
        raise UnreadableError(f"{path}: {error}; write it again with `gmsa catalog`", kind="catalogue") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnreadableError(
            f"{path}: not a catalogue: {_reason(error)}; write one with `gmsa catalog`", kind="catalogue"
        ) from None
    with table:
        _check_columns(path, table.schema_arrow)
        _check_claims(path, table.metadata)
        try:
            yield table
        except DamagedError as error:
            raise UnreadableError(f"{path}: {error}; write it again with `gmsa catalog`", kind="catalogue") from None
        except (pa.ArrowException, OSError) as error:
            raise UnreadableError(
                f"{path}: damaged: {_reason(error)}; write it again with `gmsa catalog`", kind="catalogue"
            ) from None


def batches(table: pq.ParquetFile) -> Iterator[pa.Table]:
    """The rows of a catalogue, in parts whose texts are no larger than is read at once."""
    for batch in table.iter_batches(batch_size=ROWS, columns=NEEDED):
        yield spread_texts(batch, TEXTS)


def _reason(error: Exception) -> str:
    text = str(error)
    return text if text.isprintable() and len(text) < 300 else brief(text)


def check_full(path: str | Path, table: pa.RecordBatch | pa.Table, columns: Sequence[str]) -> None:
    """Refuse empty cells.

    Raises:
        UnreadableError: names the column.
    """
    for name in columns:
        if table.column(name).null_count:
            raise UnreadableError(
                f"{path}: column {name!r} has empty cells; write it again with `gmsa catalog`", kind="catalogue"
            )


def _check_columns(path: str | Path, schema: pa.Schema) -> None:
    version = (schema.metadata or {}).get(_VERSION_KEY, b"none").decode(errors="replace")
    columns = NEEDED if version == KNOWN_VERSIONS[0] else SCHEMA.names
    if version not in KNOWN_VERSIONS or schema.names != columns:
        raise UnreadableError(
            f"{path}: catalogue version {brief(version)}, columns {brief(schema.names)}; this software reads version "
            f"{VERSION} with {columns}; write it again with `gmsa catalog`",
            kind="catalogue",
        )
    for field, expected in zip(schema, SCHEMA, strict=False):
        if _plain(field.type) != _plain(expected.type):
            raise UnreadableError(
                f"{path}: column {field.name!r} is {field.type}; expected {expected.type}; write it again with "
                "`gmsa catalog`",
                kind="catalogue",
            )


def _plain(kind: pa.DataType) -> str:
    """A column's type without what another program may store otherwise: dictionaries, long strings, list names."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list of {_plain(kind.value_type)}"
    return "string" if pa.types.is_large_string(kind) else str(kind)


def _check_claims(path: str | Path, metadata: pq.FileMetaData) -> None:
    size = Path(path).stat().st_size
    if metadata.num_rows > _ROWS_A_BYTE * size:
        raise UnreadableError(
            f"{path}: says {metadata.num_rows} rows in {size} bytes; write it again with `gmsa catalog`",
            kind="catalogue",
        )
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        labels = max(group.column(column).num_values for column in range(group.num_columns))
        if group.num_rows > _MOST_ROWS or labels > _LABELS_A_ROW * max(group.num_rows, 0):
            raise UnreadableError(
                f"{path}: row group {number} claims {group.num_rows} rows and {labels} labels; at most {_MOST_ROWS} "
                f"rows of {_LABELS_A_ROW} labels are read at once; write it again with `gmsa catalog`",
                kind="catalogue",
            )
