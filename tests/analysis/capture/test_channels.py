"""Attention between channels is not taken for one between tokens where there are as many."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis.capture import LayoutError, TokenLayout, capture

TOKENS, HEADS = 7, 3
WIDTH = HEADS * TOKENS


def product(query, key, value):
    return (query @ key.mT).softmax(-1) @ value


KINDS = {
    "written out": lambda query, key, value: product(query.mT, key.mT, value.mT).mT,
    "fused": lambda query, key, value: F.scaled_dot_product_attention(query.mT, key.mT, value.mT).mT,
    "linear": lambda query, key, value: query.softmax(-1) @ (key.softmax(-2).mT @ value),
}
TRUE = {
    "written out": product,
    "fused": F.scaled_dot_product_attention,
    "causal": lambda query, key, value: F.scaled_dot_product_attention(query, key, value, is_causal=True),
}


class Attention(nn.Module):
    """As many channels a head as tokens."""

    num_heads = HEADS

    def __init__(self, attend, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.attend = attend
        self.packed = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x):
        parts = (each.unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in self.packed(x).chunk(3, -1))
        return self.attend(*parts).transpose(1, 2).flatten(2)


def recorded(attend, seed, axes=None):
    model = nn.Sequential(nn.LayerNorm(WIDTH), Attention(attend, seed))
    values = torch.randn(2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))
    with capture(model, reduce="frames", layout=TokenLayout(TOKENS, axes=axes)) as captured:
        model(values)
    return captured.calls


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("attend", KINDS.values(), ids=KINDS)
def test_attention_between_channels_is_refused(attend, seed):
    with pytest.raises(LayoutError, match=r"call 0 of '1' .* as many tokens as channels of its values \(7\)"):
        recorded(attend, seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("attend", TRUE.values(), ids=TRUE)
def test_attention_between_as_many_tokens_is_recorded(attend, seed):
    (call,) = recorded(attend, seed)
    assert call.shape == (2, HEADS, TOKENS, TOKENS)


def test_axes_that_the_layout_says_count():
    (call,) = recorded(KINDS["fused"], 0, axes="clip head")
    assert call.shape == (2, HEADS, TOKENS, TOKENS)


class Efficient(nn.Module):
    """As many channels of keys as tokens, more of values."""

    num_heads = HEADS

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.queries, self.keys, self.values = nn.Linear(5, WIDTH), nn.Linear(5, WIDTH), nn.Linear(5, HEADS * 8)

    def forward(self, x):
        query, key, value = (
            each(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in (self.queries, self.keys, self.values)
        )
        return self.attend(query, key, value)

    def attend(self, query, key, value):
        return query.softmax(-1) @ (key.softmax(-2).mT @ value)


class BetweenTokens(Efficient):
    def attend(self, query, key, value):
        return product(query, key, value)


@pytest.mark.parametrize("seed", range(3))
def test_channels_of_keys_alone_are_no_tokens(seed):
    values = torch.randn(2, TOKENS, 5, generator=torch.Generator().manual_seed(seed))
    module = BetweenTokens(seed)
    with capture(module, reduce="frames", layout=TokenLayout(TOKENS)) as captured:
        module(values)
    assert captured.calls[0].shape == (2, HEADS, TOKENS, TOKENS)
    module = Efficient(seed)
    message = r"as many tokens as heads or channels \(7\)"
    with pytest.raises(LayoutError, match=message), capture(module, layout=TokenLayout(TOKENS)):
        module(values)


@pytest.mark.parametrize("seed", range(3))
def test_sharp_maps_of_as_many_clips_as_tokens_are_recorded(seed):
    values = torch.randn(TOKENS, TOKENS, 5, generator=torch.Generator().manual_seed(seed))
    module = BetweenTokens(seed)
    with torch.no_grad():
        module.queries.weight.mul_(8)
    with capture(module, reduce="frames", layout=TokenLayout(TOKENS)) as captured:
        module(values)
    assert captured.calls[0].shape == (TOKENS, HEADS, TOKENS, TOKENS)
