"""The part of a record that explains one class by every method, and says how faithful each is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from threading import Lock

import numpy as np

from analysis.explanations.explanation import Explanation
from analysis.explanations.faithfulness import MEASURES, Replacer
from analysis.explanations.ground_truth import EVIDENCE_MEASURES
from analysis.explanations.registry import applicable, explain_all
from analysis.explanations.scores import score_explanation
from analysis.record.labelled import Variables, labelled, text
from analysis.view import ClipView
from gmsa_models.classifier import GMSAClassifier

# By which way through the first layer a share reaches the frame.
WAYS = ("global", "local", "residual")
ALL_MEASURES = (*MEASURES, *EVIDENCE_MEASURES)


def explanation_steps(model: GMSAClassifier) -> int:
    """How many steps the part "explanation" of a model's record has: each method explains, and is then scored."""
    return 2 * len(applicable(model))


def explanation_variables(view: ClipView) -> Variables:
    """`explanation` (explainer, modality, frame) of one class, its parts by way, its error, and how faithful it is.

    The class is `view.target`, else the one that the model finds most probable. `explanation_way` (explainer, way,
    modality, frame) is NaN where a method does not tell ways apart, `explanation_delta` (explainer) where nothing need
    add up. `faithfulness` (explainer, measure) are those of `analysis.explanations`;
    evidence is NaN where the class is no label whose seconds are known. Explanations are not told the known segments.
    """
    target = int(view.trace.logits[0].argmax()) if view.target is None else view.target
    label = view.vocabulary.indices[target]
    seen = view if view.layer == 0 else None
    step = _counter(view.explanation_progress, explanation_steps(view.model))
    found = explain_all(view.model, replace(view.clip, segments=()), target, view=seen, progress=step)
    replacer = Replacer(view.model, view.clip, target)
    known = view.clip if view.labelled else replace(view.clip, segments=())
    scores = []
    for each in found.values():
        scores.append(score_explanation(each, known, label, replacer))
        step(1)
    name = view.vocabulary.name(label)
    values = np.stack([each.values.float().numpy() for each in found.values()])
    variables = {
        "explanation": labelled(("explainer", "modality", "frame"), values, f"explanation of {name}", "see units"),
        "explanation_units": labelled(
            ("explainer",), text(each.units for each in found.values()), "units of explanation"
        ),
        "explanation_way": labelled(
            ("explainer", "way", "modality", "frame"),
            np.stack([_ways(each) for each in found.values()]),
            "part of the explanation by its way through the first layer",
        ),
        "explanation_delta": labelled(
            ("explainer",), _deltas(found.values()), "by how much values miss their sum", "nat"
        ),
        "faithfulness": labelled(
            ("explainer", "measure"),
            np.array([[each[measure] for measure in ALL_MEASURES] for each in scores], np.float32),
            "how faithful the explanation is",
        ),
    }
    about = {"target": target, "label": int(label), "class_name": name, "baseline": replacer.baseline}
    variables["explanation"].attrs |= about
    coords = {"explainer": text(found), "way": text(WAYS), "measure": text(ALL_MEASURES)}
    return {
        key: array.assign_coords({dim: coords[dim] for dim in array.dims if dim in coords})
        for key, array in variables.items()
    }


def _counter(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """Tells `progress` the sum of the steps so far; explanations end in several threads."""
    lock, done = Lock(), 0

    def step(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            progress(done, total)

    return step


def _ways(explanation: Explanation) -> np.ndarray:
    parts = np.full((len(WAYS), *explanation.values.shape), np.nan, np.float32)
    for way, values in explanation.branches.items():
        parts[WAYS.index(way)] = values.numpy()
    return parts


def _deltas(explanations: Iterable[Explanation]) -> np.ndarray:
    return np.array(
        [np.nan if each.convergence_delta is None else each.convergence_delta for each in explanations], np.float32
    )
