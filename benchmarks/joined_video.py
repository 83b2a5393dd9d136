"""One video file made of several: their pictures and sound one after another, again and again, as H.264 and AAC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, cycle, islice, repeat
from pathlib import Path

import av
import numpy as np

from gmsa_models.data.video.decode import SAMPLE_RATE, VideoFile

HEARD = 3  # of the file's samples, one of the reader's: 48 kHz
LONGEST = 3600  # seconds of sound that are read
MARKS = 16  # bits of a picture's number in its lowest rows


@dataclass(frozen=True)
class Part:
    """Seconds of a video, as long as it lasts."""

    path: Path
    first: float = 0.0
    seconds: float = 1e6


def joined(
    parts: Sequence[Part], out: Path, seconds: float, *, size: tuple[int, int], rate: int = 25, marked: bool = False
) -> Path:
    """A file of so many seconds.

    Args:
        parts: of videos, in turn, and again where they do not last.
        out: the file; its ending says the container.
        seconds: how long it lasts.
        size: height and width of its pictures.
        rate: pictures a second.
        marked: each picture says its number in its lowest fifth: columns, white where the number's bit is 1, the lowest
            bit on the left.
    """
    with av.open(str(out), "w") as file:
        seen = file.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "21"})
        seen.height, seen.width, seen.pix_fmt = *size, "yuv420p"
        heard = file.add_stream("aac", rate=HEARD * SAMPLE_RATE, layout="mono")
        for number, (pixels, samples) in enumerate(islice(_played(parts, rate), round(seconds * rate))):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(width=size[1], height=size[0])
            if marked:
                picture = av.VideoFrame.from_ndarray(_marked(picture.to_ndarray(format="rgb24"), number), "rgb24")
            picture.pts, picture.time_base = number, Fraction(1, rate)
            file.mux(seen.encode(picture))
            sound = av.AudioFrame.from_ndarray(np.repeat(samples, HEARD)[None], format="flt", layout="mono")
            sound.sample_rate, sound.time_base = HEARD * SAMPLE_RATE, Fraction(1, HEARD * SAMPLE_RATE)
            sound.pts = number * len(samples) * HEARD
            file.mux(heard.encode(sound))
        for stream in (seen, heard):
            file.mux(stream.encode())
    return out


def _played(parts: Sequence[Part], rate: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures and the sound of each, without end."""
    for part in cycle(parts):
        video, count = VideoFile(part.path), round(part.seconds * rate)
        silence = repeat(np.zeros(SAMPLE_RATE // rate, np.float32))
        sound = video.sound(video.start + part.first, LONGEST * rate, rate) if video.has_sound else iter(())
        for picture, samples in zip(islice(video.frames(rate, part.first), count), chain(sound, silence), strict=False):
            yield picture.pixels, samples


def _marked(pixels: np.ndarray, number: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    bits = (number >> (np.arange(width) * MARKS // width)) & 1
    pixels[height * 4 // 5 :] = 255 * bits[None, :, None]
    return pixels
