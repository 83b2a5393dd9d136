"""What cannot be read, by kinds that a caller can tell apart and count."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from reprlib import Repr
from typing import Any

from gmsa_models.errors import GMSAError

__all__ = ["NOT_GIVEN", "ClipFileError", "OnSkip", "UnfitClipError", "UnreadableError", "brief", "is_plain"]

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


NOT_GIVEN = "file not given by the system"  # the kind of a file that the operating system does not give, or in part


class UnreadableError(GMSAError, ValueError):
    """Data that cannot be used; the message says where it is, what is wrong, and what can be done.

    Attributes:
        kind: in a few words, the same for all faults of a kind, by which they are counted.
    """

    def __init__(self, message: str, kind: str = "unreadable") -> None:
        super().__init__(message)
        self.kind = kind


class ClipFileError(UnreadableError):
    """A file of clips, or one clip of it, that cannot be read.

    Attributes:
        path: the file.
        record: number of the clip in the file from 0, or None when the whole file is meant.
        offset: where the clip starts, as its `Place` says, or None.
        reason: what was wrong, without the place.
    """

    def __init__(
        self,
        path: str | Path,
        reason: str,
        record: int | None = None,
        offset: int | None = None,
        kind: str = "file of clips",
    ) -> None:
        super().__init__(f"{path}{self._place(record, offset)}: {reason}", kind)
        self.path, self.reason, self.record, self.offset = Path(path), reason, record, offset

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason, self.record, self.offset, self.kind)

    @staticmethod
    def _place(record: int | None, offset: int | None) -> str:
        return "" if record is None else f", clip {record}"


class UnfitClipError(UnreadableError):
    """A clip that came through whole but is not what the model takes; the message says which clip, of which file."""

    def __init__(self, message: str, kind: str = "does not fit the model") -> None:
        super().__init__(message, kind)


OnSkip = Callable[[UnreadableError], None]
