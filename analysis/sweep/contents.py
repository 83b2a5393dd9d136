"""What the folder of a sweep holds, by what its files say of themselves; no row is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.sweep.columns import Column
from analysis.sweep.notes import failed_shards, planned_parts
from analysis.sweep.store import columns_in, common_provenance, finished_parts, tables_in

__all__ = ["SweepContents", "sweep_contents"]


@dataclass(frozen=True)
class SweepContents:
    """A sweep, whole or not.

    Attributes:
        folder: of its files.
        models: name -> SHA-256 of the checkpoint, in order.
        settings: of `SweepSettings.to_dict`.
        versions: of what computed it.
        columns: of its table.
        shards: name, size and fingerprint of the data of each finished shard, in order of their names.
        videos: how many the finished shards have.
        left_out: how many records were left out of them because they could not be read.
        missing: files that are not there yet, of those that it is to have.
        failed: how many shards could not be read.
    """

    folder: Path
    models: Mapping[str, str]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    columns: tuple[Column, ...]
    shards: tuple[Mapping[str, Any], ...]
    videos: int
    left_out: int
    missing: tuple[str, ...]
    failed: int

    @property
    def analyses(self) -> tuple[str, ...]:
        """What was computed of every video: keys of `ANALYSES`."""
        return tuple(self.settings["analyses"])

    @property
    def shortfall(self) -> str:
        """A sentence on the shards and records that are not in it; empty when it is whole."""
        whole = len(self.shards) + len(self.missing)
        parts = [f"{len(self.missing)} of {whole} shards are missing"] if self.missing else []
        parts += [f"{self.failed} could not be read, see {self.folder / 'failed'}"] if self.failed else []
        parts += [f"{self.left_out} records were left out"] if self.left_out else []
        return "; ".join(parts)


def sweep_contents(folder: str | Path) -> SweepContents:
    """What a folder holds.

    Raises:
        SweepError: no finished shard, shards that were made in different ways, or a file that is not of a sweep.
    """
    paths = finished_parts(folder)
    common = common_provenance(paths, folder)
    made = sorted(tables_in(folder).values(), key=lambda one: one["data"]["name"])
    existing = {path.name for path in paths}
    return SweepContents(
        Path(folder), common["models"], common["settings"], common["versions"],
        tuple(columns_in(paths[0])), tuple(one["data"] for one in made),
        sum(one["videos"] for one in made), sum(sum(one["left_out"].values()) for one in made),
        tuple(name for name in planned_parts(folder) if name not in existing), len(failed_shards(folder)),
    )  # fmt: skip
