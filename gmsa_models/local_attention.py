"""Local attention at the cost of the neighbourhood: tiles of queries against the few keys that they may attend to.

Every neighbourhood becomes the same thing. The frames are dealt into `dilation` classes (frame f into class
f mod d), since a dilated frame sees its own class only. A class is cut into chunks of consecutive members. A tile is
one chunk of queries against the chunk's keys and `reach` more on either side. Block diagonal has d = 1, chunks of the
block's size and reach 0; Toeplitz has d = 1 and reach n/2; Toeplitz-dilated is Toeplitz inside each class.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from gmsa_models.masks import BlockDiagonal, Neighbourhood, NeighbourhoodError, Toeplitz, ToeplitzDilated

# Shorter chunks waste matrix products on their halo of keys, longer ones on pairs outside the band.
SHORTEST_CHUNK = 16


@dataclass(frozen=True)
class Tiling:
    """How the frames of a clip are cut into tiles.

    Attributes:
        frames: frames of the clip.
        chunk: queries in a tile.
        reach: keys that a tile has before its first query and after its last, in members of the class.
        dilation: number of classes.
    """

    frames: int
    chunk: int
    reach: int = 0
    dilation: int = 1

    @property
    def chunks(self) -> int:
        """Tiles in a class; there are `dilation * chunks` tiles in all."""
        members = -(-self.frames // self.dilation)
        return -(-members // self.chunk)

    @property
    def padded_frames(self) -> int:
        """Frames after padding to whole chunks in every class."""
        return self.dilation * self.chunks * self.chunk

    @property
    def keys(self) -> int:
        """Keys in a tile."""
        return self.chunk + 2 * self.reach

    def query_tiles(self, values: Float[Tensor, "*lead frames dim"]) -> Float[Tensor, "*lead tiles chunk dim"]:
        """Cut frames into tiles of queries; padding holds zeros."""
        return self._deal(values).unflatten(-2, (self.chunks, self.chunk)).flatten(-4, -3)

    def key_tiles(self, values: Float[Tensor, "*lead frames dim"]) -> Float[Tensor, "*lead tiles keys dim"]:
        """Cut frames into overlapping tiles of keys (or values); padding holds zeros."""
        if self.reach == 0:
            return self.query_tiles(values)
        dealt = functional.pad(self._deal(values), (0, 0, self.reach, self.reach))
        return dealt.unfold(-2, self.keys, self.chunk).transpose(-2, -1).flatten(-4, -3)

    def from_tiles(self, tiles: Float[Tensor, "*lead tiles chunk dim"]) -> Float[Tensor, "*lead frames dim"]:
        """Put tiles of queries back into frames; the inverse of `query_tiles`."""
        classes = tiles.unflatten(-3, (self.dilation, self.chunks)).flatten(-3, -2)
        return classes.transpose(-3, -2).flatten(-3, -2)[..., : self.frames, :]

    def _deal(self, values: Float[Tensor, "*lead frames dim"]) -> Float[Tensor, "*lead classes members dim"]:
        if (missing := self.padded_frames - self.frames) > 0:
            values = functional.pad(values, (0, 0, 0, missing))
        return values.unflatten(-2, (-1, self.dilation)).transpose(-3, -2)


def tiles(neighbourhood: Neighbourhood, frames: int) -> Tiling:
    """The tiling of a clip under a neighbourhood.

    Raises:
        NeighbourhoodError: something that is no neighbourhood.
    """
    match neighbourhood:
        case BlockDiagonal(size):
            return Tiling(frames, chunk=min(size, frames))
        case Toeplitz(size):
            return _band(frames, half=size // 2, dilation=1)
        case ToeplitzDilated(size, dilation):
            return _band(frames, half=size // 2, dilation=min(dilation, frames))
    raise NeighbourhoodError(f"{neighbourhood!r} is no neighbourhood")


def _band(frames: int, half: int, dilation: int) -> Tiling:
    members = -(-frames // dilation)
    reach = min(half // dilation, members - 1)
    if reach == 0:
        # Every frame alone: a block of 1.
        return Tiling(frames, chunk=1)
    count = -(-members // max(2 * reach, SHORTEST_CHUNK))
    # Chunks of equal length: with the longest first, the last would be mostly padding.
    return Tiling(frames, chunk=-(-members // count), reach=reach, dilation=dilation)


@lru_cache(maxsize=128)
def tile_frames(tiling: Tiling, device: torch.device) -> tuple[Int[Tensor, "tiles chunk"], Int[Tensor, "tiles keys"]]:
    """Which frame each query and each key of each tile is; below 0 or at least `frames`: padding."""
    with torch.inference_mode(False):
        kinds = torch.arange(tiling.dilation, device=device)[:, None, None]
        starts = torch.arange(tiling.chunks, device=device)[None, :, None] * tiling.chunk
        queries = starts + torch.arange(tiling.chunk, device=device)
        keys = starts + torch.arange(-tiling.reach, tiling.chunk + tiling.reach, device=device)
        return tuple((member * tiling.dilation + kinds).flatten(0, 1) for member in (queries, keys))


@lru_cache(maxsize=128)
def tile_mask(tiling: Tiling, device: torch.device) -> Bool[Tensor, "tiles chunk keys"]:
    """True where a query of a tile may attend to a key of it; padded keys are False.

    Made once for a tiling and a device. Never an inference tensor, so that a pass that needs gradients can save it.
    """
    queries, keys = tile_frames(tiling, device)
    with torch.inference_mode(False):
        mask = ((keys >= 0) & (keys < tiling.frames))[:, None, :].expand(-1, tiling.chunk, -1)
        if tiling.reach > 0:
            mask = mask & ((queries[:, :, None] - keys[:, None, :]).abs() <= tiling.reach * tiling.dilation)
        return mask.contiguous()


def local_tile_weights(
    query: Float[Tensor, "batch heads frames dim"],
    key: Float[Tensor, "batch heads frames dim"],
    tiling: Tiling,
    valid: Bool[Tensor, "batch frames"] | None,
) -> Float[Tensor, "batch heads tiles chunk keys"]:
    """Local attention weights, tile by tile; exactly 0 outside the neighbourhood and on padded keys.

    The row of a query that is itself padding is uniform: finite, and of no meaning.
    """
    logits = tiling.query_tiles(query * query.shape[-1] ** -0.5) @ tiling.key_tiles(key).transpose(-2, -1)
    mask = tile_mask(tiling, query.device)
    if valid is not None:
        mask = mask & (tiling.key_tiles(valid[:, None, :, None].to(query.dtype)).transpose(-2, -1) > 0)
    # The lowest finite number and not -inf: a padded query may have no key at all, and its row must not be nan.
    logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    return torch.softmax(logits, dim=-1, dtype=softmax_dtype(logits.dtype)).to(logits.dtype)


def softmax_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which a softmax over `dtype` is taken: half precision is widened to float32."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def local_attention(
    query: Float[Tensor, "batch heads frames dim"],
    key: Float[Tensor, "batch heads frames dim"],
    value: Float[Tensor, "batch heads frames dim"],
    neighbourhood: Neighbourhood,
    valid: Bool[Tensor, "batch frames"] | None = None,
) -> Float[Tensor, "batch heads frames dim"]:
    """softmax(Q K^T / sqrt(d)) V over the neighbourhood only, without a frames x frames matrix.

    Args:
        query: one a frame and head.
        key: likewise.
        value: likewise.
        neighbourhood: N_i.
        valid: True where a frame is real; None: all are. Padded keys are never attended to.

    Returns:
        One context a frame and head. Padded frames hold something finite that means nothing.

    Source:
        Equations 1 and 2.
    """
    tiling = tiles(neighbourhood, query.shape[-2])
    weights = local_tile_weights(query, key, tiling, valid)
    return tiling.from_tiles(weights @ tiling.key_tiles(value))
