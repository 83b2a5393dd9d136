"""Divergence: weights or states of the optimiser that are not finite, and what is left of a run that came to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gmsa_models.training.state import TrainingProgress

__all__ = ["divergence", "first_not_finite"]


def first_not_finite(
    weights: Mapping[str, Tensor], average: Mapping[str, Tensor], optimizer: Mapping[int, Mapping[str, Any]]
) -> str | None:
    """Name of the first tensor of a run's state that has a value that is not finite; None where all are finite.

    Args:
        weights: of the model, by name.
        average: of them, by name; empty without averaging.
        optimizer: what the optimiser keeps of each parameter, by the parameter's number.
    """
    averages = {f"the average of {name}": value for name, value in average.items()}
    moments = {
        f"the optimiser's {name} of parameter {number}": value
        for number, state in optimizer.items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    tensors = {**weights, **averages, **moments}
    return next((name for name, value in tensors.items() if not bool(value.isfinite().all())), None)


def divergence(what: str, progress: TrainingProgress, directory: Path, saved_step: int) -> str:
    """The message of a `TrainingError`: what is not finite, what is kept, and how to go on.

    Args:
        what: is not finite.
        progress: where the run is.
        directory: of the run.
        saved_step: the step of the last state that was saved; 0: none was.
    """
    state, best = directory / "state.pt", directory / "best.safetensors"
    kept = [f"{state} of step {saved_step}"] if saved_step else []
    kept += [] if progress.best is None else [f"{best} of step {progress.best_step}"]
    if saved_step:
        result = f"What was saved before is finite and stays ({', '.join(kept)}): the same command goes on from there"
    else:
        result = f"No state had been saved before{''.join(f'; {one} stays' for one in kept)}"
    start = "" if progress.best is None else f", which may start from fit(load({str(best)!r}), ...)"
    return (
        f"{what} by step {progress.step}: the training diverged, and nothing of it is saved. {result}. For another "
        f"result train in another folder (--out) with a lower learning_rate or a longer warmup{start}"
    )
