"""Reader: what every format of clips gives - an open file, the place of each clip in it, any clip by its place.

Sources, catalogues, shuffling, fingerprints, sweeps and training know files of clips by this protocol alone. A format
implements `ClipFile`, has its own kinds of `ClipFileError`, and an entry in `formats.FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from gmsa_models.data.errors import NOT_GIVEN, ClipFileError, OnSkip, brief
from gmsa_models.data.spaces import FeatureSpace

if TYPE_CHECKING:
    from gmsa_models.data.clip import Clip

__all__ = ["ClipEntry", "ClipFile", "OpenFile", "Place", "once_an_id", "read_each"]

Read = TypeVar("Read")
Opened = TypeVar("Opened")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one clip lies in its file.

    Attributes:
        number: of the clip in its file, from 0.
        offset: where it starts, as the format counts: the byte in a TFRecord, the number again in a file of arrays.
        length: how much it takes: bytes of data in a TFRecord, frames in a file of arrays.
    """

    number: int
    offset: int
    length: int


@dataclass(frozen=True)
class ClipEntry:
    """What a list of clips says of one; the attributes are those of `Clip`."""

    id: str
    frames: int
    labels: tuple[int, ...] = ()
    dataset: str = ""
    spaces: Mapping[str, FeatureSpace] | None = None


@runtime_checkable
class OpenFile(Protocol):
    """An open file of numbered parts: clips, or the video-level vectors of another kind of record.

    Attributes:
        path: of the file.
        size: its bytes.
    """

    path: Path
    size: int

    def places(self) -> Iterator[Place]:
        """Where every clip lies, in order, without reading one.

        Raises:
            ClipFileError: the next place cannot be told, so nor can any after it.
        """

    def close(self) -> None:
        """Close the file; a second call does nothing."""

    def __enter__(self: Opened) -> Opened: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class ClipFile(OpenFile, Protocol):
    """An open file of clips."""

    @property
    def memory(self) -> int:
        """Bytes of the file's contents that stay in memory while it is open."""

    def place(self, offset: int, number: int = 0) -> Place:
        """The place of the clip that starts at `offset`.

        Raises:
            ClipFileError: none starts there.
        """

    def clip(self, place: Place) -> Clip:
        """The clip at a place.

        Raises:
            ClipFileError: it cannot be read.
        """

    def entry(self, place: Place) -> ClipEntry:
        """What a list says of the clip at a place; a format that can reads no frame for it.

        Raises:
            ClipFileError: it cannot be read.
        """

    def may_be(self, place: Place, identity: str) -> bool:
        """False where the clip at a place surely has another id; cheaper than reading it.

        Raises:
            ClipFileError: it cannot be read.
        """

    def checksum(self, place: Place) -> int:
        """A number of 32 bits that another clip at the same place would hardly have.

        Raises:
            ClipFileError: it cannot be read.
        """

    def error(self, place: Place, reason: str, kind: str) -> ClipFileError:
        """The format's own error for a clip that came through whole but cannot be used."""


OpenFileOf = TypeVar("OpenFileOf", bound=OpenFile)


@runtime_checkable
class HasId(Protocol):
    """A clip, or what a list of clips says of one."""

    @property
    def id(self) -> str:
        """Of the clip."""


Identified = TypeVar("Identified", bound=HasId)


def read_each(
    path: str | Path,
    opened: Callable[[str | Path], OpenFileOf],
    read: Callable[[OpenFileOf, Place], Read],
    on_skip: OnSkip | None = None,
) -> Iterator[Read]:
    """What `read` makes of every part of one file, in order.

    Args:
        path: the file.
        opened: opens it.
        read: takes the open file and a place in it.
        on_skip: called with each reason not to read a part, instead of raising it; reading then goes on with the next
            one where the format still tells where that is.

    Raises:
        ClipFileError: what cannot be read, unless `on_skip` takes it.
        FileNotFoundError: no such file, unless `on_skip` takes it: a file may go while others are read.
    """
    try:
        with opened(path) as file:
            for place in file.places():
                try:
                    result = read(file, place)
                except ClipFileError as error:
                    if on_skip is None:
                        raise
                    on_skip(error)
                else:
                    yield result
    except ClipFileError as error:
        if on_skip is None:
            raise
        on_skip(error)
    except FileNotFoundError:
        if on_skip is None:
            raise
        on_skip(ClipFileError(path, "is not there any more", kind=NOT_GIVEN))


def once_an_id(read: Callable[[ClipFile, Place], Identified]) -> Callable[[ClipFile, Place], Identified]:
    """The same reader of one file's clips, which refuses a second clip of an id: `file#id` would name either.

    Raises:
        ClipFileError: from the reader, of the second clip; names the first.
    """
    first: dict[str, int] = {}

    def read_new(file: ClipFile, place: Place) -> Identified:
        result = read(file, place)
        if (number := first.setdefault(result.id, place.number)) != place.number:
            reason = (
                f"has the id {brief(result.id)}, as record {number} has; give each its own, or leave the second out "
                "(on_error='skip', --on-error skip)"
            )
            raise file.error(place, reason, "duplicate id")
        return result

    return read_new
