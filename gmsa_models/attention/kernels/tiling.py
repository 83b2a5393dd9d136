"""Tiles: how a neighbourhood cuts a clip into chunks of queries against the few keys that they may attend to.

Every neighbourhood becomes the same thing. `dilation` frames in a row are one *step*, and the frames at the same place
in every step are a *class*: a dilated frame sees its own class only, so classes are treated as more heads. Steps are
cut into chunks. A tile is one chunk of queries against the chunk's keys and `reach` steps more on either side. Block
diagonal has dilation 1, chunks of the block's size and reach 0; Toeplitz has dilation 1 and reach n/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor
from torch.nn import functional

from gmsa_models.errors import ArgumentError
from gmsa_models.masks import BatchNeighbourhood, BlockDiagonal, Toeplitz, ToeplitzDilated

__all__ = ["Tiling", "tile_frames", "tile_mask", "tiles"]

# Bringing a key into a tile costs about as much as so many products with it (2 cores, d = 128, float32).
KEY_OVERHEAD = 16


@dataclass(frozen=True)
class Tiling:
    """How the frames of a clip are cut into tiles.

    Attributes:
        frames: frames of the clip.
        chunk: steps in a tile of queries.
        reach: steps that a tile of keys has before its first query and after its last.
        dilation: frames in a step, which is the number of classes.
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

    def steps(self, values: Shaped[Tensor, "batch frames *rest"]) -> Shaped[Tensor, "steps classes *rest"]:
        """All clips' frames as one long row of steps, a view if no clip needs padding with zeros.

        A clip among others is padded to whole tiles, a clip alone to whole steps only.
        """
        padded = self._padded_frames(len(values))
        if padded > self.frames:
            values = functional.pad(values, (0, 0) * (values.ndim - 2) + (0, padded - self.frames))
        return values.flatten(0, 1).unflatten(0, (-1, self.dilation))

    def frames_of(
        self, steps: Shaped[Tensor, "steps classes *rest"], batch: int
    ) -> Shaped[Tensor, "batch frames *rest"]:
        """The inverse of `steps`, a view."""
        return steps.flatten(0, 1).unflatten(0, (batch, -1))[:, : self.frames]

    def query_tiles(
        self, steps: Shaped[Tensor, "steps classes *rest"], first: int = 0, last: int | None = None
    ) -> Shaped[Tensor, "tiles chunk classes *rest"]:
        """Cut a row of steps into tiles of queries, from the `first` to before the `last`.

        A view, except where the row ends within a tile, which is filled with zeros.
        """
        last = self.tiles_in(steps) if last is None else last
        own = steps[first * self.chunk : last * self.chunk]
        if missing := (last - first) * self.chunk - len(own):
            own = functional.pad(own, (0, 0) * (steps.ndim - 1) + (0, missing))
        return own.unflatten(0, (-1, self.chunk))

    def key_tiles(
        self, steps: Shaped[Tensor, "steps classes *rest"], first: int = 0, last: int | None = None
    ) -> Shaped[Tensor, "tiles keys classes *rest"]:
        """Cut a row of steps into overlapping tiles of keys, from the `first` to before the `last`.

        The first tile of a clip reaches into the last steps of the clip before; `tile_mask` rules them out. Beyond the
        ends of the row are zeros. A view, except where the ends are touched.
        """
        last = self.tiles_in(steps) if last is None else last
        start, stop = first * self.chunk - self.reach, last * self.chunk + self.reach
        before, after = max(-start, 0), max(stop - len(steps), 0)
        inner = steps[max(start, 0) : stop]
        if before or after:
            inner = functional.pad(inner, (0, 0) * (steps.ndim - 1) + (before, after))
        return inner.unfold(0, self.keys, self.chunk).movedim(-1, 1)

    def tiles_in(self, steps: Shaped[Tensor, "steps classes *rest"]) -> int:
        """Tiles of a row of steps."""
        return -(-len(steps) // self.chunk)

    def tiles_inside(self, steps: Shaped[Tensor, "steps classes *rest"]) -> tuple[int, int]:
        """The first tile whose keys are all in the row, and one more than the last; equal if there is none."""
        first = -(-self.reach // self.chunk)
        return first, max(first, (len(steps) - self.reach) // self.chunk)

    def add_key_tiles(
        self,
        halo: Shaped[Tensor, "halo_steps classes *rest"],
        tiles: Shaped[Tensor, "tiles keys classes *rest"],
        first: int = 0,
    ) -> None:
        """Add tiles of keys where they came from: the adjoint of `key_tiles`.

        Args:
            halo: a row of steps with `reach` more before and after.
            tiles: what is added, from tile `first` on.
            first: which tile of the row the first of them is.
        """
        phases = -(-self.keys // self.chunk)
        # Every phases-th tile: these do not overlap, so they are added as one view.
        for phase in range(min(phases, len(tiles))):
            own = tiles[phase::phases]
            start, stride = (first + phase) * self.chunk * halo.stride(0), phases * self.chunk * halo.stride(0)
            shape, strides = own.shape, (stride, *halo.stride())
            halo.as_strided(shape, strides, halo.storage_offset() + start).add_(own)

    def with_halo(self, steps: Shaped[Tensor, "steps classes *rest"]) -> Shaped[Tensor, "halo_steps classes *rest"]:
        """Zeros for the whole tiles of a row of steps, with `reach` more before and after."""
        return steps.new_zeros(self.tiles_in(steps) * self.chunk + 2 * self.reach, *steps.shape[1:])

    def without_halo(
        self, halo: Shaped[Tensor, "halo_steps classes *rest"], steps: Shaped[Tensor, "steps classes *rest"]
    ) -> Shaped[Tensor, "steps classes *rest"]:
        """The row itself, as long as `steps`; a view."""
        return halo[self.reach :][: len(steps)]

    def _padded_frames(self, batch: int) -> int:
        unit = self.dilation * (self.chunk if batch > 1 else 1)
        return -(-self.frames // unit) * unit


@lru_cache(maxsize=256)
def tiles(neighbourhood: BatchNeighbourhood, frames: int) -> Tiling:
    """The tiling of a clip under a neighbourhood.

    Raises:
        ArgumentError: something that is no neighbourhood, or one that depends on the clip.
    """
    match neighbourhood:
        case BlockDiagonal(size):
            return Tiling(frames, chunk=min(size, frames))
        case Toeplitz(size):
            return _band(frames, half=size // 2, dilation=1)
        case ToeplitzDilated(size, dilation):
            return _band(frames, half=size // 2, dilation=min(dilation, frames))
    raise ArgumentError(f"{neighbourhood!r} is no neighbourhood of tiles")


def _band(frames: int, half: int, dilation: int) -> Tiling:
    steps = -(-frames // dilation)
    reach = min(half // dilation, steps - 1)
    if reach == 0:
        # Every frame alone: blocks of 1.
        return Tiling(frames, chunk=1)
    chunks = range(-(-reach // 2), 4 * reach + KEY_OVERHEAD)
    return min((Tiling(frames, min(chunk, steps), reach, dilation) for chunk in chunks), key=_cost)


def _cost(tiling: Tiling) -> int:
    """Products of a tiling and what it moves, in products; chunks that do not fit mean one more copy of everything."""
    padded = tiling.tiles * tiling.chunk * tiling.dilation
    copied = 3 * padded if padded > tiling.frames else 0
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
