"""Files that a path or glob names, and the errors of asking for what is not there."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from gmsa_models.data.errors import OnSkip

__all__ = [
    "DuplicateClipError",
    "SkippedWarning",
    "Source",
    "SourceError",
    "SourceNotFoundError",
    "UnknownClipError",
    "expand",
    "skip_handler",
]

Source = str | Path | Sequence[str | Path]


class SourceError(ValueError):
    """A source that cannot be understood."""


class SourceNotFoundError(FileNotFoundError):
    """A path or glob that matches no file."""


class UnknownClipError(KeyError):
    """An id that is not in the source; the message says where it was looked for."""

    def __str__(self) -> str:
        return str(self.args[0])


class DuplicateClipError(KeyError):
    """An id that several records have; the message says which."""

    def __str__(self) -> str:
        return str(self.args[0])


class SkippedWarning(UserWarning):
    """A record or file that was left out because it cannot be read."""


def expand(source: Source) -> list[Path]:
    """Files that paths or globs name; those of one glob are sorted.

    Raises:
        SourceNotFoundError: one of them names none.
        SourceError: an empty list.
    """
    if isinstance(source, str | Path):
        return _expand_one(source)
    if not source:
        raise SourceError("an empty list of sources; expected at least one path")
    return [path for one in source for path in _expand_one(one)]


def _expand_one(source: str | Path) -> list[Path]:
    if os.path.exists(source):  # False, too, for what no file can be named
        return [Path(source)]
    if not glob.has_magic(str(source)):
        raise SourceNotFoundError(f"no file {str(source)!r} (looked in {Path.cwd()})")
    paths = sorted(Path(name) for name in glob.glob(str(source), recursive=True))
    if not paths:
        raise SourceNotFoundError(f"no file matches {str(source)!r} (looked in {Path.cwd()})")
    return paths


def skip_handler(on_error: str, on_skip: OnSkip | None = None) -> OnSkip | None:
    """What takes the errors of unreadable records: None for "fail", for "skip" `on_skip` or a `SkippedWarning`.

    Raises:
        SourceError: `on_error` is neither.
    """
    if on_error == "fail":
        return None
    if on_error != "skip":
        raise SourceError(f"on_error is {on_error!r}; expected 'fail' or 'skip'")
    if on_skip is not None:  # a collection that is empty yet is one, too
        return on_skip
    return lambda error: warnings.warn(f"skipped: {error}", SkippedWarning, stacklevel=2)
