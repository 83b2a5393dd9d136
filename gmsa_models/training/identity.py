"""What decides the weights of a run: a run that goes on with anything else would mix two, and is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmsa_models.data.errors import OnSkip, brief
from gmsa_models.data.fingerprint import fingerprint_clips, fingerprint_source
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.feeding import ClipSource, TrainingClips, in_hand
from gmsa_models.training.recipe import Recipe

__all__ = [
    "VALIDATION",
    "Identity",
    "differences",
    "identity_of",
    "identity_of_classes",
    "identity_of_weights",
]

Identity = dict[str, Any]
VALIDATION = "validation data"


def identity_of(
    task: Identity, recipe: Recipe, clips: TrainingClips, validation: ClipSource | None, on_skip: OnSkip | None
) -> Identity:
    """What a run must share with the one it goes on from, as plain values.

    Data and weights count by what is in them, see `fingerprint_source`; where the files lie does not count. Nor do
    device and kind of accelerator, which change weights by rounding only.

    Args:
        task: what of the task decides the weights, see `TrainingTask.identity`.
        recipe: of the run.
        clips: the training clips, of any process.
        validation: source of the validation clips; None: no validation.
        on_skip: takes the error of each file that cannot be read; None: it is raised.
    """
    parts = {
        **task,
        "recipe": recipe.to_dict(),
        "training data": {**_data(clips.source, on_skip), "clips": len(clips)},
        VALIDATION: None if validation is None else _data(validation, on_skip),
        "processes": clips.world_size,
    }
    if clips.part is not None:
        parts["labelled share"] = asdict(clips.part)
    return json.loads(json.dumps(parts, default=str))


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Parts in which two identities differ -> what was there and what is there now, in words."""
    return {
        name: _changed(then.get(name), now.get(name))
        for name in {**now, **then}
        if not _same(then.get(name), now.get(name))
    }


def _same(then: Any, now: Any) -> bool:
    if isinstance(then, dict) and isinstance(now, dict) and "sha256" in now:
        return then.get("sha256") == now["sha256"]  # what else is there is for the message
    return then == now


def _changed(then: Any, now: Any) -> str:
    if not isinstance(then, dict) or not isinstance(now, dict):
        return f"{_words(then)}, now {_words(now)}"
    changed = [name for name in {**now, **then} if then.get(name) != now.get(name) and name != "sha256"]
    changes = [f"{name} {brief(then.get(name))}, now {brief(now.get(name))}" for name in changed]
    return "; ".join(changes) or "of other contents"


def _words(value: Any) -> str:
    return "none" if value is None else str(value.get("source", value)) if isinstance(value, dict) else brief(value)


def _data(source: ClipSource, on_skip: OnSkip | None) -> dict[str, Any]:
    if in_hand(source):
        return {"source": "clips in hand", "sha256": fingerprint_clips(source)}
    paths = [source] if isinstance(source, str | Path) else source
    return {"source": ", ".join(map(str, paths)), "sha256": fingerprint_source(source, on_skip)}


def identity_of_classes(vocabulary: Vocabulary) -> Identity:
    """Each class as its own entry would make a message of thousands, so only their number is in it."""
    contents = json.dumps([vocabulary.dataset, vocabulary.indices, vocabulary.names])
    return {
        "dataset": vocabulary.dataset,
        "number": len(vocabulary),
        "sha256": hashlib.sha256(contents.encode()).hexdigest(),
    }


def identity_of_weights(tensors: Mapping[str, Tensor]) -> Identity:
    """SHA-256 of tensors with their names."""
    digest = hashlib.sha256()
    for name, value in tensors.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return {"sha256": digest.hexdigest()}
