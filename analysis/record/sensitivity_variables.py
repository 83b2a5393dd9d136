"""The parts of a record that tell how much each output frame depends on each input frame."""

from __future__ import annotations

from analysis.record.labelled import Variables, by_modality, labelled
from analysis.record.lanes import Lane
from analysis.sensitivity.of_view import view_gradient_norms, view_sensitivity
from analysis.view import TraceView

__all__ = ["sensitivity_variables"]


def sensitivity_variables(view: TraceView, layer: int = 0) -> Variables:
    """`gradient_norm` (modality, query, key), G of equation 10; `sensitivity` (modality, frame), S_i.

    `gradient_norm_error`: of a sampled G, its standard error.

    S_i is measured by the neighbourhood chosen, else by the model's own; absent where there is neither. Both are absent
    in the control, whose frames do not depend on each other, and where the model gives no gradient norms.
    """
    each_norms = {name: view_gradient_norms(view, name, layer) for name in view.modalities}
    each_shares = {name: view_sensitivity(view, name, view.neighbourhood, layer) for name in view.modalities}
    norms = {name: values[0] for name, values in each_norms.items() if values is not None}
    shares = {name: values[0] for name, values in each_shares.items() if values is not None}
    variables: Variables = {}
    if norms:
        values, meaning = by_modality(view, norms), "norm of dY[query] / dX[key]"
        lane = Lane("received", "gradient received", "1 = even", "gradient", 1.0, least=0.0, order=50.0, overview=False)
        variables["gradient_norm"] = labelled(("modality", "query", "key"), values, meaning, "Y per X", lane)
    errors = view.capabilities.gradient_norm_errors
    if norms and errors is not None:
        values = by_modality(view, {modality: errors(view, modality, layer)[0] for modality in norms})
        meaning = "standard error of gradient_norm"
        variables["gradient_norm_error"] = labelled(("modality", "query", "key"), values, meaning, "Y per X")
    if shares:
        values, meaning = by_modality(view, shares), "local sensitivity S_i"
        lane = Lane("line", "sensitivity S", "1 = all local", "S", 0.5, order=40.0, overview=False)
        variables["sensitivity"] = labelled(("modality", "frame"), values, meaning, "0.5 even, 1 local", lane)
    return variables
