"""What the vertical lines of a head are, over videos: salient frames, no-op sinks or broadcast sinks.

The kinds are those of `analysis.attention.sinks`, which finds the lines and what stands there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from analysis.statistics.intervals import Interval, mean_interval

__all__ = [
    "BROADCAST",
    "NO_LINES",
    "NO_OP",
    "NO_OP_SINK",
    "SALIENT",
    "SHARED",
    "UNDECIDED",
    "HeadVerdict",
    "head_verdict",
    "shared_parts",
]

# A value below half of the median frame's is no-op; a broadcast value is in its square mostly what all videos share.
NO_OP, SHARED = 0.5, 0.5
SALIENT, NO_OP_SINK, BROADCAST, UNDECIDED, NO_LINES = "salient", "no-op", "broadcast", "undecided", "no lines"


@dataclass(frozen=True)
class HeadVerdict:
    """What the lines of one head are.

    Attributes:
        verdict: "salient", "no-op", "broadcast", "undecided" or "no lines".
        norm_ratio: norm of the lines' values by the median frame's, with its interval over videos.
        shared: how much of their value all videos share, with its interval over videos; see `shared_parts`.
        videos: how many have a line.
    """

    verdict: str
    norm_ratio: Interval
    shared: Interval
    videos: int


def head_verdict(
    norm_ratio: Float[np.ndarray, " videos"],
    shared: Float[np.ndarray, " others"],
    counts: Int[np.ndarray, "resamples drawn"],
) -> HeadVerdict:
    """Salient, no-op or broadcast, for one head.

    No-op: the interval of the norm ratio lies below 0.5. Else, where it lies above, broadcast: that of the shared part
    lies above 0.5; salient: below. Undecided: an interval holds its limit, or fewer than two videos have a line.

    Args:
        norm_ratio: of `analysis.attention.sinks.line_values`, a video each; NaN: it has no line.
        shared: of `shared_parts` of the same videos.
        counts: of `resample_counts` of the videos.
    """
    videos = int((~np.isnan(norm_ratio)).sum())
    size, same = (_NONE if np.isnan(each).all() else mean_interval(each, counts) for each in (norm_ratio, shared))
    return HeadVerdict(_verdict(size, same) if videos else NO_LINES, size, same, videos)


def shared_parts(
    at_lines: Float[np.ndarray, "videos width"], elsewhere: Float[np.ndarray, "others width"]
) -> Float[np.ndarray, " videos"]:
    """Share of the square of a video's value at its lines that lies along what the other videos have at theirs.

    The head's typical value, the mean over videos of that of the other frames, is taken off first: a bias of V is in
    all values alike.

    Args:
        at_lines, elsewhere: of `analysis.attention.sinks.line_values` of one head; NaN: a video without lines.

    Returns:
        1: the same direction in every video; about 0: nothing in common; below 0: against the others. NaN for videos
        without lines, and for all where fewer than two have any.
    """
    present = ~np.isnan(at_lines).any(1)
    result = np.full(len(at_lines), np.nan)
    if present.sum() < 2:
        return result
    values = at_lines[present] - np.nanmean(elsewhere, 0)
    others = (values.sum(0) - values) / (len(values) - 1)
    product = np.linalg.norm(values, axis=1) * np.linalg.norm(others, axis=1)
    cosine = (values * others).sum(1) / np.where(product > 0, product, 1.0)
    result[present] = np.sign(cosine) * cosine**2
    return result


_NONE = Interval(float("nan"), float("nan"), float("nan"))


def _verdict(size: Interval, same: Interval) -> str:
    if size.high < NO_OP:
        return NO_OP_SINK
    if not size.low > NO_OP:
        return UNDECIDED
    if same.low > SHARED:
        return BROADCAST
    return SALIENT if same.high < SHARED else UNDECIDED
