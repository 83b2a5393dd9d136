"""What several checkpoints are called side by side: each by a name of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gmsa_models.checkpoints.files import LONGEST_NAME, ZOO, Description, describe
from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.data.errors import brief, is_plain

__all__ = ["NamedCheckpoint", "check_name", "name_checkpoints", "renamed"]

HASH_DIGITS = 8  # of a SHA-256, where it stands in a name


@dataclass(frozen=True)
class NamedCheckpoint:
    """A checkpoint among others.

    Attributes:
        name: what it is called beside the others; no two differ in case only.
        described: what the file says of itself.
        sha256: of the file's bytes.
    """

    name: str
    described: Description
    sha256: str

    @property
    def path(self) -> Path:
        """Of the file."""
        return self.described.path


def check_name(name: str) -> str:
    """A name as it is, if a checkpoint's card can hold it.

    Raises:
        CheckpointError: it is empty, too long, or has control characters.
    """
    if not is_plain(name) or not 0 < len(name) <= LONGEST_NAME:
        raise CheckpointError(
            f"a model cannot be called {brief(name)}; expected 1 to {LONGEST_NAME} plain characters: give a --name"
        )
    return name


def name_checkpoints(names_or_paths: Sequence[str | Path]) -> list[NamedCheckpoint]:
    """Several checkpoints, each called by another name; weights are not read.

    A model is called what its card says, or its file without suffix. Where two would be called the same, in any case of
    letters, a model of the zoo keeps its name and the others become `NAME@FOLDER`, with the folder that their file is
    in; where that does not tell them apart, `NAME@FILE`, or else `NAME@` and the first 8 digits of the file's SHA-256.

    Args:
        names_or_paths: as `load` takes each.

    Returns:
        As many, in order.

    Raises:
        CheckpointError: two files of the same bytes, or one that is given twice; as `describe`.
    """
    named = [_named(one) for one in names_or_paths]
    _check_different(named)
    for name in dict.fromkeys(each.name.casefold() for each in named):
        named = _with_distinct_names(named, name)
    return named


def renamed(checkpoints: Sequence[NamedCheckpoint]) -> list[str]:
    """A sentence for each model that is called otherwise than its card says, because another is called so too."""
    return [
        f"{each.path} is shown as {each.name!r}: another model is called {each.described.name!r} too"
        for each in checkpoints
        if each.name != each.described.name
    ]


def _named(name_or_path: str | Path) -> NamedCheckpoint:
    described = describe(name_or_path)
    try:
        with described.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{described.path}: cannot be read: {error.strerror}") from None
    return NamedCheckpoint(described.name, described, digest)


def _check_different(checkpoints: Sequence[NamedCheckpoint]) -> None:
    first: dict[str, Path] = {}
    for each in checkpoints:
        if other := first.get(each.sha256):
            raise CheckpointError(
                f"{each.path} is the same model as {other}, byte for byte; give each model once"
                if each.path != other
                else f"model {each.path} is given twice; give each model once"
            )
        first[each.sha256] = each.path


# What follows the `@`, the first that tells models of one name apart.
_MARKS: tuple[Callable[[NamedCheckpoint], str], ...] = (
    lambda each: each.path.resolve().parent.name,
    lambda each: each.path.stem,
    lambda each: each.sha256[:HASH_DIGITS],
)


def _with_distinct_names(checkpoints: list[NamedCheckpoint], name: str) -> list[NamedCheckpoint]:
    """All checkpoints; those of this name, but for the zoo's, with a mark that no other has."""
    alike = [each for each in checkpoints if each.name.casefold() == name and each.path.parent != ZOO]
    others = {each.name.casefold() for each in checkpoints if each not in alike}
    if len(alike) + (name in others) < 2:
        return checkpoints
    names: dict[str, str] = {}
    for mark in _MARKS:
        names = {each.sha256: f"{each.name}@{mark(each)}" for each in alike}
        distinct = {each.casefold() for each in names.values()}
        if len(distinct) == len(alike) and not distinct & others and all(map(is_plain, names.values())):
            break
    return [replace(each, name=names.get(each.sha256, each.name)) for each in checkpoints]
