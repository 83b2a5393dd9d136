"""What a user calls a source of clips - a path, a glob, `path#id`, a catalogue, `demo:N` - and the clips it names."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from gmsa_models.data.clip import Clip
from gmsa_models.data.framing import RecordFile, TFRecordError
from gmsa_models.data.tfrecord import read_clip_at, read_file

Source = str | Path | Sequence[str | Path]
OnSkip = Callable[[TFRecordError], None]
DEMO = "demo:"


class SourceError(ValueError):
    """A source that cannot be understood."""


class SourceNotFoundError(FileNotFoundError):
    """A path or glob that matches no file."""


class UnknownClipError(KeyError):
    """An id that is not in the source; the message says where it was looked for."""

    def __str__(self) -> str:
        return str(self.args[0])


class SkippedWarning(UserWarning):
    """A record or file that was left out because it cannot be read."""


def read_clips(
    source: Source, *, on_error: str = "fail", on_skip: OnSkip | None = None, verify: bool = True
) -> Iterator[Clip]:
    """Every clip that a source names, in order, one at a time.

    Args:
        source: a TFRecord file, a glob of them (read in sorted order), `file-or-glob#id` for one clip, a catalogue
            (`.parquet`) or `catalogue#id`, `demo:3` or `demo:0-8` (0 to 7), or a list of any of these.
        on_error: "fail" raises the first error; "skip" leaves out what cannot be read and goes on.
        on_skip: with "skip", called with each error; default: a `SkippedWarning`.
        verify: check the checksums.

    Raises:
        TFRecordError: a file or record that cannot be read; names file, record and offset.
        SourceNotFoundError: a path or glob that matches nothing (at once, before any clip is read).
        UnknownClipError: an id that is not there.
        SourceError: a source that cannot be understood.
    """
    handler = _skip_handler(on_error, on_skip)
    readers = [_reader(one, handler, verify) for one in _as_list(source)]
    return (clip for reader in readers for clip in reader())


def expand(source: str | Path) -> list[Path]:
    """Files that a path or glob names, sorted.

    Raises:
        SourceNotFoundError: there is none.
    """
    if Path(source).exists():
        return [Path(source)]
    if not glob.has_magic(str(source)):
        raise SourceNotFoundError(f"no file {str(source)!r} (looked in {Path.cwd()})")
    paths = sorted(Path(name) for name in glob.glob(str(source), recursive=True))
    if not paths:
        raise SourceNotFoundError(f"no file matches {str(source)!r} (looked in {Path.cwd()})")
    return paths


def _skip_handler(on_error: str, on_skip: OnSkip | None) -> OnSkip | None:
    if on_error == "fail":
        return None
    if on_error != "skip":
        raise SourceError(f"on_error is {on_error!r}; expected 'fail' or 'skip'")
    return on_skip or (lambda error: warnings.warn(f"skipped: {error}", SkippedWarning, stacklevel=3))


def _as_list(source: Source) -> list[str | Path]:
    sources = [source] if isinstance(source, str | Path) else list(source)
    if not sources:
        raise SourceError("an empty list of sources; expected at least one path")
    return sources


def _reader(source: str | Path, on_skip: OnSkip | None, verify: bool) -> Callable[[], Iterable[Clip]]:
    """Check a source now; return what reads it later."""
    text = str(source)
    if text.startswith(DEMO):
        return _demo_reader(text)
    path, identity = _split_id(text)
    if path.endswith(".parquet"):
        from gmsa_models.data import catalog

        if identity is not None:
            return lambda: [catalog.open_clip(path, identity)]
        expand(path)
        return lambda: catalog.read_catalog(path, on_skip)
    paths = expand(path)
    if identity is not None:
        return lambda: [find_clip(paths, identity, on_skip)]
    return lambda: (clip for path in paths for clip in read_file(path, on_skip, verify))


def _split_id(source: str) -> tuple[str, str | None]:
    if "#" not in source or Path(source).exists():
        return source, None
    path, _, identity = source.rpartition("#")
    if not identity:
        raise SourceError(f"{source!r} ends in '#'; expected an id after it, or no '#'")
    return path, identity


def find_clip(paths: Sequence[Path], identity: str, on_skip: OnSkip | None = None) -> Clip:
    """The first clip with this id, found by reading on from the first file; a catalogue finds it at once.

    Only records that contain the id's bytes are taken apart.

    Raises:
        UnknownClipError: no record has the id; says how many were looked at.
    """
    looked, needle = 0, identity.encode()
    for path in paths:
        try:
            with RecordFile(path) as file:
                for span in file.spans():
                    looked += 1
                    if needle in file.data(span):
                        clip = read_clip_at(file, span)
                        if clip.id == identity:
                            return clip
        except TFRecordError as error:
            if on_skip is None:
                raise
            on_skip(error)
    place = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files, {paths[0]} to {paths[-1]}"
    raise UnknownClipError(f"no clip {identity!r} among the {looked} records of {place}")


def _demo_reader(source: str) -> Callable[[], Iterable[Clip]]:
    first, dash, last = source.removeprefix(DEMO).partition("-")
    try:
        start, stop = int(first), int(last) if dash else int(first) + 1
    except ValueError:
        raise SourceError(f"{source!r} is not a demo video; expected 'demo:3', or 'demo:0-8' for 0 to 7") from None
    from gmsa_models.data import montage

    if not 0 <= start < stop <= montage.DEMO_VIDEOS:
        raise SourceError(f"{source!r}: demo videos are demo:0 to demo:{montage.DEMO_VIDEOS - 1}")
    return lambda: (montage.demo_clip(index) for index in range(start, stop))
