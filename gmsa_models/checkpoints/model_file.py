"""ModelFile: which checkpoint, by name, path and content; without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["ModelFile"]


@dataclass(frozen=True)
class ModelFile:
    """A checkpoint.

    Attributes:
        name: of the model.
        path: of its file.
        sha256: of the file's bytes.
    """

    name: str
    path: Path
    sha256: str
