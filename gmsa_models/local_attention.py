"""Local attention at the cost of the neighbourhood: tiles of queries against the few keys that they may attend to.

Every neighbourhood becomes the same thing. `dilation` frames in a row are one *step*, and the frames at the same place
in every step are a *class*: a dilated frame sees its own class only, so classes are treated as more heads. Steps are
cut into chunks. A tile is one chunk of queries against the chunk's keys and `reach` steps more on either side. Block
diagonal has dilation 1, chunks of the block's size and reach 0; Toeplitz has dilation 1 and reach n/2.

Queries are tiled by a view. So are keys where the reach is 0; else they take one copy, of which the overlapping tiles
are a view.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from gmsa_models.masks import BlockDiagonal, Neighbourhood, NeighbourhoodError, Toeplitz, ToeplitzDilated

# Bringing a key into a tile costs about as much as so many products with it (2 cores, d = 128, float32).
KEY_OVERHEAD = 16


@dataclass(frozen=True)
class Tiling:
    """How the frames of a clip are cut into tiles.

    Attributes:
        frames: frames of the clip.
        chunk: steps in a tile of queries.
        reach: steps that a tile of keys has before its first query and after its last.
        dilation: frames in a step.
    """

    frames: int
    chunk: int
    reach: int = 0
    dilation: int = 1

    @property
    def tiles(self) -> int:
        """Tiles of a clip."""
        return -(-self.frames // (self.dilation * self.chunk))

    @property
    def keys(self) -> int:
        """Steps in a tile of keys."""
        return self.chunk + 2 * self.reach

    def query_tiles(self, values: Shaped[Tensor, "batch frames *rest"]) -> Shaped[Tensor, "tiles chunk classes *rest"]:
        """Cut the frames of every clip into tiles of queries, clip after clip; padding holds zeros."""
        return self._pad(values).flatten(0, 1).unflatten(0, (-1, self.chunk, self.dilation))

    def key_tiles(self, values: Shaped[Tensor, "batch frames *rest"]) -> Shaped[Tensor, "tiles keys classes *rest"]:
        """Cut the frames of every clip into overlapping tiles of keys, a view of one long row of all clips' frames.

        So the first tile of a clip reaches into the last frames of the clip before; `tile_mask` rules them out.
        """
        return self.query_tiles(values) if self.reach == 0 else KeyTiles.apply(values, self)

    def from_tiles(self, tiles: Shaped[Tensor, "tiles chunk classes *rest"]) -> Shaped[Tensor, "batch frames *rest"]:
        """Put tiles of queries back into frames; the inverse of `query_tiles`."""
        return tiles.flatten(0, 2).unflatten(0, (-1, self._padded_frames))[:, : self.frames]

    def add_key_tiles(self, tiles: Shaped[Tensor, "tiles keys classes *rest"]) -> Shaped[Tensor, "batch frames *rest"]:
        """Sum over the tiles that a frame is a key of: the adjoint of `key_tiles`."""
        phases = -(-self.keys // self.chunk)
        steps = tiles.new_zeros((tiles.shape[0] + phases) * self.chunk, *tiles.shape[2:])
        # Every phases-th tile: these do not overlap, so they are added as one view.
        for phase in range(min(phases, tiles.shape[0])):
            own = tiles[phase::phases]
            places = steps[phase * self.chunk :][: own.shape[0] * phases * self.chunk]
            places.unflatten(0, (-1, phases * self.chunk))[:, : self.keys] += own
        inner = steps[self.reach :][: tiles.shape[0] * self.chunk]
        return self.from_tiles(inner.unflatten(0, (-1, self.chunk)))

    @property
    def _padded_frames(self) -> int:
        return self.tiles * self.chunk * self.dilation

    def _pad(self, values: Shaped[Tensor, "batch frames *rest"]) -> Shaped[Tensor, "batch padded_frames *rest"]:
        missing = self._padded_frames - self.frames
        return functional.pad(values, (0, 0) * (values.ndim - 2) + (0, missing)) if missing else values


class KeyTiles(torch.autograd.Function):
    """`Tiling.key_tiles`: one copy into a row with a halo of zeros, of which the tiles are a view.

    Of torch's own operations it takes two copies where a clip is padded, and the gradient of `unfold` goes element
    by element.
    """

    @staticmethod
    def forward(ctx, values: Tensor, tiling: Tiling) -> Tensor:
        """Tiles from values; see `Tiling.key_tiles`."""
        ctx.tiling, halo = tiling, tiling.reach * tiling.dilation
        padded = tiling.tiles * tiling.chunk * tiling.dilation
        row = values.new_empty(2 * halo + padded * values.shape[0], *values.shape[2:])
        row[:halo].zero_()
        row[-halo:].zero_()
        clips = row[halo:-halo].unflatten(0, (-1, padded))
        clips[:, : tiling.frames] = values
        clips[:, tiling.frames :].zero_()
        return row.unflatten(0, (-1, tiling.dilation)).unfold(0, tiling.keys, tiling.chunk).movedim(-1, 1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        """A frame's gradient is the sum over the tiles that it is in."""
        return ctx.tiling.add_key_tiles(grad), None


