"""The table of a study over seeds and tasks: a row a task, variant, seed and held-out video, in Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from analysis.study.seeds import SHIPPED
from analysis.study.stored_table import StoredTable

__all__ = ["SCHEMA", "STUDY", "read_study", "write_table"]

_TEXT, _NUMBER = pa.dictionary(pa.int16(), pa.string()), pa.float32()
SCHEMA = pa.schema(
    {
        "task": _TEXT,
        "variant": _TEXT,
        "seed": pa.int16(),
        "video": pa.int32(),  # its place among the held-out videos of the task
        "gap": pa.float64(),  # of all held-out videos, percent; the same in all rows of a model; so is map
        "map": pa.float64(),
        "gap_part": _NUMBER,  # what the video adds to GAP: see `cell.gap_parts`
        "perr": _NUMBER,
        "hit_at_1": _NUMBER,
        "sensitivity": _NUMBER,  # mean S_i over frames, by the task's neighbourhood
        "gini_global": _NUMBER,  # of attention received
        "gini_local": _NUMBER,
        "verticality": _NUMBER,  # of the global maps above chance, mean over heads
        "similarity_near": _NUMBER,  # cosine of frames 1 s apart; below, half of the video or more
        "similarity_far": _NUMBER,
        "weights": _TEXT,  # digest of the model
    }
)
STUDY = StoredTable(SCHEMA, b"gmsa_study", "the table of a study", "the study")


def write_table(path: Path, tables: Sequence[pa.Table], made: dict[str, Any]) -> None:
    """Write tables one after another as one file, which appears whole or not at all.

    Args:
        path: its folder is made.
        tables: of `SCHEMA`.
        made: what they were made from, plain values.

    Raises:
        OSError: it cannot be written.
    """
    whole = pa.concat_tables(tables).unify_dictionaries() if tables else SCHEMA.empty_table()
    STUDY.write(path, whole.combine_chunks(), made)


def read_study(path: str | Path = SHIPPED) -> pd.DataFrame:
    """The table of a study as pandas, a row a task, variant, seed and held-out video.

    Args:
        path: of `study.parquet`; default: the study that is shipped.

    Raises:
        SweepError: not the table of a study, or damaged.
        OSError: it cannot be read.
    """
    return STUDY.read(Path(path)).to_pandas()
