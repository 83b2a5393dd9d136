"""How the parts of a record make their arrays: named axes, a meaning and units; text that NetCDF and Zarr can hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from analysis.record.lanes import Lane
from analysis.view import TraceView, to_numpy

__all__ = ["ClipPart", "LayerPart", "Variables", "by_branch", "by_modality", "labelled", "maps_of", "nothing", "text"]

# Stands for True and False, and for a whole number, where a model or a layer lacks the variable.
NOT_THERE = -1

Variables = dict[str, xr.DataArray]
ClipPart = Callable[[TraceView], Variables]
LayerPart = Callable[[TraceView, int], Variables]


def labelled(
    dims: tuple[str, ...], values: np.ndarray, meaning: str, units: str = "", lane: Lane | None = None
) -> xr.DataArray:
    """An array with named axes that says what it is and, where it is drawn over time, how."""
    attributes = {"long_name": meaning} | ({"units": units} if units else {})
    return xr.DataArray(values, dims=dims, attrs=attributes | ({} if lane is None else lane.attributes()))


def text(values: Iterable[object]) -> np.ndarray:
    """Text as objects, because fixed-width text has no place in the Zarr format yet."""
    return np.array([str(value) for value in values], dtype=object)


def by_branch(
    view: TraceView, layer: int, values: dict[tuple[str, str], Float[Tensor, "*axes"]], shape: tuple[int, ...]
) -> np.ndarray:
    """One array (modality, branch, ...) from a value a modality and branch; NaN where there is none.

    Args:
        view: for the order of modalities and branches.
        layer: number of the layer that the values are of.
        values: (modality, branch) -> an array of `shape`, or of fewer heads than `shape` has in front: those of a
            branch that has some of the heads only, which go where they stand among all.
        shape: of the axes after modality and branch.
    """
    out = np.full((len(view.modalities), len(view.branches), *shape), np.nan, np.float32)
    for (modality, branch), value in values.items():
        row = out[view.modalities.index(modality), view.branches.index(branch)]
        heads = view.layer(modality, layer).heads_of(branch) if len(value) < shape[0] else slice(None)
        row[heads] = to_numpy(value)
    return out


def maps_of(view: TraceView, layer: int) -> list[tuple[str, str]]:
    """Every modality and branch of which the layer has maps."""
    return [
        (modality, branch)
        for modality in view.modalities
        for branch in view.branches
        if branch in view.layer(modality, layer).weights
    ]


def by_modality(view: TraceView, values: dict[str, Float[Tensor, "*axes"]]) -> np.ndarray:
    """One array (modality, ...) from a value a modality, at least one; NaN where there is none."""
    shape = next(iter(values.values())).shape
    out = np.full((len(view.modalities), *shape), np.nan, np.float32)
    for modality, value in values.items():
        out[view.modalities.index(modality)] = to_numpy(value)
    return out


def nothing(array: xr.DataArray) -> float | int | str:
    """What stands in an array where a model or a layer has no value."""
    fillers: dict[str, float | str] = {"f": np.nan, "O": ""}
    return fillers.get(array.dtype.kind, NOT_THERE)
