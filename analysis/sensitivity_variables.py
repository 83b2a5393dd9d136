"""The parts of a record that tell how much each output frame depends on each input frame."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from analysis.arrays import Variables, labelled
from analysis.sensitivity import block_gradient_norms, local_sensitivity
from analysis.view import ClipView, to_numpy

# About the most that the intermediate results of gradient norms may take.
GRADIENT_BYTES = 2**27


def sensitivity_variables(view: ClipView) -> Variables:
    """`gradient_norm` (modality, query, key), G of equation 10; `sensitivity` (modality, frame), S_i.

    S_i is measured by the neighbourhood chosen, else by the model's own; absent where there is neither. Both are absent
    in the control, whose frames do not depend on each other.
    """
    if not view.branches:
        return {}
    norms = {modality: view_gradient_norms(view, modality) for modality in view.layers}
    values = np.stack([to_numpy(each) for each in norms.values()])
    found = {"gradient_norm": labelled(("modality", "query", "key"), values, "norm of dY[query] / dX[key]", "Y per X")}
    if view.neighbourhood is not None:
        shares = np.stack([to_numpy(local_sensitivity(each, view.neighbourhood)) for each in norms.values()])
        found["sensitivity"] = labelled(("modality", "frame"), shares, "local sensitivity S_i", "0.5 even, 1 local")
    return found


def view_gradient_norms(view: ClipView, modality: str) -> Float[Tensor, "query key"]:
    """G of one modality of a clip, exact, computed once a view; of a model with attention."""
    key = view.layer, modality
    if key not in view.gradient_norms:
        block = view.model.encoders[modality].layers[view.layer].attention
        view.gradient_norms[key] = block_gradient_norms(block, view.layers[modality].input[0], GRADIENT_BYTES)
    return view.gradient_norms[key]
