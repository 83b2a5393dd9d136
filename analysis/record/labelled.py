"""How the parts of a record make their arrays: named axes, a meaning and units; text that NetCDF and Zarr can hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from analysis.view import ClipView, to_numpy

Variables = dict[str, xr.DataArray]
Part = Callable[[ClipView], Variables]


def labelled(dims: tuple[str, ...], values: np.ndarray, meaning: str, units: str = "") -> xr.DataArray:
    """An array with named axes that says what it is."""
    return xr.DataArray(values, dims=dims, attrs={"long_name": meaning} | ({"units": units} if units else {}))


def text(values: Iterable[object]) -> np.ndarray:
    """Text as objects, because fixed-width text has no place in the Zarr format yet."""
    return np.array([str(value) for value in values], dtype=object)


def by_branch(
    view: ClipView, values: dict[tuple[str, str], Float[Tensor, "*axes"]], shape: tuple[int, ...]
) -> np.ndarray:
    """One array (modality, branch, ...) from a value a modality and branch; NaN where there is none.

    Args:
        view: the clip, for the order of modalities and branches.
        values: (modality, branch) -> an array of `shape`, or of fewer heads than `shape` has in front: those of a
            branch that has some of the heads only, which go where they stand among all.
        shape: of the axes after modality and branch.
    """
    out = np.full((len(view.modalities), len(view.branches), *shape), np.nan, np.float32)
    for (modality, branch), value in values.items():
        here = out[view.modalities.index(modality), view.branches.index(branch)]
        here[view.heads_of(branch) if len(value) < shape[0] else slice(None)] = to_numpy(value)
    return out
