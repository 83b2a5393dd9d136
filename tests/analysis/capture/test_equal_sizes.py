"""Axes of a map that have one size, or the size of another reading, are told by other inputs; never swapped."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis.capture import LayoutError, TokenLayout, capture

TIME, HEADS, DIM = 7, 3, 4


class Split(nn.Module):
    """Attention of values of (..., heads x dim), whose heads are arranged by a function."""

    def __init__(self, arrange, heads, told=True):
        super().__init__()
        torch.manual_seed(0)
        self.queries, self.arrange, self.count = nn.Linear(heads * DIM, heads * DIM), arrange, heads
        if told:
            self.num_heads = heads

    def forward(self, x):
        return self.attend(x)

    def attend(self, x):
        parts = self.arrange(self.queries(x).unflatten(-1, (self.count, -1)))
        return F.scaled_dot_product_attention(parts, parts, parts)


class Loop(Split):
    def forward(self, x):
        return torch.stack([self.attend(clip) for clip in x])


class Chunks(Split):
    def forward(self, x):
        return torch.cat([self.attend(clip) for clip in x.chunk(len(x))])


class Second(nn.Module):
    """Attention between tokens, then another of the kind that is tested."""

    def __init__(self, second):
        super().__init__()
        self.first = Split(between_tokens, second.count)
        self.second = second

    def forward(self, x):
        return self.second(x + self.first(x).transpose(1, 2).flatten(2))


class TimeFirst(nn.Module):
    def __init__(self, turned):
        super().__init__()
        torch.manual_seed(0)
        self.turned, self.attention = turned, nn.MultiheadAttention(HEADS * DIM, HEADS)

    def forward(self, x):
        x = x.transpose(0, 1) if self.turned else x
        return self.attention(x, x, x)[0]


def between_tokens(parts):
    return parts.transpose(-3, -2)


def between_heads(parts):
    return parts


def windows(parts):
    return parts.unflatten(1, (2, -1)).flatten(0, 1).transpose(1, 2)


def shapes(module, shape, **options):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with capture(module, reduce="frames", layout=TokenLayout(TIME, **options)) as captured:
        module(x)
    return [call.frames.weights.shape[:2] for call in captured]


def test_attention_between_as_many_clips_as_time_steps_is_refused():
    with pytest.raises(LayoutError, match=r"call 0 of 'attention' .* reach them in another way"):
        shapes(TimeFirst(False), (TIME, TIME, HEADS * DIM))
    with pytest.raises(LayoutError, match="reach them in another way"):
        shapes(Split(lambda parts: parts.squeeze(2).transpose(0, 1), 1), (TIME, TIME, DIM))


def test_as_many_clips_as_time_steps_are_clips():
    assert shapes(TimeFirst(True), (TIME, TIME, HEADS * DIM)) == [(TIME, HEADS)]
    assert shapes(TimeFirst(False), (TIME, TIME, HEADS * DIM), axes="clip head") == [(TIME, HEADS)]
    assert shapes(TimeFirst(False), (TIME, 2, HEADS * DIM)) == [(2, HEADS)]


@pytest.mark.parametrize("clips", [1, 2])
@pytest.mark.parametrize("build", [lambda module: module, Second], ids=["alone", "behind another"])
def test_attention_between_as_many_heads_as_time_steps_is_refused(build, clips):
    with pytest.raises(LayoutError, match="reach them in another way"):
        shapes(build(Split(between_heads, TIME)), (clips, TIME, TIME * DIM))


@pytest.mark.parametrize("clips", [1, 2])
def test_as_many_heads_as_time_steps_are_heads(clips):
    module = Second(Split(between_tokens, TIME))
    assert shapes(module, (clips, TIME, TIME * DIM)) == [(clips, TIME)] * 2


@pytest.mark.parametrize("clips", [1, 2])
def test_windows_in_the_batch_are_refused_unless_the_layout_says_that_they_are_clips(clips):
    module = Split(windows, HEADS)
    with pytest.raises(LayoutError, match=r"(cannot hold|in another way|which leaves 6 heads).*lengths"):
        shapes(module, (clips, 2 * TIME, HEADS * DIM))
    assert shapes(module, (clips, 2 * TIME, HEADS * DIM), lengths=(TIME,) * 2 * clips) == [(2 * clips, HEADS)]


@pytest.mark.parametrize("kind", [Loop, Chunks])
def test_heads_of_one_clip_in_a_loop_are_no_clips(kind):
    with pytest.raises(LayoutError, match="as in a loop"):
        shapes(kind(between_tokens, 2, told=False), (2, TIME, 2 * DIM))
    assert shapes(kind(between_tokens, 2), (2, TIME, 2 * DIM)) == [(1, 2)] * 2
    assert shapes(kind(between_tokens, 2, told=False), (2, TIME, 2 * DIM), lengths=(TIME,)) == [(1, 2)] * 2
