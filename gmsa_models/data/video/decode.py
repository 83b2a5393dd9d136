"""Decode a video file with PyAV: pictures at a rate, picked by presentation time; sound of the same seconds.

The clock starts with the first picture. Frame k of a rate stands for the time k / rate, and shows the picture that is
on the screen then: the last one whose presentation time is not later. So a variable frame rate, a first timestamp above
0 and a rate above the video's own need no rule of their own. Sound is placed by its own timestamps on the same clock:
what comes before the first picture is cut off, silence fills what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from gmsa_models.data.errors import ClipFileError, brief

if TYPE_CHECKING:
    import av

__all__ = ["HIGHEST_RATE", "SAMPLE_RATE", "PickedFrame", "VideoFile", "is_video"]

Opened = TypeVar("Opened")
Watch = Callable[[float, "av.VideoFrame"], None]
SAMPLE_RATE = 16_000  # samples a second of sound, one channel
MOST_PIXELS = 1 << 25  # of a picture; 7680 x 4320 has 33 million
HIGHEST_RATE, LONGEST_VIDEO = 1000.0, 1e6  # frames a second, seconds
_SAME = 1e-6  # seconds by which times that are one may differ: they are sums of floats
_TOLERANCE = SAMPLE_RATE // 50  # samples by which timestamps may differ from a sound without gaps: those are rounded
# Containers of one file; no playlists, which name other files and addresses.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf"


# How the names of such files end.
_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mpg", ".mpeg", ".flv", ".ogv",
    ".asf", ".wmv",
)  # fmt: skip


def is_video(source: str | Path) -> bool:
    """Whether a source names a file that ends as videos do; it is not opened."""
    return Path(source).suffix.lower() in _SUFFIXES and os.path.isfile(source)  # False for what no file can be named


@dataclass(frozen=True)
class PickedFrame:
    """A picture of a video.

    Attributes:
        time: seconds from the first picture that it stands for: first + its number / rate.
        shown: seconds from the first picture at which it came on the screen, not later than `time`.
        pixels: (height, width, 3) red, green, blue, the right way up.
    """

    time: float
    shown: float
    pixels: UInt8[np.ndarray, "height width 3"]


class VideoFile:
    """An open video file.

    Args:
        path: an ordinary file.

    Raises:
        ClipFileError: not a video, or one without pictures.
        FileNotFoundError: no such file.
        ImportError: PyAV is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with _opened(self.path) as container:
            if not container.streams.video:
                raise ClipFileError(self.path, "has no picture; expected a video", kind="video")
            self.has_sound = bool(container.streams.audio)

    def frames(self, rate: float = 1.0, first: float = 0.0, watch: Watch | None = None) -> Iterator[PickedFrame]:
        """Pictures at a rate, in order, until the last one leaves the screen.

        Args:
            rate: a second, above 0.
            first: seconds from the first picture that frame 0 stands for, at least 0; frame k stands for first + k /
                rate.
            watch: called with every picture that is decoded, picked or not, and when it comes on the screen.

        Raises:
            ClipFileError: damaged, no picture that can be decoded, or larger than is read.
            ValueError: a rate or a first second that is none.
        """
        if not 0 < rate <= HIGHEST_RATE:
            raise ValueError(f"rate is {rate}; expected more than 0, at most {HIGHEST_RATE:g} frames a second")
        if not 0 <= first <= LONGEST_VIDEO:
            raise ValueError(f"first is {first}; expected 0 to {LONGEST_VIDEO:g} s")
        return self.frames_at((first + number / rate for number in count()), watch=watch)

    def frames_at(
        self, times: Iterable[float], height: int | None = None, watch: Watch | None = None
    ) -> Iterator[PickedFrame]:
        """The picture on the screen at each of some times, until the last one leaves the screen.

        Args:
            times: seconds from the first picture, at least 0, rising.
            height: most rows of a picture; larger ones are scaled down. Default: as they are.
            watch: as of `frames`.

        Raises:
            ClipFileError: as `frames`.
        """
        for time, shown, picture in self._picked(times, watch):
            yield PickedFrame(time, shown, _upright(picture, height))

    def pictures(self, first: float = 0.0, height: int | None = None) -> Iterator[PickedFrame]:
        """Every picture of the video from a second on, in order, the one that is on the screen then first.

        Args:
            first: seconds from the first picture, at least 0.
            height: as of `frames_at`.

        Returns:
            Pictures whose `time` is when they come on the screen, of the first `first`.

        Raises:
            ClipFileError: as `frames`.
        """
        waiting = None
        for shown, _, picture in self._rising():
            if shown <= first + _SAME:
                waiting = shown, picture
                continue
            if waiting is not None:
                yield PickedFrame(first, waiting[0], _upright(waiting[1], height))
                waiting = None
            yield PickedFrame(shown, shown, _upright(picture, height))
        if waiting is not None:
            yield PickedFrame(first, waiting[0], _upright(waiting[1], height))

    def decoded(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Every picture of the video in order, as it was decoded, and when it comes on the screen.

        Raises:
            ClipFileError: as `frames`.
        """
        return ((shown, picture) for shown, _, picture in self._rising())

    @property
    def duration(self) -> float:
        """Seconds from the first picture to when the last one leaves the screen, by their timestamps; none is decoded.

        Raises:
            ClipFileError: no picture, or one without a timestamp.
        """
        import av

        with _opened(self.path) as container:
            stream = container.streams.best("video")
            usual = 1 / float(stream.average_rate or 25)
            try:
                packets = [(each.pts, each.duration) for each in container.demux(stream) if each.pts is not None]
            except (av.error.FFmpegError, ValueError) as error:
                reason = f"damaged: {brief(_reason(error))}; fetch it again"
                raise ClipFileError(self.path, reason, kind="video") from None
            if not packets:
                reason = "has no picture with a timestamp; it may be cut short: fetch it again"
                raise ClipFileError(self.path, reason, kind="video")
            unit = float(stream.time_base)
            ends = [at * unit + (lasts * unit if lasts else usual) for at, lasts in packets]
            return max(ends) - min(at for at, _ in packets) * unit

    def sound(self, start: float, blocks: int, rate: float = 1.0) -> Iterator[Float[np.ndarray, " samples"]]:
        """The sound of some frames, a block a frame.

        Args:
            start: presentation time of the first picture, see `start`.
            blocks: how many frames.
            rate: frames a second.

        Returns:
            float32 blocks in [-1, 1] of 16,000 / rate samples, rounded so that they do not drift; silence where there
            is no sound.

        Raises:
            ClipFileError: the file has no sound, or a damaged one.
        """
        if not self.has_sound:
            raise ClipFileError(self.path, "has no sound", kind="video")
        return _in_blocks(self._samples(start), [round(number * SAMPLE_RATE / rate) for number in range(blocks + 1)])

    @property
    def start(self) -> float:
        """Presentation time of the first picture, seconds.

        Raises:
            ClipFileError: no picture that can be decoded.
        """
        with _opened(self.path) as container:
            return next(self._pictures(container))[0]

    def _picked(self, times: Iterable[float], watch: Watch | None) -> Iterator[tuple[float, float, av.VideoFrame]]:
        """Each time, when the picture that is on the screen then came there, and the picture."""
        waiting = iter(times)
        time = next(waiting, None)
        before, end = None, 0.0
        for shown, end, picture in self._rising():  # noqa: B007 - the last end is needed after the loop
            if watch is not None:
                watch(shown, picture)
            while before is not None and time is not None and time < shown - _SAME:
                yield time, *before
                time = next(waiting, None)
            if time is None:
                return
            before = shown, picture
        while before is not None and time is not None and time < end - _SAME:
            yield time, *before
            time = next(waiting, None)

    def _rising(self) -> Iterator[tuple[float, float, av.VideoFrame]]:
        """As `_pictures`, in seconds from the first one, without those that come out of order, or again."""
        with _opened(self.path) as container:
            start = shown = None
            for at, end, picture in self._pictures(container):
                if shown is not None and at <= shown:  # the clock does not go back
                    continue
                start, shown = at if start is None else start, at
                yield at - start, end - start, picture

    def _pictures(self, container: av.container.InputContainer) -> Iterator[tuple[float, float, av.VideoFrame]]:
        """Presentation time, the time at which it leaves the screen, and the picture; at least one."""
        stream: Any = container.streams.best("video")
        stream.thread_type = "AUTO"
        usual = 1 / float(stream.average_rate or 25)
        last = None
        for frame in self._decoded(container, stream):
            if frame.width * frame.height > MOST_PIXELS:
                reason = f"a picture has {frame.width} x {frame.height} pixels; at most {MOST_PIXELS} are read"
                raise ClipFileError(self.path, reason, kind="video")
            at = frame.time if frame.time is not None else usual if last is None else last + usual
            if abs(at) > LONGEST_VIDEO:
                raise ClipFileError(
                    self.path, f"a picture has the time {at:g} s; at most {LONGEST_VIDEO:g} s are read", kind="video"
                )
            lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else usual
            yield at, at + lasts, frame
            last = at
        if last is None:
            raise ClipFileError(
                self.path, "has no picture that can be decoded; it may be cut short: fetch it again", kind="video"
            )

    def _samples(self, start: float) -> Iterator[Float[np.ndarray, " samples"]]:
        """Sound from the first picture on, without gaps."""
        import av

        with _opened(self.path) as container:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            position = 0
            for frame in self._decoded(container, container.streams.best("audio")):
                for part in resampler.resample(frame):
                    samples = part.to_ndarray().reshape(-1)
                    at = position if part.time is None else round((part.time - start) * SAMPLE_RATE)
                    if at > position + _TOLERANCE:
                        yield np.zeros(at - position, np.float32)
                        position = at
                    elif at < position - _TOLERANCE:
                        samples = samples[position - at :]
                    position += len(samples)
                    yield samples

    def _decoded(self, container: av.container.InputContainer, stream: Any) -> Iterator[Any]:
        import av

        try:
            yield from container.decode(stream)
        except (av.error.FFmpegError, ValueError) as error:
            reason = f"damaged, or packed in a way that is not known: {brief(_reason(error))}; fetch it again"
            raise ClipFileError(self.path, reason, kind="video") from None


class _opened:  # noqa: N801 - a function with a `with`
    """An open container, closed when the block ends."""

    def __init__(self, path: Path) -> None:
        import av

        if not path.exists():
            raise FileNotFoundError(f"no file {str(path)!r}")
        if not path.is_file():  # a pipe would wait for a writer
            raise ClipFileError(
                path, "is a directory, pipe or device, not an ordinary file; expected a video", kind="video"
            )
        try:
            whitelists = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
            self._container = av.open(str(path), options=whitelists)
        except (av.error.FFmpegError, ValueError) as error:
            raise ClipFileError(
                path, f"is not a video, or is cut short: {brief(_reason(error))}; fetch it again", kind="video"
            ) from None

    def __enter__(self) -> Any:
        return self._container

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _upright(frame: av.VideoFrame, height: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Pixels as a player shows them: the rotation that a phone stores beside the picture is undone."""
    turns = round(frame.rotation / 90) % 4
    size = (frame.width, frame.height)
    tall = size[(turns + 1) % 2]
    if height is not None and tall > height:
        size = (max(1, round(size[0] * height / tall)), max(1, round(size[1] * height / tall)))
    pixels = frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _in_blocks(parts: Iterator[np.ndarray], bounds: list[int]) -> Iterator[Float[np.ndarray, " samples"]]:
    """Samples `bounds[k]` to `bounds[k + 1]` of a sound that is given in parts; zeros after its end."""
    kept = np.zeros(0, np.float32)
    for first, last in pairwise(bounds):
        while len(kept) < last - first and (part := next(parts, None)) is not None:
            kept = np.concatenate([kept, part])
        block, kept = kept[: last - first], kept[last - first :]
        yield np.pad(block, (0, last - first - len(block)))
