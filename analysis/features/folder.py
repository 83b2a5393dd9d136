"""A folder of features of many videos: a file each, made by any number of processes; what is there is not made again.

A file is named by the clip's id and by the content of its video, and holds the clip as a TFRecord: the format in which
a clip keeps all that is known of it (segments, spaces with the hash of their weights, times of pictures), which other
software reads too, and whose clips training shuffles and catalogues find without reading the rest. A video of five
minutes takes about 2 MB, so one file a video is as large as a shard of YouTube-8M.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from analysis.features.clip import NO_SOUND, video_clip, video_spaces, with_shots
from analysis.features.digests import file_digest
from analysis.features.extractor import AudioExtractor, Picture, VisualExtractor
from analysis.features.labels import VideoLabel
from analysis.features.registry import open_audio, open_visual
from analysis.features.video_files import clip_ids
from gmsa_models.data import write_clips
from gmsa_models.data.atomic import remove_leftovers, replaced_when_done
from gmsa_models.data.clip import Clip, Segment
from gmsa_models.data.errors import NOT_GIVEN, ClipFileError, OnSkip, UnreadableError, brief, is_plain
from gmsa_models.data.feature_folder import (
    DIGITS,
    MARK,
    PROXY,
    SHARD,
    THUMBNAILS,
    clip_file,
    content_of,
    folder_files,
    write_classes,
)
from gmsa_models.data.lock import locked
from gmsa_models.data.paths import skip_handler
from gmsa_models.data.sources import read_clips
from gmsa_models.data.spaces import LONGEST_NAME, FeatureSpace, is_name
from gmsa_models.data.video.decode import VideoFile
from gmsa_models.data.video.proxy import video_proxy, whole_bytes
from gmsa_models.data.video.thumbnails import Thumbnails, ThumbnailSheet, read_thumbnails
from gmsa_models.errors import ArgumentError, WorkerError
from gmsa_models.workers import WorkerContext, leave_if_imported

__all__ = ["ExtractorNames", "FolderSummary", "cached_clip", "write_features"]


@dataclass(frozen=True)
class ExtractorNames:
    """How videos become features.

    Attributes:
        visual: an extractor of pictures as `open_visual` takes it; "": none.
        audio: an extractor of sound as `open_audio` takes it; "": none.
        rate: frames a second.
        device: where extractors run.
    """

    visual: str
    audio: str
    rate: float = 1.0
    device: str = "cpu"

    def opened(self) -> tuple[VisualExtractor | None, AudioExtractor | None]:
        """The extractors, loaded once a process."""
        return _opened(self)

    def spaces(self) -> dict[str, FeatureSpace]:
        """Stream -> the space of its features."""
        return video_spaces(*self.opened(), self.rate)


@dataclass(frozen=True)
class FolderSummary:
    """What a folder was given.

    Attributes:
        made: videos whose features were made.
        kept: videos whose features were there.
        frames: of all these videos.
        silent: how many of them have no sound, where sound is among the features.
        unlabelled: how many of them have no label, where labels were given.
        classes: names, in the order of the labels.
        replaced: ids of videos that were there with another content, whose features are gone.
        cut: ids of videos that end before a label of theirs does; it was cut there.
        copies: ids of videos of the folder that are the same, byte for byte: a tuple a content that lies there twice.
    """

    made: int
    kept: int
    frames: int
    silent: int
    unlabelled: int
    classes: tuple[str, ...]
    replaced: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    copies: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class _Task:
    """One video."""

    video: Path
    identity: str
    folder: Path
    names: ExtractorNames
    labels: tuple[int, ...] = ()
    segments: tuple[Segment, ...] = ()
    dataset: str = ""
    thumbnails: bool = True
    proxy: bool = False


@dataclass(frozen=True)
class _Outcome:
    """What became of a video."""

    identity: str
    path: Path
    made: bool
    frames: int
    silent: bool
    replaced: bool  # features of another content gave way
    cut: bool  # it ends before one of its labels


def write_features(
    videos: Sequence[Path],
    folder: str | Path,
    names: ExtractorNames,
    labels: Mapping[Path, tuple[VideoLabel, ...]] | None = None,
    *,
    dataset: str = "",
    thumbnails: bool = True,
    proxy: bool = False,
    processes: int = 1,
    on_error: str = "fail",
    on_skip: OnSkip | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FolderSummary:
    """Features of videos, a file each; those that are there are kept, with the labels given now, and get their shots.

    Args:
        videos: files, none twice.
        folder: made if it is absent.
        names: how features are made.
        labels: of each video; a label with a span becomes a segment too.
        dataset: whose classes the labels count; "": not said.
        thumbnails: write the pictures of each video's frames too, as one small WebP file.
        proxy: write a small copy of each video too, which browsers play: VP9 and Opus in WebM, 240 pixels high, at most
            1 MB a minute.
        processes: videos at once; 1: in this process.
        on_error, on_skip: see `read_clips`; a video that cannot be read is left out with "skip".
        progress: called with the videos done and their number.

    Raises:
        ClipFileError: the first video that cannot be read, unless it is skipped; what is finished is kept.
        UnknownNameError, ArgumentError, ConfigError, CaptureError, ImportError: extractors that cannot be loaded.
        OutputError: another process writes to the folder.
        WorkerError: a process was lost, or cannot be started.
    """
    if processes > 1:
        leave_if_imported()
    if not is_name(dataset):
        raise ArgumentError(
            f"the classes are of {brief(dataset)}; expected a name of at most {LONGEST_NAME} plain characters: give "
            "a dataset (--dataset)"
        )
    handler, folder, labels = skip_handler(on_error, on_skip), Path(folder), labels or {}
    names.opened()  # what cannot be loaded is said before anything is written
    with locked(folder, "features"):
        remove_leftovers(folder, f"*{SHARD}", f"*{THUMBNAILS}", f"*{PROXY}")
        classes = write_classes(folder, {each.name for several in labels.values() for each in several})
        tasks = [
            _labelled(
                _Task(video, identity, folder, names, dataset=dataset, thumbnails=thumbnails, proxy=proxy),
                labels.get(video, ()), classes,
            )
            for video, identity in clip_ids(videos).items()
        ]  # fmt: skip
        outcomes: list[_Outcome] = []
        progress(0, len(tasks))
        for done, outcome in enumerate(_outcomes(tasks, processes), 1):
            if isinstance(outcome, UnreadableError):
                if handler is None:
                    raise outcome
                handler(outcome)
            else:
                outcomes.append(outcome)
            progress(done, len(tasks))
    return FolderSummary(
        sum(each.made for each in outcomes), sum(not each.made for each in outcomes),
        sum(each.frames for each in outcomes), sum(each.silent for each in outcomes),
        sum(not labels.get(video) for video in videos) if any(labels.values()) else 0, classes,
        tuple(sorted(each.identity for each in outcomes if each.replaced)),
        tuple(sorted(each.identity for each in outcomes if each.cut)),
        _copies(folder, {each.path.name: each.identity for each in outcomes}),
    )  # fmt: skip


def cached_clip(
    video: Path, folder: Path, names: ExtractorNames, progress: Callable[[int, int], None] | None = None
) -> tuple[Clip, Thumbnails | None]:
    """The features and thumbnails of one video, from a folder where they are kept by the video's content alone.

    Args:
        video: a file.
        folder: made if it is absent.
        names: how features are made.
        progress: called with the frames done and their number.

    Raises:
        ClipFileError: the video cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    task = _Task(video, video.stem, folder, names)
    digest = _digest(task)
    own, stored = clip_file(folder, task.identity, digest), None
    for path in [own, *sorted(folder.glob(f"*{MARK}{digest[:DIGITS]}{SHARD}"))]:  # a copy may have another name
        if (stored := _stored(path, task)) is not None:
            break
    else:
        path = own
    clip = _made(task, own, progress) if stored is None else with_shots(stored, video)
    if clip is not stored:
        write_clips(path, [clip])
    clip = replace(clip, id=task.identity, source=str(video))
    return clip, read_thumbnails(path.with_suffix(THUMBNAILS), clip.frames)


