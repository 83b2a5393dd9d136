"""Rank correlation over families of models: models of one family are alike, and do not count as several."""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial

import numpy as np
from jaxtyping import Float

from analysis.statistics.intervals import RankCorrelation, spearman

__all__ = ["family_correlation", "least_p"]


def family_correlation(
    first: Float[np.ndarray, " models"], second: Float[np.ndarray, " models"], families: Sequence[str], seed: int = 0
) -> RankCorrelation | None:
    """Spearman's rank correlation of the means of families.

    What the models of a family share moves both numbers of all of them. Permuting models as if they were drawn one by
    one finds p <= 0.05 in about a quarter of data without any relation (`benchmarks/coverage.py`); families, of which
    each is its own draw, keep the level.

    Args:
        first, second: a number a model; NaN on either side: the model is left out.
        families: of each model.
        seed: of the permutations.

    Returns:
        Of so many families as `pairs`; None with fewer than 3, or where a side is the same for all.
    """
    present = ~np.isnan(first) & ~np.isnan(second)
    groups = np.asarray(families)[present]
    names = list(dict.fromkeys(groups.tolist()))
    means = [np.array([side[present][groups == name].mean() for name in names]) for side in (first, second)]
    if len(names) < 3 or any((side == side[0]).all() for side in means):
        return None
    return spearman(means[0], means[1], seed=seed)


def least_p(families: int) -> float:
    """The smallest two-sided p-value that a rank correlation of so many families can have: that of a perfect order."""
    return min(1.0, 2 / factorial(families))
