"""The results table: four scores a model with intervals, training time and size, beside the published numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from analysis.statistics.intervals import Interval
from analysis.statistics.jackknife import jackknife_counts, jackknife_interval
from analysis.statistics.resampling import resampled_metrics
from gmsa_models.evaluation.metrics import METRICS, classification_metrics
from gmsa_models.variants import PUBLISHED, PUBLISHED_FAMILY

__all__ = ["PERCENT", "metric_samples", "results_table", "scored_text"]

PERCENT = 100.0


def metric_samples(table: xr.Dataset) -> xr.Dataset:
    """The four scores of one model, and without each video.

    Args:
        table: `score` and `label` (video, class).

    Returns:
        `estimate` (metric) and `without` (metric, group), in percent, of the data sets of `jackknife_counts` of the
        videos with a label; NaN where no video has one.
    """
    scores, labels = (table[name].transpose("video", "class").values for name in ("score", "label"))
    known = labels.any(1)
    whole, counts = classification_metrics(scores, labels), jackknife_counts(max(1, int(known.sum())))
    without = resampled_metrics(scores[known], labels[known], counts[:, : known.sum()])
    return xr.Dataset(
        {
            "estimate": ("metric", PERCENT * np.array([whole[name] for name in METRICS])),
            "without": (("metric", "group"), PERCENT * np.stack([without[name] for name in METRICS])),
        },
        {"metric": np.array(METRICS)},
    )


def results_table(
    samples: Mapping[str, xr.Dataset],
    kinds: Mapping[str, str],
    mebibytes: Mapping[str, float],
    seconds: xr.Dataset,
    videos: int,
    unlabelled: int = 0,
) -> xr.Dataset:
    """Everything that Table 1 shows, ours beside the published.

    Args:
        samples: model -> what `metric_samples` gives.
        kinds: model -> attention block.
        mebibytes: model -> size of the checkpoint in MiB.
        seconds: of `step_seconds`.
        videos: how many were scored.
        unlabelled: how many have no known label, and were left out.

    Returns:
        `score`, `low`, `high`, `published` (model, metric) in percent; `time`, `published_time` (model), training time
        relative to Baseline, and `size`, `published_size` (model) in MiB, each by family; NaN where there is none.
    """
    names = list(samples)
    ends = {name: [_interval(samples[name], metric) for metric in METRICS] for name in names}
    values = {
        "score": [[end.estimate for end in ends[name]] for name in names],
        "low": [[end.low for end in ends[name]] for name in names],
        "high": [[end.high for end in ends[name]] for name in names],
        "published": [[PUBLISHED.get(name, {}).get(metric, np.nan) for metric in METRICS] for name in names],
    }
    columns = {
        "time": [_relative_seconds(seconds, kinds[name]) for name in names],
        "published_time": [_published(kinds[name], name, "minutes_per_epoch", relative=True) for name in names],
        "size": [mebibytes[name] for name in names],
        "published_size": [_published(kinds[name], name, "disk_mebibytes") for name in names],
    }
    table = xr.Dataset(
        {name: (("model", "metric"), np.array(each)) for name, each in values.items()}
        | {name: ("model", np.array(each, np.float64)) for name, each in columns.items()},
        {
            "model": np.array(names),
            "metric": np.array(METRICS),
            "kind": ("model", np.array([kinds[name] for name in names])),
        },
        {"videos": videos, "unlabelled": unlabelled},
    )
    table["time"].attrs["not_compared"] = "a timing: no two runs agree"
    return table


def scored_text(videos: int, unlabelled: int, kind: str = "") -> str:
    """`1 video`, `5 whole videos` (of a kind), `8 videos with a known label (8 have none)`."""
    count = f"{videos} {kind}{' ' if kind else ''}video{'' if videos == 1 else 's'}"
    return (
        f"{count} with a known label ({unlabelled} {'has' if unlabelled == 1 else 'have'} none)"
        if unlabelled
        else count
    )


def _interval(table: xr.Dataset, metric: str) -> Interval:
    one = table.sel(metric=metric)
    return jackknife_interval(float(one["estimate"]), one["without"].values)


def _relative_seconds(seconds: xr.Dataset, kind: str) -> float:
    families = seconds["family"].values.tolist()
    if kind not in families or "baseline" not in families:
        return float("nan")
    return float(seconds["seconds"].sel(family=kind) / seconds["seconds"].sel(family="baseline"))


def _published(kind: str, name: str, what: str, relative: bool = False) -> float:
    """NaN for a model that is not one of the paper's columns."""
    if name not in PUBLISHED:
        return float("nan")
    value = PUBLISHED_FAMILY[kind][what]
    return value / PUBLISHED_FAMILY["baseline"][what] if relative else value
