"""Vocabulary: the labels of a data set that a model knows, class index <-> name."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gmsa_models.data.errors import brief, is_plain
from gmsa_models.data.spaces import AUDIOSET, YOUTUBE_8M
from gmsa_models.errors import ArgumentError

__all__ = ["Vocabulary", "unnamed_note"]

_UNNAMED = re.compile(r"label \d+")  # what `Vocabulary.name` says of a class without a name

# The columns that hold a label's index and its name, by the data set whose table has them.
COLUMNS = {
    YOUTUBE_8M: ("Index", "Name"),
    AUDIOSET: ("index", "display_name"),
}
# Columns of which the data set's own table has some, and a table that a user made has none.
_OWN_COLUMNS = {
    YOUTUBE_8M: {"TrainVideoCount", "KnowledgeGraphId", "WikiUrl"},
    AUDIOSET: {"mid"},
}

_PLAIN = "expected text without control characters (tab, line end, escape ...): no checkpoint with it could be loaded"


@dataclass(frozen=True)
class Vocabulary:
    """Classes in the order of a model's outputs.

    Attributes:
        dataset: whose labels these are, for example "youtube-8m"; "": not said.
        indices: data set label of each output, unique.
        names: what a person calls it; one an output.
    """

    dataset: str
    indices: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.indices) != len(self.names):
            raise ArgumentError(f"{len(self.indices)} label indices but {len(self.names)} names")
        if len(set(self.indices)) != len(self.indices):
            raise ArgumentError("label indices must be unique")
        if unexpected := [name for name in (self.dataset, *self.names) if not is_plain(name)]:
            raise ArgumentError(f"the name {brief(unexpected[0])}; {_PLAIN}")

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def _of(self) -> str:
        return f" of {self.dataset}" if self.dataset else ""

    @cached_property
    def _position(self) -> dict[int, int]:
        return {label: position for position, label in enumerate(self.indices)}

    def positions(self, labels: Iterable[int]) -> tuple[int, ...]:
        """Output positions of the data set labels that this vocabulary has; others are left out."""
        return tuple(self._position[label] for label in labels if label in self._position)

    def name(self, label: int) -> str:
        """Name of a data set label, or `label N` where this vocabulary has none."""
        position = self._position.get(label)
        return self.names[position] if position is not None else f"label {label}"

    def find(self, text: str) -> int:
        """Output position of a class from its name, in any case, or its number in the data set.

        Raises:
            ArgumentError: there is none; names those that begin alike.
        """
        names = {name.casefold(): position for position, name in enumerate(self.names)}
        match = names.get(text.casefold(), self._position.get(int(text)) if text.isdecimal() else None)
        if match is None:
            like = [name for name in self.names if name.casefold()[:2] == text.casefold()[:2]]
            hint = f"; names that begin alike: {', '.join(like[:5])}" if like else ""
            raise ArgumentError(f"no class {text!r} among the {len(self)}{self._of}{hint}")
        return match

    def keep(self, labels: Iterable[int]) -> Vocabulary:
        """The vocabulary of these labels only, in the order given.

        Raises:
            KeyError: a label that this vocabulary lacks.
        """
        labels = tuple(labels)
        missing = [label for label in labels if label not in self._position]
        if missing:
            raise KeyError(f"labels {missing[:5]} are not among the {len(self)} classes{self._of}")
        return Vocabulary(self.dataset, labels, tuple(self.name(label) for label in labels))

    @classmethod
    def read_csv(cls, path: str | Path) -> Vocabulary:
        """Read the class table of YouTube-8M (`vocabulary.csv`) or AudioSet (`class_labels_indices.csv`), or one alike.

        A table of two columns only (`Index,Name` or `index,display_name`) is a user's own: its `dataset` is "" (not
        said), so that its classes are held against the labels of any clips.

        Raises:
            ArgumentError: unknown columns, no rows, an index that is no number or comes twice, a name with a control
                character; names file and line.
        """
        path = Path(path)
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:  # a spreadsheet may have put a byte order mark
                reader = csv.DictReader(file)
                fields = set(reader.fieldnames or ())
                for dataset, (index, name) in COLUMNS.items():
                    if {index, name} <= fields:
                        own = bool(_OWN_COLUMNS[dataset] & fields)
                        return cls(dataset if own else "", *_read_rows(path, reader, index, name))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ArgumentError(f"{path}: not a table of text: {error}") from None
        expected = "; ".join(f"{dataset}: {', '.join(columns)}" for dataset, columns in COLUMNS.items())
        raise ArgumentError(f"{path}: columns {brief(sorted(fields))}; expected one of {expected}")


def _read_rows(
    path: Path, reader: csv.DictReader[str], index: str, name: str
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    names: dict[int, str] = {}
    for row in reader:
        text = row[index] or ""
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise ArgumentError(
                f"{path}, line {reader.line_num}: {index} is {brief(row[index])}; expected a whole number of 0 or more"
            )
        label = int(text)
        if label in names:
            raise ArgumentError(f"{path}, line {reader.line_num}: {index} {label} comes twice")
        names[label] = row[name] or f"label {label}"
        if not is_plain(names[label]):
            raise ArgumentError(f"{path}, line {reader.line_num}: {name} is {brief(names[label])}; {_PLAIN}")
    if not names:
        raise ArgumentError(f"{path}: the table has no rows")
    return tuple(names), tuple(names.values())


def unnamed_note(names: Iterable[str]) -> str:
    """What to say beside names of classes of which some are `label N`; an empty text where all are named."""
    some = any(_UNNAMED.fullmatch(name) for name in names)
    return "label N: class N of the data set, which its vocabulary gives no name" if some else ""
