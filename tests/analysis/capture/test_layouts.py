"""Token layouts: planted attention must come out at the right frame and patch; maps between frames by definition."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis.capture import CrossLayout, LayoutError, TokenLayout, TokenTable, capture
from analysis.capture.frame_maps import FrameSums, spatial_map
from analysis.capture.layout import fit

CLIPS, FRAMES, PATCHES = 2, 5, 7
TO_FRAME = torch.tensor([3, 0, 4, 1, 1])  # which frame each frame attends to
TO_PATCH = torch.tensor([2, 6, 0, 3, 5, 1, 1])


class Planted(nn.Module):
    """Each token attends to one token alone; tokens and the batch are arranged as a layout says.

    Args:
        ids: of the tokens of one clip, (rows of the batch, tokens): frame x patches + patch; -1 for a token of none.
    """

    def __init__(self, ids):
        super().__init__()
        self.ids = ids
        self.targets = self._targets()

    def _targets(self):
        targets = torch.zeros_like(self.ids)
        for row, ids in enumerate(self.ids):
            for token, number in enumerate(ids.tolist()):
                frame, patch = divmod(number, PATCHES)
                wishes = [(TO_FRAME[frame], TO_PATCH[patch]), (TO_FRAME[frame], patch), (frame, TO_PATCH[patch])]
                places = [(ids == wish[0] * PATCHES + wish[1]).nonzero() for wish in wishes if number >= 0]
                targets[row, token] = next((place[0, 0] for place in places if len(place)), token)
        return targets

    def forward(self, clips):
        tokens = self.ids.shape[1]
        key = torch.eye(tokens).expand(clips, len(self.ids), 1, -1, -1).flatten(0, 1)
        query = 1e3 * torch.eye(tokens)[self.targets].expand(clips, -1, -1, -1).flatten(0, 1)[:, None]
        return F.scaled_dot_product_attention(query, key, key)


GRID = torch.arange(FRAMES * PATCHES).reshape(FRAMES, PATCHES)
NUMBERS = GRID.reshape(1, 1, -1)
ARRANGED = {
    "joint": (GRID.reshape(1, -1), TokenLayout(FRAMES, PATCHES)),
    "joint, patch by patch": (GRID.mT.reshape(1, -1), TokenLayout(FRAMES, PATCHES, "patch frame")),
    "one token a frame": (GRID[None, :, 0], TokenLayout(FRAMES)),
    "class token and registers": (
        F.pad(GRID.reshape(1, -1), (3, 2), value=-1),
        TokenLayout(FRAMES, PATCHES, front=3, back=2),
    ),
    "temporal": (GRID.mT, TokenLayout(FRAMES, PATCHES, folded="patch")),
    "temporal, class token": (
        F.pad(GRID.mT, (1, 0), value=-1),
        TokenLayout(FRAMES, PATCHES, front=1, folded="patch"),
    ),
    "tubelets": (GRID.reshape(1, -1), TokenLayout(FRAMES, PATCHES, tubelet=2)),
    "written out": (
        GRID.reshape(1, -1).flip(1),
        TokenTable(
            GRID.reshape(1, 1, -1).flip(2) // PATCHES, GRID.reshape(1, 1, -1).flip(2) % PATCHES, FRAMES, PATCHES
        ),
    ),
}


@pytest.mark.parametrize("case", ARRANGED)
def test_planted_attention_is_at_the_right_frame(case):
    ids, layout = ARRANGED[case]
    module = Planted(ids)
    with capture(module, reduce="frames", layout=layout) as result:
        module(CLIPS)
    frames = result.calls[0].frames
    assert torch.equal(frames.weights, F.one_hot(TO_FRAME).float().expand(CLIPS, 1, -1, -1))
    assert (frames.outside == 0).all()


@pytest.mark.parametrize("case", ARRANGED)
def test_planted_attention_of_a_pinned_frame_is_at_the_right_patches(case):
    ids, layout = ARRANGED[case]
    module = Planted(ids)
    with capture(module, layout=layout, queries=[2]) as result:
        module(CLIPS)
    expected = torch.zeros(FRAMES, PATCHES)
    to_patch = {"temporal": torch.arange(PATCHES), "one token a frame": torch.zeros(PATCHES, dtype=torch.int64)}
    for patch in range(PATCHES):
        expected[TO_FRAME[2], to_patch.get(case.split(",")[0], TO_PATCH)[patch]] += 1 / PATCHES
    if case == "one token a frame":
        expected = expected[:, :1]
    assert torch.allclose(result.calls[0].spatial_map(2), expected.expand(CLIPS, 1, -1, -1))


def test_planted_spatial_attention_stays_in_its_frame():
    module = Planted(F.pad(GRID, (1, 0), value=-1))
    layout = TokenLayout(FRAMES, PATCHES, front=1, folded="frame")
    with capture(module, layout=layout) as result:
        module(CLIPS)
    (call,) = result
    assert torch.equal(call.frames.weights, torch.eye(FRAMES).expand(CLIPS, 1, -1, -1))
    expected = torch.zeros(FRAMES, PATCHES)
    for patch in TO_PATCH:
        expected[3, patch] += 1 / PATCHES
    assert torch.allclose(call.spatial_map(3), expected.expand(CLIPS, 1, -1, -1))


def test_a_transposed_layout_gives_other_frames():
    module = Planted(GRID.reshape(1, -1))
    with capture(module, reduce="frames", layout=TokenLayout(FRAMES, PATCHES, "patch frame")) as result:
        module(CLIPS)
    planted = F.one_hot(TO_FRAME).float()
    assert (result.calls[0].frames.weights[0, 0] * planted).sum(1).max() < 0.9


def by_definition(weights, queries, keys):
    """One weight at a time."""
    clips, fold, heads, query, key = weights.shape
    sums = torch.zeros(clips, heads, queries.frames, keys.frames, dtype=torch.float64)
    outside = torch.zeros(clips, heads, queries.frames, dtype=torch.float64)
    count = torch.zeros(clips, queries.frames)
    for clip in range(clips):
        for row in range(fold):
            of_query = queries.frame[min(clip, len(queries.frame) - 1), row]
            of_key = keys.frame[min(clip, len(keys.frame) - 1), row]
            for i in range(query):
                if of_query[i] < 0:
                    continue
                count[clip, of_query[i]] += 1
                for j in range(key):
                    weight = weights[clip, row, :, i, j].double()
                    if of_key[j] < 0:
                        outside[clip, :, of_query[i]] += weight
                    else:
                        sums[clip, :, of_query[i], of_key[j]] += weight
    count = count.clamp(min=1)
    return sums / count[:, None, :, None], outside / count[:, None]


@pytest.mark.parametrize(
    "layout",
    [
        TokenLayout(3, 5, front=2, back=1),
        TokenLayout(3, 5, "patch frame", front=1, lengths=(2, 3)),
        TokenLayout(5, 3, folded="patch", lengths=(4, 0)),
        TokenLayout(5, 3, front=1, folded="frame"),
        CrossLayout(TokenLayout(2, 3), TokenLayout(5, 1, front=1)),
    ],
)
def test_maps_between_frames_by_definition_and_in_pieces(layout):
    sides = (layout.queries, layout.keys) if isinstance(layout, CrossLayout) else (layout, layout)
    shape = (2 * sides[0].fold, 3, sides[0].tokens, sides[1].tokens)
    queries, keys = fit(layout, "a call", shape)
    weights = torch.rand(shape, generator=torch.Generator().manual_seed(0)).softmax(-1)
    sums = FrameSums(queries, keys, shape[:2], weights.device)
    for part in (slice(0, 2), torch.tensor([*range(3, shape[2]), 2])):
        sums.add(weights[:, :, part], part)
    result = sums.result()
    expected, outside = by_definition(weights.unflatten(0, (2, -1)), queries, keys)
    assert torch.allclose(result.weights.double(), expected, atol=1e-6)
    assert torch.allclose(result.outside.double(), outside, atol=1e-6)
    real = expected.sum(-1) > 0
    total = result.weights.sum(-1) + result.outside
    assert torch.allclose(total[real], torch.ones(()))


def test_the_class_token_has_a_row_of_its_own():
    layout = TokenLayout(3, 5, front=1)
    queries, keys = fit(layout, "a call", (1, 1, 16, 16))
    weights = torch.rand(1, 1, 16, 16).softmax(-1)
    sums = FrameSums(queries, keys, (1, 1), weights.device)
    sums.add(weights, slice(None))
    assert torch.allclose(sums.result().from_outside[0, 0], weights[0, 0, 0, 1:].reshape(3, 5).sum(1))


class Two(nn.Module):
    """Attention over all tokens, then over those of a frame."""

    def __init__(self):
        super().__init__()
        self.joint, self.spatial = Planted(GRID.reshape(1, -1)), Planted(GRID)

    def forward(self, clips):
        return self.joint(clips), self.spatial(clips)


def test_each_call_may_have_a_layout_of_its_own():
    module = Two()
    layouts = {"joint": TokenLayout(FRAMES, PATCHES), "spat*": TokenLayout(FRAMES, PATCHES, folded="frame")}
    with capture(module, reduce="frames", layout=layouts) as result:
        module(CLIPS)
    assert [call.frames.weights.shape for call in result] == [(CLIPS, 1, FRAMES, FRAMES)] * 2
    assert result["joint"].weights is None
    with capture(module, reduce="frames", layout=layouts | {"joint": None}) as result:
        module(CLIPS)
    assert (result.names, result.skipped) == (("spatial",), {"joint": 1})


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (
            TokenLayout(5, 6),
            r"call 0 of the captured module itself .* has 35 query tokens in a batch of 2; .*30 tokens \(5 frames x 6",
        ),
        (TokenLayout(5, 7, front=1), r"the layout has 36 tokens \(5 frames x 7 patches \+ 1 in front\)"),
        (
            TokenLayout(35, 3, folded="patch"),
            r"axes in front of the tokens, of sizes \(2, 1\), cannot hold .* clip\(s\) x 3 folded rows",
        ),
        (TokenLayout(5, 7, lengths=(5, 5, 5)), r"of sizes \(2, 1\), cannot hold 3 clip\(s\) x 1 folded rows"),
        (CrossLayout(TokenLayout(5, 7), TokenLayout(5)), "has 35 key tokens in a batch of 2; the layout has 5 tokens"),
    ],
)
def test_a_layout_that_does_not_fit_says_which_call_has_how_many_tokens(layout, message):
    module = Planted(GRID.reshape(1, -1))
    with pytest.raises(LayoutError, match=message), capture(module, layout=layout):
        module(CLIPS)


def test_queries_that_are_taken_one_by_one_are_an_error_that_says_so():
    class Rows(torch.nn.Module):
        def forward(self, x):
            weights = [(x[:, step : step + 1] @ x.mT)[:, 0].softmax(-1) for step in range(FRAMES)]
            return torch.stack([(each[..., None] * x).sum(1) for each in weights], 1)

    module = torch.nn.Sequential(Rows())
    message = r"call 0 of '0' \(softmax\) has 1 query tokens in a batch of 2; .* taken one by one are a call each"
    with pytest.raises(LayoutError, match=message), capture(module, layout=TokenLayout(FRAMES)):
        module(torch.randn(2, FRAMES, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, "frames is 0; expected at least 1"),
        ({"frames": 2, "front": -1}, "front is -1"),
        ({"frames": 2, "order": "t h w"}, "order is 't h w'; expected one of 'frame patch', 'patch frame'"),
        ({"frames": 2, "folded": "time"}, "folded is 'time'; expected None or one of 'patch', 'frame'"),
        ({"frames": 2, "lengths": (1, 3)}, r"lengths are \(1, 3\); expected 0 to 2"),
        ({"frames": 7.0}, r"frames is 7\.0; expected a whole number"),
        ({"frames": True}, "frames is True; expected a whole number"),
        ({"frames": np.bool_(True)}, "frames is .*True.*; expected a whole number"),
        ({"frames": torch.tensor(True)}, "frames is .*True.*; expected a whole number"),
        ({"frames": "7"}, "frames is '7'; expected a whole number"),
        ({"frames": 7, "patches": 2.5}, "patches is 2.5; expected a whole number"),
        ({"frames": 7, "lengths": (3.5,)}, r"lengths is 3\.5; expected a whole number"),
        ({"frames": 7, "lengths": 5}, "lengths is 5; expected a number of time steps for each clip"),
        ({"frames": 7, "axes": 3}, "axes is 3; expected names of axes"),
    ],
)
def test_layouts_that_cannot_be(arguments, message, without_checks):
    with pytest.raises(LayoutError, match=message):
        TokenLayout(**arguments)


def test_sides_and_sizes_of_other_kinds_are_an_error(without_checks):
    with pytest.raises(LayoutError, match="queries is None; expected a TokenLayout or a TokenTable"):
        CrossLayout(None, None)
    with pytest.raises(LayoutError, match=r"frames is 2\.5; expected a whole number"):
        TokenTable(torch.zeros(1, 1, 2, dtype=torch.int64), torch.zeros(1, 1, 2, dtype=torch.int64), 2.5)


def test_numbers_of_numpy_and_torch_are_whole_numbers(without_checks):
    layout = TokenLayout(np.int64(7), patches=torch.tensor(2), lengths=np.array([3, 7]))
    assert layout == TokenLayout(7, patches=2, lengths=(3, 7))
    assert all(type(each) is int for each in (layout.frames, layout.patches, *layout.lengths))


def test_a_spatial_map_needs_the_tokens_of_its_frame():
    module = Planted(GRID.reshape(1, -1))
    layout = TokenLayout(FRAMES, PATCHES)
    with capture(module, layout=layout, queries=[2]) as result:
        module(CLIPS)
    with pytest.raises(LayoutError, match="0 of the 7 tokens of query frame 3 were recorded"):
        result.calls[0].spatial_map(3)
    with capture(module, layout=layout, reduce="frames") as result:
        module(CLIPS)
    with pytest.raises(ValueError, match=r"capture\(\.\.\., reduce=None, queries=\[frame\]\)"):
        result.calls[0].spatial_map(3)


def test_a_spatial_map_of_a_frame_without_tokens_is_an_error():
    frame = torch.tensor([[[0, 0, 2, 2]]])
    table = TokenTable(frame, torch.zeros_like(frame), frames=3)
    assert spatial_map(torch.eye(4)[None, None], torch.arange(4), table, table, 2).shape == (1, 1, 3, 1)
    with pytest.raises(LayoutError, match="query frame 1 has no tokens, of 3 frames of the layout"):
        spatial_map(torch.empty(1, 1, 0, 4), torch.tensor(()), table, table, 1)
