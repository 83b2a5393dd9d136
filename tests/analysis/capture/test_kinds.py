"""Attention as papers write it: each map is the one that the module multiplied with values, or there is one error."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis.capture import CaptureError, LayoutError, TokenLayout, capture

BATCH, HEADS, TOKENS, DIM = 2, 3, 7, 4
GENERATOR = torch.Generator().manual_seed(0)
QUERY, KEY, VALUE = (torch.randn(BATCH, HEADS, TOKENS, DIM, generator=GENERATOR) for _ in range(3))
BIAS = torch.randn(HEADS, TOKENS, TOKENS, generator=GENERATOR)
MIX = torch.randn(HEADS, HEADS, generator=GENERATOR)
POSITION = torch.arange(TOKENS)[:, None]


class Function(nn.Module):
    """A function that takes queries, keys and values, and gives a map and what it makes of it."""

    num_heads = HEADS

    def __init__(self, function):
        super().__init__()
        self.function, self.map = function, None

    def forward(self, *values):
        weights, output = self.function(*values)
        self.map = weights
        return output


def product(weights, value):
    return weights, weights @ value


def rotated(each):
    angles = POSITION * torch.tensor([1.0, 0.1])
    one, other = each.chunk(2, -1)
    return torch.cat([one * angles.cos() - other * angles.sin(), one * angles.sin() + other * angles.cos()], -1)


def rotary(query, key, value):
    query, key = rotated(query), rotated(key)
    weights = (query @ key.mT * DIM**-0.5).softmax(-1)
    return weights, F.scaled_dot_product_attention(query, key, value)


def alibi(query, key, value):
    slope = -(POSITION - POSITION.mT).abs() * torch.tensor([0.5, 0.25, 0.1])[:, None, None]
    weights = (query @ key.mT * DIM**-0.5 + slope).softmax(-1)
    return weights, F.scaled_dot_product_attention(query, key, value, attn_mask=slope)


def talking(query, key, value):
    scores = torch.einsum("bhqk,hg->bgqk", query @ key.mT, MIX)
    return product(F.linear(scores.softmax(-1).permute(0, 2, 3, 1), MIX).permute(0, 3, 1, 2), value)


def sink(query, key, value):
    scores = torch.cat([query @ key.mT, torch.ones(BATCH, HEADS, TOKENS, 1)], -1)
    return product(scores.softmax(-1)[..., :-1], value)


def differential(query, key, value):
    one, other = (each.chunk(2, -1) for each in (query, key))
    return product((one[0] @ other[0].mT).softmax(-1) - 0.5 * (one[1] @ other[1].mT).softmax(-1), value)


def relative_values(query, key, value):
    weights = (query @ key.mT).softmax(-1)
    return weights, weights @ value + torch.einsum("bhqk,kqd->bhqd", weights, BIAS[0][..., None].expand(-1, -1, DIM))


def best_keys(query, key, value):
    scores = query @ key.mT
    mask = torch.zeros_like(scores).scatter(-1, scores.topk(3, -1)[1], 1.0)
    return product(scores.masked_fill(mask == 0, -torch.inf).softmax(-1), value)


def rounded(query, key, value):
    return product(((query @ key.mT).softmax(-1) * 255).round() / 255, value)


def drop_keys(query, key, value):
    scores = query @ key.mT
    return product((scores - 1e12 * torch.bernoulli(torch.full_like(scores, 0.3))).softmax(-1), value)


RIGHT = {
    "relative position bias": lambda q, k, v: product((q @ k.mT + BIAS).softmax(-1), v),
    "relative values": relative_values,
    "rotary": rotary,
    "ALiBi": alibi,
    "multi-query": lambda q, k, v: product((q @ k[:, :1].mT).softmax(-1), v[:, :1]),
    "cosine with a temperature": lambda q, k, v: product(
        (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * BIAS[:, :1, :1].exp()).softmax(-1), v
    ),
    "talking heads": talking,
    "sink": sink,
    "differential": differential,
    "causal, large numbers": lambda q, k, v: product(
        (q @ k.mT).masked_fill(POSITION.mT > POSITION, -1e9).softmax(-1), v
    ),
    "best keys": best_keys,
    "residual scores": lambda q, k, v: product((q @ k.mT + (q @ k.mT).softmax(-1)).softmax(-1), v),
    "map of a map": lambda q, k, v: product((q @ k.mT).softmax(-1) @ (k @ q.mT).softmax(-1), v),
    "identity added": lambda q, k, v: product(torch.eye(TOKENS) + (q @ k.mT).softmax(-1) - 1 / TOKENS, v),
    "gated values": lambda q, k, v: product((q @ k.mT).softmax(-1) * torch.sigmoid(v.mean(-1))[:, :, None], v),
    "additive": lambda q, k, v: product(torch.tanh(q[:, :, :, None] + k[:, :, None]).sum(-1).softmax(-1), v),
    "rounded map": rounded,
    "hard Gumbel": lambda q, k, v: product(F.gumbel_softmax(q @ k.mT, hard=True, dim=-1), v),
    "dropped keys": drop_keys,
}


@pytest.mark.parametrize("function", RIGHT.values(), ids=RIGHT)
def test_the_map_is_the_one_that_was_multiplied(function):
    module = Function(function)
    with capture(module, layout=TokenLayout(TOKENS)) as result:
        output = module(QUERY, KEY, VALUE)
    call = result.calls[-1]
    torch.testing.assert_close(call.weights, module.map, atol=1e-6, rtol=0)
    assert call.difference <= call.bound
    assert len(output) == BATCH


def linear(query, key, value):
    query, key = F.elu(query) + 1, F.elu(key) + 1
    return None, query @ (key.mT @ value) / (query @ key.sum(-2)[..., None])


def sparsemax(query, key, value):
    scores = query @ key.mT
    ordered = scores.sort(-1, descending=True)[0]
    above = ordered.cumsum(-1) - 1
    count = (ordered - above / torch.arange(1, TOKENS + 1) > 0).sum(-1, keepdim=True)
    return product((scores - above.gather(-1, count - 1) / count).clamp(min=0), value)


def gathered(query, key, value):
    scores, places = (query @ key.mT).topk(3, -1)
    every = value[:, :, None].expand(-1, -1, TOKENS, -1, -1)
    best = every.gather(3, places[..., None].expand(-1, -1, -1, -1, DIM))
    return None, (scores.softmax(-1)[..., None] * best).sum(-2)


def sinkhorn(query, key, value):
    return product((query @ key.mT).log_softmax(-1).log_softmax(-2).exp(), value)


def mapped(query, key, value):
    return None, torch.vmap(lambda weights, each: weights @ each)((query @ key.mT).softmax(-1), value)


def windows(query, key, value):
    near, of_near = (F.pad(each, (0, 0, 1, 1)).unfold(2, 3, 1) for each in (key, value))
    weights = torch.einsum("bhqd,bhqdw->bhqw", query, near).softmax(-1)
    return None, torch.einsum("bhqw,bhqdw->bhqd", weights, of_near)


WRONG = {
    "linear": (linear, "no attention call was seen in Function"),
    "sparsemax": (sparsemax, "no attention call was seen in Function"),
    "gathered keys": (gathered, "not followed by a product with values that is understood"),
    "softmax over heads": (lambda q, k, v: product((q @ k.mT).softmax(1), v), "went into matmul in the captured mod"),
    "softmax over queries": (lambda q, k, v: product((q @ k.mT).softmax(-2), v), "went into matmul in the captured"),
    "doubly stochastic": (sinkhorn, "which went into matmul in the captured module itself"),
    "windows of keys": (windows, "went into einsum in the captured module itself"),
    "vmap": (mapped, "no attention call was seen in Function"),
    "keys in memory": (
        lambda q, k, v: product((q @ torch.cat([k, k], 2).mT).softmax(-1), torch.cat([v, v], 2)),
        "has 14 key tokens in a batch of 2; the layout has 7 tokens",
    ),
    "channels": (lambda q, k, v: product((q.mT @ k).softmax(-1), v.mT), "has 4 query tokens in a batch of 2"),
}


@pytest.mark.parametrize(("function", "message"), WRONG.values(), ids=WRONG)
def test_what_is_not_read_is_one_error(function, message):
    module = Function(function)
    with pytest.raises((CaptureError, LayoutError), match=message), capture(module, layout=TokenLayout(TOKENS)):
        module(QUERY, KEY, VALUE)
