"""Clips longer than their model: layouts of several windows, joined steps, masks; planted attention in each window."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis.capture import TokenLayout, TokenTable, capture
from analysis.pretrained.windows import joined, over_windows, window_mask

WINDOWS, FRAMES, PATCHES = 3, 5, 2
TO_FRAME = torch.tensor([[3, 0, 4, 1, 1], [2, 2, 0, 4, 3], [1, 4, 3, 0, 2]])  # of each window


class Planted(nn.Module):
    """In each window every token attends to its patch of one frame; `divided`: the patches are in the batch."""

    def __init__(self, divided):
        super().__init__()
        self.divided = divided

    def forward(self):
        to = TO_FRAME if self.divided else (TO_FRAME[:, :, None] * PATCHES + torch.arange(PATCHES)).flatten(1)
        to = to.repeat_interleave(PATCHES, 0) if self.divided else to
        tokens = to.shape[1]
        key = torch.eye(tokens).expand(len(to), 1, -1, -1)
        return F.scaled_dot_product_attention(1e3 * torch.eye(tokens)[to][:, None], key, key)


@pytest.mark.parametrize("divided", [False, True])
def test_every_window_attends_to_its_own_frames(divided):
    layout = TokenLayout(FRAMES, PATCHES, folded="patch" if divided else None)
    module = Planted(divided)
    with capture(module, reduce="frames", layout=over_windows({"*": layout}, WINDOWS)) as captured:
        module()
    expected = torch.zeros(WINDOWS * FRAMES, WINDOWS * FRAMES)
    for window, to in enumerate(TO_FRAME):
        for frame, key in enumerate(to):
            expected[window * FRAMES + frame, window * FRAMES + key] = 1
    assert torch.equal(captured.calls[0].frames.weights[0, 0], expected)
    assert (expected[~window_mask(WINDOWS, FRAMES)] == 0).all()


def test_tokens_of_no_frame_stay_so_in_every_window():
    table = over_windows({"*": TokenLayout(FRAMES, PATCHES, front=1), "skipped": None}, WINDOWS)
    assert table["skipped"] is None
    assert isinstance(table["*"], TokenTable)
    assert table["*"].frame[0, :, 0].tolist() == [-1] * WINDOWS
    assert table["*"].frame[0, 1, 1:].tolist() == [5, 5, 6, 6, 7, 7, 8, 8, 9, 9]
    assert table["*"].frames == WINDOWS * FRAMES


def test_one_window_is_as_it_was():
    layouts = {"*": TokenLayout(FRAMES, PATCHES)}
    assert over_windows(layouts, 1) == layouts
    assert window_mask(1, FRAMES) is None
    assert window_mask(2, 2).int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]


def test_tokens_are_joined_to_longer_steps():
    layout = joined(TokenLayout(13, lengths=None), 4)
    frame, patch = (values[0, 0].tolist() for values in (layout.table().frame, layout.table().patch))
    assert frame == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, -1]
    assert patch == [0, 1, 2, 3] * 3 + [-1]
