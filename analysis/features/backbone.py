"""Any image or video model of transformers from a folder on this machine: one vector a frame."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.capture import load_pretrained
from analysis.features.digests import file_digest, joint_digest
from analysis.features.extractor import Picture
from analysis.pretrained.model import without_progress
from analysis.pretrained.preparation import EXTRACTORS, PicturePreparation
from analysis.pretrained.video import LENGTHS
from gmsa_models.data.spaces import FeatureSpace
from gmsa_models.errors import ConfigError

__all__ = ["Backbone"]


class Backbone:
    """The model's own pooled vector where it has one, else the mean of its last hidden states.

    Pictures are prepared as the processor's configuration in the folder says. A video model gets, for each frame, as
    many pictures as it takes, evenly spaced over the frame's seconds.

    Args:
        folder: of the model, with weights in safetensors.
        device: where it runs.

    Raises:
        CaptureError, ConfigError: the model cannot be loaded, or does not take pictures.
    """

    quantized = False

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder, self.device = folder, device
        with without_progress():
            loaded: Any = load_pretrained(folder)
        self._model: Any = getattr(loaded, "vision_model", loaded.base_model).float().to(device).eval()
        config = self._model.config
        kind = getattr(config, "model_type", "")
        if kind in EXTRACTORS:
            raise ConfigError(f"{folder}: a {kind} model hears sound; expected one of pictures")
        self._prepare = PicturePreparation.read(folder)
        self._video = kind in LENGTHS
        self.pictures = int(self._prepare.frames or getattr(config, LENGTHS[kind])) if self._video else 1
        width = self([np.zeros((32, 32, 3), np.uint8)] * self.pictures).shape[1]
        digests = [file_digest(path) for path in sorted(folder.glob("*.safetensors"))]
        prepared = json.dumps(dict(self._prepare.values), sort_keys=True, default=str)
        name = f"transformers-{type(self._model).__name__}"
        self.space = FeatureSpace(name, width, weights=joint_digest([*digests, prepared]))

    def __call__(self, pictures: Sequence[Picture]) -> Float[np.ndarray, "frames dim"]:
        """One vector for each frame."""
        values = self._prepare(pictures).to(self.device)
        if self._video:
            values = values.unflatten(0, (-1, self.pictures))
        return self._pooled(values).cpu().numpy()

    @torch.inference_mode()
    def _pooled(self, values: Float[Tensor, "frames ..."]) -> Float[Tensor, "frames dim"]:
        try:
            output = self._model(**{self._model.main_input_name: values})
        except (TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{self.folder}: the model does not take pictures alone: {reason:.300}") from None
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        hidden = getattr(output, "last_hidden_state", None)
        if hidden is None:
            raise ConfigError(f"{self.folder}: {type(self._model).__name__} gives no hidden states; expected some")
        return hidden.mean(1) if hidden.ndim == 3 else hidden.flatten(2).mean(2)
