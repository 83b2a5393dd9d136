"""How far apart two frames are that have to do with each other: the mass of a map at each lag."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float


def mass_by_lag(pairs: Float[np.ndarray, "query key"]) -> Float[np.ndarray, " lag"]:
    """Share of a map's mass that lies on pairs of frames `lag` frames apart, either way.

    Args:
        pairs: values >= 0 of every query and key (attention weights, gradient norms); NaN counts nothing.

    Returns:
        One share a lag from 0 to frames - 1; they add to 1.
    """
    values = np.nan_to_num(pairs.astype(np.float64))
    sums = _lag_sums(values)
    return sums / sums.sum()


def uniform_mass_by_lag(frames: int) -> Float[np.ndarray, " lag"]:
    """The same for a map that is even over all pairs: there are fewer pairs at large lags."""
    return mass_by_lag(np.ones((frames, frames)))


def mean_by_lag(pairs: Float[np.ndarray, "query key"]) -> Float[np.ndarray, " lag"]:
    """Mean over the pairs at each lag, for values such as similarities."""
    return _lag_sums(pairs.astype(np.float64)) / _lag_sums(np.ones(pairs.shape))


def blended_attention(record: xr.Dataset, modality: str) -> Float[np.ndarray, "query key"]:
    """The one map that stands for a block: what its output is a mixture by, averaged over heads.

    Baseline: its maps. ShareAtt: all heads, global and local. GateAtt: the combined maps. GateOp, which blends
    outputs instead of maps: both branches' maps, each query's weighted by its mean gates.

    Args:
        record: with `attention`, and `gate` where the block has gates; dimensions in any order.
        modality: one of the record's.
    """
    mean = record["attention"].sel(modality=modality).mean("head").transpose("branch", "query", "key")
    branches = [str(name) for name in record["branch"].values]
    if "combined" in branches:
        return mean.sel(branch="combined").values
    if "gate" not in record:
        return mean.sel(branch="global").values
    gates = record["gate"].sel(modality=modality).transpose("branch", "frame")
    return sum(gates.sel(branch=name).values[:, None] * mean.sel(branch=name).values for name in branches)


def _lag_sums(values: Float[np.ndarray, "query key"]) -> Float[np.ndarray, " lag"]:
    frames = len(values)
    lag = np.abs(np.arange(frames)[:, None] - np.arange(frames)[None, :])
    return np.bincount(lag.ravel(), weights=values.ravel(), minlength=frames)
