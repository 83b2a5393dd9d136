"""Fingerprints: a few numbers that tell one set of clips from another by what is in it, without reading all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from gmsa_models.data.clip import Clip
from gmsa_models.data.demo_videos import is_demo
from gmsa_models.data.errors import OnSkip
from gmsa_models.data.formats import open_clips
from gmsa_models.data.index import RecordIndex, index_records
from gmsa_models.data.paths import Source
from gmsa_models.data.sources import read_clips, split_id

__all__ = ["fingerprint_clips", "fingerprint_source"]

# How many records' checksums, or clips in hand, are looked at; 65,536 checksums take 0.2 s out of the page cache.
MOST_CHECKSUMS, MOST_CLIPS = 65_536, 256


def fingerprint_source(source: Source, on_skip: OnSkip | None = None) -> str:
    """A digest of the clips that a source names, in their order.

    Of files and catalogues it covers the length of every clip and the checksums (`ClipFile.checksum`) of
    `MOST_CHECKSUMS` of them, evenly spaced (of all, where they are no more). Names and dates of files are not part of
    it: data that was moved or copied is the same, files of a glob that change their order are not.

    Args:
        source: as `read_clips` takes it.
        on_skip: called with the error of each file that cannot be read, instead of raising it.

    Returns:
        SHA-256, as hex.

    Raises:
        SourceNotFoundError, ArgumentError, ClipFileError, UnreadableError: as `index_records` and `read_clips` do.
    """
    digest = hashlib.sha256()
    for one in [source] if isinstance(source, str | Path) else source:
        if is_demo(one):
            digest.update(str(one).encode())  # its clips are part of this package
        elif split_id(str(one))[1] is not None:
            digest.update(fingerprint_clips(list(read_clips(one))).encode())
        else:
            _add_records(digest, index_records(one, on_skip))
    return digest.hexdigest()


def fingerprint_clips(clips: Sequence[Clip]) -> str:
    """A digest of clips in hand: their number, and id, labels, shots and features of `MOST_CLIPS`, evenly spaced.

    Args:
        clips: any sequence, which may make each clip when it is asked.

    Returns:
        SHA-256, as hex.
    """
    digest = hashlib.sha256(json.dumps(["clips", len(clips)]).encode())
    for place in _spread(len(clips), MOST_CLIPS).tolist():
        clip = clips[place]
        shapes = {name: [str(values.dtype), *values.shape] for name, values in clip.features.items()}
        about = [clip.id, [int(label) for label in clip.labels], shapes, *([clip.shots] if clip.shots else [])]
        digest.update(json.dumps(about).encode())
        for values in clip.features.values():
            digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _add_records(digest: hashlib._Hash, index: RecordIndex) -> None:
    digest.update(json.dumps(["records", len(index)]).encode())
    digest.update(index.length.astype("<i8").tobytes())
    digest.update(np.array(list(_checksums(index)), "<u4").tobytes())


def _checksums(index: RecordIndex) -> Iterator[int]:
    """Checksums of some of the clips, in their order."""
    chosen = _spread(len(index), MOST_CHECKSUMS)
    starts = np.flatnonzero(np.diff(index.shard[chosen], prepend=-1))  # where the next file begins
    for group in np.split(chosen, starts[1:]) if len(chosen) else ():
        with open_clips(index.paths[int(index.shard[group[0]])]) as file:
            for record in group.tolist():
                yield file.checksum(index.place(record))


def _spread(count: int, most: int) -> Integer[np.ndarray, places]:
    """Up to `most` places among `count`, evenly spaced, the first and the last among them."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64)
