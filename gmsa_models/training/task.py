"""Task: what a run trains, what it minimises and what scores it; the loop knows nothing else of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from lightning_fabric import Fabric
from torch import nn

from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.errors import OnSkip
from gmsa_models.evaluation.scoring import collation_of, vocabulary_of
from gmsa_models.feeding import ClipSource, Collation, Inputs, RawBatch
from gmsa_models.training.identity import Identity, identity_of_classes, identity_of_weights
from gmsa_models.training.log import SCORES, Values
from gmsa_models.training.objective import Objective
from gmsa_models.training.recipe import Recipe
from gmsa_models.training.validation import check_labels, validate

__all__ = ["Classification", "TrainingTask"]


@runtime_checkable
class TrainingTask(Protocol):
    """What a run trains, what it minimises, what scores it.

    Attributes:
        model: what the run saves.
        file: what the finished model is called in the folder of the run.
        scores: names of what a validation is logged with.
    """

    model: GMSAClassifier
    file: str
    scores: tuple[str, ...]

    @property
    def trained(self) -> nn.Module:
        """Whose parameters are trained: the model, or a module around it."""

    def identity(self) -> Identity:
        """What of the task decides the weights, beside the recipe and the data."""

    def inputs(self) -> Inputs:
        """What a clip must have."""

    def collation(self) -> Collation:
        """How clips become batches."""

    def begin(self, recipe: Recipe) -> None:
        """Set what the recipe says of the weights before the first step."""

    def objective(self) -> nn.Module:
        """The module that makes the loss of `arguments`."""

    def arguments(self, batch: RawBatch, device: torch.device, seed: Sequence[int]) -> tuple[Any, ...]:
        """What the objective is given of a batch.

        Args:
            batch: as it was stored.
            device: where to.
            seed: of what is drawn at random, another one in each step and process.
        """

    def check(self, source: ClipSource, on_skip: OnSkip | None) -> None:
        """Refuse validation clips that define no score."""

    def score(self, fabric: Fabric, source: ClipSource, batch_size: int, on_skip: OnSkip | None) -> Values:
        """Scores over validation clips, the same on every process."""

    def facts(self, seconds: float) -> dict[str, Any]:
        """What the card says of a training of so many seconds, beside what is said of all."""


class Classification:
    """Learn the labels of clips: the summed binary cross-entropy of the classes."""

    file = "model.safetensors"
    scores: tuple[str, ...] = SCORES

    def __init__(self, model: GMSAClassifier) -> None:
        collation_of(model)
        self.model = model

    @property
    def trained(self) -> nn.Module:
        """The model."""
        return self.model

    def identity(self) -> Identity:
        """The model's shape, its weights, its classes, and where its encoders come from."""
        pretrained = self.model.card.get("pretrained")
        return {
            **({} if pretrained is None else {"pretrained encoders": pretrained}),
            "model": self.model.config.to_dict(),
            "initial weights": identity_of_weights(self.model.state_dict()),
            "classes": identity_of_classes(vocabulary_of(self.model)),
        }

    def inputs(self) -> Inputs:
        """The model's streams and its classes."""
        return Inputs.of(self.model)

    def collation(self) -> Collation:
        """With labels."""
        return collation_of(self.model)

    def begin(self, recipe: Recipe) -> None:
        """Start every class at the recipe's probability."""
        if recipe.initial_probability is not None:
            odds = recipe.initial_probability / (1 - recipe.initial_probability)
            nn.init.constant_(self.model.classifier.bias, float(torch.tensor(odds).log()))

    def objective(self) -> nn.Module:
        """See `Objective`."""
        return Objective(self.model)

    def arguments(self, batch: RawBatch, device: torch.device, seed: Sequence[int]) -> tuple[Any, ...]:
        """Features, which frames are real, labels, shots."""
        features = {name: values.to(device, non_blocking=True) for name, values in batch.features.items()}
        return features, batch.valid.to(device), batch.labels.to(device), batch.shots

    def check(self, source: ClipSource, on_skip: OnSkip | None) -> None:
        """See `check_labels`."""
        check_labels(self.model, source, on_skip)

    def score(self, fabric: Fabric, source: ClipSource, batch_size: int, on_skip: OnSkip | None) -> Values:
        """GAP, MAP, PERR and Hit@1."""
        return validate(fabric, self.model, source, batch_size, on_skip)

    def facts(self, seconds: float) -> dict[str, Any]:
        """How long it took."""
        return {"seconds": round(seconds, 1)}
