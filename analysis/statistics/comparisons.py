"""All pairs of models held against each other on the same videos, as one tidy table.

A score that is a mean over videos (PERR, Hit@1, any number a video) is tested by its differences (`paired_p`: flipped
signs and the studentised bootstrap). GAP and MAP rank videos against each other, so there is no number a video: each
video is left out of both models at once (paired jackknife), the interval is Student's, and p is what belongs to that
interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float, Int

from analysis.statistics.intervals import (
    RESAMPLES,
    Interval,
    mean_interval,
    resample_counts,
)
from analysis.statistics.jackknife import jackknife_counts, jackknife_interval, jackknife_p
from analysis.statistics.multiplicity import adjust_p_values
from analysis.statistics.paired import DRAWS, paired_p
from analysis.statistics.resampling import resampled_metrics, video_metrics
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluation.metrics import METRICS, classification_metrics

__all__ = [
    "Difference",
    "ScoreSample",
    "compare_scores",
    "compare_values",
    "corrected",
    "score_difference",
    "score_sample",
    "value_difference",
]

JACKKNIFE, SIGNS = "paired jackknife", "paired signs and bootstrap"
PERCENT = 100.0

Counts = Int[np.ndarray, "resamples drawn"]


@dataclass(frozen=True)
class Difference:
    """One side less the other, on the same videos.

    Attributes:
        first_value, second_value: of either side.
        difference: first less second.
        low, high: its 95 % interval over videos; NaN with fewer than two, and where all differ by the same.
        p_value: two-sided, of no difference; NaN where none can be had.
        test: "paired jackknife" or "paired signs and bootstrap".
        videos: how many both sides have a value of.
    """

    first_value: float
    second_value: float
    difference: float
    low: float
    high: float
    p_value: float
    test: str
    videos: int


@dataclass(frozen=True)
class ScoreSample:
    """Scores of one side in percent: the whole data set's, and what their differences are tested by.

    Attributes:
        estimates: metric -> score.
        without: GAP and MAP -> without each video with a known label, or group of them; see `jackknife_counts`.
        of_videos: PERR and Hit@1 -> of each video, NaN for one without a known label.
        videos: how many have a known label: those that the scores are of.
        counts: the bootstrap samples of the others.
    """

    estimates: dict[str, float]
    without: dict[str, Float[np.ndarray, " groups"]]
    of_videos: dict[str, Float[np.ndarray, " videos"]]
    counts: Counts
    videos: int


def score_sample(
    scores: Float[np.ndarray, "videos classes"],
    labels: Bool[np.ndarray, "videos classes"],
    counts: Counts,
    metrics: Sequence[str] = METRICS,
) -> ScoreSample:
    """Everything that differences of scores need of one side.

    Args:
        scores: probabilities.
        labels: True where the video has the label.
        counts: of `resample_counts`; the same for both sides.
        metrics: of "gap", "map", "perr", "hit_at_1".

    Raises:
        ArgumentError: an unknown metric, shapes that do not fit, or no video with a label.
    """
    if not labels.any():
        raise ArgumentError(f"none of the {len(labels)} videos has a label that the model knows: there is no score")
    ranked = [name for name in metrics if name not in ("perr", "hit_at_1")]
    known = labels.any(1)
    without = resampled_metrics(scores[known], labels[known], jackknife_counts(int(known.sum())), metrics=ranked)
    of_videos = video_metrics(scores, labels)
    whole = classification_metrics(scores, labels)
    return ScoreSample(
        estimates={name: PERCENT * whole[name] for name in metrics},
        without={name: PERCENT * each for name, each in without.items()},
        of_videos={name: PERCENT * of_videos[name] for name in metrics if name not in ranked},
        counts=counts,
        videos=int(labels.any(1).sum()),
    )


def score_difference(
    first: ScoreSample, second: ScoreSample, metric: str, permutations: int = DRAWS, seed: int = 0
) -> Difference:
    """Difference of one score, in percentage points, by the test that the score calls for.

    Args:
        first, second: of the same videos and bootstrap samples.
        metric: one that both have.
        permutations: drawn samples, of a score that is a mean over videos.
        seed: of them.
    """
    if metric in first.of_videos:
        return value_difference(first.of_videos[metric], second.of_videos[metric], first.counts, permutations, seed)
    one, two, videos = first.estimates[metric], second.estimates[metric], first.videos
    without = first.without[metric] - second.without[metric]
    ends, p_value = jackknife_interval(one - two, without), jackknife_p(one - two, without)
    return Difference(one, two, one - two, ends.low, ends.high, p_value, JACKKNIFE, videos)


def value_difference(
    first: Float[np.ndarray, " videos"],
    second: Float[np.ndarray, " others"],
    counts: Counts,
    permutations: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """Mean difference of any number a video; videos that lack it on either side (NaN) are left out.

    Args:
        first, second: one value a video, in the same order.
        counts: of `resample_counts`.
        permutations: drawn patterns of signs, where there are too many to try all, and bootstrap samples of the test.
        seed: of them.

    Raises:
        ArgumentError: sides of different lengths, or no video that both have a value of.
    """
    if first.shape != second.shape:
        raise ArgumentError(f"sides of {len(first)} and {len(second)} videos; expected the same videos")
    differences = first - second
    present = ~np.isnan(differences)
    interval: Interval = mean_interval(differences, counts)
    p_value = paired_p(differences, permutations, seed) if present.sum() > 1 else float("nan")
    sides = float(first[present].mean()), float(second[present].mean())
    return Difference(*sides, interval.estimate, interval.low, interval.high, p_value, SIGNS, int(present.sum()))


def compare_scores(
    tables: Mapping[str, xr.Dataset],
    metrics: Sequence[str] = METRICS,
    *,
    resamples: int = RESAMPLES,
    permutations: int = DRAWS,
    seed: int = 0,
    correction: str = "holm",
) -> pd.DataFrame:
    """Every pair of models on GAP, MAP, PERR and Hit@1, with p-values corrected over the pairs of each metric.

    Args:
        tables: model -> `score` and `label` (video, class), of the same videos and classes: what
            `analysis.study.scores.score_models` gives.
        metrics: of "gap", "map", "perr", "hit_at_1".
        resamples, permutations, seed: bootstrap samples of intervals, draws of `paired_p`.
        correction: see `adjust_p_values`.

    Returns:
        A row a metric and pair: metric, first, second, the fields of `Difference` (in percent), p_adjusted, correction.

    Raises:
        ArgumentError: fewer than two models, or models scored on other videos or classes; an unknown metric, or no
            video with a label.
    """
    _check_same(tables)
    videos = next(iter(tables.values())).sizes["video"]
    counts = resample_counts(videos, resamples, seed)
    samples = {
        name: score_sample(_array(each, "score"), _array(each, "label"), counts, metrics)
        for name, each in tables.items()
    }
    rows = [
        _row(metric, first, second, score_difference(samples[first], samples[second], metric, permutations, seed))
        for metric in metrics
        for first, second in combinations(samples, 2)
    ]
    return corrected(rows, correction)


def compare_values(
    values: Mapping[str, Float[np.ndarray, " videos"]] | pd.DataFrame,
    metric: str,
    *,
    resamples: int = RESAMPLES,
    permutations: int = DRAWS,
    seed: int = 0,
    correction: str = "holm",
) -> pd.DataFrame:
    """Every pair of models on any number a video: mean S, Gini of the profile, faithfulness.

    Args:
        values: model -> one value a video, in the same order for all (a DataFrame: a column a model); NaN: none.
        metric: what the number is called.
        resamples, permutations, seed, correction: as for `compare_scores`.

    Returns:
        As `compare_scores`, in the unit of the values.

    Raises:
        ArgumentError: fewer than two models, or different numbers of videos.
    """
    arrays = {str(name): np.asarray(values[name], np.float64) for name in values}
    if len(arrays) < 2:
        raise ArgumentError(f"{len(arrays)} models to compare; expected at least 2")
    counts = resample_counts(len(next(iter(arrays.values()))), resamples, seed)
    rows = [
        _row(metric, first, second, value_difference(arrays[first], arrays[second], counts, permutations, seed))
        for first, second in combinations(arrays, 2)
    ]
    return corrected(rows, correction)


def _row(metric: str, first: str, second: str, difference: Difference) -> dict[str, object]:
    return {"metric": metric, "first": first, "second": second, **asdict(difference)}


def corrected(rows: Sequence[Mapping[str, object]], correction: str) -> pd.DataFrame:
    """Rows as a table, with `p_adjusted` and `correction`: p-values corrected within each `metric`."""
    table = pd.DataFrame(rows)
    adjusted = table.groupby("metric")["p_value"].transform(lambda each: adjust_p_values(each.to_numpy(), correction))
    return table.assign(p_adjusted=adjusted, correction=correction)


def _array(table: xr.Dataset, part: str) -> np.ndarray:
    return np.asarray(table[part].transpose("video", "class"))


def _check_same(tables: Mapping[str, xr.Dataset]) -> None:
    names = list(tables)
    if len(names) < 2:
        raise ArgumentError(f"{len(names)} models to compare; expected at least 2")
    for name in names[1:]:
        for axis in ("video", "class"):
            if not np.array_equal(tables[names[0]][axis].values, tables[name][axis].values):
                raise ArgumentError(f"models {names[0]!r} and {name!r} were not scored on the same {axis} coordinates")
