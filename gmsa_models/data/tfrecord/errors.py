"""What is wrong with a TFRecord file, a record of it, or a record's content: a class for each kind of fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gmsa_models.data.errors import ClipFileError, UnreadableFileError

__all__ = [
    "ContentError",
    "DamagedRecordError",
    "ExtensionError",
    "FeatureError",
    "FramesError",
    "NotATFRecordError",
    "NotAnExampleError",
    "OversizedRecordError",
    "RecordError",
    "TFRecordError",
    "TruncatedRecordError",
    "UnreadableTFRecordError",
]


class TFRecordError(ClipFileError):
    """A TFRecord file or record that cannot be read; `offset` is the byte at which the record starts."""

    kind = "TFRecord"

    @staticmethod
    def _place(record: int | None, offset: int | None) -> str:
        return "" if record is None else f", record {record} at byte {offset}"


class NotATFRecordError(TFRecordError):
    """A directory, a pipe, an empty file, another format, or a file whose very first header is damaged."""

    kind = "not a TFRecord"


class UnreadableTFRecordError(TFRecordError, UnreadableFileError):
    """The operating system does not give the file, or not all of it."""

    kind = UnreadableFileError.kind


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

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason, self.record, self.offset, self.kind)


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
