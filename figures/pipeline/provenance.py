"""Where figures come from: which checkpoints, which data, which settings, told by their contents; and what is cached.

Without torch, so that a run in which nothing has changed never loads it.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import xarray as xr

from figures.files import digest, sha256
from figures.pipeline.table_files import load_tables, save_tables
from gmsa_models.data.demo_videos import is_demo
from gmsa_models.errors import ArgumentError, DamagedError

__all__ = ["Checkpoint", "DiskCache", "data_digest", "find_checkpoints", "versions", "zoo"]

HASHED_BYTES = 2**30  # more data than this are told by name, size and time of change instead of by every byte
COMPUTED_WITH = ("torch", "numpy", "scipy", "xarray")


@dataclass(frozen=True)
class Checkpoint:
    """A model's file.

    Attributes:
        name: of the model.
        path: of the file.
        sha256: of its bytes.
    """

    name: str
    path: Path
    sha256: str


def zoo() -> dict[str, Path]:
    """Name -> file of the models that ship."""
    return {path.stem: path for path in sorted((_package("gmsa_models") / "zoo").glob("*.safetensors"))}


def find_checkpoints(names: Sequence[str], notify: Callable[[str], None] = lambda words: None) -> list[Checkpoint]:
    """Checkpoints by name or path, in the order given, each of another name: see `gmsa_models.checkpoints.names`.

    Args:
        names: of the zoo, or paths.
        notify: is told of each that is called otherwise than by its card.

    Raises:
        ArgumentError: none.
        CheckpointError: one that is not there, or is given twice.
    """
    if not names:
        raise ArgumentError("no models; expected at least one name or path")
    known = zoo()
    if len(set(names)) == len(names) and set(names) <= set(known):
        return [Checkpoint(name, known[name], sha256(known[name])) for name in names]
    return _named(names, notify)


def data_digest(sources: Sequence[str]) -> str:
    """What tells these data from others: their bytes; of more than 1 GiB names, sizes and times of change."""
    return digest([_source_digest(source) for source in sources])


def versions() -> dict[str, str]:
    """Of what computes."""
    return {name: version(name) for name in COMPUTED_WITH}


class DiskCache:
    """Computed tables in a folder, found again by what they were computed from."""

    def __init__(self, folder: Path, common: Mapping[str, object]) -> None:
        """A cache in a folder.

        Args:
            folder: made when the first table is kept.
            common: part of every key: code and versions.
        """
        self.folder, self.common = folder, dict(common)
        self._used: set[Path] = set()

    def get(self, key: Mapping[str, object]) -> xr.Dataset | None:
        """The table of a key; None where there is none that can be read."""
        path = self._path(key)
        try:
            table = load_tables(path)["table"]
        except DamagedError:
            return None
        self._used.add(path)
        return table

    def put(self, key: Mapping[str, object], table: xr.Dataset) -> None:
        """Keep a table, whole at once, so that a stopped run goes on from here."""
        self._used.add(save_tables(self._path(key), {"table": table}))

    def prune(self) -> None:
        """Remove the tables that this run neither read nor wrote: inputs that no longer exist."""
        for path in self.folder.glob("*.npz"):
            if path not in self._used:
                path.unlink(missing_ok=True)

    def _path(self, key: Mapping[str, object]) -> Path:
        return self.folder / f"{key['stage']}-{digest([self.common, dict(key)])[:32]}.npz"


def _source_digest(source: str) -> object:
    if is_demo(source):
        # The demo set is made by code, whose digest stands elsewhere, from one file.
        return [source, sha256(_package("gmsa_models") / "data" / "demo" / "class_statistics.safetensors")]
    pattern, _, identity = source.partition("#") if not os.path.exists(source) else (source, "", "")
    paths = sorted(Path(name) for name in glob.glob(pattern, recursive=True))
    if sum(path.stat().st_size for path in paths) <= HASHED_BYTES:
        return [identity, [[path.name, sha256(path)] for path in paths]]
    return [identity, [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]]


def _package(name: str) -> Path:
    """Folder of a package, without importing it: importing the models loads torch."""
    beside = Path(__file__).parents[2] / name  # where `figures` lies, whatever its users call it
    if beside.is_dir():
        return beside
    spec = find_spec(name)
    assert spec is not None  # one of this software's own
    assert spec.origin is not None
    return Path(os.path.dirname(spec.origin))


def _named(names: Sequence[str], notify: Callable[[str], None]) -> list[Checkpoint]:
    """What files are called stands in them, and reading it loads torch."""
    from gmsa_models.checkpoints.names import name_checkpoints, renamed

    named = name_checkpoints(names)
    for line in renamed(named):
        notify(line)
    return [Checkpoint(each.name, each.path, each.sha256) for each in named]
