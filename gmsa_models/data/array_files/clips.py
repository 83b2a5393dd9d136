"""ArrayClips: what files of arrays have in common as a `ClipFile`, whatever holds their arrays."""

from __future__ import annotations

import os
import stat
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from gmsa_models.data.alignment import align_streams, aligned_frames
from gmsa_models.data.array_files.layout import Stated, check_frames, stated
from gmsa_models.data.clip import Clip, ClipError
from gmsa_models.data.errors import NOT_GIVEN, ClipFileError
from gmsa_models.data.reader import ClipEntry, Place
from gmsa_models.errors import ContentError

__all__ = ["ArrayClips"]

Opened = TypeVar("Opened")


class ArrayClips:
    """An open file of arrays, as `reader.ClipFile` says; a clip's place is its number, and its frames.

    Args:
        path: an ordinary file.

    Raises:
        ClipFileError: not a file of the format, or of the layout; the system does not give it.
        FileNotFoundError: no such file.
    """

    memory = 0

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.size = _size_of(self.path)

    @abstractmethod
    def _count(self) -> int:
        """How many clips there are."""

    @abstractmethod
    def _values(self, number: int) -> Mapping[str, Any]:
        """What the file says of a clip, by the names of the layout."""

    @abstractmethod
    def _shapes(self, number: int) -> Mapping[str, tuple[int, int]]:
        """Stream -> frames and width, without reading it."""

    @abstractmethod
    def _streams(self, number: int) -> Mapping[str, np.ndarray]:
        """Stream -> (frames, width)."""

    def _default_id(self, number: int) -> str:
        """The clip's id where the file does not say one."""
        return self.path.stem

    def places(self) -> Iterator[Place]:
        """A place for each clip."""
        return (self.place(number) for number in range(self._count()))

    def place(self, offset: int, number: int = 0) -> Place:
        """The place of clip number `offset`."""
        if not 0 <= offset < self._count():
            raise ClipFileError(self.path, f"has no clip {offset}; it has {self._count()}")
        try:
            frames = max(shape[0] for shape in self._shapes(offset).values())
        except ContentError:  # whoever reads the clip is told
            frames = 0
        return Place(offset, offset, frames)

    def clip(self, place: Place) -> Clip:
        """The clip at a place."""
        try:
            metadata = self._stated(place)
            check_frames(max(shape[0] for shape in self._shapes(place.number).values()))
            features, alignment = align_streams(self._streams(place.number), metadata.align)
            spaces = metadata.feature_spaces({name: values.shape[1] for name, values in features.items()})
            return Clip(
                metadata.id, features, metadata.labels, metadata.frame_seconds, metadata.start_seconds,
                source=f"{self.path}#{metadata.id}", dataset=metadata.dataset, spaces=spaces, alignment=alignment,
            )  # fmt: skip
        except ContentError as error:
            raise self.error(place, str(error), "layout") from None
        except ClipError as error:
            raise self.error(place, str(error), "frames") from None

    def entry(self, place: Place) -> ClipEntry:
        """What a list says of a clip; its frames are not read."""
        try:
            metadata, shapes = self._stated(place), self._shapes(place.number)
            frames = aligned_frames({name: shape[0] for name, shape in shapes.items()}, metadata.align)
            check_frames(frames)
            spaces = metadata.feature_spaces({name: shape[1] for name, shape in shapes.items()})
        except ContentError as error:
            raise self.error(place, str(error), "layout") from None
        return ClipEntry(metadata.id, frames, metadata.labels, metadata.dataset, spaces)

    def may_be(self, place: Place, identity: str) -> bool:
        """Whether the clip has that id; no frame is read."""
        try:
            return self._stated(place).id == identity
        except ContentError as error:
            raise self.error(place, str(error), "layout") from None

    def checksum(self, place: Place) -> int:
        """CRC-32 of what the file says of the clip, and of its frames."""
        clip = self.clip(place)
        about = (clip.id, clip.labels, clip.frame_seconds, clip.start_seconds, clip.dataset, sorted(clip.features))
        crc = zlib.crc32(repr(about).encode())
        for name in sorted(clip.features):
            values = clip.features[name]
            crc = zlib.crc32(
                np.ascontiguousarray(values).data, zlib.crc32(repr((values.dtype.str, values.shape)).encode(), crc)
            )
        return crc

    def error(self, place: Place, reason: str, kind: str) -> ClipFileError:
        """An error of that kind, with the clip's number."""
        return ClipFileError(self.path, reason, place.number, place.offset, kind)

    def close(self) -> None:
        """Close the file; a second call does nothing."""

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stated(self, place: Place) -> Stated:
        if not 0 <= place.number < self._count():
            raise ClipFileError(self.path, f"has no clip {place.number}; it has {self._count()}")
        return stated(self._values(place.number), self._default_id(place.number))


def _size_of(path: Path) -> int:
    """Bytes of an ordinary file, which is not opened: opening a pipe would wait for a writer."""
    try:
        about = os.stat(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = f"cannot be opened: {getattr(error, 'strerror', None) or error}; check the path"
        raise ClipFileError(path, reason, kind=NOT_GIVEN) from None
    if not stat.S_ISREG(about.st_mode):
        raise ClipFileError(path, "is a directory, pipe or device, not an ordinary file; give its files")
    if about.st_size == 0:
        raise ClipFileError(path, "is empty (0 bytes); the writing may have been interrupted")
    if not os.access(path, os.R_OK):
        raise ClipFileError(path, "may not be read by this user; check its permissions", kind=NOT_GIVEN)
    return about.st_size
