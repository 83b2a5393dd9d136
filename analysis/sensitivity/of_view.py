"""Gradient norms of a clip that a model has seen, computed once."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from analysis.sensitivity.norms import block_gradient_norms
from analysis.view import ClipView

# About the most that the intermediate results of gradient norms may take.
GRADIENT_BYTES = 2**27


def view_gradient_norms(view: ClipView, modality: str) -> Float[Tensor, "query key"]:
    """G of one modality of a clip, exact, computed once a view; of a model with attention."""
    key = view.layer, modality
    if key not in view.gradient_norms:
        block = view.model.encoders[modality].layers[view.layer].attention
        view.gradient_norms[key] = block_gradient_norms(block, view.layers[modality].input[0], GRADIENT_BYTES)
    return view.gradient_norms[key]
