"""The tables of Figure 11 and of the claims by task, from the table of a study over seeds and tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from analysis.study.claims import claims_table
from analysis.study.seeds import SHIPPED
from analysis.study.seeds.comparison import (
    TaskModels,
    differences_to_baseline,
    locality_alone,
    seed_points,
    study_claims,
    task_models,
)
from analysis.study.seeds.table import STUDY
from analysis.study.seeds.tasks import TASKS
from analysis.study.seeds.variants import STUDY_VARIANTS, WHOLE, kind_of
from gmsa_models.masks import neighbourhood_text

__all__ = ["claims_by_task", "local_attention", "point_table"]


def local_attention(path: Path = SHIPPED) -> dict[str, xr.Dataset]:
    """Figure 11: GAP less Baseline's by task, and GAP against mean S of every model of the first task.

    Args:
        path: table of a study.

    Returns:
        `differences`: `difference`, `low`, `high`, `p_adjusted`, `gap` (task, variant), points of GAP, of the variants
        with a local branch; `control` and `baseline` (task), their GAP less Baseline's, and its own; `locality` (task),
        with `_low` and `_high`, of `locality_alone`; along `task` its `seeds` and `videos`. `points`: `variant`,
        `seed`, `gap`, `sensitivity` (point).
    """
    models = task_models(STUDY.read(path).to_pandas())
    rows = differences_to_baseline(models)
    first = next(iter(models.values()))
    tasks = list(dict.fromkeys(rows["task"]))
    variants = [name for name in STUDY_VARIANTS if kind_of(name) != "none" and (rows["variant"] == name).any()]
    each = rows.set_index(["task", "variant"])
    columns: dict[str, Any] = {
        name: (("task", "variant"), _grid(each[name], tasks, variants))
        for name in ("difference", "low", "high", "p_adjusted", "gap")
    }
    control = [name for name in dict.fromkeys(rows["variant"]) if kind_of(name) == "none"]
    columns["control"] = ("task", _grid(each["difference"], tasks, control[:1] or ["control"])[:, 0])
    columns["baseline"] = ("task", np.array([_baseline(models[task]) for task in tasks]))
    alone = locality_alone(models).set_index("task").reindex(tasks)
    for name, end in (("locality", "difference"), ("locality_low", "low"), ("locality_high", "high")):
        columns[name] = ("task", alone[end].to_numpy(np.float64))
    coords = {
        "task": np.array(tasks),
        "variant": np.array(variants),
        "seeds": ("task", np.array([len(models[task].seeds) for task in tasks])),
        "videos": ("task", np.array([models[task].videos for task in tasks])),
    }
    points = point_table(first)
    styles = {"variants": json.dumps({WHOLE: "gate-op-td60x4"})}  # the family's colour, and another marker
    return {"differences": xr.Dataset(columns, coords, styles), "points": points}


def point_table(models: TaskModels) -> xr.Dataset:
    """GAP and mean S of every model with attention: `variant`, `seed`, `gap` (percent), `sensitivity` (point).

    Args:
        models: of one task; its name, the N_i of S and the numbers of videos become attributes.
    """
    points = seed_points(models)
    about = {
        "task": models.task,
        "neighbourhood": neighbourhood_text(TASKS[models.task].neighbourhood),
        "scored": models.videos,
        "videos": int((~np.isnan(models.columns["sensitivity"])).any((0, 1)).sum()),
    }
    drawn: dict[str, Any] = {name: ("point", points[name].to_numpy()) for name in ("seed", "gap", "sensitivity")}
    drawn["variant"] = ("point", points["variant"].to_numpy(str))
    return xr.Dataset(drawn, attrs=about)


def claims_by_task(path: Path = SHIPPED) -> dict[str, xr.Dataset]:
    """The claims C1 to C5 on every task.

    Args:
        path: table of a study.

    Returns:
        `claims`: of `claims_table`, with the `task` of each part and its `meaning`; the attribute `about` says how the
        models were trained. `differences`: as for Figure 11.
    """
    table = STUDY.read(path)
    models = task_models(table.to_pandas())
    each = [claims_table(study_claims(one)) for one in models.values()]
    names = np.repeat(list(models), [one.sizes["part"] for one in each])
    settings = STUDY.made_from(table)["settings"]
    about = (
        f"Models of demo size; each trained for {settings['steps']} steps of 16 videos on up to "
        f"{settings['montages']:,} montages of 60 s, of the classes of the shipped models; AudioSet: three times the "
        "steps, of 64 clips."
    )
    claims = xr.concat(each, "part").assign(task=("part", names))
    meanings = ("part", np.array([TASKS[str(name)].meaning for name in names]))
    return {
        "claims": claims.assign(meaning=meanings).assign_attrs(about=about),
        "differences": local_attention(path)["differences"],
    }


def _grid(column: pd.Series, tasks: list[str], variants: list[str]) -> np.ndarray:
    """(task, variant); NaN where there is none."""
    return np.array([[column.get((task, variant), np.nan) for variant in variants] for task in tasks], np.float64)


def _baseline(models: TaskModels) -> float:
    return float(models.gap[models.of_kind("baseline")].mean())