@lru_cache(maxsize=256)
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
    steps = -(-frames // dilation)
    reach = min(half // dilation, steps - 1)
    if reach == 0:
        # Every frame alone: blocks of 1.
        return Tiling(frames, chunk=1)
    chunks = range(-(-reach // 2), 4 * reach + KEY_OVERHEAD)
    return min((Tiling(frames, min(chunk, steps), reach, dilation) for chunk in chunks), key=_cost)


def _cost(tiling: Tiling) -> int:
    """Products of a tiling and what it moves, in products; chunks that do not fit mean one more copy of the queries."""
    padded = tiling.tiles * tiling.chunk * tiling.dilation
    copied = padded if padded > tiling.frames else 0
    return tiling.dilation * tiling.tiles * tiling.keys * (tiling.chunk + KEY_OVERHEAD) + KEY_OVERHEAD * copied


@lru_cache(maxsize=128)
def tile_frames(
    tiling: Tiling, device: torch.device
) -> tuple[Int[Tensor, "tiles classes chunk"], Int[Tensor, "tiles classes keys"]]:
    """Which frame of the clip each query and each key of each tile is; below 0 or at least `frames`: none."""
    with torch.inference_mode(False):
        classes = torch.arange(tiling.dilation, device=device)[:, None]
        starts = torch.arange(tiling.tiles, device=device)[:, None, None] * tiling.chunk
        queries = starts + torch.arange(tiling.chunk, device=device)
        keys = starts + torch.arange(-tiling.reach, tiling.chunk + tiling.reach, device=device)
        return queries * tiling.dilation + classes, keys * tiling.dilation + classes


@lru_cache(maxsize=128)
def tile_mask(tiling: Tiling, device: torch.device) -> Bool[Tensor, "tiles classes chunk keys"]:
    """True where a query of a tile may attend to a key of it; what is no frame of the clip is False.

    Made once for a tiling and a device. Never an inference tensor, so that a pass that needs gradients can save it.
    """
    queries, keys = tile_frames(tiling, device)
    with torch.inference_mode(False):
        mask = ((keys >= 0) & (keys < tiling.frames))[:, :, None].expand(-1, -1, tiling.chunk, -1)
        if tiling.reach > 0:
            mask = mask & ((queries[..., None] - keys[:, :, None]).abs() <= tiling.reach * tiling.dilation)
        return mask.contiguous()


def _kernel_mask(
    tiling: Tiling, batch: int, heads: int, valid: Bool[Tensor, "batch frames"] | None, device: torch.device
) -> Bool[Tensor, "batch_tiles _ chunk keys"] | None:
    """What torch's kernel may attend to; None: everything."""
    mask = _alike_mask(tiling, device)
    if valid is None and mask is None:
        return None
    if valid is None and mask.shape[1] == 1:
        return mask.repeat(batch, 1, 1, 1)
    mask = tile_mask(tiling, device).repeat(batch, 1, 1, 1)
    if valid is not None:
        mask = mask & tiling.key_tiles(valid).transpose(1, 2)[:, :, None]
    mask = mask | _itself(tiling, device)
    return mask.repeat_interleave(heads, 1) if tiling.dilation > 1 else mask


@lru_cache(maxsize=128)
def _alike_mask(tiling: Tiling, device: torch.device) -> Bool[Tensor, "tiles _ chunk keys"] | None:
    """`tile_mask` and every query itself, once where all classes are alike; None if nothing is ruled out."""
    with torch.inference_mode(False):
        mask = tile_mask(tiling, device) | _itself(tiling, device)
        alike = bool((mask == mask[:, :1]).all())
        return None if bool(mask.all()) else mask[:, :1].contiguous() if alike else mask


def _itself(tiling: Tiling, device: torch.device) -> Bool[Tensor, "chunk keys"]:
    """True where a key of a tile is its query. A query that is padding sees itself, so that no row is empty."""
    keys = torch.arange(tiling.keys, device=device) - tiling.reach
    return torch.arange(tiling.chunk, device=device)[:, None] == keys


def local_attention(
    query: Float[Tensor, "batch heads frames head_dim"],
    key: Float[Tensor, "batch heads frames head_dim"],
    value: Float[Tensor, "batch heads frames head_dim"],
    neighbourhood: Neighbourhood,
    valid: Bool[Tensor, "batch frames"] | None = None,
) -> Float[Tensor, "batch heads frames head_dim"]:
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
    batch, heads, frames, _ = query.shape
    tiling = tiles(neighbourhood, frames)
    # Classes join the heads: (tiles, steps, classes, heads, d) to (tiles, classes * heads, steps, d).
    query = tiling.query_tiles(query.transpose(1, 2)).flatten(2, 3).transpose(1, 2)
    key, value = (tiling.key_tiles(each.transpose(1, 2)).flatten(2, 3).transpose(1, 2) for each in (key, value))
    mask = _kernel_mask(tiling, batch, heads, valid, query.device)
    context = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return tiling.from_tiles(context.transpose(1, 2).unflatten(2, (tiling.dilation, heads))).transpose(1, 2)
