"""Write a file so that a reader sees the whole of it or nothing, whenever the writer is killed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_when_done(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it over `path` when the block ends, remove it when the block raises.

    The renamed file is flushed to disk first. A killed process leaves at most a hidden `.NAME.*.tmp` file behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
