"""A reader that is fuzzed: how the fuzzer's bytes become its file, and what it may raise."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Target", "plain"]


@dataclass(frozen=True)
class Target:
    """A reader to fuzz.

    Attributes:
        suffix: of the file, or folder, that it is given.
        write: makes it of the fuzzer's bytes. Where there are two ways, their first byte says whether the rest is the
            file as it stands, or what is inside, to be framed with right lengths and checksums so that deeper layers
            are reached.
        read: the reader; takes the file.
        seeds: inputs to start from, which are read whole.
        refusals: the errors that it promises; any other is a find.
        slowest: seconds of one input after which it is a find.
    """

    suffix: str
    write: Callable[[Path, bytes], object]
    read: Callable[[Path], object]
    seeds: Callable[[], list[bytes]]
    refusals: tuple[type[Exception], ...] = ()
    slowest: int = 2

    def __call__(self, data: bytes) -> None:
        """Read one input, or refuse it."""
        with contextlib.suppress(*self.refusals):
            self.read_whole(data)

    def read_whole(self, data: bytes) -> None:
        """Read one input; whatever the reader raises is raised."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"input{self.suffix}"
            self.write(path, data)
            self.read(path)


def plain(path: Path, data: bytes) -> None:
    """The file as it stands."""
    path.write_bytes(data[1:])
