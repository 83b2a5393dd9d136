"""`demo:3` and `demo:0-8`: how the videos of the demo set are named."""

from __future__ import annotations

import re

from gmsa_models.errors import ArgumentError

__all__ = ["DEMO", "DEMO_VIDEOS", "demo_videos", "is_demo", "parse_demo"]

DEMO = "demo:"
DEMO_VIDEOS = 512  # videos of the demo set
_FORM = re.compile(r"demo:(\d{1,18})(?:-(\d{1,18}))?", re.ASCII)


def is_demo(source: object) -> bool:
    """Whether a source names videos of the demo set."""
    return str(source).startswith(DEMO)


def parse_demo(source: str) -> range:
    """Numbers of the videos that `demo:3` (one) or `demo:0-8` (0 to 7) names, which need not be there.

    Raises:
        ArgumentError: anything else.
    """
    match = _FORM.fullmatch(source)
    if match is None:
        raise ArgumentError(f"{source!r} is not a demo video; expected 'demo:3', or 'demo:0-8' for 0 to 7")
    start = int(match[1])
    return range(start, start + 1 if match[2] is None else int(match[2]))


def demo_videos(source: str) -> range:
    """The same; all of them are there.

    Raises:
        ArgumentError: of another form, none, or not in the demo set.
    """
    videos = parse_demo(source)
    if not videos or videos.stop > DEMO_VIDEOS:
        raise ArgumentError(f"{source!r}: demo videos are {DEMO}0 to {DEMO}{DEMO_VIDEOS - 1}")
    return videos
