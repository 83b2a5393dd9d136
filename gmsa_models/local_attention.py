"""Local attention at the cost of the neighbourhood: tiles of queries against the few keys that they may attend to.

Every neighbourhood becomes the same thing. The frames are dealt into `dilation` classes (frame f into class
f mod d), since a dilated frame sees its own class only. A class is cut into chunks of consecutive members. A tile is
one chunk of queries against the chunk's keys and `reach` more on either side. Block diagonal has d = 1, chunks of the
block's size and reach 0; Toeplitz has d = 1 and reach n/2; Toeplitz-dilated is Toeplitz inside each class.

The keys of a tile are a view of a window of frames, not a copy, wherever the frames already lie in that order.
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
        chunk: queries in a tile.
        reach: keys that a tile has before its first query and after its last, in members of the class.
        dilation: number of classes.
    """

    frames: int
    chunk: int
    reach: int = 0
    dilation: int = 1

    @property
    def members(self) -> int:
        """Frames in a class after padding to whole chunks."""
        return -(-self.frames // (self.dilation * self.chunk)) * self.chunk

    @property
    def tiles(self) -> int:
        """Tiles of a clip."""
        return self.dilation * self.members // self.chunk

    @property
    def keys(self) -> int:
        """Keys in a tile."""
        return self.chunk + 2 * self.reach

    def query_tiles(self, values: Shaped[Tensor, "batch frames *rest"]) -> Shaped[Tensor, "tiles chunk *rest"]:
        """Cut the frames of every clip into tiles of queries, clip after clip; padding holds zeros."""
        return self._deal(values).unflatten(0, (-1, self.chunk))

    def key_tiles(self, values: Shaped[Tensor, "batch frames *rest"]) -> Shaped[Tensor, "tiles keys *rest"]:
        """Cut the frames of every clip into overlapping tiles of keys, a view of one long row of all clips' frames.

        So the first tile of a clip reaches into the last frames of the clip before; `tile_mask` rules them out.
        """
        return self.query_tiles(values) if self.reach == 0 else KeyTiles.apply(values, self)

    def from_tiles(self, tiles: Shaped[Tensor, "tiles chunk *rest"]) -> Shaped[Tensor, "batch frames *rest"]:
        """Put tiles of queries back into frames; the inverse of `query_tiles`."""
        classes = tiles.flatten(0, 1).unflatten(0, (-1, self.dilation, self.members))
        return classes.transpose(1, 2).flatten(1, 2)[:, : self.frames]

    def add_key_tiles(self, tiles: Shaped[Tensor, "tiles keys *rest"]) -> Shaped[Tensor, "batch frames *rest"]:
        """Sum over the tiles that a frame is a key of: the adjoint of `key_tiles`."""
        phases = -(-self.keys // self.chunk)
        row = tiles.new_zeros((tiles.shape[0] + phases) * self.chunk, *tiles.shape[2:])
        # Every phases-th tile: these do not overlap, so they are added as one view.
        for phase in range(min(phases, tiles.shape[0])):
            own = tiles[phase::phases]
            places = row[phase * self.chunk :][: own.shape[0] * phases * self.chunk]
            places.unflatten(0, (-1, phases * self.chunk))[:, : self.keys] += own
        inner = row[self.reach :][: tiles.shape[0] * self.chunk]
        return self.from_tiles(inner.unflatten(0, (-1, self.chunk)))

    def _deal(self, values: Shaped[Tensor, "batch frames *rest"]) -> Tensor:
        if missing := self.dilation * self.members - self.frames:
            values = functional.pad(values, (0, 0) * (values.ndim - 2) + (0, missing))
        if self.dilation > 1:
            values = values.unflatten(1, (self.members, self.dilation)).transpose(1, 2).flatten(1, 2)
        return values.flatten(0, 1)


class KeyTiles(torch.autograd.Function):
    """`Tiling.key_tiles`: one copy into a row with a halo of zeros, of which the tiles are a view.

    Of torch's own operations it takes two copies, and the gradient of `unfold` goes element by element.
    """

    @staticmethod
    def forward(ctx, values: Tensor, tiling: Tiling) -> Tensor:
        """Tiles from values; see `Tiling.key_tiles`."""
        ctx.tiling, reach = tiling, tiling.reach
        row = values.new_empty(2 * reach + tiling.tiles * tiling.chunk * values.shape[0], *values.shape[2:])
        row[:reach] = 0
        row[-reach:] = 0
        classes = row[reach:-reach].unflatten(0, (-1, tiling.dilation, tiling.members))
        for kind in range(tiling.dilation):
            own = values[:, kind :: tiling.dilation]
            classes[:, kind, : own.shape[1]] = own
            classes[:, kind, own.shape[1] :] = 0
        return row.unfold(0, tiling.keys, tiling.chunk).movedim(-1, 1)

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
    members = -(-frames // dilation)
    reach = min(half // dilation, members - 1)
    if reach == 0:
        # Every frame alone: blocks of 1.
        return Tiling(frames, chunk=1)
    chunks = range(-(-reach // 2), 4 * reach + KEY_OVERHEAD)
    candidates = (Tiling(frames, min(chunk, members), reach, dilation) for chunk in chunks)
    return min(candidates, key=lambda tiling: tiling.tiles * tiling.keys * (tiling.chunk + KEY_OVERHEAD))


@lru_cache(maxsize=128)
def tile_frames(tiling: Tiling, device: torch.device) -> tuple[Int[Tensor, "tiles chunk"], Int[Tensor, "tiles keys"]]:
    """Which frame of the clip each query and each key of each tile is; below 0 or at least `frames`: none."""
    with torch.inference_mode(False):
        kinds = torch.arange(tiling.dilation, device=device)[:, None, None]
        starts = torch.arange(0, tiling.members, tiling.chunk, device=device)[None, :, None]
        queries = starts + torch.arange(tiling.chunk, device=device)
        keys = starts + torch.arange(-tiling.reach, tiling.chunk + tiling.reach, device=device)
        queries, keys = (member * tiling.dilation + kinds for member in (queries, keys))
        return queries.flatten(0, 1), keys.flatten(0, 1)


@lru_cache(maxsize=128)
def tile_mask(tiling: Tiling, device: torch.device) -> Bool[Tensor, "tiles chunk keys"]:
    """True where a query of a tile may attend to a key of it; what is no frame of the clip is False.

    Made once for a tiling and a device. Never an inference tensor, so that a pass that needs gradients can save it.
    """
    queries, keys = tile_frames(tiling, device)
    with torch.inference_mode(False):
        mask = ((keys >= 0) & (keys < tiling.frames))[:, None, :].expand(-1, tiling.chunk, -1)
        if tiling.reach > 0:
            mask = mask & ((queries[:, :, None] - keys[:, None, :]).abs() <= tiling.reach * tiling.dilation)
        return mask.contiguous()


@lru_cache(maxsize=128)
def _attention_mask(tiling: Tiling, device: torch.device) -> Bool[Tensor, "tiles chunk keys"] | None:
    """`tile_mask` with every query allowed to see itself, or None if all is allowed."""
    mask = tile_mask(tiling, device)
    return None if bool(mask.all()) else mask | _itself(tiling, device)


def _itself(tiling: Tiling, device: torch.device) -> Bool[Tensor, "chunk keys"]:
    """True where a key of a tile is its query. A query that is padding sees itself, so that no row is empty."""
    keys = torch.arange(tiling.keys, device=device) - tiling.reach
    return torch.arange(tiling.chunk, device=device)[:, None] == keys


def _batch_mask(
    tiling: Tiling, batch: int, valid: Bool[Tensor, "batch frames"] | None, device: torch.device
) -> Bool[Tensor, "batch_tiles 1 chunk keys"] | None:
    mask = _attention_mask(tiling, device)
    if valid is not None:
        real = tiling.key_tiles(valid)[:, None, :]
        mask = (tile_mask(tiling, device).repeat(batch, 1, 1) & real) | _itself(tiling, device)
        return mask[:, None]
    return None if mask is None else mask.repeat(batch, 1, 1)[:, None]


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
    batch, _, frames, _ = query.shape
    tiling = tiles(neighbourhood, frames)
    query = tiling.query_tiles(query.transpose(1, 2)).transpose(1, 2)
    key, value = (tiling.key_tiles(each.transpose(1, 2)).transpose(1, 2) for each in (key, value))
    mask = _batch_mask(tiling, batch, valid, query.device)
    context = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return tiling.from_tiles(context.transpose(1, 2)).transpose(1, 2)
