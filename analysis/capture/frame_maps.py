"""From maps over tokens to maps over frames, a few query rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.capture.errors import LayoutError
from analysis.capture.layout import TokenTable
from analysis.capture.maps import Rows

__all__ = ["FrameMap", "FrameSums", "spatial_map", "tokens_of_frames"]


@dataclass(frozen=True, eq=False)
class FrameMap:
    """Attention between frames.

    A row of `weights` and its `outside` add up to the sum of the rows of the map over tokens: 1 after a softmax.

    Attributes:
        weights: mean over the query frame's tokens of the sum over the key frame's tokens. In divided attention also
            the mean over the calls that were folded into the batch. Rows of frames without tokens are 0.
        outside: the share of a query frame on tokens of no frame: class token, registers, padding.
        from_outside: the same for the query tokens of no frame together, such as the class token: their mean weight on
            each frame; 0 where there are none.
    """

    weights: Float[Tensor, "clips heads query key"]
    outside: Float[Tensor, "clips heads query"]
    from_outside: Float[Tensor, "clips heads key"]


class FrameSums:
    """Sums of a map over tokens by query and key frame, added up from some query rows at a time.

    Args:
        queries: of the call's query tokens.
        keys: of its key tokens.
        shape: batch and heads of the map.
        device: of the map.
    """

    def __init__(self, queries: TokenTable, keys: TokenTable, shape: tuple[int, int], device: torch.device) -> None:
        self.fold, self.keys, self.uniform = queries.fold, keys, queries.uniform
        self.of_query = torch.where(queries.frame < 0, queries.frames, queries.frame).to(device)
        regular = keys.regular
        self.key_frames = keys.of_frames(device) if regular is None else regular
        clips = shape[0] // self.fold
        one_each = (0, 1, 1)
        self.identical = self.fold == 1 and regular == queries.regular == one_each and queries.tokens == queries.frames
        self.identical &= keys.tokens == keys.frames
        if self.identical:  # a token is a frame: the map over tokens is the one between frames
            self.sums = torch.zeros((), device=device).expand(clips, shape[1], queries.frames, keys.frames)
            return
        self.sums = torch.zeros(clips, shape[1], queries.frames + 1, keys.frames + 1, device=device)
        self.counts = torch.zeros(clips, queries.frames + 1, device=device)

    def add(self, weights: Float[Tensor, "batch heads rows key"], rows: Rows, own: bool = False) -> None:
        """Add some rows of the map.

        Args:
            weights: these rows.
            rows: which query tokens they are.
            own: whether nobody else has the tensor, so that it may be kept.
        """
        if self.identical:
            if isinstance(rows, slice) and weights.shape[2] == self.sums.shape[2]:
                self.sums = weights.to(self.sums.dtype, copy=not own)  # the module may go on with its own
            else:
                self.sums = self.sums.contiguous()  # of zeros, before the first rows
                self.sums[:, :, rows] = weights.to(self.sums.dtype)
            return
        by_key = self._by_key_frame(weights.unflatten(0, (-1, self.fold)))
        if self.uniform:  # all rows of a clip are alike
            of_query = self.of_query[0, 0, rows]
            ones = self.counts.new_full((len(of_query),), self.fold)
            self.sums.index_add_(2, of_query, by_key.sum(1).to(self.sums.dtype))
            self.counts.index_add_(1, of_query, ones.expand(len(self.counts), -1))
            return
        by_key = by_key.transpose(1, 2).flatten(2, 3)
        of_query = self.of_query[:, :, rows].flatten(1)
        ones = self.counts.new_ones(of_query.shape[1])
        if len(of_query) == 1:
            self.sums.index_add_(2, of_query[0], by_key.to(self.sums.dtype))
            self.counts.index_add_(1, of_query[0], ones.expand(len(self.counts), -1))
            return
        for clip, frames in enumerate(of_query):
            self.sums[clip].index_add_(1, frames, by_key[clip].to(self.sums.dtype))
            self.counts[clip].index_add_(0, frames, ones)

    def _by_key_frame(
        self, weights: Float[Tensor, "clips fold heads rows key"]
    ) -> Float[Tensor, "clips fold heads rows columns"]:
        if isinstance(self.key_frames, Tensor):
            of_key = self.key_frames.to(weights.dtype)
            return weights @ (of_key[0, 0] if of_key.shape[:2] == (1, 1) else of_key.unsqueeze(2))
        # Tokens that lie in order need no product with a table, which for many frames costs as much as the map itself.
        front, count, axis = self.key_frames
        inner = self.keys.frames * count
        parts = weights[..., front : front + inner]
        if count > 1:
            sizes = (self.keys.frames, count) if axis else (count, self.keys.frames)
            parts = parts.unflatten(-1, sizes).sum(-1 if axis else -2)
        if inner == weights.shape[-1]:
            others = parts.new_zeros(()).expand(*parts.shape[:-1], 1)
        else:
            others = weights[..., :front].sum(-1, keepdim=True) + weights[..., front + inner :].sum(-1, keepdim=True)
        return torch.cat([parts, others], -1)

    def result(self) -> FrameMap:
        """The map between frames."""
        if self.identical:
            clips, heads, queries, keys = self.sums.shape
            none = self.sums.new_zeros(clips, heads, queries), self.sums.new_zeros(clips, heads, keys)
            return FrameMap(self.sums, *none)
        mean = self.sums / self.counts.clamp(min=1)[:, None, :, None]
        return FrameMap(mean[:, :, :-1, :-1], mean[:, :, :-1, -1], mean[:, :, -1, :-1])


def tokens_of_frames(queries: TokenTable, frames: Sequence[int]) -> list[int]:
    """Positions of the query tokens that are of some frames, in any clip and any call of the fold.

    Raises:
        LayoutError: a frame that the layout lacks.
    """
    if missing := [frame for frame in frames if not 0 <= frame < queries.frames]:
        raise LayoutError(f"no query frame {missing[0]}; the layout has frames 0 to {queries.frames - 1}")
    wanted = torch.isin(queries.frame, torch.tensor(list(frames)))
    return wanted.flatten(0, 1).any(0).nonzero().flatten().tolist()


def spatial_map(
    weights: Float[Tensor, "batch heads rows key"],
    rows: Rows,
    queries: TokenTable,
    keys: TokenTable,
    frame: int,
) -> Float[Tensor, "clips heads key_frame patch"]:
    """Where one query frame attends: its tokens' mean weight on every patch of every frame.

    Args:
        weights: rows of a map over tokens.
        rows: which query tokens they are; all tokens of the frame must be among them.
        queries: of the query tokens.
        keys: of the key tokens.
        frame: the query frame.

    Raises:
        LayoutError: a frame that the layout lacks, or that has no tokens, or whose tokens are not among the rows.
    """
    needed = (queries.frame == frame).sum()
    if frame >= 0 and needed == 0:
        raise LayoutError(f"query frame {frame} has no tokens, of {queries.frames} frames of the layout")
    here = queries.frame[:, :, rows] == frame
    present = here.sum()
    if frame < 0 or present < needed:
        raise LayoutError(f"{int(present)} of the {int(needed)} tokens of query frame {frame} were recorded")
    split = weights.unflatten(0, (-1, queries.fold))
    share = here.to(split) / here.sum((1, 2), keepdim=True).clamp(min=1)
    by_token = torch.einsum("cfhqk,cfq->cfhk", split, share.expand(len(split), -1, -1))
    cells = keys.frames * keys.patches
    cell = torch.where(keys.frame < 0, cells, keys.frame * keys.patches + keys.patch).to(weights.device)
    index = cell[:, :, None].expand(by_token.shape)
    sums = by_token.new_zeros(*index.shape[:3], cells + 1).scatter_add(3, index, by_token).sum(1)
    return sums[..., :-1].unflatten(-1, (keys.frames, keys.patches))
