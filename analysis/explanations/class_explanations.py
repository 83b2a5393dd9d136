"""One class of one clip explained by every method, and how faithful each explanation is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

from analysis.explanations.explanation import Explanation
from analysis.explanations.faithfulness import Replacer
from analysis.explanations.registry import applicable, explain_all
from analysis.explanations.scores import score_explanation
from analysis.view import TraceView
from gmsa_models.classifier import GMSAClassifier

__all__ = ["ClassExplanations", "explain_class", "explanation_steps"]


@dataclass(frozen=True)
class ClassExplanations:
    """What every method says of one class.

    Attributes:
        target: position of the class among the model's outputs.
        label: its label in the data set.
        class_name: what it is called.
        baseline: by what frames are replaced where faithfulness is measured.
        explanations: method -> what it says.
        scores: method -> measure -> how faithful it is.
    """

    target: int
    label: int
    class_name: str
    baseline: str
    explanations: dict[str, Explanation]
    scores: dict[str, dict[str, float]]


def explanation_steps(model: GMSAClassifier) -> int:
    """How many steps `explain_class` has: each method explains, and is then scored."""
    return 2 * len(applicable(model))


def explain_class(
    model: GMSAClassifier,
    view: TraceView,
    target: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ClassExplanations:
    """Explain one class of a view of one clip. The methods are not told the known segments.

    Args:
        model: that the view is of.
        view: of one clip.
        target: position of the class; None: the one that the model finds most probable.
        progress: called with the steps done and their number, one call at a time, from any thread.
    """
    target = int(view.logits[0].argmax()) if target is None else target
    label = view.vocabulary.indices[target]
    step = _counter(progress, explanation_steps(model))
    plain = replace(view.one, segments=())
    explanations = explain_all(model, plain, target, view=view, progress=step)
    replacer = Replacer(model, view.one, target)
    known = view.one if view.labelled else plain
    scores = {}
    for name, each in explanations.items():
        scores[name] = score_explanation(each, known, label, replacer)
        step(1)
    return ClassExplanations(target, int(label), view.vocabulary.name(label), replacer.baseline, explanations, scores)


def _counter(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """Calls `progress` with the sum of the steps so far; explanations end in several threads."""
    lock, done = Lock(), 0

    def step(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            progress(done, total)

    return step
