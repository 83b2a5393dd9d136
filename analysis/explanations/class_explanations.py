"""One class of one clip explained by every method, and how faithful each explanation is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock

from analysis.explanations.explanation import Explanation
from analysis.explanations.faithfulness import CURVE_POINTS, MEASURES, Replacer, curve_counts
from analysis.explanations.ground_truth import EVIDENCE_MEASURES
from analysis.explanations.registry import applicable, chosen_methods, explain_each
from analysis.explanations.scores import score_explanation
from analysis.view import TraceView
from gmsa_models.allocator import return_freed_memory
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.errors import ArgumentError

__all__ = ["ClassExplanations", "ExplanationsStopped", "explain_class", "explanation_steps"]


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
        curve_steps: at how many numbers of replaced frames the curves of faithfulness were taken, none and all
            included.
    """

    target: int
    label: int
    class_name: str
    baseline: str
    explanations: dict[str, Explanation]
    scores: dict[str, dict[str, float]]
    curve_steps: int


class ExplanationsStopped(KeyboardInterrupt):
    """An interrupt while a class was being explained.

    Attributes:
        result: what was done by then; NaN for faithfulness that was not yet measured.
    """

    def __init__(self, result: ClassExplanations) -> None:
        super().__init__("stopped while a class was being explained")
        self.result = result


def explanation_steps(model: GMSAClassifier, methods: Sequence[str] | None = None) -> int:
    """How many steps `explain_class` has: each method explains, and is then scored."""
    return 2 * len(chosen_methods(model, methods))


def explain_class(
    model: GMSAClassifier,
    view: TraceView,
    target: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    methods: Sequence[str] | None = None,
    points: int | None = CURVE_POINTS,
) -> ClassExplanations:
    """Explain one class of a view of one clip. The methods are not told the known segments.

    Args:
        model: that the view is of.
        view: of one clip.
        target: position of the class; None: the one that the model finds most probable.
        progress: called with the steps done and their number, one call at a time, from any thread.
        methods: keys of `EXPLANATIONS`; those that do not apply to the model are left out. None: all.
        points: parts of the curves of faithfulness; None: every frame. See `faithfulness.curve_counts`.

    Raises:
        UnknownNameError: a method that is not on offer.
        ArgumentError: none of the methods applies to the model.
        ExplanationsStopped: interrupted; it holds what was done.
    """
    names = chosen_methods(model, methods)
    if not names:
        raise ArgumentError(
            f"no explanation among {list(methods or ())} applies to this model; those that do: "
            f"{', '.join(applicable(model))}"
        )
    target = int(view.logits[0].argmax()) if target is None else target
    label = view.vocabulary.indices[target]
    step = _counter(progress, explanation_steps(model, names))
    plain = replace(view.one, segments=())
    replacer = Replacer(model, view.one, target)
    steps_of_curves = len(curve_counts(replacer.frames, points))
    explanations: dict[str, Explanation] = {}
    scores: dict[str, dict[str, float]] = {}

    def keep(name: str, explanation: Explanation) -> None:
        explanations[name] = explanation
        return_freed_memory()  # methods differ in what they need, and their threads in what they keep
        step(1)

    def result() -> ClassExplanations:
        each = {name: explanations[name] for name in names if name in explanations}
        measured = {name: scores.get(name, _NOT_MEASURED) for name in each}
        name = view.vocabulary.name(label)
        return ClassExplanations(target, int(label), name, replacer.baseline, each, measured, steps_of_curves)

    try:
        explain_each(model, plain, target, names, keep, view)
        for name in names:
            known = view.one if view.labelled else plain
            scores[name] = score_explanation(explanations[name], known, label, replacer, points)
            step(1)
    except KeyboardInterrupt:
        raise ExplanationsStopped(result()) from None
    return result()


_NOT_MEASURED = dict.fromkeys((*MEASURES, *EVIDENCE_MEASURES), float("nan"))


def _counter(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """Calls `progress` with the sum of the steps so far; explanations end in several threads."""
    lock, done = Lock(), 0

    def step(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            progress(done, total)

    return step
