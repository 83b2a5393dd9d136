"""Files that a path or glob names, and the errors of asking for what is not there."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from gmsa_models.data.errors import OnSkip
from gmsa_models.data.feature_folder import folder_files
from gmsa_models.errors import ArgumentError, GMSAError

__all__ = ["SkippedWarning", "Source", "SourceNotFoundError", "expand", "skip_handler"]

Source = str | Path | Sequence[str | Path]


class SourceNotFoundError(GMSAError, FileNotFoundError):
    """A path or glob that matches no file."""


class SkippedWarning(UserWarning):
    """A record or file that was left out because it cannot be read."""


def expand(source: Source) -> list[Path]:
    """Files that paths or globs name; those of one glob are sorted. A folder of features stands for its files.

    Raises:
        SourceNotFoundError: one of them names none.
        ArgumentError: an empty list.
    """
    if isinstance(source, str | Path):
        return _expand_one(source)
    if not source:
        raise ArgumentError("an empty list of sources; expected at least one path")
    return [path for one in source for path in _expand_one(one)]


def _expand_one(source: str | Path) -> list[Path]:
    if os.path.exists(source):  # False, too, for what no file can be named
        return folder_files(source) or [Path(source)]
    if not glob.has_magic(str(source)):
        raise SourceNotFoundError(f"no file {str(source)!r} (looked in {Path.cwd()})")
    paths = sorted(Path(name) for name in glob.glob(str(source), recursive=True))
    if not paths:
        raise SourceNotFoundError(f"no file matches {str(source)!r} (looked in {Path.cwd()})")
    return paths


def skip_handler(on_error: str, on_skip: OnSkip | None = None) -> OnSkip | None:
    """What takes the errors of unreadable records: None for "fail", for "skip" `on_skip` or a `SkippedWarning`.

    Raises:
        ArgumentError: `on_error` is neither.
    """
    if on_error == "fail":
        return None
    if on_error != "skip":
        raise ArgumentError(f"on_error is {on_error!r}; expected 'fail' or 'skip'")
    if on_skip is not None:  # a collection that is empty yet is one, too
        return on_skip
    return lambda error: warnings.warn(f"skipped: {error}", SkippedWarning, stacklevel=2)
