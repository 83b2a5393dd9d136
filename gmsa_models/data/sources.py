"""What a user calls a source of clips - a path, a glob, `path#id`, a catalogue, `demo:N` - and the clips it names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from gmsa_models.data.clip import Clip
from gmsa_models.data.paths import (
    SkippedWarning,
    Source,
    SourceError,
    SourceNotFoundError,
    UnknownClipError,
    expand,
    skip_handler,
)
from gmsa_models.data.tfrecord.files import read_clip_at, read_file
from gmsa_models.data.tfrecord.framing import OnSkip, RecordFile, Span, read_each

__all__ = [
    "OnSkip",
    "SkippedWarning",
    "Source",
    "SourceError",
    "SourceNotFoundError",
    "UnknownClipError",
    "find_clip",
    "read_clips",
]

DEMO = "demo:"


def read_clips(
    source: Source, *, on_error: str = "fail", on_skip: OnSkip | None = None, verify: bool = True
) -> Iterator[Clip]:
    """Every clip that a source names, in order, one at a time.

    Args:
        source: a TFRecord file, a glob of them (read in sorted order), `file-or-glob#id` for one clip, a catalogue
            (`.parquet`) or `catalogue#id`, `demo:3` or `demo:0-8` (0 to 7), or a list of any of these.
        on_error: "fail" raises the first error; "skip" leaves out what cannot be read and goes on.
        on_skip: with "skip", called with each error; default: a `SkippedWarning`. `Skipped` counts them by kind.
        verify: check the checksums.

    Raises:
        TFRecordError: a file or record that cannot be read; names file, record and offset.
        SourceNotFoundError: a path or glob that matches nothing (at once, before any clip is read).
        UnknownClipError: an id that is not there.
        SourceError: a source that cannot be understood.
        CatalogError: a catalogue that cannot be read, or no longer fits its shards.
    """
    handler = skip_handler(on_error, on_skip)
    sources = [source] if isinstance(source, str | Path) else list(source)
    if not sources:
        raise SourceError("an empty list of sources; expected at least one path")
    readers = [_reader(one, handler, verify) for one in sources]
    return (clip for reader in readers for clip in reader())


def find_clip(paths: Sequence[Path], identity: str, on_skip: OnSkip | None = None) -> Clip:
    """The first clip with this id, found by reading on from the first file; a catalogue finds it at once.

    Only records that contain the id's bytes are taken apart.

    Args:
        paths: TFRecord files, searched in order.
        identity: the clip's id.
        on_skip: called with the error of each file or record that cannot be read, instead of raising it.

    Raises:
        UnknownClipError: no record has the id; says how many were looked at.
        TFRecordError: a record before the one wanted cannot be read, unless `on_skip` takes it.
    """
    looked = 0
    for path in paths:
        for clip in _candidates(path, identity.encode(), on_skip):
            looked += 1
            if clip is not None and clip.id == identity:
                return clip
    place = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files, {paths[0]} to {paths[-1]}"
    raise UnknownClipError(f"no clip {identity!r} among the {looked} records of {place}")


def _candidates(path: Path, needle: bytes, on_skip: OnSkip | None) -> Iterator[Clip | None]:
    """The clip of each record that contains `needle`, None for each other record."""

    def read(file: RecordFile, span: Span) -> Clip | None:
        return read_clip_at(file, span) if needle in file.data(span) else None

    return read_each(path, read, on_skip)


def _reader(source: str | Path, on_skip: OnSkip | None, verify: bool) -> Callable[[], Iterable[Clip]]:
    """Check a source now; return what reads it later."""
    text = str(source)
    if text.startswith(DEMO):
        return _demo_reader(text)
    path, identity = split_id(text)
    paths = expand(path)
    if path.endswith(".parquet"):
        from gmsa_models.data.catalog import catalog

        if identity is not None:
            return lambda: [catalog.open_clip(path, identity)]
        return lambda: catalog.read_catalog(path, on_skip)
    if identity is not None:
        return lambda: [find_clip(paths, identity, on_skip)]
    return lambda: (clip for path in paths for clip in read_file(path, on_skip, verify))


def split_id(source: str) -> tuple[str, str | None]:
    """Path and id of `path#id`. A '#' may stand in a file's name, or in an id after the name of a file that exists."""
    if "#" not in source or os.path.exists(source):  # False, where pathlib raises, for what is too long for a name
        return source, None
    parts = source.split("#")
    left = ["#".join(parts[:count]) for count in range(1, len(parts))]
    path = next((name for name in left if name and os.path.isfile(name)), left[-1])
    identity = source[len(path) + 1 :]
    if not path or not identity:
        raise SourceError(f"{source!r}: expected 'path#id', with something on both sides of '#'")
    return path, identity


def _demo_reader(source: str) -> Callable[[], Iterable[Clip]]:
    first, dash, last = source.removeprefix(DEMO).partition("-")
    try:
        start, stop = int(first), int(last) if dash else int(first) + 1
    except ValueError:
        raise SourceError(f"{source!r} is not a demo video; expected 'demo:3', or 'demo:0-8' for 0 to 7") from None
    from gmsa_models.data.montage import make as montage

    if not 0 <= start < stop <= montage.DEMO_VIDEOS:
        raise SourceError(f"{source!r}: demo videos are demo:0 to demo:{montage.DEMO_VIDEOS - 1}")
    return lambda: (montage.demo_clip(index) for index in range(start, stop))
