"""What a benchmark of explainers comes to: means over videos with intervals, and the same as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from analysis.explanations.benchmark.clip_scores import AGREEMENT, CHANCE, MEASURES
from analysis.statistics.intervals import mean_ends, resample_counts

__all__ = ["agreement_matrix", "benchmark_markdown", "benchmark_means"]

SORTED_BY = "evidence_auc"
ABSENT = "–"
# Measure -> what it is called in a table. Those of one tuple stand in one table.
TABLES: dict[str, dict[str, str]] = {
    "Localisation: does it find the seconds that show the label?": {
        "evidence_auc": "ROC AUC", "average_precision": "average precision", "pointing": "pointing game",
        "evidence_precision": "precision", "relevance_mass": "relevance mass",
    },
    "Faithfulness: does the model's probability depend on what it ranks high?": {
        "deletion_in_distribution": "deletion", "insertion_in_distribution": "insertion",
        "fidelity_plus": "F-fidelity +", "fidelity_minus": "F-fidelity −",
        "deletion": "deletion, mean frame", "insertion": "insertion, mean frame",
    },
    "Randomisation: does it change when the model forgets what it learnt?": {
        "randomised_similarity": "similarity", "complexity_rise": "rise of complexity",
    },
}  # fmt: skip


def benchmark_means(table: pd.DataFrame) -> xr.Dataset:
    """Mean of every measure of every explainer over the videos, with its 95 % interval.

    Args:
        table: of `benchmark_explainers`.

    Returns:
        `mean`, `low`, `high`, `videos` (model, explainer, measure): explainers in the order of the mean over models of
        their ROC AUC, the best first; models and measures as they come. NaN where an explainer does not apply; ends NaN
        where all videos have one value.
    """
    single = table[(table["measure"] != AGREEMENT)]
    order = single[single["measure"] == SORTED_BY].groupby("explainer", sort=False)["value"].mean()
    explainers = [name for name in order.sort_values(ascending=False, kind="stable").index if name != CHANCE]
    axes = {"model": list(dict.fromkeys(table["model"])), "explainer": [*explainers, CHANCE], "measure": list(MEASURES)}
    shape = tuple(len(names) for names in axes.values())
    arrays = {name: np.full(shape, np.nan) for name in ("mean", "low", "high", "videos")}
    for (model, explainer, measure), rows in single.groupby(["model", "explainer", "measure"], sort=False):
        place = axes["model"].index(model), axes["explainer"].index(explainer), axes["measure"].index(measure)
        values = rows["value"].to_numpy()
        present = values[~np.isnan(values)]
        if len(present):
            ends = mean_ends(present, resample_counts(len(present)))
            for name, value in zip(arrays, (present.mean(), *ends, len(present)), strict=True):
                arrays[name][place] = value
    coords = {name: np.array(values) for name, values in axes.items()}
    return xr.Dataset({name: (tuple(axes), values) for name, values in arrays.items()}, coords)


def agreement_matrix(table: pd.DataFrame, model: str, explainers: Sequence[str]) -> pd.DataFrame:
    """Mean over videos of Spearman's rho over the frames, explainer by explainer; 1 on the diagonal.

    Args:
        table: of `benchmark_explainers`.
        model: one of its models.
        explainers: names, in the order of rows and columns.
    """
    rows = table[(table["measure"] == AGREEMENT) & (table["model"] == model)]
    turned = rows.rename(columns={"explainer": "other", "other": "explainer"})
    both = pd.concat([rows, turned]).pivot_table("value", "explainer", "other")
    matrix = both.reindex(index=list(explainers), columns=list(explainers))
    return matrix.fillna(pd.DataFrame(np.eye(len(explainers)), matrix.index, matrix.columns))


def benchmark_markdown(table: pd.DataFrame, about: str) -> str:
    """The benchmark as Markdown: three tables a model, each value with its interval, and the agreement of explainers.

    Args:
        table: of `benchmark_explainers`.
        about: a sentence on what it is of.
    """
    means, lines = benchmark_means(table), ["# Explanation benchmark", "", about, ""]
    for model in means["model"].to_numpy():
        one = means.sel(model=model)
        names = [
            str(each) for each in one["explainer"].to_numpy() if not np.isnan(one["mean"].sel(explainer=each)).all()
        ]
        lines += [f"## {model}", ""]
        for title, measures in TABLES.items():
            lines += [f"### {title}", "", *_table(one, names, measures), ""]
        explainers = [name for name in names if name != CHANCE]
        lines += ["### Agreement: Spearman's rho of the seconds", "", *_agreement(table, str(model), explainers), ""]
    return "\n".join(lines)


def _table(means: xr.Dataset, names: Sequence[str], measures: dict[str, str]) -> list[str]:
    arrows = [f"{text} {'↑' if MEASURES[name] else '↓'}" for name, text in measures.items()]
    rows = []
    for name in names:
        cells = [_cell(means.sel(explainer=name, measure=measure)) for measure in measures]
        if set(cells) != {ABSENT}:
            rows.append(f"| {name} | {' | '.join(cells)} |")
    return [f"| explainer | {' | '.join(arrows)} |", "|---" + "|---" * len(measures) + "|", *rows]


def _cell(one: xr.Dataset) -> str:
    mean, low, high = (float(one[name]) for name in ("mean", "low", "high"))
    if np.isnan(mean):
        return ABSENT
    return f"{mean:.2f}" if np.isnan(low) else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _agreement(table: pd.DataFrame, model: str, explainers: Sequence[str]) -> list[str]:
    matrix = agreement_matrix(table, model, explainers)
    numbers = [str(place) for place in range(1, len(explainers) + 1)]
    rows = [
        f"| {number} {name} | {' | '.join(f'{value:.2f}' for value in matrix.loc[name])} |"
        for number, name in zip(numbers, explainers, strict=True)
    ]
    return [f"| | {' | '.join(numbers)} |", "|---" + "|---" * len(numbers) + "|", *rows]
