"""What cannot be read: a class for each kind of fault, so that a caller can tell them apart and count them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from reprlib import Repr
from typing import Any

__all__ = [
    "ClipFileError",
    "ForeignFeaturesError",
    "ForeignLabelsError",
    "OnSkip",
    "UnfitClipError",
    "UnreadableError",
    "UnreadableFileError",
    "brief",
    "is_plain",
]

_brief = Repr()
_brief.maxstring = _brief.maxother = 100
_brief.maxlist = _brief.maxtuple = _brief.maxdict = 6


def brief(value: object) -> str:
    """`repr`, shortened in the middle: what a file says of itself may be megabytes long."""
    return _brief.repr(value)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def is_plain(text: object) -> bool:
    """Whether it is text without control characters, which a terminal would obey when it is printed."""
    return isinstance(text, str) and _CONTROL.search(text) is None


class UnreadableError(ValueError):
    """Data that cannot be used; the message says where it is, what is wrong, and what can be done.

    Attributes:
        kind: in a few words, the same for all faults of a kind.
    """

    kind = "unreadable"


class ClipFileError(UnreadableError):
    """A file of clips, or one clip of it, that cannot be read; each format has its own kinds of it.

    Attributes:
        path: the file.
        record: number of the clip in the file from 0, or None when the whole file is meant.
        offset: where the clip starts, as its `Place` says, or None.
        reason: what was wrong, without the place.
    """

    kind = "file of clips"

    def __init__(self, path: str | Path, reason: str, record: int | None = None, offset: int | None = None) -> None:
        super().__init__(f"{path}{self._place(record, offset)}: {reason}")
        self.path, self.reason, self.record, self.offset = Path(path), reason, record, offset

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason, self.record, self.offset)

    @staticmethod
    def _place(record: int | None, offset: int | None) -> str:
        return "" if record is None else f", clip {record}"


class UnreadableFileError(ClipFileError):
    """The operating system does not give the file, or not all of it."""

    kind = "file not given by the system"


class UnfitClipError(UnreadableError):
    """A clip that came through whole but is not what the model takes; the message says which clip, of which file."""

    kind = "does not fit the model"


class ForeignLabelsError(UnfitClipError):
    """A clip whose labels are of another data set than the model's classes, where its labels are needed."""

    kind = "labels of another data set"


class ForeignFeaturesError(UnfitClipError):
    """A clip whose features lie in another space than those that the model was trained on."""

    kind = "features of another space"


OnSkip = Callable[[UnreadableError], None]
