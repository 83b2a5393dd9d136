"""The parts of a record that tell how much each output frame depends on each input frame."""

from __future__ import annotations

import numpy as np

from analysis.record.labelled import Variables, labelled
from analysis.sensitivity.norms import local_sensitivity
from analysis.sensitivity.of_view import view_gradient_norms
from analysis.view import ClipView, to_numpy


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
