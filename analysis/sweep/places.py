"""Which file of a sweep's folder each shard has: it is known by what it holds and by where it lies, never by its name.

A shard's name tells it from the others in the folder. It is chosen when the shard is first planned beside others and
stays with its table, so that more shards in a later call change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from analysis.errors import SweepError
from analysis.sweep.plan import Shard, demo_range, demo_shard, name_of, source_id
from gmsa_models.data.file_names import HASH_DIGITS, HASHED, file_name

__all__ = ["check_apart", "part_name", "place_shards"]

SUFFIX = ".parquet"
LONGEST = 160  # bytes of a file's name before its suffix: temporary files add to it, and 255 is the most
Tables = Mapping[Path, Mapping[str, Any]]  # finished file -> the data of its provenance


def place_shards(
    shards: Sequence[Shard], folder: Path, tables: Tables, again: bool = False
) -> list[tuple[Shard, Path]]:
    """The file that each shard comes to, or has come to.

    Args:
        shards: of `find_shards`. Demo videos that some file has already are left to it.
        folder: of the sweep.
        tables: its finished files.
        again: a file of an earlier version, which does not say where its shard lay, may be of an earlier state of a
            shard of that name.

    Returns:
        Shards, called as they are in their files, and the files.

    Raises:
        SweepError: two shards, or two files, hold the same videos; a file of an earlier version of which it cannot be
            told whether it is of a shard as it was.
    """
    check_apart((path.name, data) for path, data in tables.items())
    shards = _without_finished(shards, tables)
    check_apart((shard.source, shard.data()) for shard in shards)
    places = _Places(folder, tables)
    for by_key in (places.by_content, places.by_source):
        for shard in shards:
            if shard not in places.of and (path := by_key(shard)) is not None:
                places.take(shard, path)
    for shard in shards:
        if shard not in places.of:
            places.of[shard] = places.earlier(shard, again) or places.new(shard)
    return [places.of[shard] for shard in shards]


def check_apart(of: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Refuse data that hold the same videos, which would count twice.

    Args:
        of: what they are called, and their part of a provenance.

    Raises:
        SweepError: names two.
    """
    seen: dict[tuple[Any, ...], str] = {}
    demo: list[tuple[int, int, str]] = []
    for name, data in of:
        if span := demo_range(data):
            demo.append((*span, name))
        elif data["fingerprint"]:
            first = seen.setdefault((data["bytes"], data["fingerprint"]), name)
            if first is not name:
                raise SweepError(
                    f"{first} and {name} are of the same bytes: their videos would count twice; leave one out"
                )
    demo.sort()
    for (_, stop, first), (start, _, second) in pairwise(demo):
        if start < stop:
            raise SweepError(f"{first} and {second} both hold demo video {start}, named twice; leave one out")


def part_name(name: str) -> str:
    """The name of the file of a shard of this name: the same where it is plain, else shortened, with a hash."""
    kept = name.removesuffix(".tfrecord").replace("/", "--").replace(":", "-")
    plain = (
        kept and kept.isascii() and kept.isprintable() and not set(kept) & set('\\*?"<>|') and kept.strip(". -") == kept
    )
    return (kept if plain and len(kept) <= LONGEST else file_name(name, LONGEST)) + SUFFIX


class _Places:
    """Files that are taken, and by which shards.

    Attributes:
        of: shard as it was given -> shard as it is called, and its file.
    """

    def __init__(self, folder: Path, tables: Tables) -> None:
        self.folder, self.tables = folder, tables
        self.of: dict[Shard, tuple[Shard, Path]] = {}
        self._contents = {_content(data): path for path, data in tables.items() if data["fingerprint"]}
        self._sources = {data["source_id"]: path for path, data in tables.items() if "source_id" in data}
        self._names = {str(data["name"]) for data in tables.values()}
        self._files = {path.name.casefold() for path in tables}
        self._free = dict(tables)

    def by_content(self, shard: Shard) -> Path | None:
        """The file of the same videos, wherever they lay."""
        return self._contents.get(_content(shard.data())) if shard.fingerprint else None

    def by_source(self, shard: Shard) -> Path | None:
        """The file of what lay there before."""
        path = self._sources.get(source_id(shard.source))
        return path if path in self._free else None

    def take(self, shard: Shard, path: Path) -> tuple[Shard, Path]:
        """Give the shard a file that is there, and its name."""
        self._free.pop(path)
        self.of[shard] = replace(shard, name=str(self.tables[path]["name"])), path
        return self.of[shard]

    def earlier(self, shard: Shard, again: bool) -> tuple[Shard, Path] | None:
        """The file of an earlier version, of a shard of that name, where there is one.

        Raises:
            SweepError: it may be of another shard, and is not to be made again.
        """
        path = next((path for path, data in self._free.items() if _may_be_of(data, shard)), None)
        if path is None:
            return None
        if shard.fingerprint and not again:
            raise SweepError(
                f"{path} is of a shard called {self.tables[path]['name']!r} with other bytes than {shard.source}, and "
                "was made by an earlier version, which did not note where it lay: do it again (--again) if the shard "
                "has changed, or choose another folder"
            )
        return self.take(shard, path)

    def new(self, shard: Shard) -> tuple[Shard, Path]:
        """A name and a file that nobody has."""
        parts = Path(shard.source).parts
        longer = (name_of(parts[-count:]) for count in range(1, len(parts) + 1) if count > shard.name.count("/"))
        last = f"{shard.name} {source_id(shard.source)}"  # a copy that was swept on another machine
        name = next((one for one in (shard.name, *longer) if one not in self._names), last)
        file = part_name(name)
        if file.casefold() in self._files:
            mark = source_id(shard.source)[:HASH_DIGITS]
            file = f"{file.removesuffix(SUFFIX)[:LONGEST]}{HASHED}{mark}{SUFFIX}"
        self._names.add(name)
        self._files.add(file.casefold())
        return replace(shard, name=name), self.folder / file


def _content(data: Mapping[str, Any]) -> tuple[Any, ...]:
    return data["bytes"], data["fingerprint"]


def _may_be_of(data: Mapping[str, Any], shard: Shard) -> bool:
    """True for a file of an earlier version whose shard's name fits where this shard lies."""
    return (
        "source_id" not in data
        and not demo_range(data)
        and f"/{name_of(Path(shard.source).parts)}".endswith(f"/{data['name']}")
    )


def _without_finished(shards: Sequence[Shard], tables: Tables) -> list[Shard]:
    """Shards; of demo videos those that files have already as they are there, and what lies between."""
    done = sorted(span for data in tables.values() if (span := demo_range(data)))
    remaining: dict[Shard, None] = {}
    for shard in shards:
        if (span := demo_range(shard.data())) is None:
            remaining[shard] = None
            continue
        at, stop = span
        for low, high in done:
            if low < stop and at < high:
                remaining |= {demo_shard(*each): None for each in ((at, low), (low, high)) if each[0] < each[1]}
                at = max(at, high)
        if at < stop:
            remaining[demo_shard(at, stop)] = None
    return list(remaining)
