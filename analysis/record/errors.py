"""What is wrong with a record's file: a class for each kind of fault. Without torch."""

from __future__ import annotations

__all__ = ["AGAIN", "DamagedRecordFileError", "NewerRecordError", "NotARecordError", "RecordFileError", "quoted"]

AGAIN = "write the record again (gmsa inspect, analysis.inspect_clip)"


class RecordFileError(ValueError):
    """A record's file that cannot be used; the message names it, what is wrong, and what can be done."""


class NotARecordError(RecordFileError):
    """Another kind of file, or data that `inspect_clip` did not make."""


class DamagedRecordFileError(RecordFileError):
    """It cannot be read to its end, or claims more than its bytes can hold."""


class NewerRecordError(RecordFileError):
    """Written by a later version of this software."""


def quoted(value: object) -> str:
    """`repr` of what a file says of itself, cut to 100 characters: it may be megabytes long."""
    return f"{value!r:.100}"
