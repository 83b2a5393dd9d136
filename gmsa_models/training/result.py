"""What a training run came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gmsa_models.classifier import GMSAClassifier
from gmsa_models.training.log import Values

__all__ = ["TrainingResult"]


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to.

    Attributes:
        model: the trained model, on the CPU, in evaluation mode; the saved one.
        path: the checkpoint.
        scores: its validation scores, fractions; empty without validation clips. Of a finished run that is given its
            first validation clips, or does not say which it had: the scores of the saved model on them.
        step: the step its weights are of.
        seconds: time spent, over all sittings.
        trained: False for a run that was finished before this call.
    """

    model: GMSAClassifier
    path: Path
    scores: Values
    step: int
    seconds: float
    trained: bool = True
