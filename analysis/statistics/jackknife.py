"""Intervals and p-values of scores that rank videos against each other: GAP and MAP, by leaving videos out.

Such a score has no value a video. The bootstrap does not serve it: a sample that holds a video twice ranks it beside
itself, which moves average precision, most where a class has few videos. Without a video the others rank as they do.
"""

from __future__ import annotations

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Float, Int

from analysis.statistics.intervals import LEVEL, Interval
from gmsa_models.errors import ArgumentError

__all__ = ["GROUPS", "jackknife_counts", "jackknife_interval", "jackknife_p"]

# More videos than this are left out by groups: as many passes tell a deviation to 2 percent.
GROUPS = 1000


def jackknife_counts(videos: int, groups: int = GROUPS) -> Int[np.ndarray, "groups videos"]:
    """How often each video stands in each data set from which one video, or one group of videos, is left out.

    Args:
        videos: at least 1.
        groups: at most so many data sets; beyond so many videos, video v is of group v modulo `groups`.

    Raises:
        ArgumentError: no videos.

    Source:
        Kott, "The Delete-a-Group Jackknife", Journal of Official Statistics 2001.
    """
    if videos < 1:
        raise ArgumentError(f"{videos} videos to leave out; expected at least 1")
    count = min(videos, groups)
    return (np.arange(count)[:, None] != np.arange(videos)[None, :] % count).astype(np.int8)


def jackknife_interval(estimate: float, without: Float[np.ndarray, " groups"], level: float = LEVEL) -> Interval:
    """The estimate give or take its jackknife standard error times Student's t, one degree of freedom less than groups.

    Args:
        estimate: of all videos.
        without: of all but one video (or group): of the data sets of `jackknife_counts`. Of a difference or a mean of
            scores, the differences or means.
        level: of the interval.

    Returns:
        NaN ends with fewer than two groups, and where no video changes anything.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 11.4.
    """
    error = _standard_error(without)
    reach = float(scipy.stats.t.ppf((1 + level) / 2, max(len(without) - 1, 1))) * error
    return Interval(float(estimate), float(estimate - reach), float(estimate + reach), level)


def jackknife_p(difference: float, without: Float[np.ndarray, " groups"]) -> float:
    """Two-sided p of no difference: below 0.05 where the 95 % interval leaves out 0; 1 of sides that are the same.

    Args:
        difference: of all videos.
        without: as for `jackknife_interval`; NaN is returned of fewer than two groups.
    """
    error = _standard_error(without)
    if len(without) > 1 and np.isnan(error):
        return 1.0 if difference == 0 else float("nan")
    return float(2 * scipy.stats.t.sf(abs(difference) / error, max(len(without) - 1, 1)))


def _standard_error(without: Float[np.ndarray, " groups"]) -> float:
    """NaN with fewer than two, or where all are equal."""
    if len(without) < 2 or np.ptp(without) == 0:
        return float("nan")
    return float(np.sqrt(len(without) - 1) * np.std(without))
