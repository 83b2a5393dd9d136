"""What training minimises, and over which parameters."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.batch import Batch, ShotFrames
from gmsa_models.feeding import widen

__all__ = ["Objective", "parameter_groups"]


class Objective(nn.Module):
    """Batch tensors -> the loss; one module, so that Fabric casts its inputs and DDP averages its gradient."""

    def __init__(self, model: GMSAClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        features: dict[str, Shaped[Tensor, "batch frames _"]],
        valid: Bool[Tensor, "batch frames"],
        labels: Float[Tensor, "batch classes"],
        shots: ShotFrames = (),
    ) -> Float[Tensor, ""]:
        """Binary cross-entropy, summed over classes, averaged over clips, in at least float32."""
        dtype = self.model.classifier.weight.dtype
        floats = {name: widen(values, valid).to(dtype) for name, values in features.items()}
        logits = self.model(Batch(floats, valid, shots=shots))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        labels = labels.to(logits.dtype)
        return nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(logits)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices only."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [one for one in parameters if one.ndim >= 2], "weight_decay": weight_decay},
        {"params": [one for one in parameters if one.ndim < 2], "weight_decay": 0.0},
    ]
