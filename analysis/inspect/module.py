"""From any PyTorch module and one input to a record: the same as of a GMSA model, so that every view reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float
from torch import nn

from analysis.capture import Adapter
from analysis.capture.adapter import Inputs
from analysis.capture.layout import Layout
from analysis.module_sites import Probes
from analysis.module_view import ModuleClip, view_module
from analysis.record.assemble import record_of
from gmsa_models.masks import Neighbourhood

__all__ = ["inspect_module"]


def inspect_module(
    module: nn.Module,
    inputs: Inputs,
    *,
    layout: Layout | Mapping[str, Layout | None] | None = None,
    class_names: Sequence[str] | None = None,
    streams: Mapping[str, str] | None = None,
    activation: str = "softmax",
    adapter: Adapter | None = None,
    features: Mapping[str, Float[np.ndarray, "frames _"]] | None = None,
    clip: ModuleClip | None = None,
    neighbourhood: Neighbourhood | None = None,
    layer: int = 0,
    layers: Sequence[int] | str | None = None,
    parts: Sequence[str] | None = None,
    probes: Probes | None = None,
) -> xr.Dataset:
    """Everything that a module saw in one clip, as `inspect_clip` tells it of a GMSA model.

    Its attention calls are recorded and verified by `analysis.capture` and reduced to maps between time steps; the
    share of a query on tokens of no frame is `attention_outside`. Calls whose paths differ in numbers only are the
    layers of one *stream*, which is a `modality` of the record; all maps are of the branch "global". What such a module
    cannot say (gates, contributions, certificates, explanations) is absent.

    Args:
        module: any; run in evaluation mode, and left as it was.
        inputs: of one clip: a tensor, a tuple of arguments, or arguments by name.
        layout: of the tokens, see `analysis.capture.capture`; default: recognised.
        class_names: one a class; default: those of the module's configuration, else numbers.
        streams: name -> pattern of module paths; default: by path.
        activation: what turns the module's logits into probabilities: "softmax" or "sigmoid". `logit` of the record is
            the log-odds, so that `score` is its sigmoid in both.
        adapter: of a module whose attention is not seen.
        features: stream -> a vector a time step, of which `similarity` is; default: what the stream's first attention
            module was given, as the mean over a frame's tokens.
        clip: what the input is called, and its seconds.
        neighbourhood: N_i by which S_i is measured; without one there is no `sensitivity`.
        layer, layers, parts: see `inspect_clip`.
        probes: how G is computed; default: sampled with 16 vectors a frame, whose error is `gradient_norm_error`. Its
            X and Y are the tokens of a frame before and after the module that attends. Exact: `Probes(None)`, for small
            models: one product for every number of the output.

    Returns:
        The record.

    Raises:
        RecordError (a ValueError): no logits of one clip, streams of unequal layers, names that are not one a class,
            features that are not known.
        CaptureError (a ValueError): as `analysis.capture.capture`; a layout that does not fit among it.
        KeyError: a part that is not in `PARTS`.
    """
    view = view_module(
        module, inputs, layout=layout, class_names=class_names, streams=streams, activation=activation, adapter=adapter,
        features=features, clip=clip, chosen=neighbourhood, probes=probes,
    )  # fmt: skip
    return record_of(view, layer=layer, layers=layers, parts=parts)
