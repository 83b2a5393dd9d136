"""The state of an unfinished run: enough to go on to the same weights as if it had never stopped."""

from __future__ import annotations

import hashlib
import io
import json
import math
import pickletools
import re
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.atomic import replaced_when_done
from gmsa_models.errors import TrainingError
from gmsa_models.training.identity import VALIDATION, Identity, differences
from gmsa_models.training.recipe import Recipe

__all__ = ["TrainingProgress", "earlier_fingerprint", "fingerprint", "load_state", "save_state"]

# What the pickle in a state may name; of what torch allows beside, some makes gigabytes of a few bytes.
_NAMED = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch \w+Storage|torch\.storage \w+Storage"
)
_LONGEST_PICKLE = 1 << 24


@dataclass
class TrainingProgress:
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


def earlier_fingerprint(model: GMSAClassifier, recipe: Recipe, clips: int) -> str:
    """What a state of an earlier version says of a run with these initial weights and so many training clips."""
    start = sum(float(parameter.detach().double().abs().sum()) for parameter in model.parameters())
    return fingerprint(recipe=recipe.to_dict(), config=model.config.to_dict(), clips=clips, start=start)


def save_state(path: Path, run: Identity, progress: TrainingProgress, tensors: dict[str, Any]) -> None:
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


def load_state(path: Path, run: Identity, earlier: str) -> tuple[TrainingProgress, dict[str, Any], bool] | None:
    """Read a state back; None where there is none.

    Args:
        path: of the state.
        run: what it must be the state of. A finished run that had no validation may be given validation data.
        earlier: the `fingerprint` of the same run, for a state of an earlier version.

    Returns:
        How far it has come, its state dicts by name, and whether it says that it had the validation data of `run`.

    Raises:
        TrainingError: the state is another run's, or cannot be read; the message says in what they differ.
    """
    if not path.exists():
        return None
    try:
        _check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        progress, tensors, earlier_run = TrainingProgress(**state["progress"]), state["tensors"], state["run"]
        _check_progress(progress)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise TrainingError(f"{path}: cannot be read ({reason}); {_elsewhere(path)}") from error
    if isinstance(earlier_run, str):
        if earlier_run != earlier:
            raise TrainingError(
                f"{path}: of a run with another model, initial weights, recipe or number of training clips (an earlier "
                f"version wrote it, and not in which of them they differ); {_elsewhere(path)}"
            )
    elif differing := _refused(earlier_run, run, progress.finished):
        changes = "; ".join(f"{name} ({changed})" for name, changed in differing.items())
        raise TrainingError(f"{path.parent} holds a run with other {changes}; {_remedy(path, differing, progress)}")
    return progress, tensors, isinstance(earlier_run, dict) and not differences(earlier_run, run)


def _check_progress(progress: TrainingProgress) -> None:
    for name, value in asdict(progress).items():
        known = isinstance(value, bool) if name == "finished" else isinstance(value, int | float) and value >= 0
        if name == "best":  # a share of variance that is explained can be negative
            known = value is None or (isinstance(value, int | float) and math.isfinite(value))
        if not known:
            raise ValueError(f"its {name} is {value!r:.100}")


def _check_archive(path: Path) -> None:
    """Refuse what `save_state` does not write, and tensors larger than the file, before any is made.

    Raises:
        ValueError: says what is there.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
        if sum(member.file_size for member in members) > size or any(member.compress_type for member in members):
            raise ValueError("its parts are packed, or larger than the file")
        pickles = [member for member in members if member.filename.endswith(".pkl")]
        if len(pickles) != 1 or pickles[0].file_size > _LONGEST_PICKLE:
            raise ValueError(f"{len(pickles)} pickles, or one of over {_LONGEST_PICKLE} bytes; expected one")
        for operation, named, _ in pickletools.genops(file.read(pickles[0])):
            if "GLOBAL" in operation.name and not _NAMED.fullmatch(str(named)):
                raise ValueError(f"it names {named!r:.100}, which a state does not hold")
    described = torch.load(path, map_location="meta", weights_only=True)
    if (claimed := sum(each.nbytes for each in _tensors(described))) > size:
        raise ValueError(f"{size} bytes that claim tensors of {claimed}")


def _tensors(value: object) -> list[torch.Tensor]:
    """Every tensor in nested dicts and lists."""
    result: list[torch.Tensor] = []
    waiting: list[object] = [value]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, torch.Tensor):
            result.append(one)
        elif isinstance(one, dict | list | tuple) and id(one) not in seen:
            seen.add(id(one))
            waiting += one.values() if isinstance(one, dict) else one
    return result


def _refused(earlier: Identity, run: Identity, finished: bool) -> dict[str, str]:
    """Differences, but for validation data that a finished run is to be scored on."""
    differing = differences(earlier, run)
    if finished and earlier[VALIDATION] is None:
        differing.pop(VALIDATION, None)
    return differing


def _remedy(path: Path, differing: dict[str, str], progress: TrainingProgress) -> str:
    if progress.finished and set(differing) == {VALIDATION}:
        model = path.parent / "model.safetensors"
        return f"it is finished: gmsa evaluate --model {model} --data ... scores it on other data"
    return f"give what it was begun with, or {_elsewhere(path)}"


def _elsewhere(path: Path) -> str:
    return f"choose another folder (--out), or remove {path.parent} to start again"
