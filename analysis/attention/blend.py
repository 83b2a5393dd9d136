"""One attention map that stands for a whole block, so that blocks of different kinds compare."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float

__all__ = ["blended_attention"]


def blended_attention(record: xr.Dataset, modality: str) -> Float[np.ndarray, "query key"]:
    """The one map that stands for a block: what its output is a mixture by, averaged over heads.

    Baseline: its maps. ShareAtt: all heads, global and local. GateAtt: the combined maps. GateOp and
    GateOpScales, which blend outputs instead of maps: all branches' maps, each query's weighted by its mean gates.

    Args:
        record: with `attention`, and `gate` where the block has gates; dimensions in any order.
        modality: one of the record's.
    """
    mean = record["attention"].sel(modality=modality).mean("head").transpose("branch", "query", "key")
    branches = [str(name) for name in record["branch"].values]
    if "combined" in branches:
        return mean.sel(branch="combined").values
    if "gate" not in record:
        known = mean.notnull().any(("query", "key")).values
        return mean.isel(branch=int(known.argmax())).values  # the only one that this layer has
    gates = record["gate"].sel(modality=modality).transpose("branch", "frame")
    return sum(gates.sel(branch=name).values[:, None] * mean.sel(branch=name).values for name in branches)
