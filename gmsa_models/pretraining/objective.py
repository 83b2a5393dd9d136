"""What pretraining minimises."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from gmsa_models.data.batch import ShotFrames
from gmsa_models.feeding import widen
from gmsa_models.pretraining.errors_of_frames import squared_errors
from gmsa_models.pretraining.model import FramePredictor

__all__ = ["HiddenFrames"]


class HiddenFrames(nn.Module):
    """Batch tensors -> the loss; one module, so that Fabric casts its inputs and DDP averages its gradient."""

    def __init__(self, predictor: FramePredictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(
        self,
        features: dict[str, Shaped[Tensor, "batch frames _"]],
        valid: Bool[Tensor, "batch frames"],
        hidden: Bool[Tensor, "batch frames"],
        shots: ShotFrames = (),
    ) -> Float[Tensor, ""]:
        """Squared error of hidden frames over that of their clip's mean, the mean over the streams.

        1: as good as the mean of the clip; 0: exact. A stream in which no hidden frame differs from the mean of its
        clip adds nothing.
        """
        floats = {name: widen(values, valid).to(self.predictor.dtype) for name, values in features.items()}
        errors = squared_errors(self.predictor(floats, valid, hidden, shots), floats, valid, hidden)
        parts = [_ratio(each.model, _of_all_processes(each.mean)) for each in errors.values()]
        return torch.stack(parts).mean()


def _ratio(error: Float[Tensor, ""], reference: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """0 where the reference is; the error keeps its gradient either way."""
    known = reference > 0
    return error * torch.where(known, 1 / torch.where(known, reference, 1), 0)


def _of_all_processes(value: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The mean over processes, so that averaged gradients are those of the whole batch."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    shared = value.detach().clone()
    distributed.all_reduce(shared)
    return shared / distributed.get_world_size()
