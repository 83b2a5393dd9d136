"""Local attention inside the segments of each clip, whatever their lengths; `trace` of a block is the plain form.

Segments of about the same length, from whatever clip of the batch, are padded to the longest of them and multiplied
together. A length is at most twice another of its group, so no more than four times the products are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from gmsa_models.errors import ArgumentError
from gmsa_models.masks import BatchNeighbourhood, Spans, masked_softmax

__all__ = ["segment_attention", "segment_gated_attention", "spans_of_clips"]

Heads = Float[Tensor, "batch heads frames head_dim"]
Rows = Shaped[Tensor, "rows _"]  # one a clip, frame and head, as a projection leaves them
Tiles = Float[Tensor, "segments heads length head_dim"]
Blocks = Float[Tensor, "segments heads length length"]
Valid = Bool[Tensor, "batch frames"]


@dataclass(frozen=True)
class SegmentGroup:
    """Segments that are multiplied together; a shorter one than the longest repeats its last frame.

    Attributes:
        clips: which clip each segment is of.
        frames: of each segment, in its clip.
        inside: True where a frame is none that is repeated; None: everywhere.
        rows: which row each frame of each head is.
        pairs: where each pair of frames lies in the flattened maps of the batch.
    """

    clips: Int[Tensor, " segments"]
    frames: Int[Tensor, "segments length"]
    inside: Bool[Tensor, "segments length"] | None
    rows: Int[Tensor, "segments heads length"]
    pairs: Int[Tensor, "segments heads length length"]

    def keys(self, valid: Valid | None) -> Bool[Tensor, "segments 1 1 length"] | None:
        """True where a frame may be attended to; None: everywhere. A segment of padding sees all of its own."""
        if valid is None:
            return None if self.inside is None else self.inside[:, None, None]
        real = valid[self.clips[:, None], self.frames]
        real = real if self.inside is None else real & self.inside
        return (real | ~real.any(1, keepdim=True))[:, None, None]

    def tiles(self, rows: Rows) -> Tiles:
        """What the frames of each segment have in each head."""
        return rows.index_select(0, self.rows.flatten()).view(*self.rows.shape, -1)

    def blocks(self, maps: Float[Tensor, "batch heads query key"]) -> Blocks:
        """The part of the maps that lies inside each segment."""
        return maps.flatten().index_select(0, self.pairs.flatten()).view(self.pairs.shape)


def spans_of_clips(neighbourhood: BatchNeighbourhood, batch: int) -> tuple[Spans, ...] | None:
    """The segments of each clip of a batch; None of a neighbourhood of another kind.

    Args:
        neighbourhood: of all clips or of each.
        batch: how many clips; more than there are segments of: copies of all, one after another.

    Raises:
        ArgumentError: segments of another number of clips.
    """
    if isinstance(neighbourhood, Spans):
        return (neighbourhood,) * batch
    if not isinstance(neighbourhood, tuple):
        return None
    if batch % len(neighbourhood):
        raise ArgumentError(f"segments of {len(neighbourhood)} clips for a batch of {batch}; expected one each")
    return neighbourhood * (batch // len(neighbourhood))


def segment_attention(query: Heads, key: Heads, value: Heads, spans: Sequence[Spans], valid: Valid | None) -> Heads:
    """softmax(Q K^T / sqrt(d)) V over each frame's own segment.

    Args:
        query: one a frame and head.
        key: likewise.
        value: likewise.
        spans: segments of each clip.
        valid: True where a frame is real; None: all are. Padded keys are never attended to.

    Returns:
        One context a frame and head. Padded frames hold something finite that means nothing.

    Source:
        Equations 1 and 2.
    """
    groups, order = grouped_segments(tuple(spans), *query.shape[1:3], query.device)
    query_rows, key_rows, value_rows = _rows(query), _rows(key), _rows(value)
    contexts = []
    for group in groups:
        logits = (group.tiles(query_rows) * query.shape[-1] ** -0.5) @ group.tiles(key_rows).mT
        contexts.append(masked_softmax(logits, group.keys(valid)) @ group.tiles(value_rows))
    return _together(contexts, order, query)


def segment_gated_attention(
    query: Heads,
    key: Heads,
    value: Heads,
    gate_global: Float[Tensor, "frames frames"],
    gate_local: Float[Tensor, "frames frames"],
    spans: Sequence[Spans],
    valid: Valid | None,
) -> Heads:
    """(R_g * A_g + R_l * A_l) V, head by head, where A_l lives in segments.

    Args:
        query, key, value, spans, valid: see `segment_attention`.
        gate_global: W_g^g, cut to the clips' frames.
        gate_local: W_g^l, likewise.

    Returns:
        As `segment_attention`.

    Source:
        Equations 3 and 4: with z = A_g W_g^g - A_l W_g^l the pair's softmax is R_g = sigmoid(z), R_l = 1 - R_g.
    """
    groups, order = grouped_segments(tuple(spans), *query.shape[1:3], query.device)
    logits = (query * query.shape[-1] ** -0.5) @ key.mT
    weights_g = masked_softmax(logits, None if valid is None else valid[:, None, None, :])
    weights_l = [masked_softmax(group.blocks(logits), group.keys(valid)) for group in groups]
    gate_l = [weights @ gate_local[group.frames][:, None] for weights, group in zip(weights_l, groups, strict=True)]
    gate = torch.sigmoid(weights_g @ gate_global - _together(gate_l, order, query))
    value_rows = _rows(value)
    contexts = [
        (weights * (1 - group.blocks(gate))) @ group.tiles(value_rows)
        for weights, group in zip(weights_l, groups, strict=True)
    ]
    return (gate * weights_g) @ value + _together(contexts, order, query)


@lru_cache(maxsize=64)
def grouped_segments(
    spans: tuple[Spans, ...], heads: int, frames: int, device: torch.device
) -> tuple[tuple[SegmentGroup, ...], Int[Tensor, " rows"]]:
    """The segments of some clips in groups, and where among the rows of all groups each row of the clips is.

    Args:
        spans: of each clip.
        heads: of each frame.
        frames: of every clip, with padding.
        device: where the result lies.
    """
    segments: dict[int, list[tuple[int, int, int]]] = {}
    for clip, each in enumerate(spans):
        for start, stop in pairwise((*(start for start in each.starts if start < frames), frames)):
            segments.setdefault((stop - start - 1).bit_length(), []).append((clip, start, stop))
    with torch.inference_mode(False):
        groups = tuple(_group(each, heads, frames, device) for each in segments.values())
        rows = torch.cat([group.rows.flatten() for group in groups])
        order = torch.empty(len(spans) * frames * heads, dtype=rows.dtype, device=device)
        order[rows] = torch.arange(len(rows), device=device)  # any of those that are repeated
    return groups, order


def _group(segments: Sequence[tuple[int, int, int]], heads: int, frames: int, device: torch.device) -> SegmentGroup:
    clips, starts, stops = torch.tensor(segments, device=device).T
    every = starts[:, None] + torch.arange(int((stops - starts).max()), device=device)
    own = torch.minimum(every, stops[:, None] - 1)
    inside = every < stops[:, None]
    head = torch.arange(heads, device=device)[:, None]
    maps = (clips[:, None, None] * heads + head) * frames
    return SegmentGroup(
        clips=clips,
        frames=own,
        inside=None if bool(inside.all()) else inside,
        rows=(clips[:, None] * frames + own)[:, None] * heads + head,
        pairs=(maps + own[:, None])[..., None] * frames + own[:, None, None],
    )


def _rows(heads: Heads) -> Rows:
    return heads.transpose(1, 2).flatten(0, 2)


def _together(
    tiles: Sequence[Float[Tensor, "_ heads _ _"]], order: Int[Tensor, " rows"], like: Heads
) -> Float[Tensor, "batch heads frames _"]:
    """The tiles of all groups as one value a frame and head of each clip."""
    rows = torch.cat([each.flatten(0, 2) for each in tiles]).index_select(0, order)
    batch, heads, frames, _ = like.shape
    return rows.view(batch, frames, heads, -1).transpose(1, 2)
