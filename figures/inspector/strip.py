"""The frame strip: small pictures where the record has them, else a colour a frame, alike where frames are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gmsa_models.data.video.thumbnails import Thumbnails

__all__ = ["record_thumbnails", "strip_colours"]


def strip_colours(similarity: np.ndarray) -> np.ndarray:
    """A colour a frame, so that frames whose features point the same way look the same.

    The three leading axes of the centred similarities (classical scaling) become lightness and the two opponent
    colours of OKLab; each axis spans its own range, so colours compare frames of one clip, not clips.

    Args:
        similarity: cosines (frames, frames); NaN for a frame without direction, which becomes grey.

    Returns:
        sRGB bytes (frames, 3).
    """
    frames = len(similarity)
    known = np.isfinite(similarity.diagonal())
    colours = np.full((frames, 3), 128, np.uint8)
    if known.sum() < 2:
        return colours
    kept = np.asarray(similarity, np.float64)[np.ix_(known, known)]
    axes = _leading_axes(np.nan_to_num(kept))
    lightness = 0.62 + 0.2 * axes[0]
    colours[known] = _srgb(np.stack([lightness, 0.12 * axes[1], 0.12 * axes[2]], axis=1))
    return colours


def _leading_axes(similarity: np.ndarray) -> np.ndarray:
    """Three axes (3, frames) in [-1, 1]; by subspace iteration, since only three of up to 1,000 are wanted."""
    centred = similarity - similarity.mean(0) - similarity.mean(1)[:, None] + similarity.mean()
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((len(centred), 6)))[0]
    for _ in range(12):
        basis = np.linalg.qr(centred @ basis)[0]
    values, turned = np.linalg.eigh(basis.T @ centred @ basis)
    order = np.argsort(values)[::-1][:3]
    # An axis that nothing lies along is noise: it gets no colour.
    axes = ((basis @ turned)[:, order] * (values[order] > 1e-6 * max(values.max(), 1e-12))).T
    axes = np.pad(axes, ((0, 3 - len(axes)), (0, 0)))
    # An axis has no sign of its own: the frame farthest out is made positive, so the colours never flip.
    farthest = axes[np.arange(3), np.abs(axes).argmax(1)]
    axes = axes * np.where(farthest < 0, -1.0, 1.0)[:, None]
    return np.clip(axes / np.maximum(np.quantile(np.abs(axes), 0.98, axis=1), 1e-9)[:, None], -1.0, 1.0)


def _srgb(oklab: np.ndarray) -> np.ndarray:
    """OKLab (n, 3) to sRGB bytes. Source: Ottosson, "A perceptual color space for image processing", 2020."""
    lightness, a, b = oklab.T
    cones = np.stack([
        lightness + 0.3963377774 * a + 0.2158037573 * b,
        lightness - 0.1055613458 * a - 0.0638541728 * b,
        lightness - 0.0894841775 * a - 1.2914855480 * b,
    ]) ** 3  # fmt: skip
    linear = np.array([
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]) @ cones  # fmt: skip
    linear = np.clip(linear, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded.T).astype(np.uint8)


def record_thumbnails(thumbnails: np.ndarray) -> Thumbnails:
    """The small pictures of a record on one sheet.

    Args:
        thumbnails: sRGB bytes (frames, height, width, 3).
    """
    from gmsa_models.data.video.thumbnails import ThumbnailSheet

    sheet = ThumbnailSheet(len(thumbnails))
    for pixels in thumbnails:
        sheet.add(np.asarray(pixels, np.uint8))
    return sheet.encoded()
