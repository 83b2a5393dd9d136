"""Columns of a sweep's table: what each is of, as data beside its name. Written with the table, read back with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from analysis.attention.pattern_table import PATTERNS

__all__ = ["BRANCHES", "Column", "column_name", "column_of"]

# The branches that every table has columns of; a model with others adds them.
BRANCHES = ("global", "local", "combined")

# Statistics of a modality and branch, and of a modality, by which columns of earlier versions are told.
BRANCH_STATISTICS = (
    "gini", "relative_entropy", "profile", *PATTERNS, *(f"heads_{name}" for name in PATTERNS),
    "line_count", "sink_rate", "line_norm_ratio",
)  # fmt: skip
MODALITY_STATISTICS = (
    "gate_local", "local_share", "sensitivity", "own_sensitivity", "frames_sensitivity", "frames_own_sensitivity",
    "line_gate",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        statistic: what it holds: "gini", "frames_sensitivity", "perr" ...
        kind: of its values.
        modality: of which stream; "": of the video.
        branch: of which branch of the attention block; "": of all.
        dataset: whose classes its labels count; "": it has none, or that is not said.
    """

    statistic: str
    kind: pa.DataType
    modality: str = ""
    branch: str = ""
    dataset: str = ""

    @property
    def name(self) -> str:
        """What the column is called in the table."""
        return column_name(self.statistic, self.modality, self.branch)

    def field(self) -> pa.Field:
        """The column of an Arrow schema, with what it is of as metadata."""
        about = {
            "statistic": self.statistic, "modality": self.modality, "branch": self.branch, "dataset": self.dataset,
        }  # fmt: skip
        return pa.field(self.name, self.kind, metadata={key: value for key, value in about.items() if value})


def column_name(statistic: str, modality: str = "", branch: str = "") -> str:
    """The name of a column: `gini_visual_global`. It is for people; what a column is of is in its metadata."""
    return "_".join(part for part in (statistic, modality, branch) if part)


def column_of(field: pa.Field) -> Column:
    """What a column of a table is of: by its metadata, else, in a table of an earlier version, by its name."""
    about = {
        key.decode(errors="replace"): each.decode(errors="replace") for key, each in (field.metadata or {}).items()
    }
    if "statistic" in about:
        return Column(
            about["statistic"], field.type, *(about.get(name, "") for name in ("modality", "branch", "dataset"))
        )
    return _named(field)


def _named(field: pa.Field) -> Column:
    """The longest known statistic that the name begins with, then a modality and, where it has one, a branch."""
    for statistic in _longest_first((*BRANCH_STATISTICS, *MODALITY_STATISTICS)):
        if not field.name.startswith(f"{statistic}_"):
            continue
        place = field.name.removeprefix(f"{statistic}_")
        if statistic in MODALITY_STATISTICS:
            return Column(statistic, field.type, place)
        for branch in BRANCHES:
            if place.endswith(f"_{branch}"):
                return Column(statistic, field.type, place.removesuffix(f"_{branch}"), branch)
    return Column(field.name, field.type)


def _longest_first(names: Iterable[str]) -> list[str]:
    return sorted(names, key=len, reverse=True)
