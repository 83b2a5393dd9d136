"""TFRecord files of clips: a `ClipFile` of YouTube-8M's and AudioSet's records; write clips as such a file."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, partial
from pathlib import Path

from gmsa_models.data.atomic import replaced_when_done
from gmsa_models.data.clip import Clip
from gmsa_models.data.reader import ClipEntry, Place
from gmsa_models.data.tfrecord.errors import TFRecordError
from gmsa_models.data.tfrecord.examples import decode_clip, encode_clip
from gmsa_models.data.tfrecord.framing import RecordFile, decode_at, frame_record
from gmsa_models.data.tfrecord.video_level import VideoLevel, read_video_level

__all__ = ["ClipRecords", "VideoLevel", "read_video_level", "write_clips"]


class ClipRecords(RecordFile):
    """An open TFRecord file of clips, as `reader.ClipFile` says; places are in bytes, one a record.

    Raises:
        TFRecordError: as `RecordFile`; in all that reads a clip: damaged data, or a record that is not a clip.
    """

    memory = 0

    @cached_property
    def _decode(self) -> partial[Clip]:
        return partial(decode_clip, where=str(self.path))

    def clip(self, place: Place) -> Clip:
        """The clip of one record."""
        return decode_at(self, place, self._decode)

    def entry(self, place: Place) -> ClipEntry:
        """What a list says of one record, all of which is read and checked."""
        clip = self.clip(place)
        return ClipEntry(clip.id, clip.frames, clip.labels, clip.dataset, clip.spaces)

    def may_be(self, place: Place, identity: str) -> bool:
        """Whether the record contains the id's bytes, anywhere."""
        return identity.encode() in self.data(place)

    def error(self, place: Place, reason: str, kind: str) -> TFRecordError:
        """An error of that kind, with the record's place."""
        return TFRecordError(self.path, reason, place.number, place.offset, kind)


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
