"""Branches of a record: which are local, and where each may attend. Without torch."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Bool

from gmsa_models.branches import COMBINED, GLOBAL

__all__ = ["branch_mask", "local_branches"]


def local_branches(record: xr.Dataset) -> tuple[str, ...]:
    """Names of the branches that attend to a neighbourhood only; none of a record without branches."""
    names = (str(name) for name in record["branch"].values) if "branch" in record.coords else ()
    return tuple(name for name in names if name not in (GLOBAL, COMBINED))


def branch_mask(record: xr.Dataset, branch: str) -> Bool[np.ndarray, "query key"] | None:
    """True where a query of a branch may attend to a key; None where it may everywhere, or the record does not say.

    Args:
        record: of one model.
        branch: one of its branches.
    """
    if branch in (GLOBAL, COMBINED):
        return None
    if "branch_neighbourhood" in record:
        return record["branch_neighbourhood"].sel(branch=branch).transpose("query", "key").values
    return record["neighbourhood"].transpose("query", "key").values if "neighbourhood" in record else None
