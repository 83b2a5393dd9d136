"""When local attention helps: GAP of every variant against Baseline on every task, and the paper's claims a task.

Estimates are means over seeds; intervals are over seeds and videos at once, see `analysis.statistics.crossed`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.errors import SweepError
from analysis.statistics.crossed import CrossedDifference, crossed_contrast, crossed_mean
from analysis.statistics.families import family_correlation, least_p
from analysis.statistics.intervals import Interval, mean_interval, resample_counts
from analysis.statistics.multiplicity import adjust_p_values
from analysis.statistics.paired import paired_p
from analysis.study.claims import FAMILY_NAMES, FAMILY_STEPS, Claim, Part
from analysis.study.seeds.tasks import TASKS
from analysis.study.seeds.variants import LATER, STUDY_VARIANTS, WHOLE, kind_of
from gmsa_models.variants import VARIANTS

__all__ = [
    "TaskModels",
    "differences_to_baseline",
    "gap_contrast",
    "locality_alone",
    "seed_points",
    "study_claims",
    "task_models",
]

BASELINE, GATE_OP = "baseline", "gate-op-tp30"
PAPER_VARIANTS = tuple(name for name in STUDY_VARIANTS if name not in LATER)
ATTENDING = (*dict.fromkeys(kind for kind, _ in VARIANTS.values() if kind != "none"), WHOLE)


@dataclass(frozen=True)
class TaskModels:
    """The models of one task, of those seeds that all variants have.

    Attributes:
        task: a key of `TASKS`.
        variants: in the order of `STUDY_VARIANTS`.
        seeds: rising.
        gap: percent, of all held-out videos.
        columns: every column of the table that has a number a video; NaN where a video or a variant has none.
    """

    task: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    gap: Float[np.ndarray, "variants seeds"]
    columns: Mapping[str, Float[np.ndarray, "variants seeds videos"]]

    @property
    def videos(self) -> int:
        """How many were scored."""
        return int((~np.isnan(self.columns["gap_part"]).any((0, 1))).sum())

    def of_kind(self, *kinds: str) -> list[int]:
        """Places of the variants of some families, see `kind_of`."""
        return [place for place, name in enumerate(self.variants) if kind_of(name) in kinds]

    def chosen(self, places: Sequence[int]) -> TaskModels:
        """Some of the variants."""
        return TaskModels(
            self.task, tuple(self.variants[place] for place in places), self.seeds, self.gap[list(places)],
            {name: values[list(places)] for name, values in self.columns.items()},
        )  # fmt: skip


NUMBERS = (
    "gap_part", "perr", "hit_at_1", "sensitivity", "gini_global", "gini_local", "verticality", "similarity_near",
    "similarity_far",
)  # fmt: skip


def task_models(table: pd.DataFrame, variants: Collection[str] = PAPER_VARIANTS) -> dict[str, TaskModels]:
    """Task -> its models, in the order of `TASKS`; tasks that have none are left out.

    Args:
        table: of `read_study`.
        variants: which, if they are there; default: all but those that the paper leaves for later (`LATER`).

    Raises:
        SweepError: models of one task were scored on different numbers of videos, or no seed has every variant.
    """
    kept = table[table["variant"].isin(list(variants))]
    return {task: _models(task, kept[kept["task"] == task]) for task in TASKS if (kept["task"] == task).any()}


def _models(task: str, rows: pd.DataFrame) -> TaskModels:
    variants = [name for name in STUDY_VARIANTS if (rows["variant"] == name).any()]
    seeds = {name: set(rows.loc[rows["variant"] == name, "seed"]) for name in variants}
    common = sorted(int(seed) for seed in set.intersection(*seeds.values()))
    if not common:
        raise SweepError(
            f"task {task!r}: no seed of which all of {', '.join(variants)} are there; go on with the study"
        )
    kept = rows[rows["seed"].isin(common)].sort_values("video", kind="stable")
    groups = {(str(name), int(seed)): part for (name, seed), part in kept.groupby(["variant", "seed"], observed=True)}
    cells = [[groups[name, seed] for seed in common] for name in variants]
    if len(lengths := {len(cell) for row in cells for cell in row}) > 1:
        raise SweepError(f"task {task!r}: models scored on {sorted(lengths)} videos; expected the same for all")
    gap = np.array([[cell["gap"].iloc[0] for cell in row] for row in cells], np.float64)
    columns = {name: np.array([[cell[name] for cell in row] for row in cells], np.float64) for name in NUMBERS}
    return TaskModels(task, tuple(variants), tuple(common), gap, columns)


def differences_to_baseline(models: Mapping[str, TaskModels]) -> pd.DataFrame:
    """GAP of every variant less Baseline's, a row a task and variant.

    The variance of variants with attention is common to them; the control, which is far off, is compared alone.

    Args:
        models: of `task_models`; tasks without a Baseline are left out.

    Returns:
        `task`, `variant`, `gap` (its own, percent), `difference`, `low`, `high` (points), `p_value`, `p_adjusted`
        (Holm, over all rows but the control's), `seeds`, `videos`.
    """
    rows = []
    for task, each in models.items():
        if BASELINE not in each.variants:
            continue
        base, attending = each.variants.index(BASELINE), each.of_kind(*ATTENDING)
        for place, variant in enumerate(each.variants):
            if place == base:
                continue
            together = attending if place in attending else [base, place]
            result = gap_contrast(each.chosen(together), [together.index(place)], [together.index(base)])
            rows.append(
                {
                    "task": task, "variant": variant, "gap": float(each.gap[place].mean()),
                    "difference": result.value.estimate, "low": result.value.low, "high": result.value.high,
                    "p_value": result.p_value, "seeds": len(each.seeds), "videos": each.videos,
                }
            )  # fmt: skip
    names = ["task", "variant", "gap", "difference", "low", "high", "p_value", "seeds", "videos"]
    table = pd.DataFrame(rows, columns=names)
    local = np.array([kind_of(name) in ATTENDING for name in table["variant"]], bool)
    p_values = np.where(local, table["p_value"].to_numpy(np.float64), np.nan)
    return table.assign(p_adjusted=adjust_p_values(p_values))


def locality_alone(models: Mapping[str, TaskModels]) -> pd.DataFrame:
    """GAP of GateOp less that of GateOp without locality, which has its weights and gates: what locality adds.

    Args:
        models: of `task_models`; tasks that lack one of the two are left out.

    Returns:
        A row a task: `task`, `difference`, `low`, `high` (points), `p_value`, `seeds`, `videos`.
    """
    rows = []
    for task, each in models.items():
        attending = each.chosen(each.of_kind(*ATTENDING))
        if {GATE_OP, WHOLE} <= set(attending.variants):
            places = [[attending.variants.index(name)] for name in (GATE_OP, WHOLE)]
            result = gap_contrast(attending, *places)
            value = {"difference": result.value.estimate, "low": result.value.low, "high": result.value.high}
            counts = {"seeds": len(each.seeds), "videos": each.videos}
            rows.append({"task": task, **value, "p_value": result.p_value, **counts})
    return pd.DataFrame(rows, columns=["task", "difference", "low", "high", "p_value", "seeds", "videos"])


def gap_contrast(models: TaskModels, one: Sequence[int], other: Sequence[int]) -> CrossedDifference:
    """Mean GAP of some variants less that of others, in points; all variants of `models` give the variance.

    Args:
        models: of one task.
        one, other: places of variants.
    """
    weights = np.zeros(len(models.variants))
    weights[list(one)] += 1.0 / len(one)
    weights[list(other)] -= 1.0 / len(other)
    return crossed_contrast(models.gap, models.columns["gap_part"], weights)


def study_claims(models: TaskModels) -> list[Claim]:
    """The paper's claims C1 to C5 on one task.

    Args:
        models: of the task.
    """
    return [_order(models), _locality(models), _uneven(models), _lines(models), _alike(models)]


def _sample(models: TaskModels, name: str = "gap_part") -> str:
    videos = int((~np.isnan(models.columns[name])).any((0, 1)).sum())
    return f"{len(models.seeds)} seeds, {videos} videos"


def _order(models: TaskModels) -> Claim:
    attending = models.chosen(models.of_kind(*ATTENDING))
    parts = []
    for high, low, sign in FAMILY_STEPS:
        one, other = attending.of_kind(high), attending.of_kind(low)
        result = gap_contrast(attending, one, other) if one and other else _NOTHING
        name = f"{FAMILY_NAMES[high]} − {FAMILY_NAMES[low]}"
        what = f"GAP of {FAMILY_NAMES[high]} less {FAMILY_NAMES[low]} (points)"
        parts.append(Part(what, name, result.value, result.p_value, sign))
    return Claim("C1", "GAP: GateOp > GateAtt ≥ ShareAtt > Baseline", tuple(parts), _sample(models))


def _locality(models: TaskModels) -> Claim:
    """Over the families of the paper, the unit of C2: variants of one family are no draws of their own."""
    paper = models.chosen(models.of_kind(*FAMILY_NAMES))
    families = [kind_of(name) for name in paper.variants]
    count = len(set(families))
    with np.errstate(invalid="ignore"):
        local = np.nanmean(paper.columns["sensitivity"], axis=(1, 2))
    rank = family_correlation(local, paper.gap.mean(1), families)
    value = _NOTHING.value if rank is None else Interval(rank.rho, rank.low, rank.high)
    what = f"Spearman's ρ of GAP and mean S over {count} families, the same neighbourhood for all"
    part = Part(what, "ρ", value, float("nan") if rank is None else rank.p_value)
    sample = f"{_sample(models, 'sensitivity')}; {count} families, whose least p is {least_p(count):.2g}"
    return Claim("C2", "better models have larger S_i", (part,), sample)


def _uneven(models: TaskModels) -> Claim:
    both = models.chosen(models.of_kind("share-att", "gate-att", "gate-op"))
    values = both.columns["gini_global"] - both.columns["gini_local"]
    part = _mean_part(values, "Gini of the global less the local profile, mean of the variants with both", "Gini")
    return Claim("C3", "the global profile is more uneven than the local one", (part,), _sample(models, "gini_global"))


def _lines(models: TaskModels) -> Claim:
    values = models.chosen(models.of_kind("baseline")).columns["verticality"]
    part = _mean_part(values, "share of a map that vertical lines explain, chance taken off, mean of heads", "lines")
    statement = "Baseline's maps show vertical lines: a few frames are attended to by all"
    return Claim("C4", statement, (part,), _sample(models, "verticality"))


def _alike(models: TaskModels) -> Claim:
    """The videos alone decide it, and all models see the same ones: an interval over videos."""
    near, far = (models.columns[f"similarity_{which}"][0, 0] for which in ("near", "far"))
    values = (near - far)[~np.isnan(near - far)]
    what, short = "cosine of frames 1 s apart less those half of the video or more apart", "cosine"
    part = Part(what, short, _NOTHING.value)
    if len(values):
        value = mean_interval(values, resample_counts(len(values)))
        part = Part(what, short, value, paired_p(values))
    return Claim("C5", "neighbouring frames are alike", (part,), f"{len(values)} videos")


def _mean_part(values: Float[np.ndarray, "variants seeds videos"], what: str, short: str) -> Part:
    if not len(values) or np.isnan(values).all():
        return Part(what, short, _NOTHING.value)
    result = crossed_mean(values.mean(0))
    return Part(what, short, result.value, result.p_value)


_NOTHING = CrossedDifference(Interval(float("nan"), float("nan"), float("nan")), float("nan"), float("nan"))


def seed_points(models: TaskModels) -> pd.DataFrame:
    """GAP and mean S of every model of a task with attention: `variant`, `seed`, `gap`, `sensitivity`."""
    attending = models.chosen(models.of_kind(*ATTENDING))
    local = np.nanmean(attending.columns["sensitivity"], axis=2)
    return pd.DataFrame(
        [
            {"variant": name, "seed": seed, "gap": attending.gap[row, at], "sensitivity": local[row, at]}
            for row, name in enumerate(attending.variants)
            for at, seed in enumerate(attending.seeds)
        ]
    )
