"""The state of an unfinished run: enough to go on to the same weights as if it had never stopped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gmsa_models.data.atomic import replaced_when_done


class ResumeError(ValueError):
    """A run directory that belongs to another run, or whose state cannot be read."""


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: optimiser steps done.
        epoch: passes over the clips done.
        batch: mini-batches of this epoch done.
        seconds: spent so far, over all sittings.
        best: highest validation score so far, or None.
        best_step: where it was.
        stale: validations since.
        finished: the run needs no more steps.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    finished: bool = False


def fingerprint(**parts: Any) -> str:
    """SHA-256 of what a run must share with the one it goes on from."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def save_state(path: Path, run: str, progress: Progress, tensors: dict[str, Any]) -> None:
    """Write the state, whole or not at all.

    Args:
        path: where to.
        run: the run's `fingerprint`.
        progress: how far it has come.
        tensors: state dicts, by name.
    """
    with replaced_when_done(path) as temporary:
        torch.save({"run": run, "progress": asdict(progress), "tensors": tensors}, temporary)


def load_state(path: Path, run: str) -> tuple[Progress, dict[str, Any]] | None:
    """Read a state back; None where there is none.

    Raises:
        ResumeError: the state is another run's, or cannot be read.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        progress, tensors, found = Progress(**state["progress"]), state["tensors"], state["run"]
    except Exception as error:
        raise ResumeError(f"{path}: cannot be read ({error}); delete it to start again") from error
    if found != run:
        raise ResumeError(
            f"{path}: of a run with another model, initial weights, recipe or training data; choose another directory, "
            "or delete this file"
        )
    return progress, tensors
