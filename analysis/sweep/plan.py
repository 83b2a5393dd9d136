"""What a sweep is of: shards, models, settings; and the provenance by which a finished shard is known again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analysis.errors import SweepError
from analysis.sweep.analyses import DEFAULT_ANALYSES, chosen
from analysis.sweep.columns import BRANCHES
from gmsa_models.checkpoints.model_file import ModelFile
from gmsa_models.checkpoints.names import name_checkpoints
from gmsa_models.config import check_classifies
from gmsa_models.data.demo_videos import DEMO, demo_videos, is_demo, parse_demo
from gmsa_models.data.formats import is_catalog
from gmsa_models.data.paths import expand
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import Neighbourhood, Toeplitz, neighbourhood_to_dict

__all__ = [
    "Shard",
    "ShardTask",
    "SweepSettings",
    "demo_range",
    "demo_shard",
    "difference",
    "find_models",
    "find_shards",
    "identity",
    "name_of",
    "plain_text",
    "source_id",
]

FORMAT_VERSION = 1
COMPUTED_WITH = ("gmsa-workbench", "torch", "numpy")
DEMO_SHARD = 64  # demo videos a shard
ENDS = 2**16  # bytes at either end of a file that its fingerprint covers
# What may differ between shards of one table: how much memory was allowed changes rounding at most.
NOT_COMPARED = ("memory",)


@dataclass(frozen=True)
class Shard:
    """A file of videos.

    Attributes:
        name: tells it from the others of the sweep; plain text.
        source: what `read_clips` takes; a path is absolute.
        bytes: its size.
        fingerprint: of its size and its first and last 64 KiB. What lies between is covered by the checksums of the
            records.
    """

    name: str
    source: str
    bytes: int
    fingerprint: str

    def data(self) -> dict[str, Any]:
        """What provenance says of it."""
        return {"name": self.name, "bytes": self.bytes, "fingerprint": self.fingerprint}


@dataclass(frozen=True)
class SweepSettings:
    """Everything but models and data that decides the numbers.

    Attributes:
        analyses: keys of `ANALYSES`.
        neighbourhood: the N_i by which `sensitivity` measures all models alike; `own_sensitivity` is by each one's own.
        batch_size: clips a pass, at most; clips of like length go together.
        memory: about the most bytes that a worker takes beside the program and the models; long clips go in smaller
            batches.
        device: where to compute: "cpu", "cuda", "cuda:1".
        on_error: "fail": a shard with a record that cannot be read is recorded as failed. "skip": the record is left
            out, and the shard's provenance says so.
    """

    analyses: tuple[str, ...] = DEFAULT_ANALYSES
    neighbourhood: Neighbourhood = field(default_factory=lambda: Toeplitz(30))
    batch_size: int = 16
    memory: int = 2**28
    device: str = "cpu"
    on_error: str = "fail"

    def __post_init__(self) -> None:
        if not self.analyses:
            raise SweepError("no analyses; expected at least one")
        object.__setattr__(self, "analyses", tuple(chosen(self.analyses)))
        if self.batch_size < 1 or self.memory < 2**20:
            raise SweepError(f"batch_size is {self.batch_size}, memory {self.memory}; expected >= 1 and >= 1 MiB")
        if self.on_error not in ("fail", "skip"):
            raise SweepError(f"on_error is {self.on_error!r}; expected 'fail' or 'skip'")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for provenance: what decides the numbers."""
        return {
            "analyses": list(self.analyses),
            "neighbourhood": neighbourhood_to_dict(self.neighbourhood),
            "batch_size": self.batch_size,
            "memory": self.memory,
            "device": self.device.partition(":")[0],
        }


@dataclass(frozen=True)
class ShardTask:
    """One shard's work; it travels to whichever process does it.

    Attributes:
        shard: what is read.
        models: by which checkpoints, in order.
        modalities: of all models together, in order.
        settings: how.
        path: the Parquet file that it comes to.
        branches: those of every table, and those of the models besides.
    """

    shard: Shard
    models: tuple[ModelFile, ...]
    modalities: tuple[str, ...]
    settings: SweepSettings
    path: Path
    branches: tuple[str, ...] = BRANCHES

    def provenance(self) -> dict[str, Any]:
        """What the file says it was made from."""
        return {
            "format_version": FORMAT_VERSION,
            "models": {model.name: model.sha256 for model in self.models},
            "data": self.shard.data() | {"source_id": source_id(self.shard.source)},
            "settings": self.settings.to_dict(),
            "versions": dict(_versions()),
        }


@cache  # to ask takes a millisecond
def _versions() -> dict[str, str]:
    return {name: version(name) for name in COMPUTED_WITH}


