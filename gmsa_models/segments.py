"""Segments of clips as neighbourhoods: found in their features, or their shots; the same alone and in a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from gmsa_models.change_points import change_points
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Clip
from gmsa_models.data.errors import UnfitClipError, brief
from gmsa_models.masks import BatchNeighbourhood, ChangePoints, Neighbourhood, OfClip, Shots, Spans

__all__ = ["batch_shots", "batch_spans", "check_shots", "clip_spans", "neighbourhood_of_clips", "spans_of_mask"]

# Clips whose segments are kept: a few numbers each.
MOST_KEPT = 2**16

_kept: dict[bytes, Spans] = {}


def clip_spans(clip: Clip, pattern: OfClip, modalities: Iterable[str] | None = None) -> Spans:
    """The segments of one clip, by the change points of its features, or its shots.

    Args:
        clip: all of its frames.
        pattern: the criterion.
        modalities: which features; default: all. A model takes its own.

    Raises:
        UnfitClipError: shots of a clip that has none.
    """
    if isinstance(pattern, Shots):
        check_shots(clip)
        return Spans(clip.shot_frames)
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


def batch_shots(batch: Batch) -> tuple[Spans, ...]:
    """The shots of each clip of a batch.

    Raises:
        UnfitClipError: a clip that has none.
    """
    shots = batch.shots or ((),) * len(batch)
    for row, each in enumerate(shots):
        if not each:
            raise _without_shots(batch.ids[row] if batch.ids else f"clip {row} of the batch")
    return tuple(map(Spans, shots))


def check_shots(clip: Clip) -> None:
    """Refuse a clip whose shots are not known.

    Raises:
        UnfitClipError: says how it comes to have them.
    """
    if not clip.shots:
        raise _without_shots(clip.source or clip.id)


def _without_shots(name: str) -> UnfitClipError:
    return UnfitClipError(
        f"{brief(name)}: the shots of its video are not known, and SHOTS needs them; give its video to "
        "`gmsa features` (again: features that are there are kept, and shots are added), or take CP4, the change "
        "points of its features",
        kind="clips without shots",
    )


def neighbourhood_of_clips(
    pattern: Neighbourhood, clips: Sequence[Clip], modalities: Iterable[str]
) -> BatchNeighbourhood:
    """A neighbourhood as it is in some clips: one for all, unless their segments differ.

    Args:
        pattern: of any kind.
        clips: at least one.
        modalities: by whose features segments are found; those that a clip lacks are left out.

    Raises:
        UnfitClipError: shots of a clip that has none.
    """
    if not isinstance(pattern, OfClip):
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
