"""Pictures as image models take them: cut and resized."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from analysis.features.extractor import Picture

__all__ = ["central_square"]


def central_square(picture: Picture, side: int, share: float) -> UInt8[np.ndarray, "side side 3"]:
    """The middle of a picture, resized (bicubic).

    Args:
        picture: of any size.
        side: pixels of the result.
        share: of the picture's shorter side that is kept, above 0, at most 1.
    """
    height, width = picture.shape[:2]
    kept = share * min(height, width)
    left, top = (width - kept) / 2, (height - kept) / 2
    image = Image.fromarray(picture).resize(
        (side, side), Image.Resampling.BICUBIC, (left, top, left + kept, top + kept)
    )
    return np.asarray(image)
