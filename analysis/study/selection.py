"""Which videos are looked at closely: the first long ones, cut to one length, so that their curves can be averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from gmsa_models.data.clip import Clip
from gmsa_models.data.demo_videos import DEMO, demo_videos, is_demo
from gmsa_models.data.sources import read_clips

__all__ = ["Selection", "clips_at", "select"]


@dataclass(frozen=True)
class Selection:
    """Some videos of a source.

    Attributes:
        places: of the videos in the source, rising.
        frames: how many first frames of each are looked at.
    """

    places: tuple[int, ...]
    frames: int


def select(lengths: Int[np.ndarray, " videos"], videos: int, frames: int) -> Selection:
    """The first `videos` of at least `frames` frames; where there are too few, fewer frames, so that there are enough.

    Args:
        lengths: frames of every video, in the order of the source.
        videos: how many are wanted; all where there are fewer.
        frames: the most that are looked at of each.

    Raises:
        ValueError: no videos, or numbers below 1.
    """
    if not len(lengths) or videos < 1 or frames < 1:
        raise ValueError(f"cannot choose {videos} of {len(lengths)} videos, {frames} frames each; expected at least 1")
    wanted = min(videos, len(lengths))
    common = int(min(frames, np.sort(lengths)[-wanted]))
    return Selection(tuple(int(place) for place in np.flatnonzero(lengths >= common)[:wanted]), common)


def clips_at(source: Sequence[str], places: Sequence[int]) -> Iterator[Clip]:
    """The clips at some places of a source, in rising order; reads no further than the last of them."""
    wanted = sorted(set(places))
    direct = _demo_names(source)
    if direct is not None:
        yield from read_clips([direct[place] for place in wanted])
        return
    left = set(wanted)
    for place, clip in enumerate(read_clips(list(source))):
        if place in left:
            yield clip
            left.remove(place)
        if not left:
            return


def _demo_names(source: Sequence[str]) -> list[str] | None:
    """`demo:N` of every clip, each of which can be made alone; None for any other source."""
    if not all(map(is_demo, source)):
        return None
    return [f"{DEMO}{index}" for one in source for index in demo_videos(one)]
