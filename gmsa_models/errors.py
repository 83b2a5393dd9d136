"""The kinds of errors: one base, and a class for each thing that a caller may want to do about one.

Each message says what was received, what was expected, where, and the remedy. `UnreadableError` and its kinds
(`gmsa_models.data.errors`), `ClipError`, `CheckpointError`, and those of `analysis.errors` are of the same base.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "ConfigError",
    "ContentError",
    "DamagedError",
    "GMSAError",
    "OutputError",
    "TrainingError",
    "UnknownNameError",
    "WorkerError",
]


class GMSAError(Exception):
    """The base of all errors of this software; the message is for the user."""


class ArgumentError(GMSAError, ValueError):
    """An argument, or arguments together, of which nothing can be computed."""


class UnknownNameError(GMSAError, KeyError):
    """A name that is not in a table, or there more than once; the message lists the names that are."""

    def __str__(self) -> str:
        return str(self.args[0])


class ConfigError(GMSAError, ValueError):
    """A model, a recipe of training or one of montages that cannot be; the message names the field."""


class ContentError(GMSAError, ValueError):
    """Content that came through whole but is not what its format says; whoever knows the file adds its name.

    Attributes:
        kind: in a few words, the same for all faults of a kind.
    """

    def __init__(self, message: str, kind: str = "content") -> None:
        super().__init__(message)
        self.kind = kind


class DamagedError(GMSAError, ValueError):
    """Bytes that are not those that were written, or that claim more than they can hold."""


class TrainingError(GMSAError, ArithmeticError, ValueError):
    """A training run that cannot begin, go on or be resumed; the message says what is kept."""


class OutputError(GMSAError, OSError):
    """A file or folder that cannot be written, or that another process writes; what is finished there is kept."""


class WorkerError(GMSAError, RuntimeError, ValueError):
    """A worker process that cannot be started, or was lost; the message says what to change."""
