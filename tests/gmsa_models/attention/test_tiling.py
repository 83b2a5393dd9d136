"""Tiles hold every allowed pair once, go back where they came from, and are views."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gmsa_models.attention.kernels.tiling import Tiling, tile_frames, tile_mask, tiles
from gmsa_models.masks import BlockDiagonal, Toeplitz, ToeplitzDilated, neighbourhood_mask
from tests.gmsa_models.attention.test_masks import ANY

CPU = torch.device("cpu")
FRAMES = st.integers(1, 61)


@given(ANY, st.integers(1, 97))
def test_tiles_hold_every_pair_once(neighbourhood, frames):
    """Over all tiles, the allowed pairs are exactly the neighbourhood."""
    tiling = tiles(neighbourhood, frames)
    queries, keys = tile_frames(tiling, CPU)
    count = torch.zeros(frames, frames, dtype=torch.int)
    for tile, kind, row, column in tile_mask(tiling, CPU).nonzero().tolist():
        if queries[tile, kind, row] < frames:
            count[queries[tile, kind, row], keys[tile, kind, column]] += 1
    assert count.equal(neighbourhood_mask(neighbourhood, frames).int())


@given(ANY, FRAMES, st.integers(1, 3))
def test_frames_come_back_where_they_were(neighbourhood, frames, batch):
    tiling = tiles(neighbourhood, frames)
    values = torch.arange(batch * frames * 2).view(batch, frames, 2)
    steps = tiling.steps(values)
    assert tiling.query_tiles(steps).shape == (batch * tiling.tiles, tiling.chunk, tiling.dilation, 2)
    assert tiling.frames_of(tiling.query_tiles(steps).flatten(0, 1)[: len(steps)], batch).equal(values)
    assert tiling.frames_of(steps, batch).equal(values)


@given(ANY, FRAMES)
def test_tiles_hold_the_frames_that_they_say(neighbourhood, frames):
    """`query_tiles` and `key_tiles` of the frame numbers are what `tile_frames` tells, wherever that is a frame."""
    tiling = tiles(neighbourhood, frames)
    steps = tiling.steps(torch.arange(frames)[None])
    cuts = tiling.query_tiles(steps), tiling.key_tiles(steps)
    for told, cut in zip(tile_frames(tiling, CPU), cuts, strict=True):
        real = (told >= 0) & (told < frames)
        assert cut.transpose(1, 2)[real].equal(told[real])


def test_key_tiles_by_hand():
    def cut(tiling, rows, **span):
        return tiling.key_tiles(tiling.steps(torch.tensor(rows)), **span).transpose(1, 2).squeeze(1).tolist()

    row = [[1, 2, 3, 4, 5]]
    assert cut(Tiling(5, chunk=2, reach=1), row) == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 0, 0]]
    assert cut(Tiling(5, chunk=2, reach=1), row, first=1, last=2) == [[2, 3, 4, 5]]
    dilated = Tiling(5, chunk=2, reach=1, dilation=2)
    assert cut(dilated, row) == [[[0, 1, 3, 5], [0, 2, 4, 0]], [[3, 5, 0, 0], [4, 0, 0, 0]]]
    clips = cut(Tiling(3, chunk=3, reach=1), [[1, 2, 3], [4, 5, 6]])
    assert clips == [[0, 1, 2, 3, 4], [3, 4, 5, 6, 0]], "the halo reaches into the next clip; the mask rules it out"


@pytest.mark.parametrize(
    "tiling", [Tiling(11, 3, 2, 1), Tiling(11, 2, 3, 2), Tiling(7, 7, 6, 1), Tiling(9, 2)], ids=str
)
@pytest.mark.parametrize("batch", [1, 2])
def test_add_key_tiles_is_the_adjoint(tiling, batch):
    """<key_tiles(x), y> = <x, add_key_tiles(y)>, all at once and span by span."""
    torch.manual_seed(0)
    steps = tiling.steps(torch.randn(batch, tiling.frames, 3, dtype=torch.float64))
    cut = tiling.key_tiles(steps)
    other = torch.randn(cut.shape, dtype=torch.float64)
    for split in (0, 1, len(cut)):
        halo = tiling.with_halo(steps)
        tiling.add_key_tiles(halo, other[:split])
        tiling.add_key_tiles(halo, other[split:], first=split)
        torch.testing.assert_close((cut * other).sum(), (steps * tiling.without_halo(halo, steps)).sum())


def test_tiles_are_views():
    values = torch.randn(2, 60, 4, 3)
    for neighbourhood in (BlockDiagonal(20), ToeplitzDilated(20, 4), Toeplitz(10)):
        tiling = tiles(neighbourhood, 60)
        steps = tiling.steps(values)
        assert tiling.query_tiles(steps).data_ptr() == values.data_ptr()
        inner = tiling.key_tiles(steps, 1, 2)
        assert inner.untyped_storage().data_ptr() == values.untyped_storage().data_ptr()


@given(ANY, FRAMES, st.integers(1, 2))
def test_tiles_inside_need_no_padding(neighbourhood, frames, batch):
    tiling = tiles(neighbourhood, frames)
    steps = tiling.steps(torch.ones(batch, frames))
    first, last = tiling.tiles_inside(steps)
    for tile in range(tiling.tiles_in(steps)):
        start, stop = tile * tiling.chunk - tiling.reach, (tile + 1) * tiling.chunk + tiling.reach
        assert (first <= tile < last) == (start >= 0 and stop <= len(steps))


def test_chunks_fit_where_they_can():
    """At the paper's length no clip is padded."""
    for neighbourhood in (BlockDiagonal(20), Toeplitz(10), Toeplitz(30), ToeplitzDilated(60, 4), ToeplitzDilated(80)):
        tiling = tiles(neighbourhood, 300)
        assert len(tiling.steps(torch.zeros(1, 300))) * tiling.dilation == 300
