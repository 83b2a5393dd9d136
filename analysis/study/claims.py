"""The paper's claims C1 to C5 on the data at hand: a statistic, an interval and a verdict each.

A part of a claim says that some number is above 0. It is held against the interval of that number over videos
(bootstrap) or, for a rank correlation, over models. The verdicts follow one rule, `verdict_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float

from analysis.statistics.families import family_correlation, least_p
from analysis.statistics.intervals import (
    Interval,
    mean_interval,
    resample_counts,
)
from analysis.statistics.jackknife import jackknife_interval
from analysis.statistics.line_verdicts import NO_OP, SHARED
from analysis.statistics.paired import paired_p

__all__ = [
    "CONFIRMED",
    "FAMILY_NAMES",
    "FAMILY_STEPS",
    "NOT_CONFIRMED",
    "UNDECIDED",
    "Claim",
    "Part",
    "claims_table",
    "locality_and_score",
    "neighbours_alike",
    "order_of_scores",
    "uneven_global_profile",
    "verdict_of",
    "vertical_lines",
]

CONFIRMED, NOT_CONFIRMED, UNDECIDED = "confirmed", "not confirmed", "undecided"
NEAR_SECONDS, FAR_SECONDS = 1.0, 30.0  # C5: neighbours against frames half a minute or more apart
FAMILY_NAMES = {"baseline": "Baseline", "share-att": "ShareAtt", "gate-att": "GateAtt", "gate-op": "GateOp"}
# C1: each family against the next, and what the claim says of their difference.
FAMILY_STEPS = (("gate-op", "gate-att", ">"), ("gate-att", "share-att", ">="), ("share-att", "baseline", ">"))


@dataclass(frozen=True)
class Part:
    """One number of a claim.

    Attributes:
        what: the number in words, with its unit.
        short: the same in a word or two.
        value: estimate and interval.
        p_value: two-sided; NaN where no test was made.
        sign: what the claim says of the number: ">" above 0, ">=" not below 0, "" nothing: it only informs.
    """

    what: str
    short: str
    value: Interval
    p_value: float = float("nan")
    sign: str = ">"


@dataclass(frozen=True)
class Claim:
    """A claim and what became of it.

    Attributes:
        name: "C1" to "C5".
        statement: what the paper says.
        parts: the numbers.
        sample: of what, and how many.
    """

    name: str
    statement: str
    parts: tuple[Part, ...]
    sample: str

    @property
    def verdict(self) -> str:
        """`verdict_of` of the parts."""
        return verdict_of(self.parts)


def verdict_of(parts: Sequence[Part]) -> str:
    """Confirmed: every interval lies above 0 (a ">=" part: or holds 0, its estimate not being below).

    Not confirmed: some interval lies wholly below 0. Undecided: else, and where a part has no interval.
    """
    signed = [part for part in parts if part.sign]
    if not signed or any(np.isnan(part.value.low) for part in signed):
        return UNDECIDED
    if any(part.value.high < 0 for part in signed):
        return NOT_CONFIRMED
    return CONFIRMED if all(_holds(part) for part in signed) else UNDECIDED


def _holds(part: Part) -> bool:
    return part.value.low > 0 or (part.sign == ">=" and part.value.estimate >= 0)


def order_of_scores(samples: Mapping[str, xr.Dataset], kinds: Mapping[str, str], videos: int) -> Claim:
    """C1, by the mean GAP of each family.

    Args:
        samples: model -> `estimate`, `without` of the scores, of the same videos for all; see `metric_samples`.
        kinds: model -> attention block.
        videos: how many were scored.
    """
    parts = []
    for high, low, sign in FAMILY_STEPS:
        one, two = (_family_gap(samples, kinds, kind) for kind in (high, low))
        if one is None or two is None:
            value = Interval(float("nan"), float("nan"), float("nan"))
        else:
            value = jackknife_interval(one[0] - two[0], one[1] - two[1])
        one_name, other_name = FAMILY_NAMES[high], FAMILY_NAMES[low]
        what, short = f"GAP of {one_name} less {other_name} (points)", f"{one_name} − {other_name}"
        parts.append(Part(what, short, value, sign=sign))
    statement = "GAP: GateOp > GateAtt ≥ ShareAtt > Baseline"
    return Claim("C1", statement, tuple(parts), f"{videos} videos, mean over the models of a family")


def _family_gap(
    samples: Mapping[str, xr.Dataset], kinds: Mapping[str, str], kind: str
) -> tuple[float, np.ndarray] | None:
    gaps = [table.sel(metric="gap") for name, table in samples.items() if kinds[name] == kind]
    if not gaps:
        return None
    return (
        float(np.mean([float(gap["estimate"]) for gap in gaps])),
        np.mean([gap["without"].values for gap in gaps], axis=0),
    )


def locality_and_score(
    statistics: Mapping[str, xr.Dataset], gap: Mapping[str, float], kinds: Mapping[str, str], seed: int
) -> Claim:
    """C2: rank correlation of GAP and mean S over the families, whose models are no draws of their own.

    Args:
        statistics: model -> `sensitivity` (video, frame), and `own_sensitivity` where the model has a neighbourhood.
        gap: model -> score.
        kinds: model -> attention block, its family.
        seed: of the permutations.
    """
    parts, families = [], {kinds[model] for model in statistics}
    for name, what, sign in (
        ("sensitivity", "Spearman's ρ of GAP and mean S, the same neighbourhood for all", ">"),
        ("own_sensitivity", "the same, each model's own neighbourhood", ""),
    ):
        models = [model for model, table in statistics.items() if name in table and table[name].notnull().any()]
        means = np.array([float(statistics[model][name].mean()) for model in models])
        scores = np.array([gap[model] for model in models])
        parts.append(_rank_part(means, scores, [kinds[model] for model in models], what, sign, seed))
    sample = f"{len(families)} families of {len(statistics)} models"
    if (least := least_p(len(families))) > 0.05:
        sample += f"; the least p of {len(families)} is {least:.2g}"
    return Claim("C2", "better models have larger S_i", tuple(parts), sample)


def _rank_part(
    means: Float[np.ndarray, " models"],
    gaps: Float[np.ndarray, " others"],
    families: Sequence[str],
    what: str,
    sign: str,
    seed: int,
) -> Part:
    rank = family_correlation(means, gaps, families, seed)
    count = f"{len(set(families))} families of {len(means)} models"
    value = Interval(*[float("nan")] * 3) if rank is None else Interval(rank.rho, rank.low, rank.high)
    return Part(f"{what} ({count})", "ρ", value, float("nan") if rank is None else rank.p_value, sign)


def uneven_global_profile(statistics: Mapping[str, xr.Dataset], seed: int, resamples: int) -> Claim:
    """C3: Gini coefficient of the global profile less that of the local one, in the models that have both."""
    both = {name: table for name, table in statistics.items() if {"global", "local"} <= set(table["branch"].values)}
    parts, videos = [], 0
    for modality in _modalities(both):
        tables = [table["gini"].sel(modality=modality) for table in both.values()]
        each = np.stack([(one.sel(branch="global") - one.sel(branch="local")).values for one in tables])
        what = f"Gini of the global less the local profile, {modality}, mean of {len(tables)} models"
        parts.append(_mean_part(each.mean(0), what, modality, seed, resamples))
        videos = each.shape[1]
    return Claim("C3", "the global profile is more uneven than the local one", tuple(parts), f"{videos} videos")


def vertical_lines(baseline: xr.Dataset, seed: int, resamples: int, lines: xr.Dataset | None = None) -> Claim:
    """C4: verticality of Baseline's maps above chance, and whether the lines are salient frames or sinks.

    Args:
        baseline: of `model_statistics`.
        seed, resamples: of the intervals.
        lines: of `line_statistics` of the same videos; None: what the lines are is not asked.
    """
    parts = []
    for modality in _modalities({"": baseline}):
        one = baseline.sel(modality=modality)
        explained = one["verticality_adjusted"].mean("head").values
        what = f"share of a map that vertical lines explain, chance taken off, {modality}, mean of heads"
        parts.append(_mean_part(explained, what, modality, seed, resamples))
        if "top_share" not in one:  # a sweep has none; it only informs
            continue
        top = one["top_share"].sel(branch="global").values
        what = f"share of the attention on the tenth of the frames that receive most, {modality} (even: 0.1)"
        parts.append(_mean_part(top, what, modality, seed, resamples, sign=""))
    statement = "Baseline's maps show vertical lines: a few frames are attended to by all"
    if lines is not None:
        statement = "Baseline's maps show vertical lines: a few salient frames, no sinks, are attended to by all"
        parts += _salience(lines, seed, resamples)
    return Claim("C4", statement, tuple(parts), f"{baseline.sizes['video']} videos")


def _salience(lines: xr.Dataset, seed: int, resamples: int) -> list[Part]:
    """Lines are salient where their values are neither near zero nor the same in every video."""
    parts = []
    for modality in _modalities({"": lines}):
        one = lines.sel(modality=modality).mean("head")
        what = f"norm of the values at lines by the median frame's, less {NO_OP:g}, {modality} (below 0: no-op sinks)"
        parts.append(_mean_part(one["norm_ratio"].values - NO_OP, what, f"{modality}, no-op", seed, resamples))
        what = f"{SHARED:g} less the part of these values that all videos share, {modality} (below 0: broadcast sinks)"
        parts.append(_mean_part(SHARED - one["shared"].values, what, f"{modality}, broadcast", seed, resamples))
    return parts


def neighbours_alike(clips: xr.Dataset, seed: int, resamples: int) -> Claim:
    """C5: mean cosine of frames 1 s apart, less that of frames half a minute or more apart."""
    lags = clips["lag"].values
    near, far = int(np.argmin(np.abs(lags - NEAR_SECONDS))), lags >= FAR_SECONDS
    parts = []
    for modality in _modalities({"": clips}):
        values = clips["similarity_by_lag"].sel(modality=modality).transpose("video", "lag").values
        what = f"cosine of frames {lags[near]:g} s apart less those {FAR_SECONDS:g} s or more apart, {modality}"
        distant = values[:, far].mean(1) if far.any() else np.full(len(values), np.nan)
        parts.append(_mean_part(values[:, near] - distant, what, modality, seed, resamples))
        what = f"cosine of frames {lags[near]:g} s apart, {modality}"
        parts.append(_mean_part(values[:, near], what, modality, seed, resamples, ""))
    return Claim("C5", "neighbouring frames are alike", tuple(parts), f"{clips.sizes['video']} videos")


def _mean_part(
    values: Float[np.ndarray, " videos"], what: str, short: str, seed: int, resamples: int, sign: str = ">"
) -> Part:
    if np.isnan(values).all():
        return Part(what, short, Interval(float("nan"), float("nan"), float("nan")), sign=sign)
    interval = mean_interval(values, resample_counts(len(values), resamples, seed))
    return Part(what, short, interval, paired_p(values, seed=seed) if sign else float("nan"), sign)


def _modalities(tables: Mapping[str, xr.Dataset]) -> list[str]:
    return list(dict.fromkeys(str(name) for table in tables.values() for name in table["modality"].values))


def claims_table(claims: Sequence[Claim]) -> xr.Dataset:
    """Claims as one table, a row a part."""
    rows = [(claim, part) for claim in claims for part in claim.parts]
    texts = {
        "claim": [claim.name for claim, _ in rows],
        "statement": [claim.statement for claim, _ in rows],
        "verdict": [claim.verdict for claim, _ in rows],
        "sample": [claim.sample for claim, _ in rows],
        "what": [part.what for _, part in rows],
        "short": [part.short for _, part in rows],
        "sign": [part.sign for _, part in rows],
    }
    numbers = {
        "estimate": [part.value.estimate for _, part in rows],
        "low": [part.value.low for _, part in rows],
        "high": [part.value.high for _, part in rows],
        "p_value": [part.p_value for _, part in rows],
    }
    return xr.Dataset(
        {name: ("part", np.array(values)) for name, values in texts.items()}
        | {name: ("part", np.array(values, np.float64)) for name, values in numbers.items()}
    )
