"""Controls: what an explanation must beat to be worth anything."""

from __future__ import annotations

import zlib

import torch

from analysis.explanations.explanation import Explanation
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip

__all__ = ["mean_frame_similarity", "random_order"]


def random_order(model: GMSAClassifier, clip: Clip, target: int, *, seed: int = 0) -> Explanation:
    """Uniform random numbers in [0, 1), other ones in each clip.

    Args:
        model: whose modalities are named.
        clip: cut to the model's longest.
        target: only noted.
        seed: with the clip's id, decides the numbers.
    """
    names, frames = tuple(model.encoders), min(clip.frames, model.config.max_frames)
    # Of a seed torch takes 32 bits; the checksum goes on from `seed`, so that 0 is the checksum of the id alone.
    generator = torch.Generator().manual_seed(zlib.crc32(clip.id.encode(), seed))
    values = torch.rand(len(names), frames, generator=generator, dtype=torch.float32)
    return Explanation("random", target, values, names)


def mean_frame_similarity(model: GMSAClassifier, clip: Clip, target: int) -> Explanation:
    """Cosine of each frame with the clip's mean frame; it knows neither the model nor the class. 0 for frames of zeros.

    Args:
        model, clip, target: see `random_order`.
    """
    short, names = clip.cut(model.config.max_frames), tuple(model.encoders)
    frames = [torch.from_numpy(short.floats(name)) for name in names]
    values = [torch.cosine_similarity(each, each.mean(0, keepdim=True), dim=1) for each in frames]
    return Explanation("mean-frame-similarity", target, torch.stack(values), names)
