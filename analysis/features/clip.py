"""A video file as a clip: pictures and sound go through extractors while they are decoded, a few frames at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from analysis.features.extractor import AudioExtractor, Picture, VisualExtractor
from gmsa_models.data.clip import Clip, quantize
from gmsa_models.data.errors import ClipFileError
from gmsa_models.data.spaces import FeatureSpace
from gmsa_models.data.video.decode import SAMPLE_RATE, VideoFile
from gmsa_models.data.video.shots import ShotFinder, video_shots
from gmsa_models.errors import ArgumentError

__all__ = ["NO_SOUND", "video_clip", "video_spaces", "with_shots"]

Entry = TypeVar("Entry")
VISUAL, AUDIO = "visual", "audio"
NO_SOUND = "the video has no sound: silence was heard"
PICTURES, WINDOWS = 16, 64  # frames that go through an extractor together


def video_spaces(visual: VisualExtractor | None, audio: AudioExtractor | None, rate: float) -> dict[str, FeatureSpace]:
    """Stream -> the space of what extractors make at a rate of so many frames a second."""
    extractors = {VISUAL: visual, AUDIO: audio}
    return {name: replace(each.space, rate=float(rate)) for name, each in extractors.items() if each is not None}


def video_clip(
    path: str | Path,
    visual: VisualExtractor | None,
    audio: AudioExtractor | None,
    rate: float = 1.0,
    identity: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_picture: Callable[[Picture], None] | None = None,
) -> Clip:
    """The features of a video file.

    Frame k stands for second k / rate from the first picture; it sees the picture that is on the screen then, and hears
    the sound from then on. The clip's shots are found in the same pass, in every picture. Memory does not grow with the
    video, but for the features themselves.

    Args:
        path: of the video.
        visual: makes the stream "visual"; None: there is none.
        audio: makes the stream "audio"; None: there is none. A video without sound is heard as silence, and the clip
            says so in `alignment`.
        rate: frames a second.
        identity: the clip's id; default: the file's name without its ending.
        progress: called with the frames seen and their number.
        on_picture: called with the picture of each frame, so that thumbnails need no decoding of their own.

    Raises:
        ClipFileError: not a video, damaged, or without a picture.
        ArgumentError: no extractor, or a rate that an extractor of sound cannot take.
        FileNotFoundError: no such file.
    """
    if visual is None and audio is None:
        raise ArgumentError("no extractor; expected one of pictures, of sound, or both")
    video = VideoFile(path)
    features: dict[str, np.ndarray] = {}
    shots = ShotFinder()
    times, vectors = _seen(video, visual, rate, shots, progress, on_picture)
    if visual is not None:
        features[VISUAL] = quantize(vectors) if visual.quantized else vectors
    if audio is not None:
        sound_features = _sound_features(video, audio, len(times), rate)
        features[AUDIO] = quantize(sound_features) if audio.quantized else sound_features
    return Clip(
        identity or Path(path).stem, features, frame_seconds=1.0 / rate, source=str(path),
        spaces=video_spaces(visual, audio, rate), frame_times=tuple(times),
        alignment=NO_SOUND if audio is not None and not video.has_sound else "", shots=_starts(shots.starts()),
    )  # fmt: skip


def with_shots(clip: Clip, path: str | Path) -> Clip:
    """The clip of a whole video file with its shots, for which the video is decoded; itself where it has them.

    Raises:
        ClipFileError, FileNotFoundError: as `video_clip`.
    """
    return clip if clip.shots else replace(clip, shots=_starts(video_shots(path)))


def _starts(shots: tuple[float, ...]) -> tuple[float, ...]:
    """Microseconds are enough, and short in a file."""
    return tuple(round(start, 6) for start in shots)


def _seen(
    video: VideoFile,
    visual: VisualExtractor | None,
    rate: float,
    shots: ShotFinder,
    progress: Callable[[int, int], None] | None,
    on_picture: Callable[[Picture], None] | None,
) -> tuple[list[float], Float[np.ndarray, "frames dim"]]:
    """When the picture of each frame came on the screen, and the vector of each frame; without an extractor none."""
    each = 1 if visual is None else visual.pictures
    times: list[float] = []
    parts: list[np.ndarray] = []
    total = 0 if progress is None else math.ceil(video.duration * rate)
    for group in _groups(video.frames(rate * each, watch=shots.watch), each * max(1, PICTURES // each)):
        for picture in group[::each]:
            times.append(picture.shown)
            if on_picture is not None:
                on_picture(picture.pixels)
        if progress is not None:
            progress(len(times), max(total, len(times)))
        if visual is not None:
            missing = -len(group) % each  # of the last frame: the last picture stays on the screen
            parts.append(visual([picture.pixels for picture in [*group, *group[-1:] * missing]]))
    if not times:
        raise ClipFileError(video.path, "has no picture that lasts; it may be cut short: fetch it again", kind="video")
    return times, np.concatenate(parts) if parts else np.zeros((len(times), 0), np.float32)


def _sound_features(
    video: VideoFile, audio: AudioExtractor, frames: int, rate: float
) -> Float[np.ndarray, "frames dim"]:
    window = audio.window or int(SAMPLE_RATE / rate)
    parts = [audio(np.stack(group)) for group in _groups(_windows(video, frames, rate, window), WINDOWS)]
    return np.concatenate(parts)


def _windows(video: VideoFile, frames: int, rate: float, samples: int) -> Iterator[Float[np.ndarray, " samples"]]:
    """So many samples of sound from the start of each frame on, silence behind the end."""
    if not video.has_sound:
        yield from (np.zeros(samples, np.float32) for _ in range(frames))
        return
    blocks = video.sound(video.start, frames, rate)
    starts = [round(number * SAMPLE_RATE / rate) for number in range(frames)]
    kept, position = np.zeros(0, np.float32), 0
    for start in starts:
        kept, position = kept[start - position :], start
        while len(kept) < samples and (block := next(blocks, None)) is not None:
            kept = np.concatenate([kept, block])
        yield np.pad(kept[:samples], (0, max(0, samples - len(kept))))


def _groups(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    """So many entries at a time."""
    entries = iter(entries)
    while group := list(islice(entries, size)):
        yield group
