"""Videos on which two models disagree about the first guess: where Baseline is wrong and another model right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from analysis.statistics.intervals import sign_test_p

__all__ = ["RULE", "Contrast", "clearest", "contrast"]

RULE = (
    "of all videos where only the other model's first guess is a label, the one with the largest margin (how much "
    "more probable each of the two finds its own first guess than the other's, summed)"
)


@dataclass(frozen=True)
class Contrast:
    """Baseline against one model on one set of videos.

    Attributes:
        model: the other model's name.
        video: place of the video that the rule finds among those scored, or None where there is none.
        margin: of that video, in [0, 2]; NaN where there is none.
        wins: videos where Baseline's first guess is wrong and the other's right.
        losses: the opposite case.
        videos: how many have a known label.
        p_value: two-sided sign test of wins against losses.
    """

    model: str
    video: int | None
    margin: float
    wins: int
    losses: int
    videos: int
    p_value: float


def contrast(model: str, baseline: xr.Dataset, other: xr.Dataset) -> Contrast:
    """Compare first guesses, video by video, and find the clearest video that only the other model gets right.

    Args:
        model: the other model's name.
        baseline, other: `score` and `label` (video, class) of the same videos and classes.

    Raises:
        ValueError: other videos or classes.
    """
    for name in ("video", "class"):
        if not np.array_equal(baseline[name].values, other[name].values):
            raise ValueError(f"scores of Baseline and of {model!r} are not of the same {name} coordinates")
    one, two, labels = (
        table.transpose("video", "class").values for table in (baseline["score"], other["score"], other["label"])
    )
    right_one, right_two = _first_guess_right(one, labels), _first_guess_right(two, labels)
    wins = np.flatnonzero(~right_one & right_two)
    margins = _margins(one, two)
    best = int(wins[np.argmax(margins[wins])]) if len(wins) else None
    losses = int((right_one & ~right_two).sum())
    return Contrast(
        model=model,
        video=best,
        margin=float("nan") if best is None else float(margins[best]),
        wins=len(wins),
        losses=losses,
        videos=int(labels.any(1).sum()),
        p_value=sign_test_p(len(wins), losses),
    )


def clearest(contrasts: Mapping[str, Contrast]) -> Contrast:
    """The contrast whose video has the largest margin; the first where none has a video.

    Raises:
        ValueError: no contrasts.
    """
    if not contrasts:
        raise ValueError("no model to hold against Baseline; expected at least one with gated outputs (GateOp)")
    usable = [each for each in contrasts.values() if each.video is not None]
    return max(usable, key=lambda each: each.margin) if usable else next(iter(contrasts.values()))


def _first_guess_right(
    scores: Float[np.ndarray, "videos classes"], labels: Bool[np.ndarray, "videos classes"]
) -> Bool[np.ndarray, " videos"]:
    return labels[np.arange(len(scores)), scores.argmax(1)]


def _margins(
    one: Float[np.ndarray, "videos classes"], two: Float[np.ndarray, "videos classes"]
) -> Float[np.ndarray, " videos"]:
    rows = np.arange(len(one))
    guess_one, guess_two = one.argmax(1), two.argmax(1)
    return one[rows, guess_one] - one[rows, guess_two] + two[rows, guess_two] - two[rows, guess_one]