def difference(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What two provenances differ in, other than their data: names of parts, empty where the numbers are comparable."""
    different = [name for name in ("format_version", "models", "versions") if made.get(name) != wanted[name]]
    settings = made.get("settings", {})
    return different + [
        name for name, value in wanted["settings"].items() if name not in NOT_COMPARED and settings.get(name) != value
    ]


def find_models(names: Sequence[str]) -> tuple[tuple[ModelFile, ...], tuple[str, ...], tuple[str, ...]]:
    """Checkpoints by name or path, each called as `name_checkpoints` says; modalities and branches of all of them.

    Raises:
        SweepError: none.
        CheckpointError: one given twice; neither in the zoo nor a file.
        ArgumentError: a model that does not say what its outputs stand for.
    """
    if not names:
        raise SweepError("no models; expected at least one")
    checkpoints = name_checkpoints(names)
    modalities: dict[str, None] = {}
    branches = dict.fromkeys(BRANCHES)
    for each in checkpoints:
        check_classifies(each.described.config, f"model {each.name!r}")
        if each.described.vocabulary is None:
            raise ArgumentError(f"model {each.name!r} has no vocabulary, so labels cannot be matched to its outputs")
        modalities |= dict.fromkeys(each.described.config.modalities)
        branches |= dict.fromkeys(each.described.config.branches)
    files = tuple(ModelFile(each.name, each.path.resolve(), each.sha256) for each in checkpoints)
    return files, tuple(modalities), tuple(branches)


def find_shards(data: Sequence[str]) -> list[Shard]:
    """Shards - files of clips, whatever their format - that paths, globs and `demo:A-B` name, in order.

    A shard is called by its file's name, with as many of its folders as tell all of them apart.

    Raises:
        SourceNotFoundError: one of them names none.
        SweepError: a file that is named twice, or something that is no list of shards.
        ArgumentError: demo videos that are not there.
    """
    shards: list[Shard] = []
    paths: list[Path] = []
    for one in data:
        if is_demo(one):
            shards += _demo_shards(one)
        elif "#" in one and not os.path.exists(one):
            raise SweepError(f"{one!r}: a sweep reads whole files of clips; give their paths or a glob")
        else:
            paths += [path.resolve() for path in expand(one)]
    if catalog := next(filter(is_catalog, paths), None):
        raise SweepError(
            f"{str(catalog)!r} is a catalogue: a sweep reads whole files of clips; give their paths or a glob"
        )
    names = _short_names(paths)
    shards += [Shard(name, str(path), *identity(path)) for name, path in zip(names, paths, strict=True)]
    if len({shard.name for shard in shards}) < len(shards):
        raise SweepError("a shard is named twice; give each once")
    return shards


def source_id(source: str) -> str:
    """What tells where a shard lies from where others do, without saying where."""
    return hashlib.sha256(os.fsencode(source)).hexdigest()[:16]


def name_of(parts: Sequence[str]) -> str:
    """The last parts of a path as a name."""
    return plain_text("/".join(parts))


def plain_text(text: str) -> str:
    """Text that UTF-8 can hold, whatever bytes the names in it have on the file system."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def demo_shard(start: int, stop: int) -> Shard:
    """Demo videos `start` to `stop` - 1."""
    name = f"{DEMO}{start}-{stop}"
    return Shard(name, name, stop - start, name)


def demo_range(data: Mapping[str, Any]) -> tuple[int, int] | None:
    """First demo video and the one after the last, of the data in a provenance; None for files."""
    if not is_demo(data["fingerprint"]):
        return None
    videos = parse_demo(data["fingerprint"])
    return videos.start, videos.stop


def _demo_shards(source: str) -> list[Shard]:
    videos = demo_videos(source)
    return [demo_shard(at, min(at + DEMO_SHARD, videos.stop)) for at in videos[::DEMO_SHARD]]


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as make all of them different, the same number for all."""
    most, names = max((len(path.parts) for path in paths), default=1), list[str]()
    for count in range(1, most + 1):
        names = [name_of(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is None:  # one name says in letters which bytes are in the other
        return [f"{name} {source_id(str(path))}" for name, path in zip(names, paths, strict=True)]
    raise SweepError(f"{twice} is named twice; give each shard once")


def identity(path: Path) -> tuple[int, str]:
    """Size and fingerprint; of what cannot be opened, size 0 and none, so that it fails as a shard and not at once."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            return 0, ""
        with path.open("rb") as file:
            digest = hashlib.sha256(str(size).encode() + file.read(ENDS))
            file.seek(max(0, size - ENDS))
            digest.update(file.read(ENDS))
    except OSError:
        return 0, ""
    return size, digest.hexdigest()
