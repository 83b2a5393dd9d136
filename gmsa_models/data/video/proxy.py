"""A small copy of a part of a video, of a bounded number of bytes, which any browser plays: VP9 and Opus in WebM.

Pictures keep their own times, so that the copy shows at a second what the video shows then, or showed a moment before:
less than 1/15 s, which is two pictures at the highest rate.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from gmsa_models.data.errors import ClipFileError
from gmsa_models.data.video.decode import SAMPLE_RATE, PickedFrame, VideoFile
from gmsa_models.errors import ArgumentError

__all__ = ["MOST_BYTES", "Proxy", "read_proxy", "video_proxy", "whole_bytes"]

# Most pixels in height, most pictures a second; the next where a video, such as one of snow, is still too many bytes.
SIZES = ((240, 30), (180, 15), (120, 8), (72, 4))
MOST_BYTES = 4_500_000
PICTURE_BITS, SOUND_BITS = 110_000, 24_000  # a second, where the bytes allow
LEAST_PICTURE_BITS = 20_000  # a second; with less nothing can be seen
SPARE = 0.9  # of the bytes: the encoder keeps to its rate on average, and the container needs some
KEY_SECONDS = 2.0  # between pictures that a player can start from
_TICKS = 1000  # a second, as WebM counts
_ROUNDED = 2  # ticks by which two pictures may lie nearer to each other than their rate says: times are rounded
_LONGEST = 500  # ticks; a picture that stays longer is written again, so that a player reports the time
# Realtime: four times as fast as the encoder's default, at a few percent more bytes.
_ENCODER = {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "crf": "36"}


@dataclass(frozen=True)
class Proxy:
    """A small copy of a part of a video.

    Attributes:
        webm: the file.
        first, last: seconds of the video, from its first picture; second 0 of the copy is `first`.
        width, height: pixels.
        has_sound: whether the video has sound.
    """

    webm: bytes
    first: float
    last: float
    width: int
    height: int
    has_sound: bool


def video_proxy(path: str | Path, first: float = 0.0, last: float | None = None, most_bytes: int = MOST_BYTES) -> Proxy:
    """Encode a small copy of a video.

    Args:
        path: of the video.
        first, last: seconds from the first picture; default: the whole. A last second after the end is the end.
        most_bytes: of the copy.

    Raises:
        ClipFileError: not a video, damaged, or one that ends before `first`.
        ArgumentError: seconds that are none, or too many for `most_bytes`.
    """
    video = VideoFile(path)
    end = video.duration
    last = end if last is None else min(last, end)
    if not 0 <= first < last:
        raise ArgumentError(f"{path}: seconds {first:g} to {last:g} of a video of {end:g} s; expected a part of it")
    bits = _picture_bits(path, last - first, most_bytes, video.has_sound)
    for height, rate in SIZES:
        pictures = _paced(video.pictures(first, height), first, last, rate)
        sound = video.sound(video.start + first, math.ceil(last - first)) if video.has_sound else None
        if content := _encoded(pictures, sound, bits, rate, most_bytes):
            return Proxy(content, first, last, *_size(content), video.has_sound)
    raise ArgumentError(f"{path}: no copy of seconds {first:g} to {last:g} fits {most_bytes} bytes; take thumbnails")


def whole_bytes(seconds: float) -> int:
    """Bytes that a copy of so many seconds may take so that none of its quality is lost: 1 MB a minute."""
    return max(MOST_BYTES, math.ceil(seconds * (PICTURE_BITS + SOUND_BITS) / (8 * SPARE)))


def read_proxy(path: str | Path) -> Proxy | None:
    """A copy of a whole video, as it was written to a file; None where it is absent, or no video."""
    try:
        content, video = Path(path).read_bytes(), VideoFile(path)
        return Proxy(content, 0.0, video.duration, *_size(content), video.has_sound)
    except (OSError, ClipFileError):
        return None


def _picture_bits(path: str | Path, seconds: float, most_bytes: int, has_sound: bool) -> int:
    """Bits a second that the pictures may take."""
    sound = SOUND_BITS if has_sound else 0
    bits = min(PICTURE_BITS, int(SPARE * 8 * most_bytes / seconds) - sound)
    if bits < LEAST_PICTURE_BITS:
        longest = SPARE * 8 * most_bytes / (LEAST_PICTURE_BITS + sound)
        raise ArgumentError(
            f"{path}: {seconds:g} s are too long for a copy of {most_bytes / 1e6:g} MB, which holds up to "
            f"{longest:.0f} s; take thumbnails, or a shorter span"
        )
    return bits


def _paced(
    pictures: Iterable[PickedFrame], first: float, last: float, rate: int
) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
    """Pictures and their ticks from the first second: not more of them a second than `rate`, none for too long.

    A picture that comes too soon is shown once a step has passed, unless another has taken its place.
    """
    step = _TICKS // rate - _ROUNDED
    written, late, pixels = -step, False, None
    for picture in pictures:
        if picture.time >= last:
            break
        tick = round((picture.time - first) * _TICKS)
        while pixels is not None and (tick - written > _LONGEST or (late and tick - written >= 2 * step)):
            written, late = written + (step if late else _LONGEST), False
            yield written, pixels
        late, pixels = tick - written < step, picture.pixels
        if not late:
            written = tick
            yield written, pixels
    end = round((last - first) * _TICKS) - step
    while pixels is not None and end - written >= step:
        written, late = min(written + (step if late else _LONGEST), end), False
        yield written, pixels


def _encoded(
    pictures: Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]],
    sound: Iterator[Float[np.ndarray, " samples"]] | None,
    bits: int,
    rate: int,
    most_bytes: int,
) -> bytes | None:
    """The file; the sound of a second lies before its pictures. None as soon as it has more bytes than it may."""
    import av

    file, blocks = io.BytesIO(), 0
    with av.open(file, "w", format="webm") as out:
        start = next(pictures)
        stream = _picture_stream(out, start[1].shape, bits, rate)
        sound_stream: Any = None if sound is None else _sound_stream(out)
        for tick, pixels in chain([start], pictures):
            while sound is not None and blocks * _TICKS <= tick and (samples := next(sound, None)) is not None:
                out.mux(sound_stream.encode(_sound_frame(samples, blocks * SAMPLE_RATE)))
                blocks += 1
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(width=stream.width, height=stream.height, format="yuv420p")
            frame.pts, frame.time_base = tick, Fraction(1, _TICKS)
            out.mux(stream.encode(frame))
            if file.tell() > most_bytes:
                return None
        for each in [stream] if sound_stream is None else [stream, sound_stream]:
            out.mux(each.encode())
    return file.getvalue() if len(file.getvalue()) <= most_bytes else None


def _size(content: bytes) -> tuple[int, int]:
    """Width and height of the pictures of a file."""
    import av

    with av.open(io.BytesIO(content)) as file:
        return file.streams.video[0].width, file.streams.video[0].height


def _picture_stream(out: Any, shape: tuple[int, ...], bits: int, rate: int) -> Any:
    stream = out.add_stream("libvpx-vp9", rate=rate, options=_ENCODER)
    stream.height, stream.width, stream.pix_fmt, stream.bit_rate = *shape[:2], "yuv420p", bits
    stream.codec_context.time_base = Fraction(1, _TICKS)
    stream.codec_context.gop_size = round(KEY_SECONDS * rate)
    return stream


def _sound_stream(out: Any) -> Any:
    stream = out.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
    stream.bit_rate = SOUND_BITS
    return stream


def _sound_frame(samples: Float[np.ndarray, " samples"], first: int) -> Any:
    import av

    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), first
    return frame
