"""Shots of a video: where one recording gives way to another, in its decoded pictures, in one pass.

Why this criterion: docs/concepts/segments.md. Hard cuts, and fades through one colour; no dissolves.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from gmsa_models.data.video.decode import VideoFile

if TYPE_CHECKING:
    import av

__all__ = ["HEIGHT", "WIDTH", "ShotFinder", "difference", "video_shots"]

Small = UInt8[np.ndarray, "3 height width"]

WIDTH, HEIGHT = 64, 36  # of the small pictures
# LEAST and RATIO are the best of some on half of the joined videos of `benchmarks/shots.py`.
LEAST = 6.0  # of a cut: levels of 255 by which two pictures differ in the mean; by 5, a title that appears is one
RATIO = 3.0  # of a cut: how many times the mean difference of the pictures around it
AROUND = 0.25  # seconds before and behind a picture whose differences are "around it"
SHORTEST = 0.3  # seconds of a shot; what lasts less is a flash, or belongs to the shot behind it
REMAINS = 0.5  # of a cut's difference: by so much each picture of SHORTEST behind it still differs from that before it
# Standard deviations of the planes of a picture, levels: of one colour, of a faint one, of one that shows something.
BLANK, DIM, SHOWS = 3.0, 20.0, 10.0
MOST_PICTURES = 128  # that wait for those behind them; more in AROUND come of no camera
MOST_CUTS = 64  # of one group, see `ShotFinder`


def difference(one: Small, other: Small) -> float:
    """Mean absolute difference of two small pictures over Y, U and V, in levels of 255."""
    return int((np.maximum(one, other) - np.minimum(one, other)).sum()) / one.size


@dataclass(frozen=True)
class _Seen:
    """A picture that waits for those behind it.

    Attributes:
        time: when it came on the screen.
        score: its difference from the one before.
        before: the one before.
        picture: itself.
        spread: largest standard deviation of a plane of it.
    """

    time: float
    score: float
    before: Small
    picture: Small
    spread: float


class ShotFinder:
    """Finds the shots of a video whose pictures are added one after another; it keeps those of half a second or so.

    A cut is a picture that differs from the one before by at least `LEAST`, and `RATIO` times as much as pictures
    within `AROUND` differ in the mean: so motion, which lasts, is none. Cuts that follow each other within `SHORTEST`
    are one, or none where the pictures before and behind them are alike: flashes, single black frames. A fade is a
    run of pictures of one colour that faint ones lead to; the shot behind it starts with the first that shows more.

    Source:
        The local mean is that of PySceneDetect's AdaptiveDetector, whose content score is of hue, saturation and luma;
        the differences here are of Y, U and V, which decoded pictures have.
    """

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._last: Small | None = None
        self._waiting: deque[_Seen] = deque()
        self._past: deque[tuple[float, float]] = deque()  # time and score
        self._group: list[_Seen] = []
        self._nearest = np.inf  # least difference of the pictures behind a group from that before it
        self._fades = _Fades()
        self._reformatter: av.video.reformatter.VideoReformatter | None = None

    def watch(self, time: float, frame: av.VideoFrame) -> None:
        """Add a decoded picture; see `add`."""
        if self._reformatter is None:
            from av.video.reformatter import VideoReformatter

            self._reformatter = VideoReformatter()
        small = self._reformatter.reformat(frame, WIDTH, HEIGHT, "yuv444p", interpolation="AREA", threads=1)
        self.add(time, small.to_ndarray())

    def add(self, time: float, picture: Small) -> None:
        """Add the next picture.

        Args:
            time: when it comes on the screen, seconds; later than that of the one before.
            picture: its Y, U and V, as small as all others.
        """
        if self._last is None:
            self._starts.append(time)
            before, score = picture, 0.0
        else:
            before, score = self._last, difference(self._last, picture)
        self._last = picture
        self._waiting.append(_Seen(time, score, before, picture, float(picture.std((1, 2), dtype=np.float32).max())))
        while time - self._waiting[0].time > AROUND or len(self._waiting) > MOST_PICTURES:
            self._decide(self._waiting.popleft())

    def starts(self) -> tuple[float, ...]:
        """Seconds at which shots start, in order, the first with the first picture; no picture can be added then."""
        while self._waiting:
            self._decide(self._waiting.popleft())
        if self._group and self._last is not None:
            self._close(self._last)
        return tuple(sorted(self._starts))

    def _decide(self, seen: _Seen) -> None:
        """Say of the picture that has waited longest whether it is a cut, or ends a fade."""
        if self._group and seen.time - self._group[-1].time > SHORTEST:
            self._close(seen.before)
        while (self._past and seen.time - self._past[0][0] > AROUND) or len(self._past) > MOST_PICTURES:
            self._past.popleft()
        cut = seen.score >= LEAST and seen.score >= RATIO * self._mean_around(seen)
        if cut:
            self._group, self._nearest = [*self._group[: MOST_CUTS - 1], seen], np.inf
        if self._group:
            self._nearest = min(self._nearest, difference(self._group[0].before, seen.picture))
        self._past.append((seen.time, seen.score))
        if (start := self._fades.start(seen, cut)) is not None:
            self._starts.append(start)

    def _mean_around(self, seen: _Seen) -> float:
        scores = [score for _, score in self._past]
        scores += [each.score for each in self._waiting if each.time - seen.time <= AROUND]
        return sum(scores) / max(1, len(scores))

    def _close(self, behind: Small) -> None:
        """Decide of the cuts of a group; the picture is that about `SHORTEST` behind the last of them."""
        before, largest = self._group[0].before, max(each.score for each in self._group)
        if self._nearest >= max(LEAST, REMAINS * largest):
            alike = (
                each for each in self._group if difference(each.picture, behind) <= difference(each.picture, before)
            )
            self._starts.append(next(alike, self._group[-1]).time)
        self._group = []


class _Fades:
    """Follows pictures until they are of one colour, and until they show more again."""

    def __init__(self) -> None:
        self._shown = False  # whether the pictures before are of a shot
        self._before = 0.0  # spread of the picture before
        self._blank = False  # whether they have become of one colour since then, little by little
        self._start: float | None = None  # of the first picture that may be of the next shot

    def start(self, seen: _Seen, cut: bool) -> float | None:
        """When the shot behind a fade started, once its pictures show enough.

        Args:
            seen: the next picture.
            cut: whether it is one.
        """
        before, self._before = self._before, seen.spread
        if cut:
            self._blank, self._shown, self._start = False, seen.spread >= SHOWS, None
        elif seen.spread < BLANK:
            self._blank, self._start = self._blank or (self._shown and before < DIM), None
        elif self._blank and self._start is None:
            self._start = seen.time
        if seen.spread < SHOWS:
            return None
        start, self._shown, self._blank, self._start = self._start, True, False, None
        return start


def video_shots(path: str | Path) -> tuple[float, ...]:
    """When the shots of a video start: seconds from its first picture, the first 0; memory does not grow with it.

    Args:
        path: of the video; every picture is decoded.

    Raises:
        ClipFileError: not a video, damaged, or without a picture.
        FileNotFoundError: no such file.
    """
    finder = ShotFinder()
    for time, frame in VideoFile(path).decoded():
        finder.watch(time, frame)
    return finder.starts()
