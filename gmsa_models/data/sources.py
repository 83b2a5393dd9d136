"""What a user calls a source of clips - a path, a glob, `path#id`, a catalogue, `demo:N` - and the clips it names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from gmsa_models.data.clip import Clip
from gmsa_models.data.demo_videos import demo_videos, is_demo
from gmsa_models.data.errors import OnSkip
from gmsa_models.data.formats import is_catalog, open_clips, read_file
from gmsa_models.data.paths import SkippedWarning, Source, SourceNotFoundError, expand, skip_handler
from gmsa_models.data.reader import ClipFile, Place, read_each
from gmsa_models.errors import ArgumentError, UnknownNameError

__all__ = ["OnSkip", "SkippedWarning", "Source", "SourceNotFoundError", "read_clips", "split_id", "with_dataset"]


def read_clips(
    source: Source,
    *,
    on_error: str = "fail",
    on_skip: OnSkip | None = None,
    verify: bool = True,
    dataset: str | None = None,
) -> Iterator[Clip]:
    """Every clip that a source names, in order, one at a time.

    Args:
        source: a file of clips (see `formats.FORMATS`), a glob of them (read in sorted order), `file-or-glob#id` for
            one clip, a catalogue (`.parquet`) or `catalogue#id`, `demo:3` or `demo:0-8` (0 to 7), or a list of these.
        on_error: "fail" raises the first error; "skip" leaves out what cannot be read and goes on.
        on_skip: with "skip", called with each error; default: a `SkippedWarning`. `Skipped` counts them by kind.
        verify: check the checksums.
        dataset: whose classes the labels count, whatever the files say; default: as they say.

    Raises:
        ClipFileError: a file or clip that cannot be read (a TFRecordError, for example); names both.
        SourceNotFoundError: a path or glob that matches nothing (at once, before any clip is read).
        UnknownNameError: an id that is not there.
        ArgumentError: a source that cannot be understood.
        UnreadableError: a catalogue that cannot be read, or no longer fits its shards.
    """
    handler = skip_handler(on_error, on_skip)
    sources = [source] if isinstance(source, str | Path) else list(source)
    if not sources:
        raise ArgumentError("an empty list of sources; expected at least one path")
    readers = [_reader(one, handler, verify) for one in sources]
    return with_dataset((clip for reader in readers for clip in reader()), dataset)


def with_dataset(clips: Iterable[Clip], dataset: str | None) -> Iterator[Clip]:
    """Clips whose labels are said to be of a data set; as they are where it is None."""
    return iter(clips) if dataset is None else (replace(clip, dataset=dataset) for clip in clips)


def find_clip(paths: Sequence[Path], identity: str, on_skip: OnSkip | None = None) -> Clip:
    """The first clip with this id, found by reading on from the first file; a catalogue finds it at once.

    Only clips that may have the id, by what their format can tell without reading them, are taken apart.

    Args:
        paths: files of clips, searched in order.
        identity: the clip's id.
        on_skip: called with the error of each file or record that cannot be read, instead of raising it.

    Raises:
        UnknownNameError: no record has the id; says how many were read.
        ClipFileError: a clip before the one wanted cannot be read, unless `on_skip` takes it.
    """
    count = 0
    for path in paths:
        for clip in _candidates(path, identity, on_skip):
            count += 1
            if clip is not None and clip.id == identity:
                return clip
    place = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files, {paths[0]} to {paths[-1]}"
    raise UnknownNameError(f"no clip {identity!r} among the {count} records of {place}")


def _candidates(path: Path, identity: str, on_skip: OnSkip | None) -> Iterator[Clip | None]:
    """The clip of each place that may have the id, None for each other place."""

    def read(file: ClipFile, place: Place) -> Clip | None:
        return file.clip(place) if file.may_be(place, identity) else None

    return read_each(path, open_clips, read, on_skip)


def _reader(source: str | Path, on_skip: OnSkip | None, verify: bool) -> Callable[[], Iterable[Clip]]:
    """Check a source now; return what reads it later."""
    text = str(source)
    if is_demo(text):
        return _demo_reader(text)
    path, identity = split_id(text)
    paths = expand(path)
    if any(map(is_catalog, paths)):
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
        raise ArgumentError(f"{source!r}: expected 'path#id', with something on both sides of '#'")
    return path, identity


def _demo_reader(source: str) -> Callable[[], Iterable[Clip]]:
    videos = demo_videos(source)
    from gmsa_models.data.montage import make as montage

    return lambda: (montage.demo_clip(index) for index in videos)
