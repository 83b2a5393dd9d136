"""The variants that the paper leaves for later: GAP against the variant that each grew from, and against Baseline."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.statistics.multiplicity import adjust_p_values
from analysis.study.seeds.comparison import TaskModels, gap_contrast, task_models
from analysis.study.seeds.variants import LATER

__all__ = ["differences_to_parents", "later_models"]

BASELINE = "baseline"
COLUMNS = (
    "task", "variant", "gap", "parent", "difference", "low", "high", "p_value", "baseline_difference", "baseline_low",
    "baseline_high", "seeds", "videos",
)  # fmt: skip


def later_models(table: pd.DataFrame) -> dict[str, TaskModels]:
    """Task -> those of `LATER`, the variants that they grew from and Baseline; tasks without any of `LATER` have none.

    Args:
        table: of `read_study`.

    Raises:
        SweepError: see `task_models`.
    """
    trained = table[["task", "variant"]].drop_duplicates()
    models: dict[str, TaskModels] = {}
    for task, each in trained[trained["variant"].isin(list(LATER))].groupby("task", observed=True, sort=False):
        own = [name for name in LATER if (each["variant"] == name).any()]
        names = {BASELINE, *own, *(LATER[name] for name in own)}
        models |= task_models(table[table["task"] == task], names)
    return models


def differences_to_parents(models: Mapping[str, TaskModels]) -> pd.DataFrame:
    """GAP of every variant of `LATER` less that of the variant that it grew from, and less Baseline's.

    The variance is common to all models of a task; intervals are over seeds and videos.

    Args:
        models: of `later_models`.

    Returns:
        A row a task and variant: `gap` (percent), `parent`, `difference`, `low`, `high` (points), `p_value`,
        `p_adjusted` (Holm, over all rows), `baseline_difference`, `_low`, `_high`, `seeds`, `videos`. NaN where the
        other model is not there.
    """
    rows = []
    for task, each in models.items():
        for place, variant in enumerate(each.variants):
            if variant in LATER:
                parent, base = (_difference(each, place, name) for name in (LATER[variant], BASELINE))
                values = (float(each.gap[place].mean()), LATER[variant], *parent, *base[:3])
                rows.append((task, variant, *values, len(each.seeds), each.videos))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.assign(p_adjusted=adjust_p_values(table["p_value"].to_numpy(np.float64)))


def _difference(models: TaskModels, place: int, other: str) -> tuple[float, float, float, float]:
    """Estimate, low, high and p."""
    if other not in models.variants:
        return (float("nan"),) * 4
    result = gap_contrast(models, [place], [models.variants.index(other)])
    return result.value.estimate, result.value.low, result.value.high, result.p_value
