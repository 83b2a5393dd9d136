"""The table of the explanation benchmark: a row a model, video, explainer and measure, in Parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import SweepError
from analysis.explanations.benchmark.clip_scores import MeasuredValue
from gmsa_models.data.atomic import replaced_when_done

__all__ = ["made_from", "read_benchmark", "read_rows", "rows_table", "write_rows"]

METADATA = b"gmsa_explainers"
SCHEMA = pa.schema(
    {
        "model": pa.string(),
        "video": pa.string(),
        "explainer": pa.string(),  # or "chance"
        "other": pa.string(),  # of the measure "agreement", else ""
        "measure": pa.string(),
        "value": pa.float64(),
    }
)


def rows_table(model: str, video: str, values: Sequence[MeasuredValue]) -> pa.Table:
    """Rows of one model and video.

    Args:
        model, video: names.
        values: of `clip_scores`.
    """
    frame = pd.DataFrame(values, columns=["explainer", "other", "measure", "value"])
    return pa.Table.from_pandas(frame.assign(model=model, video=video), SCHEMA, preserve_index=False)


def write_rows(path: Path, table: pa.Table, made: dict[str, Any]) -> None:
    """Write rows as one file, which appears whole or not at all.

    Args:
        path: its folder is made.
        table: of `SCHEMA`.
        made: what they were made from, plain values.

    Raises:
        OSError: it cannot be written.
    """
    table = table.replace_schema_metadata({METADATA: json.dumps(made, sort_keys=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_when_done(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_rows(path: Path) -> pa.Table:
    """Rows that `write_rows` wrote.

    Raises:
        SweepError: they are none, or damaged.
        OSError: they cannot be read.
    """
    content = path.read_bytes()
    try:
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SweepError(f"{path}: not of the explanation benchmark ({error}); remove it, and run it again") from error
    if METADATA not in (table.schema.metadata or {}) or not table.schema.equals(SCHEMA):
        raise SweepError(f"{path}: not of the explanation benchmark; expected columns {', '.join(SCHEMA.names)}")
    return table


def made_from(table: pa.Table) -> dict[str, Any]:
    """What a table of `read_rows` says it was made from."""
    return json.loads(table.schema.metadata[METADATA])


def read_benchmark(path: str | Path) -> pd.DataFrame:
    """The table of a benchmark, a row a model, video, explainer and measure.

    Args:
        path: of `explainers.parquet`.

    Raises:
        SweepError: not the table of a benchmark, or damaged.
        OSError: it cannot be read.
    """
    return read_rows(Path(path)).to_pandas()
