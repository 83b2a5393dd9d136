"""What cannot be read: a class for each kind of fault, so that a caller can tell them apart and count them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from reprlib import Repr

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


class TFRecordError(UnreadableError):
    """A TFRecord file or record that cannot be read.

    Attributes:
        path: the file.
        record: number of the record in the file from 0, or None when the whole file is meant.
        offset: byte at which the record starts, or None.
        reason: what was wrong, without the place.
    """

    kind = "TFRecord"

    def __init__(self, path: str | Path, reason: str, record: int | None = None, offset: int | None = None) -> None:
        place = "" if record is None else f", record {record} at byte {offset}"
        super().__init__(f"{path}{place}: {reason}")
        self.path, self.reason, self.record, self.offset = Path(path), reason, record, offset

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.reason, self.record, self.offset)


class NotATFRecordError(TFRecordError):
    """A directory, a pipe, an empty file, another format, or a file whose very first header is damaged."""

    kind = "not a TFRecord"


class UnreadableFileError(TFRecordError):
    """The operating system does not give the file, or not all of it."""

    kind = "file not given by the system"


class TruncatedRecordError(TFRecordError):
    """The file ends inside the record."""

    kind = "truncated"


class DamagedRecordError(TFRecordError):
    """The length or the data does not match its checksum."""

    kind = "checksum"


class OversizedRecordError(TFRecordError):
    """More data than is read as one record."""

    kind = "too long"


class ContentError(TFRecordError):
    """A record that came through whole but is not what it should be; `kind` says which part of it."""

    def __init__(
        self, path: str | Path, reason: str, record: int | None = None, offset: int | None = None, kind: str = "content"
    ) -> None:
        super().__init__(path, reason, record, offset)
        self.kind = kind

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.reason, self.record, self.offset, self.kind)


class UnfitClipError(UnreadableError):
    """A clip that came through whole but is not what the model takes; the message says which clip, of which file."""

    kind = "does not fit the model"


class ForeignLabelsError(UnfitClipError):
    """A clip whose labels are of another data set than the model's classes, where its labels are needed."""

    kind = "labels of another data set"


class ForeignFeaturesError(UnfitClipError):
    """A clip whose features lie in another space than those that the model was trained on."""

    kind = "features of another space"


class RecordError(ValueError):
    """A record's content that is not what it should be; the message says which part, and what was expected."""

    kind = "content"


class NotAnExampleError(RecordError):
    """Bytes that are not the protobuf message they should be."""

    kind = "not an example"


class FeatureError(RecordError):
    """A context feature (id, labels, times, ratings, means) that is missing, or of the wrong kind, number or range."""

    kind = "context feature"


class FramesError(RecordError):
    """Frame lists that are missing, uneven, not finite, or do not fit together."""

    kind = "frames"


class ExtensionError(RecordError):
    """The `gmsa_clip` feature is not what `extension.py` describes."""

    kind = "gmsa_clip feature"


OnSkip = Callable[[UnreadableError], None]