def _labelled(task: _Task, labels: Sequence[VideoLabel], classes: Sequence[str]) -> _Task:
    numbers = {name: number for number, name in enumerate(classes)}
    segments = tuple(Segment(*each.span, (numbers[each.name],)) for each in labels if each.span is not None)
    return replace(task, labels=tuple(sorted({numbers[each.name] for each in labels})), segments=segments)


def _outcomes(tasks: Sequence[_Task], processes: int) -> Iterator[_Outcome | UnreadableError]:
    """What became of each video, as they end."""
    if processes == 1 or len(tasks) < 2:
        yield from map(_do, tasks)
        return
    context = WorkerContext()
    pool = ProcessPoolExecutor(min(processes, len(tasks)), context, initializer=_one_thread)
    try:
        for future in as_completed([pool.submit(_do, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool:
        context.check_start()
        raise WorkerError(
            "a worker process was lost, perhaps for want of memory; what is finished is kept: give the command again, "
            "with fewer --processes"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _do(task: _Task) -> _Outcome | UnreadableError:
    """Make the file of a video, or keep it, with the labels of the task."""
    try:
        path = clip_file(task.folder, task.identity, _digest(task))
        stored = _stored(path, task)
        clip = _made(task, path) if stored is None else with_shots(stored, task.video)
        seconds = clip.frames * clip.frame_seconds
        metadata: dict[str, Any] = {
            "id": task.identity, "labels": task.labels, "segments": _segments(task, seconds), "dataset": task.dataset,
        }  # fmt: skip
        replaced = False
        if stored is not clip or any(getattr(stored, name) != value for name, value in metadata.items()):
            write_clips(path, [replace(clip, **metadata)])
            replaced = _remove_earlier(task, path)
        _write_copy(task, path)  # last: the features stay where a copy cannot be made
    except UnreadableError as error:
        return error
    return _Outcome(
        task.identity, path, stored is None, clip.frames, clip.alignment == NO_SOUND, replaced,
        any(each.end > seconds for each in task.segments),
    )  # fmt: skip


def _digest(task: _Task) -> str:
    """SHA-256 of a video."""
    if not is_plain(task.identity):
        reason = "its name has control characters, or is not UTF-8, so no clip can have it; rename it"
        raise ClipFileError(task.video, reason, kind="name")
    try:
        return file_digest(task.video)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}; check the path and its permissions"
        raise ClipFileError(task.video, reason, kind=NOT_GIVEN) from None


def _remove_earlier(task: _Task, path: Path) -> bool:
    """Remove the files of the video as it was; whether there were any."""
    stem, removed = _escaped(path.stem.rpartition(MARK)[0]), False
    for suffix in (SHARD, THUMBNAILS, PROXY):
        for earlier in task.folder.glob(f"{stem}{MARK}{'?' * DIGITS}{suffix}"):
            if earlier.stem != path.stem:
                earlier.unlink()
                removed = True
    return removed


def _copies(folder: Path, ids: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Ids of the videos that lie in a folder more than once; of files that `ids` does not know, their names."""
    alike: dict[str, list[str]] = defaultdict(list)
    for path in folder_files(folder):
        alike[content_of(path)].append(ids.get(path.name, path.stem.rpartition(MARK)[0]))
    return tuple(tuple(each) for content, each in alike.items() if content and len(each) > 1)


def _segments(task: _Task, seconds: float) -> tuple[Segment, ...]:
    """The segments, cut where the video ends, and, where every label of it has its seconds, background between them."""
    for each in task.segments:
        if each.start >= seconds:
            reason = (
                f"a label is of seconds {each.start:g} to {each.end:g}, and the video ends at {seconds:g}; correct it"
            )
            raise ClipFileError(task.video, reason, kind="labels")
    segments = tuple(replace(each, end=min(each.end, seconds)) for each in task.segments)
    if not segments or {label for each in segments for label in each.labels} != set(task.labels):
        return segments
    gaps, at = [], 0.0
    for each in sorted(segments, key=lambda each: each.start):
        if each.start > at:
            gaps.append(Segment(at, each.start, kind="background"))
        at = max(at, each.end)
    return (*segments, *gaps, *([Segment(at, seconds, kind="background")] if at < seconds else []))


def _made(task: _Task, path: Path, progress: Callable[[int, int], None] | None = None) -> Clip:
    """The features of a video; its thumbnails are written."""
    if not task.thumbnails:
        return video_clip(task.video, *task.names.opened(), task.names.rate, progress=progress)
    # One more than the timestamps say: a picture without one counts too.
    sheet = ThumbnailSheet(math.ceil(VideoFile(task.video).duration * task.names.rate) + 1)

    def add(picture: Picture) -> None:
        if sheet.filled < sheet.frames:
            sheet.add(picture)

    clip = video_clip(task.video, *task.names.opened(), task.names.rate, progress=progress, on_picture=add)
    with replaced_when_done(path.with_suffix(THUMBNAILS)) as temporary:
        temporary.write_bytes(sheet.encoded().webp)
    return clip


def _write_copy(task: _Task, path: Path) -> None:
    """Write the small copy of a video, where it is asked for and absent."""
    copy = path.with_suffix(PROXY)
    if task.proxy and not copy.is_file():
        content = video_proxy(task.video, most_bytes=whole_bytes(VideoFile(task.video).duration)).webm
        with replaced_when_done(copy) as temporary:
            temporary.write_bytes(content)


def _stored(path: Path, task: _Task) -> Clip | None:
    """The clip of a file, where it is there, whole, of the task's spaces, and has thumbnails if these are wanted."""
    if not path.is_file() or (task.thumbnails and not path.with_suffix(THUMBNAILS).is_file()):
        return None
    try:
        (clip,) = read_clips([path])
    except (UnreadableError, ValueError):
        return None
    return clip if clip.spaces == task.names.spaces() else None


def _escaped(text: str) -> str:
    """A text that a glob takes as it is."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


@cache
def _opened(names: ExtractorNames) -> tuple[VisualExtractor | None, AudioExtractor | None]:
    device = torch.device(names.device)
    return (
        open_visual(names.visual, device) if names.visual else None,
        open_audio(names.audio, device) if names.audio else None,
    )
