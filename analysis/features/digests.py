"""SHA-256 of weights, by which a feature space is told from others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["file_digest", "joint_digest"]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def joint_digest(digests: Iterable[str]) -> str:
    """SHA-256 of several digests, or other texts, in their order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
