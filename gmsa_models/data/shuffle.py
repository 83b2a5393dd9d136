"""Clips of many shards in shuffled order, for training: the same order for a seed and epoch, divided over ranks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from gmsa_models.data.clip import Clip
from gmsa_models.data.framing import RecordFile
from gmsa_models.data.index import RecordIndex, count_clips, index_records
from gmsa_models.data.paths import Source, SourceError
from gmsa_models.data.tfrecord import read_clip_at

__all__ = ["RecordIndex", "count_clips", "index_records", "shuffled_clips"]

_MOST_OPEN_FILES = 64


def shuffled_clips(
    source: Source,
    seed: int,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
    skip: int = 0,
    buffer: int | None = None,
) -> Iterator[Clip]:
    """One epoch of one process's share of the clips, shuffled.

    Every process gets the same number of clips, `count_clips(source) // world_size`, and no clip goes to two of them;
    the remainder is left out, another one each epoch.

    Args:
        source: TFRecord files or globs, or one catalogue (`.parquet`).
        seed, epoch: together they fix the order of all processes.
        rank: of this process, 0 to world_size - 1.
        world_size: how many processes share the clips.
        skip: clips of this epoch that this process has had already; they are not read.
        buffer: None shuffles everything with everything. A number shuffles shards, then only among that many records
            that follow each other, so that a disk or network that dislikes random access reads neighbours.

    Raises:
        SourceError: numbers that make no sense, or fewer clips than processes.
        TFRecordError: a record that cannot be read; names file, record and offset.
    """
    index = index_records(source)
    _check_shares(len(index), rank, world_size, skip, buffer)
    order = _epoch_order(index, seed, epoch, buffer)
    share = order[: len(order) // world_size * world_size][rank::world_size][skip:]
    return _read_in_order(index, share)


def _check_shares(records: int, rank: int, world_size: int, skip: int, buffer: int | None) -> None:
    if not 0 <= rank < world_size:
        raise SourceError(f"rank is {rank} of world_size {world_size}; expected 0 to world_size - 1")
    if records < world_size:
        raise SourceError(f"{records} clips for {world_size} processes; each needs at least one")
    if not 0 <= skip <= records // world_size:
        raise SourceError(f"skip is {skip}; a process has {records // world_size} clips an epoch")
    if buffer is not None and buffer < 1:
        raise SourceError(f"buffer is {buffer}; expected None or at least 1 record")


def _epoch_order(index: RecordIndex, seed: int, epoch: int, buffer: int | None) -> np.ndarray:
    random = np.random.default_rng([seed, epoch])
    if buffer is None:
        return random.permutation(len(index))
    rank_of_shard = random.permutation(len(index.paths))
    order = np.argsort(rank_of_shard[index.shard], kind="stable")
    for start in range(0, len(order), buffer):
        random.shuffle(order[start : start + buffer])
    return order


def _read_in_order(index: RecordIndex, order: np.ndarray) -> Iterator[Clip]:
    files: OrderedDict[int, RecordFile] = OrderedDict()
    try:
        for record in order.tolist():
            shard = int(index.shard[record])
            file = files.pop(shard, None) or RecordFile(index.paths[shard])
            files[shard] = file
            if len(files) > _MOST_OPEN_FILES:
                files.popitem(last=False)[1].close()
            yield read_clip_at(file, index.span(record))
    finally:
        for file in files.values():
            file.close()
