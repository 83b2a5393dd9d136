"""The kinds of errors of analyses, beside those of `gmsa_models.errors`. Without torch."""

from __future__ import annotations

from gmsa_models.errors import GMSAError

__all__ = ["RecordError", "RecordWarning", "SweepError"]


class RecordError(GMSAError, ValueError):
    """A record that cannot be made, read, combined or drawn; the message names the clip, file or variable."""


class RecordWarning(UserWarning):
    """Numbers of a record that are probably not what its name for them says; the message says what to do."""


class SweepError(GMSAError, ValueError):
    """A sweep or a study of many models that cannot be made, gone on with or read; the message says what to do.

    Attributes:
        kind: in a few words, the same for all faults of a kind; a failed shard is listed with it.
    """

    def __init__(self, message: str, kind: str = "sweep") -> None:
        super().__init__(message)
        self.kind = kind
