"""pretrain() encoders on clips without labels; see docs/concepts/pretraining.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.errors import OnSkip
from gmsa_models.errors import ArgumentError, TrainingError
from gmsa_models.evaluation.scoring import limited
from gmsa_models.feeding import ClipSource, Collation, Inputs, RawBatch
from gmsa_models.pretraining.hidden_frames import hidden_spans
from gmsa_models.pretraining.model import FramePredictor
from gmsa_models.pretraining.objective import HiddenFrames
from gmsa_models.pretraining.recipe import PretrainingRecipe
from gmsa_models.pretraining.scoring import score_hidden_frames, score_names
from gmsa_models.training.identity import Identity, identity_of_weights
from gmsa_models.training.log import Values
from gmsa_models.training.loop import run_task
from gmsa_models.training.recipe import Recipe
from gmsa_models.training.result import TrainingResult

__all__ = ["HiddenFramesTask", "pretrain"]

FILE = "pretrained.safetensors"
OBJECTIVE = "hidden frames"


def pretrain(
    model: GMSAClassifier,
    train_source: ClipSource,
    validation_source: ClipSource | None,
    recipe: PretrainingRecipe,
    out_dir: str | Path,
    *,
    seed: int = 0,
    **options: Any,
) -> TrainingResult:
    """Train the encoders of a model to predict hidden frames, and save them to `out_dir/pretrained.safetensors`.

    The file has the encoders alone: a model of no classes, whose maps can be inspected and which predicts nothing.
    `fit` starts from it by `started_from`. What is learned beside the encoders stays in the run's `state.pt`. No label
    is read: clips with other labels, or none, give the same file.

    Args:
        model: of no classes (`build(..., classes=0)`); its weights are where pretraining starts, and are changed.
        train_source, validation_source, out_dir: as for `gmsa_models.training.fit`; see there for what a folder holds.
        recipe: everything else that decides the weights.
        seed: of the initial weights of the linear heads.
        options: devices, accelerator, num_nodes, strategy, progress, card, on_error and on_skip, as for `fit`.

    Returns:
        The model and its scores, see `score_hidden_frames`.

    Raises:
        ArgumentError: a model that has classes.
        TrainingError, OutputError, CheckpointError, OSError, UnfitClipError: as `fit` does.
    """
    return run_task(HiddenFramesTask(model, recipe, seed), train_source, validation_source, recipe, out_dir, **options)


class HiddenFramesTask:
    """Predict frames that are hidden, in every stream; see `gmsa_models.training.task.TrainingTask`."""

    file = FILE

    def __init__(self, model: GMSAClassifier, recipe: PretrainingRecipe, seed: int = 0) -> None:
        if model.config.classes:
            raise ArgumentError(
                f"a model of {model.config.classes} classes; expected one of none to pretrain, as build(..., "
                "classes=0) makes it: its encoders become those of a classifier by started_from"
            )
        self.model, self.recipe = model, recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.predictor = FramePredictor(model)
        self.scores = score_names(model.config.modalities)

    @property
    def trained(self) -> nn.Module:
        """The encoders, the vectors of hidden frames and the heads."""
        return self.predictor

    def identity(self) -> Identity:
        """The model's shape, all weights, and that it is a pretraining."""
        weights = identity_of_weights(self.predictor.state_dict())
        return {"model": self.model.config.to_dict(), "initial weights": weights, "objective": OBJECTIVE}

    def inputs(self) -> Inputs:
        """The model's streams; labels of any data set."""
        return Inputs.of(self.model, labels=False)

    def collation(self) -> Collation:
        """Without labels."""
        return Collation(tuple(self.model.config.modalities), None, self.model.config.max_frames)

    def begin(self, recipe: Recipe) -> None:
        """Nothing: the weights begin as they are."""

    def objective(self) -> nn.Module:
        """See `HiddenFrames`."""
        return HiddenFrames(self.predictor)

    def arguments(self, batch: RawBatch, device: torch.device, seed: Sequence[int]) -> tuple[Any, ...]:
        """Features, which frames are real, which are hidden, shots."""
        features = {name: values.to(device, non_blocking=True) for name, values in batch.features.items()}
        seeds = [(*seed, row) for row in range(len(batch))]
        hidden = hidden_spans(batch.valid, self.recipe.hidden_share, self.recipe.span, seeds)
        return features, batch.valid.to(device), hidden.to(device), batch.shots

    def check(self, source: ClipSource, on_skip: OnSkip | None) -> None:
        """Refuse validation clips none of which has two frames, of which one can be hidden.

        Raises:
            TrainingError: there is none.
        """
        ignored = None if on_skip is None else lambda error: None  # reported when it is scored
        if not any(clip.frames > 1 for clip in limited(source, inputs=self.inputs(), on_skip=ignored)):
            raise TrainingError("none of the validation clips has two frames, so none can be hidden and scored")

    def score(self, fabric: Fabric, source: ClipSource, batch_size: int, on_skip: OnSkip | None) -> Values:
        """See `score_hidden_frames`."""
        return score_hidden_frames(fabric, self.predictor, source, self.recipe, on_skip)

    def facts(self, seconds: float) -> dict[str, Any]:
        """What was minimised; not how long it took: the same run gives the same file."""
        return {"objective": OBJECTIVE}
