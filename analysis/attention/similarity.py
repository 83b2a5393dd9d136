"""Similarity: frames against frames, and one representation against another."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gmsa_models.errors import ArgumentError

__all__ = ["frame_centred_cosine_similarity", "frame_cosine_similarity", "linear_cka"]

# Rounding leaves about this many units in the last place when a constant clip loses its mean.
ROUNDING = 16.0


def frame_cosine_similarity(
    features: Float[Tensor, "*batch frames dim"],
) -> Float[Tensor, "*batch frames frames"]:
    """Cosine similarity of every pair of frames.

    Symmetric, unit diagonal, unchanged when a frame is scaled by a positive factor.

    Args:
        features: one vector a frame, in temporal order; any unit.

    Returns:
        Similarities in [-1, 1], on the device of `features`; half precision is widened to float32.

    Raises:
        ArgumentError (a ValueError): a frame whose norm is zero or not finite; the message names the first.
    """
    features = _widen(features)
    largest = _largest(features)
    _require(largest > 0, "has norm 0", "a direction, so a norm above 0")
    return _cosines(features / largest)


def frame_centred_cosine_similarity(
    features: Float[Tensor, "*batch frames dim"],
) -> Float[Tensor, "*batch frames frames"]:
    """Cosine similarity of frames after the clip's mean frame is taken from each.

    What all frames share (a logo, a tone) no longer counts: 1 means that two frames depart from the mean in the same
    way. Symmetric, unit diagonal, unchanged when one vector is added to all frames or all frames are scaled alike.
    A constant clip (every frame the same, so also a clip of one frame) departs nowhere from its mean and is refused.

    Args:
        features: one vector a frame, in temporal order; any unit.

    Returns:
        Similarities in [-1, 1]; half precision is widened to float32.

    Raises:
        ArgumentError (a ValueError): a frame that is not finite, or that equals the mean frame to rounding; names the
            first, and says so when the clip is constant.
    """
    centred, apart = _centre(_widen(features))
    constant = bool((~apart).all(dim=-2).any())
    why = "equals the clip's mean frame" + (" (the clip is constant)" if constant else "")
    _require(apart, why, "frames that differ from their mean")
    return _cosines(centred / centred.abs().amax(dim=-1, keepdim=True))


def linear_cka(
    first: Float[Tensor, "*batch frames first_dim"],
    second: Float[Tensor, "*batch frames second_dim"],
) -> Float[Tensor, "*batch"]:
    """Linear centred kernel alignment: how alike two representations of the same frames are.

    Unchanged when either side is rotated, shifted or scaled as a whole; the two widths may differ.

    Args:
        first: one vector a frame (a head's context, a layer's output, a model's).
        second: the same frames, represented otherwise.

    Returns:
        Values in [0, 1]; 1 = the same up to rotation and scale. Half precision is widened to float32.

    Raises:
        ArgumentError (a ValueError): a frame that is not finite; names it. A side that is constant over the frames.

    Source:
        Kornblith, Norouzi, Lee and Hinton, "Similarity of Neural Network Representations Revisited", ICML 2019:
        ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F) for centred X, Y; here by their frame-by-frame Gram matrices.
    """
    grams = [_centred_gram(_widen(side), name) for side, name in ((first, "first"), (second, "second"))]
    shared = torch.promote_types(grams[0].dtype, grams[1].dtype)
    one, two = (gram.to(shared).flatten(-2) for gram in grams)
    return torch.nn.functional.cosine_similarity(one, two, dim=-1, eps=0.0).clamp(0.0, 1.0)


def _centred_gram(features: Float[Tensor, "*batch frames dim"], name: str) -> Float[Tensor, "*batch frames frames"]:
    """Inner products of centred frames, scaled so that the largest component is 1 (CKA ignores scale)."""
    centred, apart = _centre(features, f"{name} representation: ")
    if not bool(apart.any(dim=-2).all()):
        raise ArgumentError(f"{name} representation: constant over its {features.shape[-2]} frames; CKA is undefined")
    centred = centred / centred.abs().amax(dim=(-2, -1), keepdim=True)
    return centred @ centred.mT


def _widen(features: Float[Tensor, "*batch frames dim"]) -> Float[Tensor, "*batch frames dim"]:
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features


def _largest(features: Float[Tensor, "*batch frames dim"], prefix: str = "") -> Float[Tensor, "*batch frames 1"]:
    """Largest component of each frame, for division before any square is taken: no overflow, no underflow."""
    largest = features.abs().amax(dim=-1, keepdim=True)
    _require(largest.isfinite(), "is not finite (nan or inf)", "finite numbers", prefix)
    return largest


def _centre(
    features: Float[Tensor, "*batch frames dim"], prefix: str = ""
) -> tuple[Float[Tensor, "*batch frames dim"], Bool[Tensor, "*batch frames 1"]]:
    """Frames less their mean, and which of them differ from it by more than rounding."""
    largest = _largest(features, prefix).amax(dim=-2, keepdim=True)
    centred = features - features.mean(dim=-2, keepdim=True)
    rounding = ROUNDING * torch.finfo(features.dtype).eps
    return centred, centred.abs().amax(dim=-1, keepdim=True) > rounding * largest


def _cosines(features: Float[Tensor, "*batch frames dim"]) -> Float[Tensor, "*batch frames frames"]:
    unit = torch.nn.functional.normalize(features, dim=-1)
    similarity = (unit @ unit.mT).clamp(-1.0, 1.0)
    # Matrix products round differently above and below the diagonal; the definition does not.
    similarity = (similarity + similarity.mT) / 2
    similarity.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    return similarity


def _require(good: Tensor, problem: str, expected: str, prefix: str = "") -> None:
    """Raise for the first frame, in order, where `good` (..., frames, 1) is False."""
    if bool(good.all()):
        return
    *batch, frame, _ = (~good).nonzero()[0].tolist()
    where = f"frame {frame}" + (f" of batch entry {tuple(batch)}" if batch else "")
    raise ArgumentError(f"{prefix}{where} {problem}; expected {expected}")
