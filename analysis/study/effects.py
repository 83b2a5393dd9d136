"""What knocking out says of a study's models: the numbers of Figure 9."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from analysis.interventions.effect_scores import effect_scores
from analysis.statistics.intervals import Interval, group_mean_values, mean_interval
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip

__all__ = ["ROWS", "branch_effects", "correction_of_global", "effect_rows"]

BRANCHES = ("global", "local")
SMALLEST_GROUP = 2  # videos of a kind, without which nothing says how much they differ
EVEN = 1.0  # attention that the label's seconds receive: below it, the global branch looks elsewhere
# The panels of the figure and their rows.
ROWS: dict[str, tuple[str, ...]] = {
    "branch": ("global", "local"),
    "window": ("global, label", "global, other", "local, label", "local, other"),
    "local": ("label missed", "label found"),
}


def branch_effects(
    model: GMSAClassifier, clips: Sequence[Clip], progress: Callable[[int], None] = lambda clips: None
) -> xr.Dataset:
    """`effect_scores` of the branches, summed over the modalities, to which the logit is a sum.

    Returns:
        `whole`, `evidence`, `other` (video, branch), `attention` (video): mean over the modalities.
    """
    scores = effect_scores(model, clips, progress=progress)
    units = scores.isel(unit=np.flatnonzero(scores["head"].values == -1))
    result = units[["whole", "evidence", "other"]].sum("modality", skipna=False)
    result = result.swap_dims(unit="branch").drop_vars("head").reindex(branch=list(BRANCHES))
    result = result.assign(attention=scores["attention"].mean("modality"))
    return result.drop_vars("label").transpose("video", "branch")


def effect_rows(
    tables: Mapping[str, xr.Dataset], counts: Int[np.ndarray, "resamples videos"]
) -> dict[str, Float[np.ndarray, "model row"]]:
    """Mean, low and high of every row of `ROWS`, a model a row; NaN where a model has no such branch or video."""
    values = [_rows_of(table, counts) for table in tables.values()]
    return {name: np.array([[getattr(one, field) for one in row] for row in values])
            for name, field in (("effect", "estimate"), ("low", "low"), ("high", "high"))}  # fmt: skip


def correction_of_global(
    tables: Mapping[str, xr.Dataset], counts: Int[np.ndarray, "resamples videos"]
) -> dict[str, Interval]:
    """Whether the local branch helps more where global attention looks elsewhere: mean over the models that have one.

    Returns:
        "missed", "found": how much of the label's logit is lost without the local branch, in videos whose label's
        seconds receive less global attention than uniform would give them, and in the others; "difference": the first
        less the second. A model with fewer than two videos of either kind is left out; NaN where none is left.
    """
    both = [table for table in tables.values() if table["whole"].sel(branch="local").notnull().any()]
    sides: dict[str, list[Float[np.ndarray, " videos"]]] = {"missed": [], "found": []}
    for table in both:
        lost, missed = -table["whole"].sel(branch="local").to_numpy(), table["attention"].to_numpy() < EVEN
        each = {"missed": np.where(missed, lost, np.nan), "found": np.where(missed, np.nan, lost)}
        if any((~np.isnan(values)).sum() < SMALLEST_GROUP for values in each.values()):
            continue  # of a model that has hardly a video of one kind, there is no difference
        for name, values in each.items():
            sides[name].append(group_mean_values(values))
    if not sides["missed"]:
        return dict.fromkeys(("missed", "found", "difference"), _NONE)
    means = {name: np.mean(result, axis=0) for name, result in sides.items()}
    means["difference"] = means["missed"] - means["found"]
    return {name: mean_interval(each, counts) for name, each in means.items()}


_NONE = Interval(float("nan"), float("nan"), float("nan"))


def _rows_of(table: xr.Dataset, counts: Int[np.ndarray, "resamples videos"]) -> list[Interval]:
    missed = table["attention"].values < EVEN
    whole = {branch: table["whole"].sel(branch=branch).values for branch in BRANCHES}
    values = [
        whole["global"],
        whole["local"],
        *(table[name].sel(branch=branch).values for branch in BRANCHES for name in ("evidence", "other")),
        np.where(missed, whole["local"], np.nan),
        np.where(missed, np.nan, whole["local"]),
    ]
    return [_interval(each, counts) for each in values]


def _interval(values: Float[np.ndarray, " videos"], counts: Int[np.ndarray, "resamples videos"]) -> Interval:
    return _NONE if np.isnan(values).all() else mean_interval(values, counts)
