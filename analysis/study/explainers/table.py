"""The table of the explanation benchmark: a row a model, video, explainer and measure, in Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from analysis.explanations.benchmark.clip_scores import MeasuredValue
from analysis.study.stored_table import StoredTable

__all__ = ["ROWS", "read_benchmark", "rows_table"]

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
ROWS = StoredTable(SCHEMA, b"gmsa_explainers", "of the explanation benchmark", "it")


def rows_table(model: str, video: str, values: Sequence[MeasuredValue]) -> pa.Table:
    """Rows of one model and video.

    Args:
        model, video: names.
        values: of `clip_scores`.
    """
    frame = pd.DataFrame(values, columns=["explainer", "other", "measure", "value"])
    return pa.Table.from_pandas(frame.assign(model=model, video=video), SCHEMA, preserve_index=False)


def read_benchmark(path: str | Path) -> pd.DataFrame:
    """The table of a benchmark, a row a model, video, explainer and measure.

    Args:
        path: of `explainers.parquet`.

    Raises:
        SweepError: not the table of a benchmark, or damaged.
        OSError: it cannot be read.
    """
    return ROWS.read(Path(path)).to_pandas()
