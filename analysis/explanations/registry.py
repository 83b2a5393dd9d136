"""Every explanation on offer, by name, and which model can be asked for which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, SupportsIndex

from analysis.explanations.attention_attribution import (
    gradient_received,
    profile_explanation,
    sensitivity_weighted_profile,
)
from analysis.explanations.attribution.methods import gradient_explanation, occlusion_explanation, shapley_explanation
from analysis.explanations.baseline_methods import mean_frame_similarity, random_order
from analysis.explanations.explanation import Explanation, class_position
from analysis.explanations.relevance.methods import flow_explanation, propagation_explanation
from analysis.gmsa_view import view_clips
from analysis.view import TraceView
from analysis.workers import map_in_threads
from gmsa_models.branches import GLOBAL
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.errors import UnknownNameError
from gmsa_models.evaluating import evaluating, evaluation_replica

__all__ = [
    "EXPLANATIONS",
    "MethodSpec",
    "applicable",
    "check_method",
    "chosen_methods",
    "explain",
    "explain_all",
    "explain_each",
]


@dataclass(frozen=True)
class MethodSpec:
    """One explanation.

    Attributes:
        explain: model, clip, target and its own options to an `Explanation`.
        family: "gradient", "perturbation", "relevance", "attention" or "control".
        needs: "" (any model), "attention", or of the first layer's block: "global", "local" (such a branch), "both", or
            "combined" (a combined map).
        knows_class: whether another target may give other values.
        uses_view: whether it takes `view`, a `TraceView` that is then made once for all.
    """

    explain: Callable[..., Explanation]
    family: str
    needs: str = ""
    knows_class: bool = True
    uses_view: bool = False


EXPLANATIONS: dict[str, MethodSpec] = {
    "saliency": MethodSpec(partial(gradient_explanation, method="saliency"), "gradient"),
    "input-x-gradient": MethodSpec(partial(gradient_explanation, method="input-x-gradient"), "gradient"),
    "integrated-gradients": MethodSpec(partial(gradient_explanation, method="integrated-gradients"), "gradient"),
    "gradient-shap": MethodSpec(partial(gradient_explanation, method="gradient-shap"), "gradient"),
    "deep-lift": MethodSpec(partial(gradient_explanation, method="deep-lift"), "gradient"),
    "frame-occlusion": MethodSpec(partial(occlusion_explanation, by="frame"), "perturbation"),
    "segment-occlusion": MethodSpec(partial(occlusion_explanation, by="segment"), "perturbation"),
    "segment-shapley": MethodSpec(shapley_explanation, "perturbation"),
    "relevance-propagation": MethodSpec(propagation_explanation, "relevance"),
    "rollout": MethodSpec(partial(flow_explanation, method="rollout"), "relevance", "attention", knows_class=False),
    "gradient-weighted-attention": MethodSpec(
        partial(flow_explanation, method="gradient-weighted-attention"), "relevance", "attention"
    ),
    "attention-global": MethodSpec(
        partial(profile_explanation, branch="global"), "attention", "global", False, uses_view=True
    ),
    "attention-local": MethodSpec(
        partial(profile_explanation, branch="local"), "attention", "local", False, uses_view=True
    ),
    "attention-combined": MethodSpec(
        partial(profile_explanation, branch="combined"), "attention", "combined", False, uses_view=True
    ),
    "sensitivity-weighted": MethodSpec(sensitivity_weighted_profile, "attention", "both", False, uses_view=True),
    "gradient-received": MethodSpec(gradient_received, "attention", "attention", False, uses_view=True),
    "random": MethodSpec(random_order, "control", knows_class=False),
    "mean-frame-similarity": MethodSpec(mean_frame_similarity, "control", knows_class=False),
}


def applicable(model: GMSAClassifier) -> tuple[str, ...]:
    """Names of the explanations that a model can be asked for."""
    block = model.config.block_of(0)
    has = {"": True, "attention": block is not None, "local": block is not None and block.local}
    has["global"] = block is not None and GLOBAL in block.branches
    has["both"] = has["global"] and has["local"]
    has["combined"] = block is not None and bool(block.combined)
    return tuple(name for name, spec in EXPLANATIONS.items() if has[spec.needs])


def explain(model: GMSAClassifier, clip: Clip, target: SupportsIndex | str, method: str, **options: Any) -> Explanation:
    """What one method says of one clip and one class.

    Args:
        model: on any device; left as it is, and explained without dropout, one of half precision in float32.
        clip: cut to the model's longest.
        target: the class, by its position among the model's outputs or by its name; see `class_position`.
        method: a key of `EXPLANATIONS`.
        options: the method's own; see its function.

    Raises:
        UnknownNameError: a method that is not on offer; the message lists those that are.
        ArgumentError: a class, a branch or a baseline that is not there.
    """
    position = class_position(model, target)
    with evaluating(model, widen=True) as replica:
        return check_method(method).explain(replica, clip, position, **options)


def explain_all(
    model: GMSAClassifier,
    clip: Clip,
    target: SupportsIndex | str,
    methods: Iterable[str] | None = None,
    view: TraceView | None = None,
    progress: Callable[[int], None] = lambda explanations: None,
) -> dict[str, Explanation]:
    """Method -> what it says, each with its default options.

    Args:
        methods: keys of `EXPLANATIONS`; those that do not apply to the model are left out. Default: all.
        view: of the model and the clip alone, if there is one; else one is made for all that need it.
        progress: called after each explanation with 1, from several threads.
        model, clip, target: see `explain`.

    Raises:
        UnknownNameError: as `explain`.
    """
    names, results = chosen_methods(model, methods), {}

    def keep(name: str, explanation: Explanation) -> None:
        results[name] = explanation
        progress(1)

    explain_each(model, clip, class_position(model, target), names, keep, view)
    return {name: results[name] for name in names}


def explain_each(
    model: GMSAClassifier,
    clip: Clip,
    target: int,
    names: Sequence[str],
    keep: Callable[[str, Explanation], None],
    view: TraceView | None = None,
) -> None:
    """Explain one class by some methods, several at a time, and hand on each explanation as it is made.

    Args:
        target: position of the class.
        names: of methods that apply to the model.
        keep: called after each explanation with the method and what it says, from several threads, in any order.
        model, clip, view: see `explain_all`.
    """
    if view is None and any(EXPLANATIONS[name].uses_view for name in names):
        view = view_clips(model, [clip])
    options = {name: {"view": view} if EXPLANATIONS[name].uses_view else {} for name in names}
    replica = evaluation_replica(model, widen=True)  # widened once for all

    def compute(some: list[str]) -> None:
        for name in some:
            keep(name, explain(replica, clip, target, name, **options[name]))

    # DeepLIFT silences a warning of captum's, which is a setting of all threads: it goes first, alone. Those that share
    # the view share what is computed from it, one after another.
    alone = [name for name in names if name == "deep-lift"]
    with_view = [name for name in names if EXPLANATIONS[name].uses_view]
    compute(alone)
    map_in_threads(compute, [*([name] for name in names if name not in (*alone, *with_view)), with_view])


def chosen_methods(model: GMSAClassifier, methods: Iterable[str] | None) -> tuple[str, ...]:
    """Those of some methods that a model can be asked for, in the order given; of None: all that it can.

    Raises:
        UnknownNameError: a method that is not on offer; the message lists those that are.
    """
    requested = tuple(EXPLANATIONS) if methods is None else tuple(dict.fromkeys(methods))
    for name in requested:
        check_method(name)
    applicable_names = applicable(model)
    return tuple(name for name in requested if name in applicable_names)


def check_method(name: str) -> MethodSpec:
    """The spec of a name.

    Raises:
        UnknownNameError: there is none; the message lists the names.
    """
    if name not in EXPLANATIONS:
        raise UnknownNameError(f"unknown explanation {name!r}; known: {', '.join(EXPLANATIONS)}")
    return EXPLANATIONS[name]
