"""Whether the footer of a Parquet file describes its columns' chunks so that pyarrow can be asked about them.

pyarrow describes a chunk when it is first asked about it; where sizes of values are said that the column's type or
nesting does not have, the whole process ends, without an exception. So they are read here first. Source: the format's
`parquet.thrift`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow.parquet as pq

from gmsa_models.data.thrift import read_struct
from gmsa_models.errors import DamagedError

__all__ = ["check_footer"]

_TAIL = 8  # bytes: the footer's length and the format's letters
_ROW_GROUPS, _CHUNKS, _DESCRIPTION, _SIZES = 4, 1, 3, 16  # fields, from the whole footer to a chunk's sizes
_ENCRYPTED = (8, 9)  # fields of a chunk
_TEXT_BYTES, _REPETITION, _DEFINITION = 1, 2, 3  # fields of the sizes


def check_footer(file: BinaryIO, metadata: pq.FileMetaData) -> None:
    """Refuse a footer that describes a chunk as its column cannot be.

    Args:
        file: open.
        metadata: what pyarrow read of it.

    Raises:
        DamagedError: names the row group and the column.
    """
    schema = metadata.schema
    for group, chunks in enumerate(_row_groups(_footer(file))):
        if len(chunks) != metadata.num_columns:
            raise DamagedError(f"row group {group} has {len(chunks)} columns; the schema has {metadata.num_columns}")
        for number, chunk in enumerate(chunks):
            column = schema.column(number)
            if reason := _mismatch(chunk, column):
                raise DamagedError(f"row group {group}, column {column.path!r:.100}: {reason}")


def _footer(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _TAIL, 0))
    length = int.from_bytes(file.read(4), "little")
    file.seek(max(size - _TAIL - length, 0))
    return file.read(length)


def _row_groups(footer: bytes) -> Iterator[list[Any]]:
    """The chunks of each row group."""
    try:
        fields, _ = read_struct(footer, 0)
    except IndexError:
        raise DamagedError("its footer does not end") from None
    groups = fields.get(_ROW_GROUPS)
    for group in groups if isinstance(groups, list) else []:
        chunks = group.get(_CHUNKS) if isinstance(group, dict) else None
        if not isinstance(chunks, list) or not all(isinstance(chunk, dict) for chunk in chunks):
            raise DamagedError("its footer has a row group without columns")
        yield chunks


def _mismatch(chunk: dict[int, Any], column: pq.ColumnSchema) -> str:
    """What of a chunk's description its column cannot have; "" where all fits."""
    if any(field in chunk for field in _ENCRYPTED):
        return "is encrypted; not read"
    description = chunk.get(_DESCRIPTION)
    if not isinstance(description, dict):
        return "is not described"
    sizes = description.get(_SIZES, {})
    if not isinstance(sizes, dict):
        return "its sizes are damaged"
    if _TEXT_BYTES in sizes and column.physical_type != "BYTE_ARRAY":
        return f"says how many bytes its texts take, and is of {column.physical_type}"
    levels = {_REPETITION: column.max_repetition_level, _DEFINITION: column.max_definition_level}
    for field, highest in levels.items():
        counts = sizes.get(field, [])
        if not isinstance(counts, list) or (counts and len(counts) != highest + 1):
            return "counts other levels of nesting than it has"
    return ""
