"""Which video files a user names, and an id for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gmsa_models.data.errors import NOT_GIVEN, ClipFileError, OnSkip
from gmsa_models.data.paths import SourceNotFoundError, expand
from gmsa_models.data.video.decode import is_video
from gmsa_models.errors import ArgumentError

__all__ = ["clip_ids", "video_files"]


def video_files(sources: Sequence[str], on_skip: OnSkip | None = None) -> list[Path]:
    """The files that paths and globs name, each once, in their order; those of one glob are sorted.

    Args:
        sources: paths of files, or globs.
        on_skip: takes the error of each source that names no file; None: it is raised.

    Raises:
        SourceNotFoundError: a source names no file, or all of them together none.
        ClipFileError: a source is a folder; the message has the globs of the videos in it.
    """
    paths: dict[Path, None] = {}
    for source in sources:
        try:
            paths |= dict.fromkeys(_files(source))
        except SourceNotFoundError:
            if on_skip is None:
                raise
            on_skip(ClipFileError(source, "names no file", kind=NOT_GIVEN))
        except ClipFileError as error:
            if on_skip is None:
                raise
            on_skip(error)
    if not paths:
        raise SourceNotFoundError(f"{', '.join(map(repr, sources))}: no file at all (looked in {Path.cwd()})")
    return list(paths)


def clip_ids(videos: Sequence[Path]) -> dict[Path, str]:
    """An id for each video: its name without the ending, with as many folders before it as tell it from the others.

    Raises:
        ArgumentError: a video given twice.
    """
    if len(set(map(Path.resolve, videos))) < len(videos):
        twice = Counter(map(Path.resolve, videos)).most_common(1)[0][0]
        raise ArgumentError(f"{twice} is given twice; expected every video once")
    ids = {video: video.stem for video in videos}
    for depth in range(2, max((len(video.resolve().parts) for video in videos), default=0) + 1):
        counts = Counter(ids.values())
        if counts.most_common(1)[0][1] == 1:
            break
        for video, identity in ids.items():
            if counts[identity] > 1:
                ids[video] = "/".join([*video.resolve().parts[-depth:-1], video.stem])
    counts = Counter(ids.values())
    return {video: identity if counts[identity] == 1 else video.name for video, identity in ids.items()}


def _files(source: str) -> list[Path]:
    if not Path(source).is_dir():
        return expand(source)
    globs = sorted(
        f"{Path(source, pattern).parent}/*{ending}"
        for pattern in ("*", "*/*")
        for ending in {path.suffix for path in Path(source).glob(pattern) if is_video(path)}
    )
    remedy = f"give {' '.join(map(repr, globs))}" if globs else "give the files, or a glob of them: no video lies in it"
    raise ClipFileError(source, f"is a folder, not a video; {remedy}", kind="folder")
