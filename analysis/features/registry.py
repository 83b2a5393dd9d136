"""Extractors by name: what `--visual` and `--audio` of `gmsa features` take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

from analysis.features.extractor import AudioExtractor, VisualExtractor
from gmsa_models.data.errors import brief
from gmsa_models.data.spaces import FeatureSpace
from gmsa_models.errors import ArgumentError, UnknownNameError

__all__ = ["AUDIO", "VISUAL", "Known", "name_of_space", "open_audio", "open_visual"]

Extractor = TypeVar("Extractor")


@dataclass(frozen=True)
class Known(Generic[Extractor]):
    """An extractor that can be named.

    Attributes:
        opened: (path of its weights, device) -> the extractor; the path is "" where none is given.
        space: how the name of its feature space begins.
        weights: what the path names; "" for one that takes none.
    """

    opened: Callable[[str, torch.device], Extractor]
    space: str
    weights: str = ""


def _efficientnet(path: str, device: torch.device) -> VisualExtractor:
    from analysis.features.efficientnet import EfficientNetLite0

    return EfficientNetLite0(device)


def _backbone(path: str, device: torch.device) -> VisualExtractor:
    from analysis.features.backbone import Backbone

    return Backbone(Path(path), device)


def _inception(path: str, device: torch.device) -> VisualExtractor:
    from analysis.features.youtube_8m import Inception

    return Inception(Path(path), device)


def _log_mel(path: str, device: torch.device) -> AudioExtractor:
    from analysis.features.log_mel import LogMel

    return LogMel()


def _yamnet(path: str, device: torch.device) -> AudioExtractor:
    from analysis.features.yamnet import YamNet

    return YamNet(Path(path), device)


def _vggish(path: str, device: torch.device) -> AudioExtractor:
    from analysis.features.youtube_8m import VGGish

    return VGGish(Path(path), device)


VISUAL: dict[str, Known[VisualExtractor]] = {
    "efficientnet-lite0": Known(_efficientnet, "efficientnet-lite0-pooled"),
    "transformers": Known(_backbone, "transformers-", "the folder of an image or video model"),
    "youtube-8m": Known(_inception, "youtube-8m-rgb", "a folder with Inception of 2015 and YouTube-8M's PCA"),
}
AUDIO: dict[str, Known[AudioExtractor]] = {
    "log-mel": Known(_log_mel, "log-mel-64-mean-deviation"),
    "yamnet": Known(_yamnet, "yamnet-embedding", "yamnet_audio_classifier_with_metadata.tflite"),
    "vggish": Known(_vggish, "vggish-pca", "a folder with the weights of VGGish and its PCA"),
}


def open_visual(text: str, device: torch.device) -> VisualExtractor:
    """The extractor of pictures that a text names.

    Args:
        text: a key of `VISUAL`, with the path of its weights where it takes some: NAME or NAME=PATH.
        device: where it runs.

    Raises:
        UnknownNameError: another name.
        ArgumentError: a path that is missing, or one too many.
        ConfigError, CaptureError, ImportError, OSError: weights that cannot be loaded.
    """
    return _opened(VISUAL, text, device, "--visual")


def open_audio(text: str, device: torch.device) -> AudioExtractor:
    """The extractor of sound that a text names; as `open_visual`, with a key of `AUDIO`."""
    return _opened(AUDIO, text, device, "--audio")


def name_of_space(space: FeatureSpace) -> tuple[str, str]:
    """The extractor that makes vectors of a space, and what weights it takes ("" for none).

    Raises:
        UnknownNameError: none is known.
    """
    for known in (VISUAL, AUDIO):
        for name, each in known.items():
            if space.name.startswith(each.space):
                return name, each.weights
    raise UnknownNameError(
        f"no extractor makes features of the space {space}; known: {', '.join([*VISUAL, *AUDIO])}: make them yourself, "
        "as an array file"
    )


def _opened(known: dict[str, Known[Extractor]], text: str, device: torch.device, option: str) -> Extractor:
    name, _, path = text.partition("=")
    if name not in known:
        raise UnknownNameError(f"unknown extractor {brief(name)}; {option} knows: {', '.join(known)}")
    entry = known[name]
    if entry.weights and not path:
        raise ArgumentError(f"{name} needs {entry.weights}: give {option} {name}=PATH")
    if path and not entry.weights:
        raise ArgumentError(f"{name} takes no weights; received {brief(path)}: give {option} {name}")
    return entry.opened(path, device)
