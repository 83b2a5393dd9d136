"""Maps of frame by frame as a function of how far apart the two frames are; numpy, one map at a time."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

__all__ = ["mass_by_lag", "mean_by_lag", "uniform_mass_by_lag"]


def mass_by_lag(pairs: Float[np.ndarray, "query key"]) -> Float[np.ndarray, " lag"]:
    """Share of a map's mass that lies on pairs of frames `lag` frames apart, either way.

    Args:
        pairs: values >= 0 of every query and key (attention weights, gradient norms); NaN counts nothing.

    Returns:
        One share a lag from 0 to frames - 1; they add to 1.
    """
    sums = _lag_sums(np.nan_to_num(pairs.astype(np.float64)))
    return sums / sums.sum()


def uniform_mass_by_lag(frames: int) -> Float[np.ndarray, " lag"]:
    """The same for a map that is even over all pairs: there are fewer pairs at large lags."""
    return mass_by_lag(np.ones((frames, frames)))


def mean_by_lag(pairs: Float[np.ndarray, "query key"]) -> Float[np.ndarray, " lag"]:
    """Mean over the pairs at each lag, for values such as similarities."""
    return _lag_sums(pairs.astype(np.float64)) / _lag_sums(np.ones(pairs.shape))


def _lag_sums(values: Float[np.ndarray, "query key"]) -> Float[np.ndarray, " lag"]:
    frames = len(values)
    lag = np.abs(np.arange(frames)[:, None] - np.arange(frames)[None, :])
    return np.bincount(lag.ravel(), weights=values.ravel(), minlength=frames)
