"""Many tests at once: p-values corrected for how many there are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Float

from gmsa_models.errors import ArgumentError

__all__ = ["CORRECTIONS", "adjust_p_values"]

PValues = Float[np.ndarray, " tests"]


def adjust_p_values(p_values: PValues, method: str = "holm") -> PValues:
    """P-values corrected for all tests of one family; below a level, the test is significant at that level.

    Args:
        p_values: in [0, 1], of one family of tests. NaN: no test was made; it stays NaN and counts for none.
        method: a key of `CORRECTIONS`. "holm" keeps the chance of any false discovery below the level, whatever the
            tests have to do with each other. "benjamini-hochberg" keeps the expected share of false discoveries below
            it, for tests that are independent or depend positively; "benjamini-yekutieli" likewise, whatever they
            have to do with each other. "none" leaves them.

    Returns:
        At least as large as the given ones, at most 1, in the same order.

    Raises:
        ArgumentError: an unknown method, or a p-value outside [0, 1].

    Source:
        Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979; Benjamini and Hochberg, JRSS B 1995;
        Benjamini and Yekutieli, Annals of Statistics 2001.
    """
    if method not in CORRECTIONS:
        raise ArgumentError(f"unknown correction {method!r}; known: {', '.join(CORRECTIONS)}")
    present = ~np.isnan(p_values)
    outside = present & ~((p_values >= 0) & (p_values <= 1))
    if outside.any():
        place = int(np.argmax(outside))
        raise ArgumentError(f"p-value {place} is {p_values[place]:g}; expected a chance in [0, 1]")
    adjusted = np.full(p_values.shape, np.nan)
    if present.any():
        adjusted[present] = CORRECTIONS[method](p_values[present].astype(np.float64))
    return adjusted


def _holm(p_values: PValues) -> PValues:
    """The k-th smallest of n times n - k + 1, and no smaller than those before it."""
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(stepped)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


CORRECTIONS: dict[str, Callable[[PValues], PValues]] = {
    "holm": _holm,
    "benjamini-hochberg": lambda p_values: scipy.stats.false_discovery_control(p_values, method="bh"),
    "benjamini-yekutieli": lambda p_values: scipy.stats.false_discovery_control(p_values, method="by"),
    "none": lambda p_values: p_values,
}
