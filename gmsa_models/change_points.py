"""Change points of a clip: where its features begin to be of another kind, by the least scatter inside the segments.

Why these: docs/concepts/segments.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

__all__ = ["change_points", "frame_kernel", "segmentation"]

TIES = 1e-6  # costs that differ by less are equal; the mean scatter of a frame is 1


def change_points(features: Mapping[str, Float[np.ndarray, "frames _"]], penalty: float) -> tuple[int, ...]:
    """First frames of a clip's segments: of all segmentations the one of least cost.

    Args:
        features: modality -> one vector a frame; real frames only.
        penalty: what a segment costs beside its scatter, in the mean scatter of a frame; at least 0.

    Returns:
        In order; the first is 0. The same features give the same frames.

    Source:
        Kernel change points (Harchaoui and Cappé, 2007) with a linear kernel and a price for each segment.
    """
    return segmentation(frame_kernel(features), penalty)


def frame_kernel(features: Mapping[str, Float[np.ndarray, "frames _"]]) -> Float[np.ndarray, "frames frames"]:
    """Products of each two frames, centred, scaled so that the mean square is 1 and each modality has the same say.

    A modality that stands still has no say; where all do, the kernel is 0.
    """
    frames = len(next(iter(features.values())))
    kernel, moving = np.zeros((frames, frames)), 0
    for values in features.values():
        centred = (values - values.mean(0, dtype=np.float64)).astype(np.float32)
        products = centred @ centred.T
        scatter = float(np.trace(products, dtype=np.float64)) / frames
        if scatter > TIES**2 * float(np.square(values, dtype=np.float64).sum()) / frames:  # beyond rounding
            kernel += products / scatter
            moving += 1
    return kernel / max(1, moving)


def segmentation(kernel: Float[np.ndarray, "frames frames"], penalty: float) -> tuple[int, ...]:
    """First frames of the segments whose scatter and penalties add up to least, exactly.

    Of segmentations that cost the same the one whose last segment is longest is taken, then the one whose last but
    one is, and so on: frames that are all alike are one segment, whatever the penalty.

    Args:
        kernel: products of each two frames; the scatter of a segment is the sum of its squares, less the sum of all its
            products by its length.
        penalty: of each segment.

    Source:
        Jackson et al. (2005), optimal partitioning.
    """
    frames = len(kernel)
    squares = np.concatenate([[0.0], np.cumsum(np.diagonal(kernel))])
    sums = np.zeros((frames + 1, frames + 1))
    kernel.cumsum(0).cumsum(1, out=sums[1:, 1:])
    corners, lengths = np.ascontiguousarray(np.diagonal(sums)), np.arange(frames, 0, -1)
    least, last = np.zeros(frames + 1), np.zeros(frames + 1, dtype=int)
    for stop in range(1, frames + 1):
        products = corners[stop] + corners[:stop] - 2 * sums[stop, :stop]  # of the segment from each start to here
        costs = least[:stop] - squares[:stop] - products / lengths[frames - stop :]
        last[stop] = start = int((costs <= costs.min() + TIES).argmax())
        least[stop] = costs[start] + squares[stop] + penalty
    starts = [int(last[frames])]
    while starts[-1]:
        starts.append(int(last[starts[-1]]))
    return tuple(reversed(starts))
