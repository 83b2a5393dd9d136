"""How much the pages of a Parquet file become, by what stands before each: read before anything is unpacked.

A column's chunk in the file says how many bytes it takes there; a page of it may say that it unpacks to 2 GiB, or that
one text stands for a million rows. What is here adds up the claims of all pages. Source: the format's `parquet.thrift`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gmsa_models.data.parquet_footer import check_footer
from gmsa_models.data.thrift import read_struct
from gmsa_models.errors import DamagedError

__all__ = ["open_parquet", "read_footer", "spread_texts"]

LARGEST_PAGE, LARGEST_GROUP = 1 << 24, 1 << 27  # bytes unpacked: of a page, of the columns of a row group together
LARGEST_TEXT = 1 << 25  # bytes of all texts of a batch, each row's counted
MOST_ITEMS, LONGEST_STRING = 100_000, 1 << 24  # of a list, and bytes of a string, in the file's footer
_SHORT, _LONG = 1 << 10, 1 << 17  # bytes read for a page's header, first and at most
# Encodings whose values are no more than their bytes, or than their number says; others (of growing texts) are refused.
_ENCODINGS = frozenset({0, 2, 3, 4, 5, 6, 8, 9})
# Type of a page -> the field that describes it, and in it those of the number of values and of their encoding.
_PAGES = {0: (5, 1, 2), 2: (7, 1, 2), 3: (8, 1, 4)}
_DICTIONARY = 2
_LIMITS = {"thrift_string_size_limit": LONGEST_STRING, "thrift_container_size_limit": MOST_ITEMS}


def open_parquet(
    source: str | Path | BinaryIO, columns: Collection[str] | None = None, most: int | None = None
) -> pq.ParquetFile:
    """A Parquet file, open, whose pages have been checked.

    Its columns of text are read as dictionaries, so that a text that stands for many rows is there once;
    `spread_texts` makes plain ones.

    Args:
        source: path, or the file open.
        columns: those that will be read, and are checked; default: all.
        most: bytes that all row groups of these columns may unpack to together; default: any, for who reads a row
            group at a time.

    Raises:
        DamagedError: it claims more than is read.
        pyarrow.ArrowException, OSError, ValueError: not Parquet.
    """
    if isinstance(source, str | Path):
        state = os.stat(source)
        version = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        metadata = _checked(os.fspath(source), version, None if columns is None else frozenset(columns), most)
    else:
        metadata = read_footer(source)
        check_pages(source, metadata, columns, most)
        source.seek(0)
    described = map(metadata.schema.column, range(metadata.num_columns))
    texts = [each.path for each in described if each.physical_type == "BYTE_ARRAY" and "." not in each.path]
    return pq.ParquetFile(source, metadata=metadata, read_dictionary=texts, page_checksum_verification=True, **_LIMITS)


@lru_cache(maxsize=8)
def _checked(path: str, version: tuple[int, ...], columns: frozenset[str] | None, most: int | None) -> pq.FileMetaData:
    """What a file says of itself, checked once as long as it stays what it is: looking up clips opens it each time."""
    with open(path, "rb") as file:
        metadata = read_footer(file)
        check_pages(file, metadata, columns, most)
        return metadata


def read_footer(file: BinaryIO) -> pq.FileMetaData:
    """What an open file says of itself.

    Raises:
        DamagedError: a chunk's description does not fit its column.
        pyarrow.ArrowException, OSError, ValueError: not Parquet.
    """
    file.seek(0)
    metadata = pq.ParquetFile(file, **_LIMITS).metadata
    check_footer(file, metadata)
    return metadata


def check_pages(
    file: BinaryIO, metadata: pq.FileMetaData, columns: Collection[str] | None = None, most: int | None = None
) -> None:
    """Refuse a file with a page, a row group, or all of them together, that unpacks to too much.

    Raises:
        DamagedError: names the row group and the column.
    """
    size = file.seek(0, os.SEEK_END)
    total = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        taken = 0
        for column in map(group.column, range(group.num_columns)):
            if columns is not None and column.path_in_schema.partition(".")[0] not in columns:
                continue
            place = f"row group {number}, column {column.path_in_schema!r:.100}"
            taken += _unpacked(file, size, column, place)
            if taken > LARGEST_GROUP:
                raise DamagedError(f"{place}: unpacks to {taken} bytes or more; at most {LARGEST_GROUP} are read")
            if most is not None and total + taken > most:
                raise DamagedError(f"{place}: all unpack to {total + taken} bytes or more; at most {most} are read")
        total += taken


def _unpacked(file: BinaryIO, size: int, column: pq.ColumnChunkMetaData, place: str) -> int:
    """Bytes that a column's chunk becomes: its pages, and its values where a few bytes stand for many."""
    wide = 16 if column.physical_type == "INT96" else 8
    values = unpacked = 0
    for kind, page, count in _pages(file, size, column, place):
        if page > LARGEST_PAGE:
            raise DamagedError(f"{place}: a page unpacks to {page} bytes; at most {LARGEST_PAGE} are read")
        unpacked += page
        values += 0 if kind == _DICTIONARY else count
    if values > max(column.num_values, 0):
        raise DamagedError(f"{place}: its pages have {values} values; the footer says {column.num_values}")
    return max(unpacked, wide * values)


