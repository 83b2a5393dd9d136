"""Explanation: how much each frame of each modality counts for one class, by one method; what all of them return."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from gmsa_models.classifier import GMSAClassifier
from gmsa_models.config import check_classifies
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError

__all__ = ["Explanation", "class_position"]

FrameValues = Float[Tensor, "modality frame"]


def class_position(model: GMSAClassifier, target: SupportsIndex | str) -> int:
    """Position among the model's outputs of a class that is given by its position, or by its name.

    Args:
        model: with a vocabulary, if the class is given by name.
        target: position, from 0; or the name as in the model's vocabulary, in any case.

    Raises:
        ArgumentError: a model without classes; a position that it lacks, a name without a vocabulary, or neither a
            number nor a text; a name that the vocabulary lacks; names those that begin alike.
    """
    check_classifies(model.config)
    if isinstance(target, str):
        if model.vocabulary is None:
            raise ArgumentError(f"target is {target!r}; the model has no vocabulary: give the class by its position")
        return model.vocabulary.find(target)
    if isinstance(target, bool) or not hasattr(target, "__index__"):
        raise ArgumentError(f"target is {target!r}; expected the position of a class or its name")
    position = operator.index(target)
    if not 0 <= position < model.config.classes:
        raise ArgumentError(f"target is {position}; the model has classes 0 to {model.config.classes - 1}")
    return position


@dataclass(frozen=True)
class Explanation:
    """What one method says of one clip and one class.

    Attributes:
        method: its name among the explanations.
        target: position of the class among the model's outputs (captum's term).
        values: one number a modality and frame; higher: the frame speaks more for the class. A method that adds up
            shares of the class's logit may be negative. NaN where the method says nothing of a modality.
        modalities: names of the rows of `values`, in the model's order.
        units: "logit" where values are shares of a difference of logits, "1" where only their order and ratios mean
            anything.
        branches: each branch of the first layer, as "global", and "residual" (the frame itself, past the attention
            block) -> the parts of `values` that came by each way; they add up to `values`. Empty where the
            method does not tell them apart.
        convergence_delta: by how much the values fail to add up to what they should (captum's term); None where
            nothing need add up.
        baseline: what stands for "no information", by name; None where the method needs none.
        features: modality -> one number a frame and feature; empty where the method does not go that far.
        standard_error: of `values` of a method that may sample them, 0 where it did not; None of other methods.
    """

    method: str
    target: int
    values: FrameValues
    modalities: tuple[str, ...]
    units: str = "1"
    branches: Mapping[str, FrameValues] = field(default_factory=dict)
    convergence_delta: float | None = None
    baseline: str | None = None
    features: Mapping[str, Float[Tensor, "frame _"]] = field(default_factory=dict)
    standard_error: FrameValues | None = None

    @property
    def frames(self) -> Float[Tensor, " frame"]:
        """One number a frame: the sum over the modalities that the method speaks of."""
        return torch.nansum(self.values, 0)

    @property
    def of_modality(self) -> dict[str, float]:
        """What each modality adds, the sum over its frames; of methods whose values are shares of a logit.

        Raises:
            ArgumentError: a method whose values only order the frames.
        """
        if self.units != "logit":
            raise ArgumentError(f"{self.method!r} orders frames; its values do not add up to shares of modalities")
        return dict(zip(self.modalities, self.values.sum(1).tolist(), strict=True))


# A method with its options bound: model, clip (cut to the model's longest), target -> what it says.
Method = Callable[[GMSAClassifier, Clip, int], Explanation]
