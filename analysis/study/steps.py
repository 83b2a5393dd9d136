"""How long one training step takes, family beside family in one run."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr

from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.batch import Batch

__all__ = ["step_seconds"]

CLIPS, FRAMES, REPEATS = 4, 300, 3


def step_seconds(models: Mapping[str, GMSAClassifier], repeats: int = REPEATS) -> xr.Dataset:
    """Fastest of some training steps (forward, backward, update) of each model, the models taking turns.

    The batch is noise: what it holds changes no time. Copies are trained, so the models stay as they are.

    Args:
        models: family -> model.
        repeats: measured steps a model, after one that is not.

    Returns:
        `seconds` (family) of one step with `CLIPS` clips of `FRAMES` frames (or the most that a model takes).
    """
    steppers = {name: _Stepper(model) for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(repeats + 1):
        for name, stepper in steppers.items():
            began = time.perf_counter()
            stepper.step()
            if turn:
                times[name].append(time.perf_counter() - began)
    seconds = [min(each) for each in times.values()]
    return xr.Dataset({"seconds": ("family", np.array(seconds))}, {"family": np.array(list(models))})


class _Stepper:
    def __init__(self, model: GMSAClassifier) -> None:
        generator = torch.Generator().manual_seed(0)
        frames, weight = min(FRAMES, model.config.max_frames), next(model.parameters())
        self.model = copy.deepcopy(model).train().requires_grad_(True)
        self.batch = Batch(
            {m: torch.randn(CLIPS, frames, width, generator=generator) for m, width in model.config.modalities.items()},
            torch.ones(CLIPS, frames, dtype=torch.bool),
            torch.zeros(CLIPS, model.config.classes),
        ).to(weight.device, weight.dtype)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def step(self) -> None:
        self.optimiser.zero_grad()
        logits, labels = self.model(self.batch), self.batch.labels
        assert labels is not None  # as made above
        torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits)).backward()
        self.optimiser.step()
