"""Explainers: the project's own methods by name, and any function of a model, a clip and a class."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.explanations.registry import chosen_methods, explain_all
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluating import evaluating

__all__ = ["Explainers", "FrameScores", "OwnExplainer", "load_explainer", "source_digest"]

FrameScores = Float[Tensor, " frames"]
# Model (on any device, in evaluation mode), clip (cut to the model's longest, without its segments) and position of the
# class among the outputs -> one number a frame, higher: the frame speaks more for the class.
OwnExplainer = Callable[[GMSAClassifier, Clip, int], Any]


@dataclass(frozen=True)
class Explainers:
    """What is benchmarked.

    Attributes:
        methods: keys of `EXPLANATIONS`; those that do not apply to a model are left out. None: all that do.
        own: name -> a function, `OwnExplainer`.
    """

    methods: Sequence[str] | None = None
    own: tuple[tuple[str, OwnExplainer], ...] = ()

    def scores(self, model: GMSAClassifier, clip: Clip, target: int) -> dict[str, FrameScores]:
        """Explainer -> one number a frame, those of the registry first.

        Raises:
            ArgumentError: a function of the user's gives something else than one finite number a frame.
            UnknownNameError: a method that is not on offer.
        """
        names = chosen_methods(model, self.methods)
        explanations = explain_all(model, clip, target, names) if names else {}
        scores = {name: each.frames.detach().cpu().double() for name, each in explanations.items()}
        for name, function in self.own:
            scores[name] = _own_scores(name, function, model, clip, target)
        return scores


def load_explainer(name: str) -> OwnExplainer:
    """The function of a name `module:function`; modules of the working folder come first.

    Args:
        name: `my_explainer:explain`, or `package.module:function`.

    Raises:
        ArgumentError: the name has another form, there is no such module or function, or it is no function.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name.isidentifier():
        raise ArgumentError(f"explainer {name!r}; expected MODULE:FUNCTION, say my_explainer:explain")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ArgumentError(
            f"explainer {name!r}: no module {error.name!r}; give the name of an installed module, or of a file "
            f"{module_name}.py in the working folder {folder}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ArgumentError(
            f"explainer {name!r}: {function_name!r} is no function of module {module_name!r}; expected one that takes "
            "model, clip and target"
        )
    return function


def source_digest(function: OwnExplainer) -> str:
    """A digest of the file that a function stands in, so that results of its earlier versions are told from it."""
    try:
        path = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        path = None
    return "" if path is None or not Path(path).is_file() else hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _own_scores(name: str, function: OwnExplainer, model: GMSAClassifier, clip: Clip, target: int) -> FrameScores:
    with evaluating(model, widen=True) as replica, torch.enable_grad():
        values = function(replica.bound_to(clip), clip, target)
    try:
        scores = torch.as_tensor(values).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"explainer {name!r} gave {type(values).__name__} for clip {clip.id!r}; expected one number a frame, an "
            "array or a list"
        ) from error
    expected = min(clip.frames, model.config.max_frames)
    if scores.shape != (expected,) or not bool(scores.isfinite().all()):
        what = f"shape {tuple(scores.shape)}" if scores.shape != (expected,) else "numbers that are not finite"
        raise ArgumentError(
            f"explainer {name!r} gave {what} for clip {clip.id!r}; expected {expected} finite numbers, one a frame"
        )
    return scores
