"""Clips of many shards in shuffled order, for training: the same order for a seed and epoch, divided over ranks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Integer

from gmsa_models.data.clip import Clip
from gmsa_models.data.errors import OnSkip, UnreadableError
from gmsa_models.data.formats import open_clips
from gmsa_models.data.index import RecordIndex, count_clips, index_records
from gmsa_models.data.paths import Source
from gmsa_models.data.reader import ClipFile
from gmsa_models.errors import ArgumentError

__all__ = ["RecordIndex", "count_clips", "index_records", "shuffled_clips"]

_MOST_OPEN_FILES, _MOST_MEMORY = 64, 1 << 30  # bytes of open files that stay in memory, but for the last opened


def shuffled_clips(
    source: Source,
    seed: int,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
    skip: int = 0,
    buffer: int | None = None,
    on_skip: OnSkip | None = None,
    check: Callable[[Clip], None] = lambda clip: None,
    part: Integer[np.ndarray, " places"] | None = None,
) -> Iterator[Clip]:
    """One epoch of one process's share of the clips, shuffled.

    Every process gets the same number of clips, `count_clips(source) // world_size`, and no clip goes to two of them;
    the remainder is left out, another one each epoch.

    Args:
        source: files of clips or globs, or one catalogue (`.parquet`).
        seed, epoch: together they fix the order of all processes.
        rank: of this process, 0 to world_size - 1.
        world_size: how many processes share the clips.
        skip: clips of this epoch that this process has had already; they are not read.
        buffer: None shuffles everything with everything. A number shuffles shards, then only among that many records
            that follow each other, so that a disk or network that dislikes random access reads neighbours.
        on_skip: called with the error of each record that cannot be read, in whose place the next of the share that can
            be is read: shares stay equal, and an epoch that is entered in its middle goes on the same.
        check: raises an `UnreadableError` for a clip that cannot be used, which then counts as one that cannot be read.
        part: places of the clips that are used, among all in the order of the files; None: all.

    Raises:
        ArgumentError: numbers that make no sense, fewer clips than processes, or none that can be read.
        ClipFileError: a clip that cannot be read, unless `on_skip` takes it; names the file and the clip.
    """
    index = index_records(source, on_skip)
    _check_shares(len(index) if part is None else len(part), rank, world_size, skip, buffer)
    order = _epoch_order(index, seed, epoch, buffer)
    order = order if part is None else order[np.isin(order, part)]
    share = order[: len(order) // world_size * world_size][rank::world_size]
    return _read_in_order(_Share(index, share, on_skip, check), skip)


def _check_shares(records: int, rank: int, world_size: int, skip: int, buffer: int | None) -> None:
    if not 0 <= rank < world_size:
        raise ArgumentError(f"rank is {rank} of world_size {world_size}; expected 0 to world_size - 1")
    if records < world_size:
        raise ArgumentError(f"{records} clips for {world_size} processes; each needs at least one")
    if not 0 <= skip <= records // world_size:
        raise ArgumentError(f"skip is {skip}; a process has {records // world_size} clips an epoch")
    if buffer is not None and buffer < 1:
        raise ArgumentError(f"buffer is {buffer}; expected None or at least 1 record")


def _epoch_order(index: RecordIndex, seed: int, epoch: int, buffer: int | None) -> np.ndarray:
    random = np.random.default_rng([seed, epoch])
    if buffer is None:
        return random.permutation(len(index))
    rank_of_shard = random.permutation(len(index.paths))
    order = np.argsort(rank_of_shard[index.shard], kind="stable")
    for start in range(0, len(order), buffer):
        random.shuffle(order[start : start + buffer])
    return order


@dataclass(frozen=True)
class _Share:
    """One process's records in the order of an epoch, and the files that are open."""

    index: RecordIndex
    order: np.ndarray
    on_skip: OnSkip | None
    check: Callable[[Clip], None]
    files: OrderedDict[int, ClipFile] = field(default_factory=OrderedDict)

    def read(self, place: int) -> Clip:
        """The clip at a place, or the next one that can be read, past the end and on from the start."""
        for step in range(len(self.order)):
            record = int(self.order[(place + step) % len(self.order)])
            try:
                clip = self._file(int(self.index.shard[record])).clip(self.index.place(record))
                self.check(clip)
            except UnreadableError as error:
                if self.on_skip is None:
                    raise
                self.on_skip(error)
            else:
                return clip
        raise ArgumentError(f"none of {len(self.order)} records can be read")

    def _file(self, shard: int) -> ClipFile:
        file = self.files.pop(shard, None)
        if file is None or file.memory:
            self._make_room()
        self.files[shard] = open_clips(self.index.paths[shard]) if file is None else file
        return self.files[shard]

    def _make_room(self) -> None:
        while self.files and (
            len(self.files) >= _MOST_OPEN_FILES or sum(file.memory for file in self.files.values()) > _MOST_MEMORY
        ):
            self.files.popitem(last=False)[1].close()


def _read_in_order(share: _Share, skip: int) -> Iterator[Clip]:
    try:
        for place in range(skip, len(share.order)):
            yield share.read(place)
    finally:
        for file in share.files.values():
            file.close()
