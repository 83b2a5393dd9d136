"""What a shard's file may claim: checked before its rows are unpacked, as a file may come from elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gmsa_models.data.errors import brief
from gmsa_models.data.parquet_pages import open_parquet, spread_texts
from gmsa_models.errors import DamagedError

__all__ = ["KEY", "check_provenance", "reason", "rows_of_models"]

# How much the columns that are read may become, beside what they take in the file.
BYTES_A_BYTE, ALLOWANCE = 32, 1 << 25
# What pandas takes for a value beside its bytes: a list is an array of its own, a text a Python string.
OBJECT_BYTES = 128
ROWS = 1 << 14  # read at once
KEY = ("model", "video", "shard", "position")
_PARTS = {"models": dict, "data": dict, "settings": dict, "versions": dict, "videos": int, "left_out": dict}
_DEMO = re.compile(r"demo:(?!\d{1,18}-\d{1,18}$)")  # what begins as demo videos do and is not


def rows_of_models(file: BinaryIO, metadata: pq.FileMetaData, names: Sequence[str], models: Sequence[str]) -> pa.Table:
    """Some columns of a shard's file that is open, `model` among them, of some models.

    Raises:
        DamagedError: they claim more than the file's bytes can hold.
        ValueError: they are of other types than those of a sweep.
        pyarrow.ArrowException, OSError: damaged.
    """
    stored = metadata.schema.to_arrow_schema()
    schema = pa.schema([pa.field(name, _type(stored, name), metadata=stored.field(name).metadata) for name in names])
    most = BYTES_A_BYTE * file.seek(0, os.SEEK_END) + ALLOWANCE
    tables, taken = [schema.empty_table()], 0
    objects = sum(not pa.types.is_primitive(kind) for kind in schema.types)
    with open_parquet(file, names, most) as parquet:
        groups = [number for number in range(parquet.num_row_groups) if _may_have(parquet.metadata, number, models)]
        for batch in parquet.iter_batches(ROWS, row_groups=groups, columns=list(names)):
            table = spread_texts(batch.filter(_is_of(batch, models)), names).select(names).cast(schema)
            taken += table.nbytes + objects * OBJECT_BYTES * len(table)
            if taken > most:
                raise DamagedError(f"its rows take {taken} bytes or more; at most {most} are read")
            tables.append(table)
    return pa.concat_tables(tables)


def check_provenance(made: Any) -> None:
    """Refuse a provenance that is not as a sweep writes it.

    Raises:
        ValueError: names the part.
    """
    for name, kind in _PARTS.items():
        if type(made[name]) is not kind:
            raise ValueError(f"its {name} are {brief(made[name])}")
    data = made["data"]
    texts = {"name": data["name"], "fingerprint": data["fingerprint"], "source_id": data.get("source_id", "")}
    texts |= {f"model {brief(name)}": value for name, value in made["models"].items()}
    if wrong := [name for name, value in texts.items() if not isinstance(value, str)]:
        raise ValueError(f"its {wrong[0]} is {brief(texts[wrong[0]])}; expected text")
    if type(data["bytes"]) is not int or _DEMO.match(data["fingerprint"]):
        raise ValueError(f"its data are {brief(data)}")
    if "format_version" not in made or not all(type(count) is int for count in made["left_out"].values()):
        raise ValueError(f"it has no format_version, or left_out is {brief(made['left_out'])}")
    analyses = made["settings"]["analyses"]
    if not isinstance(analyses, list) or not all(isinstance(one, str) for one in analyses):
        raise ValueError(f"its analyses are {brief(analyses)}")


def reason(error: Exception) -> str:
    """What an error says, shortened where it may repeat what a file holds."""
    text = str(error)
    return text if text.isprintable() and len(text) < 300 else brief(text)


def _type(schema: pa.Schema, name: str) -> pa.DataType:
    """The type of a column: text, numbers or lists of numbers; of the key as a sweep writes it.

    Raises:
        ValueError: another, or two columns of that name.
    """
    if len(places := schema.get_all_field_indices(name)) != 1:
        raise ValueError(f"{len(places)} columns are called {name!r:.100}")
    kind = schema.field(places[0]).type
    value = kind.value_type if pa.types.is_list(kind) else kind
    is_number = pa.types.is_integer(value) or pa.types.is_floating(value) or pa.types.is_boolean(value)
    expected = {name: pa.string() for name in KEY[:3]} | {"position": pa.int64()}
    if kind != expected.get(name, kind) or not (is_number or kind == pa.string()):
        raise ValueError(f"column {name!r:.100} is of {kind!s:.100}")
    return kind


def _may_have(metadata: pq.FileMetaData, group: int, models: Sequence[str]) -> bool:
    """Whether a row group may have rows of some of the models, by its least and largest."""
    column = metadata.row_group(group).column(metadata.schema.names.index("model"))
    statistics = column.statistics if column.is_stats_set else None
    if statistics is None or not statistics.has_min_max:
        return True
    return any(statistics.min <= model <= statistics.max for model in models)


def _is_of(batch: pa.RecordBatch, models: Sequence[str]) -> pa.Array:
    matches = pc.is_in(batch["model"].dictionary, pa.array(list(models), pa.string()))
    return matches.take(batch["model"].indices)
