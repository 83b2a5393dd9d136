"""Segments of clips as neighbourhoods: found in their features, kept by content, the same alone and in a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from gmsa_models.change_points import change_points
from gmsa_models.data.clip import Clip
from gmsa_models.masks import BatchNeighbourhood, ChangePoints, Neighbourhood, Spans

__all__ = ["batch_spans", "clip_spans", "neighbourhood_of_clips", "spans_of_mask"]

# Clips whose segments are kept: a few numbers each.
MOST_KEPT = 2**16

_kept: dict[bytes, Spans] = {}


def clip_spans(clip: Clip, pattern: ChangePoints, modalities: Iterable[str] | None = None) -> Spans:
    """The segments of one clip, by the change points of its features.

    Args:
        clip: all of its frames.
        pattern: the criterion.
        modalities: which features; default: all. A model takes its own.
    """
    names = clip.features if modalities is None else modalities
    return _spans({name: clip.floats(name) for name in names}, pattern)


def batch_spans(
    features: Mapping[str, Float[Tensor, "batch frames _"]],
    valid: Bool[Tensor, "batch frames"] | None,
    pattern: ChangePoints,
) -> tuple[Spans, ...]:
    """The segments of each clip of a batch, by its real frames; those that `clip_spans` finds in the clip alone.

    Args:
        features: of the modalities by which they are found; no gradient passes.
        valid: True where a frame is real; None: everywhere.
        pattern: the criterion.
    """
    arrays = {name: values.detach().float().cpu().numpy() for name, values in features.items()}
    rows = range(len(next(iter(arrays.values()))))
    real = [slice(None)] * len(rows) if valid is None else list(valid.cpu().numpy())
    return tuple(_spans({name: values[row][real[row]] for name, values in arrays.items()}, pattern) for row in rows)


def neighbourhood_of_clips(
    pattern: Neighbourhood, clips: Sequence[Clip], modalities: Iterable[str]
) -> BatchNeighbourhood:
    """A neighbourhood as it is in some clips: one for all, unless their segments differ.

    Args:
        pattern: of any kind.
        clips: at least one.
        modalities: by whose features segments are found; those that a clip lacks are left out.
    """
    if not isinstance(pattern, ChangePoints):
        return pattern
    names = tuple(modalities)
    chosen = [[name for name in names if name in clip.features] or None for clip in clips]
    return alike([clip_spans(clip, pattern, some) for clip, some in zip(clips, chosen, strict=True)])


def alike(each: Sequence[Spans]) -> Spans | tuple[Spans, ...]:
    """One for all clips where they do not differ."""
    return each[0] if len(set(each)) == 1 else tuple(each)


def spans_of_mask(mask: Bool[Tensor, "*clips query key"]) -> Spans | tuple[Spans, ...]:
    """The segments whose mask it is, of all clips or of each: one begins where a frame does not see the one before."""
    if mask.ndim == 3:
        return tuple(Spans(_starts(each)) for each in mask)
    return Spans(_starts(mask))


def _starts(mask: Bool[Tensor, "query key"]) -> tuple[int, ...]:
    return (0, *(int(frame) + 1 for frame in (~mask.diagonal(1)).nonzero()[:, 0]))


def _spans(features: Mapping[str, Float[np.ndarray, "frames _"]], pattern: ChangePoints) -> Spans:
    key = hashlib.blake2b(f"{pattern.penalty}".encode(), digest_size=16)
    for values in features.values():
        key.update(f" {values.shape} ".encode() + np.ascontiguousarray(values).tobytes())
    if (digest := key.digest()) not in _kept:
        if len(_kept) >= MOST_KEPT:
            _kept.clear()
        _kept[digest] = Spans(change_points(features, float(pattern.penalty)))
    return _kept[digest]
