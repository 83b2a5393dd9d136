"""The variable of a record that says where one query frame attends within the pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from analysis.errors import RecordError
from analysis.record.labelled import labelled
from analysis.view import TraceView, to_numpy

__all__ = ["spatial_variable"]


def spatial_variable(view: TraceView, layers: Sequence[int], frame: int) -> xr.DataArray:
    """`spatial_attention` (modality, head, key, patch): mean weight of a frame's tokens on each patch of each frame.

    With several layers `layer` is its first dimension. Patches are numbered as in the token layout, row by row in that
    of pictures; streams of fewer patches, and layers of fewer heads, have NaN in the others. The attribute `query` says
    which frame. Together with `attention_outside` the weights of a head sum to 1.

    Args:
        view: of one clip, by a module.
        layers: their numbers.
        frame: the query frame, from 0.

    Raises:
        RecordError: a view whose model cannot say, or a frame that it lacks.
    """
    compute = view.capabilities.spatial_maps
    if compute is None:
        raise RecordError(f"{view.model.name} has no maps over patches; a spatial map needs a module that was captured")
    if not 0 <= frame < view.frames:
        raise RecordError(f"no query frame {frame}; the clip has time steps 0 to {view.frames - 1}")
    maps = [[to_numpy(compute(name, layer, frame)) for name in view.modalities] for layer in layers]
    patches = max(each.shape[-1] for row in maps for each in row)
    values = np.full((len(layers), len(view.modalities), view.heads, view.frames, patches), np.nan, np.float32)
    for number, row in enumerate(maps):
        for stream, each in enumerate(row):
            values[number, stream, : each.shape[0], :, : each.shape[2]] = each
    dims = ("modality", "head", "key", "patch")
    several = len(layers) > 1
    variable = labelled(
        ("layer", *dims) if several else dims, values if several else values[0], "attention of one query to patches",
        "share of the query's 1",
    )  # fmt: skip
    variable.attrs["query"] = float(view.one.seconds[frame])
    return variable