def _pages(file: BinaryIO, size: int, column: pq.ColumnChunkMetaData, place: str) -> Iterator[tuple[int, int, int]]:
    """Type, bytes when unpacked, and number of values of each page."""
    dictionary = column.dictionary_page_offset
    at = min(dictionary, column.data_page_offset) if dictionary else column.data_page_offset
    end = at + column.total_compressed_size
    if not 0 < at <= end <= size:
        raise DamagedError(f"{place}: bytes {at} to {end} of a file of {size}")
    while at < end:
        header, length = _header(file, at, place)
        sizes = [value for field in (1, 2, 3) if type(value := header.get(field)) is int and value >= 0]
        if len(sizes) < 3 or sizes[0] not in _PAGES:
            raise DamagedError(f"{place}: the page at byte {at} is damaged, or of a kind that is not read")
        kind, unpacked, packed = sizes
        field, count, encoding = _PAGES[kind]
        about = header.get(field)
        if not isinstance(about, dict) or type(about.get(count)) is not int or about[count] < 0:
            raise DamagedError(f"{place}: the page at byte {at} does not say how many values it has")
        if type(code := about.get(encoding)) is not int or code not in _ENCODINGS:
            raise DamagedError(f"{place}: the page at byte {at} has encoding {code!r:.20}; not read")
        yield kind, unpacked, about[count]
        at += length + packed


def _header(file: BinaryIO, at: int, place: str) -> tuple[dict[int, Any], int]:
    for most in (_SHORT, _LONG):
        file.seek(at)
        try:
            return read_struct(file.read(most), 0)
        except IndexError:  # it goes on beyond what was read
            continue
    raise DamagedError(f"{place}: the page at byte {at} has a header that does not end")


def spread_texts(batch: pa.RecordBatch | pa.Table, names: Sequence[str]) -> pa.Table:
    """Columns that were read as dictionaries, as plain texts.

    Raises:
        DamagedError: together they take more than `LARGEST_TEXT` bytes.
    """
    table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
    for name in names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            taken = sum(_spread_bytes(chunk) for chunk in column.chunks)
            if taken > LARGEST_TEXT:
                raise DamagedError(
                    f"column {name!r} has texts of {taken} bytes; at most {LARGEST_TEXT} are read at once"
                )
            table = table.set_column(table.schema.get_field_index(name), name, column.cast(column.type.value_type))
    return table


def _spread_bytes(chunk: pa.DictionaryArray) -> int:
    return pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() or 0
