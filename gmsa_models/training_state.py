"""The state of an unfinished run: enough to go on to the same weights as if it had never stopped."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gmsa_models.data.atomic import replaced_when_done
from gmsa_models.training_identity import VALIDATION, Identity, differences


class ResumeError(ValueError):
    """A folder that holds another run, or one that cannot be gone on with."""


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
    """SHA-256 of parts of a run: what a state of an earlier version says of its run."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def save_state(path: Path, run: Identity, progress: Progress, tensors: dict[str, Any]) -> None:
    """Write the state, whole or not at all.

    Args:
        path: where to.
        run: what decides the run's weights, see `identity_of`.
        progress: how far it has come.
        tensors: state dicts, by name.

    Raises:
        OSError: it cannot be written; the message says why.
    """
    data = io.BytesIO()  # a file that cannot be written is a RuntimeError of torch's, without the reason
    torch.save({"run": run, "progress": asdict(progress), "tensors": tensors}, data)
    with replaced_when_done(path) as temporary:
        temporary.write_bytes(data.getbuffer())


def load_state(path: Path, run: Identity, earlier: str) -> tuple[Progress, dict[str, Any]] | None:
    """Read a state back; None where there is none.

    Args:
        path: of the state.
        run: what it must be the state of. A finished run that had no validation may be given validation data.
        earlier: the `fingerprint` of the same run, for a state of an earlier version.

    Raises:
        ResumeError: the state is another run's, or cannot be read; the message says in what they differ.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        progress, tensors, found = Progress(**state["progress"]), state["tensors"], state["run"]
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ResumeError(f"{path}: cannot be read ({reason}); {_elsewhere(path)}") from error
    if isinstance(found, str):
        if found != earlier:
            raise ResumeError(
                f"{path}: of a run with another model, initial weights, recipe or number of training clips (an earlier "
                f"version wrote it, and not in which of them they differ); {_elsewhere(path)}"
            )
    elif differing := _refused(found, run, progress.finished):
        told = "; ".join(f"{name} ({changed})" for name, changed in differing.items())
        raise ResumeError(f"{path.parent} holds a run with other {told}; {_remedy(path, differing, progress)}")
    return progress, tensors


def _refused(found: Identity, run: Identity, finished: bool) -> dict[str, str]:
    """Differences, but for validation data that a finished run is to be scored on."""
    differing = differences(found, run)
    if finished and found[VALIDATION] is None:
        differing.pop(VALIDATION, None)
    return differing


def _remedy(path: Path, differing: dict[str, str], progress: Progress) -> str:
    if progress.finished and set(differing) == {VALIDATION}:
        model = path.parent / "model.safetensors"
        return f"it is finished: gmsa evaluate --model {model} --data ... scores it on other data"
    return f"give what it was begun with, or {_elsewhere(path)}"


def _elsewhere(path: Path) -> str:
    return f"choose another folder (--out), or remove {path.parent} to start again"
