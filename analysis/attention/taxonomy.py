"""Head taxonomy: what kind of map each head makes over a data set, by rules that are stated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.attention.pattern_table import pattern_table
from analysis.attention.segments import frame_groups
from analysis.view import TraceView
from gmsa_models.branches import COMBINED
from gmsa_models.evaluating import standard_contexts

__all__ = ["MEASURES", "RULES", "head_kind", "segment_share", "view_taxonomy"]

# Kind -> column of `head_taxonomy`, and from which value on a head is of that kind. The first that holds is its kind;
# none: "mixed". Each column is 0 for a map that is uniform over its own mask.
RULES: dict[str, tuple[str, float]] = {
    "vertical": ("vertical", 0.5),
    "segment-aligned": ("segment_aligned", 0.3),
    "diagonal": ("diagonal", 0.3),
    "local": ("local", 0.3),
    "uniform": ("uniform", 0.8),
}
Values: TypeAlias = float | np.ndarray | pd.Series
MEASURES = tuple(column for column, _ in RULES.values())


def view_taxonomy(views: Iterable[TraceView], progress: Callable[[int], None] = lambda clips: None) -> pd.DataFrame:
    """What each head's maps are like, means over videos, and the kind of head that makes it.

    `vertical`: verticality above chance. `segment_aligned`, `diagonal`: attention inside the query's own known segment,
    and within 2 frames of the query, each as (share - uniform share) / (1 - uniform share). `local`: 1 - attention
    distance / that of uniform attention. `uniform`: entropy relative to that of uniform attention. All but the last are
    0 for a map that is uniform over its own mask.

    Args:
        views: of one clip each, by one model with attention; else the table is empty. Segments count where they are
            known.
        progress: called after each clip with 1.

    Returns:
        A row a modality, branch and head: `MEASURES`, `videos`, and `kind`: a key of `RULES`, or "mixed".
    """
    rows = []
    for view in views:
        with standard_contexts():
            table = pattern_table(view, frame_seconds=view.one.frame_seconds)
            if table.empty:
                return table
            table["segment_aligned"] = _aligned(view, table)
        rows.append(table)
        progress(1)
    together = pd.concat(rows, ignore_index=True)
    measured = pd.DataFrame(
        {
            "vertical": together["verticality_adjusted"],
            "segment_aligned": together["segment_aligned"],
            "diagonal": _above(together["diagonal_share"], together["uniform_diagonal_share"]),
            "local": 1 - together["attention_distance"] / together["uniform_distance"],
            "uniform": together["attention_relative_entropy"],
        }
    )
    named = pd.concat([together[["modality", "branch", "head"]], measured], axis=1)
    rows_of_heads = named.groupby(["modality", "branch", "head"], sort=False).mean().reset_index()
    return rows_of_heads.assign(
        videos=len(rows), kind=[head_kind(row) for row in rows_of_heads[list(MEASURES)].to_dict("records")]
    )


def head_kind(measures: dict[str, float]) -> str:
    """The first rule of `RULES` that holds, else "mixed"; a measure that is NaN holds for nothing."""
    return next((kind for kind, (column, least) in RULES.items() if measures[column] >= least), "mixed")


def segment_share(
    weights: Float[Tensor, "*batch query key"], groups: Int[Tensor, " frames"]
) -> Float[Tensor, "*batch"]:
    """Share of attention that stays in the query's own group of frames, mean over queries.

    Args:
        weights: rows of any sum above 0.
        groups: the group of each frame.
    """
    same = (groups[:, None] == groups).to(weights)
    return ((weights * same).sum(-1) / weights.sum(-1)).mean(-1)


def _aligned(view: TraceView, table: pd.DataFrame) -> np.ndarray:
    """Segment alignment of each row of a pattern table; NaN without known segments."""
    if not view.one.segments:
        return np.full(len(table), np.nan)
    groups, tables = frame_groups(view.one), []
    for modality, branch in table[["modality", "branch"]].drop_duplicates().itertuples(index=False):
        layer = view.layer(modality)
        weights = layer.weights[branch][0]
        # A combined map may be of heads with different masks; the first heads of ShareAtt see everything.
        near = None if branch == COMBINED else layer.mask_of(branch)
        uniform = torch.ones_like(weights[0]) if near is None else near.to(weights)
        shares = segment_share(weights, groups).double().cpu().numpy()
        tables.append(_above(shares, float(segment_share(uniform, groups))))
    return np.concatenate(tables)


def _above(share: Values, uniform: Values) -> Values:
    """How far a share lies above that of uniform attention, 1 = all of it."""
    return (share - uniform) / np.maximum(1 - uniform, 1e-9)
