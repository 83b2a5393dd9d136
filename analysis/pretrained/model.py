"""A transformers model from a folder, ready to run over the windows of a clip, and what a record says of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analysis.capture import load_pretrained
from analysis.pretrained.windows import OverWindows
from analysis.view import ModelNote

__all__ = ["PretrainedModel", "open_pretrained", "without_progress"]

CLASSIFIERS = "Classification"  # how the names of classes with one score a class and clip end
# Model type -> the part of a model without such scores that is run; of others their base model.
ENCODERS = {"whisper": "get_encoder", "clip": "vision_model"}
HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, eq=False)
class PretrainedModel:
    """A model from a folder.

    Attributes:
        folder: where it came from.
        module: what is run; in float32 where the file is in half precision.
        note: what records say of it.
        activation: what turns its logits into probabilities: "softmax" or "sigmoid".
    """

    folder: Path
    module: OverWindows
    note: ModelNote
    activation: str


def open_pretrained(folder: str | Path, device: torch.device) -> PretrainedModel:
    """Load a model and move it to a device.

    Raises:
        CaptureError: see `load_pretrained`.
    """
    folder = Path(folder)
    with without_progress():
        loaded: Any = load_pretrained(folder)
    stored = next(loaded.parameters()).dtype
    classifies = type(loaded).__name__.endswith(CLASSIFIERS)
    part = loaded if classifies else _encoder(loaded)
    part = part.float() if stored in HALF else part
    labels = getattr(loaded.config, "problem_type", None) == "multi_label_classification"
    name = folder.resolve().name
    attributes = {
        "checkpoint_name": name,
        "checkpoint_path": str(folder.resolve()),
        "checkpoint_sha256": _digest(folder),
        "model_class": type(loaded).__name__,
        "weights_type": str(stored).removeprefix("torch."),
    }
    if not classifies:
        attributes["no_predictions"] = f"{type(loaded).__name__} has no classifier"
    module = OverWindows(part, classifies).to(device).eval()
    return PretrainedModel(folder, module, ModelNote(name, attributes), "sigmoid" if labels else "softmax")


def _encoder(model: Any) -> nn.Module:
    attribute = ENCODERS.get(getattr(model.config, "model_type", ""))
    if attribute is None:
        return model.base_model
    part = getattr(model, attribute, model)
    return part if isinstance(part, nn.Module) else part()


def _digest(folder: Path) -> str:
    """SHA-256 of the weights: of the file, or of the digests of several by name."""
    each = []
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            each.append(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}")
    return each[0].split()[-1] if len(each) == 1 else hashlib.sha256("\n".join(each).encode()).hexdigest()


@contextmanager
def without_progress() -> Iterator[None]:
    """transformers draws no progress bar meanwhile."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
