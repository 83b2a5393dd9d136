"""Index: where every clip of some files lies, so that any of them is read at once, in any order."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from gmsa_models.data.errors import ClipFileError, OnSkip
from gmsa_models.data.formats import is_catalog, open_clips
from gmsa_models.data.paths import Source, expand
from gmsa_models.data.reader import Place
from gmsa_models.errors import ArgumentError

__all__ = ["RecordIndex", "count_clips", "index_records"]


@dataclass(frozen=True)
class RecordIndex:
    """Where every clip of some files, called shards, lies; see `reader.Place`.

    Attributes:
        paths: the shards.
        shard: (records,) number of each clip's shard in `paths`.
        number: (records,) of the clip in its shard.
        offset: (records,) where it starts, as its format counts.
        length: (records,) how much it takes, as its format counts.
    """

    paths: tuple[Path, ...]
    shard: np.ndarray
    number: np.ndarray
    offset: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.shard)

    def place(self, record: int) -> Place:
        """Where clip number `record` of all shards lies in its own."""
        return Place(int(self.number[record]), int(self.offset[record]), int(self.length[record]))


def index_records(source: Source, on_skip: OnSkip | None = None) -> RecordIndex:
    """Find every clip of some files, as their formats tell without reading one, or from a catalogue.

    The index of a file is kept in memory for as long as the file stays as it is.

    Args:
        source: files of clips or globs, or one catalogue (`.parquet`), which saves a look at every file.
        on_skip: called with each reason not to find all records of a file, instead of raising it; those before the
            fault stay. Data that does not match its checksum is noticed only when it is read.

    Raises:
        ClipFileError: a file whose clips cannot be told, unless `on_skip` takes it.
        SourceNotFoundError: a path or glob that matches nothing.
        UnreadableError: not a catalogue; a shard that is missing or has changed, unless `on_skip` takes it.
        ArgumentError: files that hold no record.
    """
    paths = expand(source)
    catalogs = [path for path in paths if is_catalog(path)]
    if catalogs and len(paths) > 1:
        raise ArgumentError(
            f"{catalogs[0]}: a catalogue is a source by itself; it was given with {len(paths) - 1} others"
        )
    if catalogs:
        from gmsa_models.data.catalog import catalog

        paths, shard, places = catalog.read_places(catalogs[0], on_skip)
    else:
        arrays = [_places_of(path, on_skip) for path in paths]
        shard = np.repeat(np.arange(len(paths)), [place.shape[1] for place in arrays])
        places = np.concatenate(arrays, axis=1)
    return RecordIndex(tuple(paths), shard, *places)


def _places_of(path: Path, on_skip: OnSkip | None) -> np.ndarray:
    about = path.stat()
    places, error = _index_file(path, about.st_mtime_ns, about.st_size)
    if error is not None:
        if on_skip is None:
            raise error
        on_skip(error)
    return places


@lru_cache(maxsize=8192)
def _index_file(path: Path, modified: int, size: int) -> tuple[np.ndarray, ClipFileError | None]:
    """(3, records): number, offset, length; and what keeps the rest from being found.

    `modified` and `size` are there so that a changed file is read again.
    """
    flat, error = array("q"), None  # 24 bytes a record: a file may hold millions of empty ones
    try:
        with open_clips(path) as file:
            for place in file.places():
                flat.extend((place.number, place.offset, place.length))
    except ClipFileError as caught:
        error = caught.with_traceback(None)
    return np.array(flat, np.int64).reshape(-1, 3).T, error


def count_clips(source: Source, on_skip: OnSkip | None = None) -> int:
    """How many clips some files hold; `on_skip` as for `index_records`."""
    return len(index_records(source, on_skip))
