"""Index: where every record of some shards lies, so that any of them is read at once, in any order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from gmsa_models.data.framing import RecordFile, Span
from gmsa_models.data.paths import Source, SourceError, expand


@dataclass(frozen=True)
class RecordIndex:
    """Where every record of some shards lies.

    Attributes:
        paths: the shards.
        shard: (records,) number of each record's shard in `paths`.
        number: (records,) of the record in its shard.
        offset: (records,) byte at which it starts.
        length: (records,) bytes of data.
    """

    paths: tuple[Path, ...]
    shard: np.ndarray
    number: np.ndarray
    offset: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.shard)

    def span(self, record: int) -> Span:
        """Where record number `record` of all shards lies in its own."""
        return Span(int(self.number[record]), int(self.offset[record]), int(self.length[record]))


def index_records(source: Source) -> RecordIndex:
    """Find every record of some shards, by their headers or from a catalogue.

    An index by headers is kept in memory for as long as the files stay as they are.

    Args:
        source: TFRecord files or globs, or one catalogue (`.parquet`), which saves a look at every header.

    Raises:
        TFRecordError: a header that cannot be believed.
        SourceNotFoundError: a path or glob that matches nothing.
        CatalogError: not a catalogue, or a shard is missing or has changed.
        SourceError: files that hold no record.
    """
    paths = expand(source)
    catalogs = [path for path in paths if path.suffix == ".parquet"]
    if catalogs and len(paths) > 1:
        raise SourceError(
            f"{catalogs[0]}: a catalogue is a source by itself; it was given with {len(paths) - 1} others"
        )
    if catalogs:
        from gmsa_models.data import catalog

        paths, shard, places = catalog.read_places(catalogs[0])
    else:
        found = [_index_file(path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths]
        shard = np.repeat(np.arange(len(paths)), [place.shape[1] for place in found])
        places = np.concatenate(found, axis=1)
    return RecordIndex(tuple(paths), shard, *places)


@lru_cache(maxsize=8192)
def _index_file(path: Path, modified: int, size: int) -> np.ndarray:
    """(3, records): number, offset, length. `modified` and `size` are there so that a changed file is read again."""
    with RecordFile(path) as file:
        spans = [(span.number, span.offset, span.length) for span in file.spans()]
    return np.array(spans, np.int64).T


def count_clips(source: Source) -> int:
    """How many records some shards hold."""
    return len(index_records(source))
