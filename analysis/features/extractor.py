"""What an extractor of features gives: the space of its vectors, and the vectors of some frames of a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from gmsa_models.data.spaces import FeatureSpace

__all__ = ["AudioExtractor", "Picture", "VisualExtractor"]

Picture = UInt8[np.ndarray, "height width 3"]


@runtime_checkable
class VisualExtractor(Protocol):
    """Makes vectors of pictures.

    Attributes:
        space: of its vectors, without a rate.
        pictures: how many of a frame's seconds it takes, evenly spaced from the frame's start; 1 for image models.
        quantized: whether its vectors are stored as uint8, as YouTube-8M's are.
    """

    space: FeatureSpace
    pictures: int
    quantized: bool

    def __call__(self, pictures: Sequence[Picture]) -> Float[np.ndarray, "frames dim"]:
        """One vector for each frame.

        Args:
            pictures: of some frames in order, `pictures` for each; of any size, one size throughout.
        """


@runtime_checkable
class AudioExtractor(Protocol):
    """Makes vectors of sound.

    Attributes:
        space: of its vectors, without a rate.
        window: samples of sound that a frame's vector is made of, from the frame's start on; None: the frame's own.
        quantized: whether its vectors are stored as uint8, as YouTube-8M's are.
    """

    space: FeatureSpace
    window: int | None
    quantized: bool

    def __call__(self, windows: Float[np.ndarray, "frames samples"]) -> Float[np.ndarray, "frames dim"]:
        """One vector for each frame.

        Args:
            windows: sound of each frame, 16,000 samples a second in [-1, 1].
        """
