"""The part of a record that explains one class by every method, and says how faithful each is."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from analysis.explanations.explanation import Explanation
from analysis.explanations.faithfulness import MEASURES
from analysis.explanations.ground_truth import EVIDENCE_MEASURES
from analysis.record.labelled import Variables, labelled, text
from analysis.record.lanes import Lane
from analysis.view import TraceView
from gmsa_models.branches import in_order

__all__ = ["explanation_variables"]

# By which way through the first layer a share reaches the frame.
WAYS = ("global", "local", "residual")
ALL_MEASURES = (*MEASURES, *EVIDENCE_MEASURES)


def explanation_variables(view: TraceView) -> Variables:
    """`explanation` (explainer, modality, frame) of one class, its parts by way, its error, and how faithful it is.

    `explanation_way` (explainer, way, modality, frame) is NaN where a method does not tell ways apart,
    `explanation_delta` (explainer) where nothing need add up. `explanation_error` (as `explanation`) is there where a
    method sampled. `faithfulness` (explainer, measure) are those of
    `analysis.explanations`; evidence is NaN where the class is no label whose seconds are known. Absent where the model
    cannot be explained.
    """
    if view.capabilities.explanations is None:
        return {}
    result = view.capabilities.explanations(view)
    each, name = result.explanations, result.class_name
    ways = _ways(each.values())
    values = np.stack([one.values.float().numpy() for one in each.values()])
    scores = [[result.scores[method][measure] for measure in ALL_MEASURES] for method in each]
    variables = {
        "explanation": labelled(
            ("explainer", "modality", "frame"),
            values,
            f"explanation of {name}",
            "see units",
            Lane(name="explanation", units="", reference=0.0, height=66, order=60.0, overview=False),
        ),
        "explanation_units": labelled(("explainer",), text(one.units for one in each.values()), "units of explanation"),
        "explanation_way": labelled(
            ("explainer", "way", "modality", "frame"),
            np.stack([_parts(one, ways) for one in each.values()]),
            "part of the explanation by its way through the first layer",
        ),
        "explanation_delta": labelled(
            ("explainer",), _deltas(each.values()), "by how much values miss their sum", "nat"
        ),
        "faithfulness": labelled(
            ("explainer", "measure"), np.array(scores, np.float32), "how faithful the explanation is"
        ),
    }
    if any(one.standard_error is not None and bool((one.standard_error != 0).any()) for one in each.values()):
        variables["explanation_error"] = labelled(
            ("explainer", "modality", "frame"),
            np.stack([_errors(one) for one in each.values()]),
            "standard error of explanation, where it is sampled",
            "see units",
        )
    variables["faithfulness"].attrs["curve_steps"] = result.curve_steps
    variables["explanation"].attrs |= {
        "target": result.target, "label": result.label, "class_name": name, "baseline": result.baseline,
    }  # fmt: skip
    coords = {"explainer": text(each), "way": text(ways), "measure": text(ALL_MEASURES)}
    return {
        key: array.assign_coords({dim: coords[dim] for dim in array.dims if dim in coords})
        for key, array in variables.items()
    }


def _ways(explanations: Iterable[Explanation]) -> tuple[str, ...]:
    """`WAYS`, or those of a block with other branches."""
    names = dict.fromkeys(way for each in explanations for way in each.branches)
    return WAYS if names.keys() <= set(WAYS) else (*in_order(name for name in names if name != WAYS[-1]), WAYS[-1])


def _parts(explanation: Explanation, ways: tuple[str, ...]) -> np.ndarray:
    parts = np.full((len(ways), *explanation.values.shape), np.nan, np.float32)
    for way, values in explanation.branches.items():
        parts[ways.index(way)] = values.numpy()
    return parts


def _errors(explanation: Explanation) -> np.ndarray:
    if explanation.standard_error is None:
        return np.full(explanation.values.shape, np.nan, np.float32)
    return explanation.standard_error.numpy().astype(np.float32)


def _deltas(explanations: Iterable[Explanation]) -> np.ndarray:
    return np.array(
        [np.nan if each.convergence_delta is None else each.convergence_delta for each in explanations], np.float32
    )
