"""What is wrong with a TFRecord file, a record of it, or a record's content."""

from __future__ import annotations

from pathlib import Path

from gmsa_models.data.errors import ClipFileError

__all__ = ["NOT_A_TFRECORD", "TFRecordError"]

NOT_A_TFRECORD = (
    "not a TFRecord"  # a kind: a directory, a pipe, an empty file, another format, or a first header damaged
)


class TFRecordError(ClipFileError):
    """A TFRecord file or record that cannot be read; `offset` is the byte at which the record starts."""

    def __init__(
        self,
        path: str | Path,
        reason: str,
        record: int | None = None,
        offset: int | None = None,
        kind: str = "TFRecord",
    ) -> None:
        super().__init__(path, reason, record, offset, kind)

    @staticmethod
    def _place(record: int | None, offset: int | None) -> str:
        return "" if record is None else f", record {record} at byte {offset}"
