"""The items that `gmsa figures` makes: the figures, the table, the claims; each from tables to files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import getdoc
from pathlib import Path
from typing import Protocol

import xarray as xr
from matplotlib.figure import Figure

from analysis.study.seeds import SHIPPED
from figures.paper import (
    ablation,
    attention_profiles,
    claims,
    claims_by_task,
    evidence,
    lag,
    local_attention,
    masks,
    results,
    score_and_sensitivity,
    sensitivity,
    similarity_and_attention,
    vertical_lines,
    what_if,
)
from figures.style import save_pictures, use_variants
from gmsa_models.data.atomic import write_text

__all__ = ["ITEMS", "Item", "Output", "Picture", "Texts"]


class Output(Protocol):
    """What an item comes to before it is written."""

    def write(self, path: Path, formats: tuple[str, ...]) -> list[Path]:
        """Write files that begin with `path`, and return them."""


@dataclass(frozen=True)
class Picture:
    """A drawn figure."""

    figure: Figure

    def write(self, path: Path, formats: tuple[str, ...]) -> list[Path]:
        """One file a format."""
        return save_pictures(self.figure, path, formats)


@dataclass(frozen=True)
class Texts:
    """Texts, by suffix."""

    texts: Mapping[str, str]

    def write(self, path: Path, formats: tuple[str, ...]) -> list[Path]:
        """One file a suffix."""
        return [write_text(path.with_name(f"{path.name}.{suffix}"), text) for suffix, text in self.texts.items()]


@dataclass(frozen=True)
class Item:
    """One figure, table or list.

    Attributes:
        key: of `analysis.study.tables.TABLES`.
        number: what the user calls it for short.
        name: of its files, without suffix.
        draw: tables (as keywords) and the width in inches, or None for its own, to what is written.
        needs_study: False where neither models nor data matter.
        reads: the file that its numbers come from instead; None: there is none.
    """

    key: str
    number: str
    name: str
    draw: Callable[..., Figure | Mapping[str, str]]
    needs_study: bool = True
    reads: Path | None = None

    @property
    def signs(self) -> str:
        """How to read it: what the docstring of `draw` says of its visual signs, for a caption."""
        _, _, after = (getdoc(self.draw) or "").partition("Visual signs. ")
        return " ".join(after.partition("\n\n")[0].split())

    def output(self, tables: Mapping[str, xr.Dataset], width: float | None) -> Output:
        """What there is to write."""
        variants: dict[str, str] = {}
        for table in tables.values():
            variants |= json.loads(table.attrs.get("variants", "{}"))
        with use_variants(variants):
            made = self.draw(**tables) if width is None else self.draw(**tables, width=width)
        return Picture(made) if isinstance(made, Figure) else Texts(made)


ITEMS = (
    Item("similarity_and_attention", "1", "figure-1-similarity-and-attention", similarity_and_attention.draw),
    Item("masks", "2", "figure-2-masks", masks.draw, needs_study=False),
    Item("attention_profiles", "3", "figure-3-attention-profiles", attention_profiles.draw),
    Item("sensitivity", "4", "figure-4-sensitivity", sensitivity.draw),
    Item("score_and_sensitivity", "5", "figure-5-score-and-sensitivity", score_and_sensitivity.draw),
    Item("lag", "6", "figure-6-lag", lag.draw),
    Item("evidence", "7", "figure-7-evidence", evidence.draw),
    Item("ablation", "8", "figure-8-ablation", ablation.draw),
    Item("what_if", "9", "figure-9-what-if", what_if.draw),
    Item("vertical_lines", "10", "figure-10-vertical-lines", vertical_lines.draw),
    Item("local_attention", "11", "figure-11-local-attention", local_attention.draw, needs_study=False, reads=SHIPPED),
    Item("results", "table", "table-1-results", results.draw),
    Item("claims", "claims", "claims", claims.draw),
    Item("claims_by_task", "tasks", "claims-by-task", claims_by_task.draw, needs_study=False, reads=SHIPPED),
)
