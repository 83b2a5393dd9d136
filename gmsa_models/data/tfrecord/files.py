"""TFRecord files of clips: read every clip of a file, one clip at an offset, write clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from gmsa_models.data.atomic import replaced_when_done
from gmsa_models.data.clip import Clip
from gmsa_models.data.errors import ContentError, brief
from gmsa_models.data.tfrecord.framing import (
    OnSkip,
    RecordFile,
    Span,
    TFRecordError,
    decode_at,
    frame_record,
    read_each,
)
from gmsa_models.data.tfrecord.records import decode_clip, encode_clip
from gmsa_models.data.tfrecord.video_level import VideoLevel, read_video_level

__all__ = ["TFRecordError", "VideoLevel", "read_clip_at", "read_file", "read_video_level", "write_clips"]


def read_clip_at(file: RecordFile, span: Span) -> Clip:
    """The clip of one record.

    Raises:
        TFRecordError: damaged data, or a record that is not a clip; names file, record and offset.
    """
    return decode_at(file, span, partial(decode_clip, where=str(file.path)))


def read_file(path: str | Path, on_skip: OnSkip | None = None, verify: bool = True) -> Iterator[Clip]:
    """Every clip of one file, in order.

    Args:
        path: a TFRecord file.
        on_skip: called with each reason not to read a record, instead of raising it; see `read_each`.
        verify: check the checksums.

    Raises:
        TFRecordError: what cannot be read, unless `on_skip` takes it.
        FileNotFoundError: no such file.
    """
    return read_each(path, once_an_id(read_clip_at), on_skip, verify)


def once_an_id(read: Callable[[RecordFile, Span], Clip]) -> Callable[[RecordFile, Span], Clip]:
    """The same reader of one file's records, which refuses a second record of an id: `file#id` would name either.

    Raises:
        ContentError: from the reader, of the second record; names the first.
    """
    first: dict[str, int] = {}

    def read_new(file: RecordFile, span: Span) -> Clip:
        clip = read(file, span)
        if (number := first.setdefault(clip.id, span.number)) != span.number:
            reason = (
                f"has the id {brief(clip.id)}, as record {number} has; give each its own, or leave the second out "
                "(on_error='skip', --on-error skip)"
            )
            raise ContentError(file.path, reason, span.number, span.offset, "duplicate id")
        return clip

    return read_new


def write_clips(path: str | Path, clips: Iterable[Clip]) -> int:
    """Write clips as YouTube-8M SequenceExamples; the file appears whole or not at all.

    Args:
        path: the file; an existing one is replaced.
        clips: at least one. Floating-point features are stored as float32.

    Returns:
        How many were written.

    Raises:
        ValueError: no clips.
    """
    count = 0
    with replaced_when_done(path) as temporary:
        with temporary.open("wb") as file:
            for clip in clips:
                file.write(frame_record(encode_clip(clip)))
                count += 1
        if count == 0:
            raise ValueError(f"{path}: no clips to write; a TFRecord of no records is not written")
    return count
