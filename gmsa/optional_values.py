"""Options whose value may be left out, which the parser of the command line has none of. Light to import."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

__all__ = ["EVERY", "listed", "with_values"]

EVERY = "all"
# Option -> what it means alone.
ALONE = {"--explain": EVERY}
_NAMES = re.compile(r"[a-z][a-z-]*(,[a-z][a-z-]*)*,?")


def with_values(words: Sequence[str]) -> list[str]:
    """The words of a command line, each of those options with its value: the names behind it, or what it means alone.

    Names are small letters and hyphens, with commas between them; a file of such a name is no value.
    """
    plain = list(takewhile(lambda word: word != "--", words))
    result, place = [], 0
    while place < len(plain):
        word, behind = plain[place], plain[place + 1 : place + 2]
        if word in ALONE:
            valued = bool(behind) and _NAMES.fullmatch(behind[0]) is not None and not Path(behind[0]).exists()
            word, place = f"{word}={behind[0] if valued else ALONE[word]}", place + valued
        result.append(word)
        place += 1
    return [*result, *words[len(plain) :]]


def listed(value: str | None) -> tuple[str, ...] | None:
    """The names that such a value lists; None for all of them."""
    if value is None or value == EVERY:
        return None
    return tuple(name for part in value.split(",") if (name := part.strip()))
