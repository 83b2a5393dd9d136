"""Gradient norms and local sensitivity of a view, batched; records, sweeps, studies and explanations take them here."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.errors import RecordError
from analysis.sensitivity.autograd import autograd_norms
from analysis.sensitivity.norms import local_sensitivity, pad_norms
from analysis.view import TraceView
from gmsa_models.masks import Neighbourhood

__all__ = ["GRADIENT_BYTES", "layer_norms", "view_gradient_norms", "view_sensitivity"]

# About the most that the intermediate results of gradient norms may take.
GRADIENT_BYTES = 2**27

Function = Callable[[Float[Tensor, "frames dim"]], Float[Tensor, "frames _"]]
Norms = Float[Tensor, "batch query key"]


def view_gradient_norms(view: TraceView, modality: str, layer: int = 0) -> Norms | None:
    """G of one layer, exact, computed once a view; NaN at padding.

    None where the layer has no maps (the control), or its model cannot say.
    """
    compute = view.capabilities.gradient_norms
    if compute is None or not view.layer(modality, layer).weights:
        return None
    return view.once(("gradient norms", modality, layer), lambda: compute(view, modality, layer))


def view_sensitivity(
    view: TraceView, modality: str, neighbourhood: Neighbourhood | Bool[Tensor, "*_"] | None, layer: int = 0
) -> Float[Tensor, "batch frames"] | None:
    """S_i by a neighbourhood, see `local_sensitivity`; None without one, and where `view_gradient_norms` is None."""
    norms = view_gradient_norms(view, modality, layer)
    if norms is None or neighbourhood is None:
        return None
    mask = neighbourhood if isinstance(neighbourhood, Tensor) else view.mask(neighbourhood)
    return local_sensitivity(norms, mask)


def layer_norms(
    view: TraceView, modality: str, layer: int, norms: Callable[[Float[Tensor, "frames dim"]], Tensor]
) -> Norms:
    """G clip by clip, from what each clip's real frames were to the layer.

    Args:
        view, modality, layer: which layer; its `input` is X.
        norms: from the frames of one clip to its G, (query, key).

    Raises:
        RecordError: the layer's input was not recorded.
    """
    inputs = layer_inputs(view, modality, layer)
    each = [pad_norms(norms(frames[valid]), valid) for frames, valid in zip(inputs, view.valid, strict=True)]
    return torch.stack(each)


def layer_inputs(view: TraceView, modality: str, layer: int) -> Float[Tensor, "batch frames dim"]:
    """X of one layer.

    Raises:
        RecordError: it was not recorded.
    """
    inputs = view.layer(modality, layer).input
    if inputs is None:
        raise RecordError(f"layer {layer} of {modality!r} has no recorded input; gradient norms are taken by it")
    return inputs


def autograd_capability(
    function: Callable[[str, int], Function], max_bytes: int = GRADIENT_BYTES
) -> Callable[[TraceView, str, int], Norms]:
    """`Capabilities.gradient_norms` of any module that can be differentiated.

    Args:
        function: (modality, layer) -> from the layer's input frames, of one clip without padding, to its output frames.
        max_bytes: about the most that intermediate results may take.
    """

    def compute(view: TraceView, modality: str, layer: int) -> Norms:
        of_layer = function(modality, layer)
        return layer_norms(view, modality, layer, lambda frames: autograd_norms(of_layer, frames, max_bytes))

    return compute
