"""capture on modules of torch alone: each way of attending, against the map worked out by hand, outputs to the bit."""

import math
import subprocess
import sys

import pytest
import torch
import torch.utils.checkpoint
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from analysis.capture import AttentionCall, CaptureError, CaptureWarning, TokenLayout, capture, watcher

BATCH, HEADS, QUERIES, KEYS, DIM = 2, 3, 7, 11, 5


class Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def heads(queries=QUERIES, keys=KEYS, key_heads=HEADS, dtype=torch.float32):
    """Q, K and V of a call, with scores far from uniform."""
    generator = torch.Generator().manual_seed(3)
    sizes = (HEADS, queries, DIM), (key_heads, keys, DIM), (key_heads, keys, DIM + 1)
    return tuple(2 * torch.randn(BATCH, *size, generator=generator).to(dtype) for size in sizes)


def by_definition(query, key, bias=0.0, scale=DIM**-0.5):
    """softmax(Q K^T scale + bias), one query at a time."""
    weights = torch.empty(*query.shape[:-1], key.shape[-2])
    bias = torch.zeros(weights.shape) + bias
    for row in range(query.shape[-2]):
        scores = (query[..., row, None, :] * key).sum(-1) * scale + bias[..., row, :]
        weights[..., row, :] = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return weights


def captured(module, *inputs, **options) -> AttentionCall:
    """The only call of a module, whose output must be what it is without."""
    torch.manual_seed(1)
    expected = module(*inputs)
    torch.manual_seed(1)
    with capture(module, **options) as result:
        output = module(*inputs)
    assert torch.equal(output, expected)
    (call,) = result
    return call


MASK = torch.rand(BATCH, 1, QUERIES, KEYS, generator=torch.Generator().manual_seed(4)) < 0.6
MASK[..., 0] = True
SDPA = {
    "plain": ({}, 0.0),
    "scale": ({"scale": 0.3}, 0.0),
    "boolean mask": ({"attn_mask": MASK}, torch.where(MASK, 0.0, -torch.inf)),
    "additive mask": ({"attn_mask": MASK.float() * 1.5}, MASK.float() * 1.5),
    "mask of two axes": ({"attn_mask": MASK[0, 0]}, torch.where(MASK[0, 0], 0.0, -torch.inf)),
    "causal": ({"is_causal": True}, torch.full((QUERIES, KEYS), -torch.inf).triu(1)),
}


@pytest.mark.parametrize("max_bytes", [1, 1000, 1 << 24])
@pytest.mark.parametrize("case", SDPA)
def test_scaled_dot_product_attention(case, max_bytes):
    options, bias = SDPA[case]
    query, key, value = heads()
    call = captured(
        Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **options)), query, key, value,
        max_bytes=max_bytes,
    )  # fmt: skip
    assert call.kind == "scaled_dot_product_attention"
    assert call.shape == (BATCH, HEADS, QUERIES, KEYS)
    expected = by_definition(query, key, bias, options.get("scale", DIM**-0.5))
    assert torch.allclose(call.weights, expected, atol=1e-6)
    assert 0 <= call.difference <= 3e-6 < call.bound


def test_weights_under_a_large_negative_mask_stay_as_small_as_they_are():
    mask = torch.zeros(QUERIES, KEYS)
    mask[:, ::2] = -92.0
    query, key, value = heads()
    call = captured(
        Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)), query, key, value
    )
    weights = (query @ key.mT * DIM**-0.5 + mask).softmax(-1)
    assert ((weights > 0) & (weights < 1e-38)).any()  # subnormal
    torch.testing.assert_close(call.weights, weights, rtol=1e-3, atol=1e-43)
    assert call.difference <= 3e-6


def test_grouped_queries_are_shared_in_order():
    query, key, value = heads(key_heads=1)
    query = torch.cat([query, query + 1], 1)
    key, value = (torch.cat([each, each - 1], 1) for each in (key, value))
    call = captured(
        Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)), query, key, value
    )
    expected = by_definition(query, torch.stack([key[:, head // 3] for head in range(6)], 1))
    assert torch.allclose(call.weights, expected, atol=1e-6)


def test_a_query_that_may_attend_to_nothing_has_no_weights():
    mask = MASK.clone()
    mask[:, :, 2] = False
    call = captured(Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)), *heads())
    assert (call.weights[:, :, 2] == 0).all()
    assert torch.allclose(call.weights.sum(-1)[:, :, [0, 1, 3, 4, 5, 6]], torch.ones(()))


def test_heads_and_queries_that_are_kept():
    module = Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=MASK))
    whole = captured(module, *heads()).weights
    call = captured(module, *heads(), heads=[2, 0], queries=[5, 1, 6], max_bytes=1)
    assert (call.heads, call.rows) == ((2, 0), (5, 1, 6))
    assert torch.equal(call.weights, whole[:, [2, 0]][:, :, [5, 1, 6]])


@pytest.mark.parametrize(("dtype", "most"), [(torch.bfloat16, 3e-2), (torch.float16, 4e-3), (torch.float64, 1e-10)])
def test_other_types_have_their_own_bounds(dtype, most):
    query, key, value = heads(dtype=dtype)
    call = captured(Function(F.scaled_dot_product_attention), query, key, value)
    assert call.bound == pytest.approx(most * float(value.abs().max()))
    assert call.difference <= call.bound
    assert torch.allclose(call.weights.float(), by_definition(query.float(), key.float()), atol=1e-5)


@pytest.mark.parametrize("module", ["sdpa", "written out", "multi-head"])
def test_autocast_outside(module):
    modules = {
        "sdpa": (Function(F.scaled_dot_product_attention), heads()),
        "written out": (Function(written_out), heads()),
        "multi-head": (Function(lambda x: MULTI_HEAD(x, x, x)[0]), (torch.randn(3, 5, 6),)),
    }
    module, inputs = modules[module]
    with torch.autocast("cpu", torch.bfloat16):
        call = captured(module, *inputs)
    assert call.bound >= 3e-2
    assert 1e-5 < call.difference < call.bound


def multi_head(**options) -> nn.MultiheadAttention:
    torch.manual_seed(2)
    return nn.MultiheadAttention(6, 3, **options)


MULTI_HEAD = multi_head()
BLOCKED = ~MASK[0, 0, :5, :5]  # True: may not attend
BLOCKED.fill_diagonal_(False)
PADDED = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, {}),
        ({"bias": False}, {"attn_mask": BLOCKED}),
        ({"batch_first": True}, {"attn_mask": BLOCKED.float() * -2}),
        ({"batch_first": True}, {"key_padding_mask": PADDED}),
        ({"batch_first": True}, {"key_padding_mask": PADDED, "attn_mask": BLOCKED}),
        ({}, {"attn_mask": torch.ones(5, 5, dtype=torch.bool).triu(1), "is_causal": True}),
        ({"add_bias_kv": True, "add_zero_attn": True}, {"attn_mask": BLOCKED}),
        ({"batch_first": True}, {"attn_mask": BLOCKED.repeat(6, 1, 1)}),
    ],
)
def test_multi_head_attention(options, arguments, need_weights, monkeypatch):
    module = multi_head(**options)
    inputs = torch.randn(2, 5, 6) if options.get("batch_first") else torch.randn(5, 2, 6)
    run = Function(lambda x: module(x, x, x, need_weights=need_weights, **arguments)[0])
    run.attention = module
    call = captured(run, inputs)
    _, weights = module(inputs, inputs, inputs, average_attn_weights=False, **arguments)
    assert (call.module, call.kind) == ("attention", "multi_head_attention_forward")
    assert torch.allclose(call.weights, weights, atol=1e-6)
    if need_weights:  # of the kernels in the call, to the bit
        assert torch.equal(call.weights, weights)
    monkeypatch.setattr(watcher, "inside_multi_head", lambda args, kwargs: None)  # computed from what it was given
    plain = captured(run, inputs)
    assert torch.allclose(call.weights, plain.weights, atol=1e-6)
    assert (call.shape, call.kind) == (plain.shape, plain.kind)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("need_weights", [True, False])
def test_multi_head_attention_is_seen_inside_its_call(need_weights, context, monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(watcher, "multi_head", never)
    module = multi_head()
    run = Function(lambda x: module(x, x, x, need_weights=need_weights)[0])
    with context():
        call = captured(run, torch.randn(5, 2, 6))
    assert call.shape == (2, 3, 5, 5)
    assert call.difference <= 1e-6


def test_nothing_of_the_compiler_is_loaded():
    script = (
        "import sys, torch\nfrom analysis.capture import capture\nmodule = torch.nn.MultiheadAttention(6, 3)\n"
        "before = 'torch._dynamo' in sys.modules\n"
        "with capture(module): module(*[torch.ones(5, 2, 6)] * 3)\n"
        "assert ('torch._dynamo' in sys.modules) == before"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_multi_head_attention_across_sources_of_other_widths():
    module = multi_head(kdim=7, vdim=11)
    query, key, value = torch.randn(3, 2, 6), torch.randn(5, 2, 7), torch.randn(5, 2, 11)
    run = Function(lambda *inputs: module(*inputs, need_weights=False)[0])
    call = captured(run, query, key, value, heads=[1])
    _, weights = module(query, key, value, average_attn_weights=False)
    assert torch.allclose(call.weights, weights[:, [1]], atol=1e-6)
    unbatched = captured(run, query[:, 0], key[:, 0], value[:, 0])
    assert torch.allclose(unbatched.weights, weights[:1], atol=1e-6)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_transformer_encoder(context, train):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 3, 8, batch_first=True, dropout=0.4)
    module = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train(train)
    frames = torch.randn(2, 5, 6)
    with context():
        torch.manual_seed(1)
        expected = module(frames, src_key_padding_mask=PADDED)
        torch.manual_seed(1)
        with capture(module) as result:
            output = module(frames, src_key_padding_mask=PADDED)
    assert result.names == ("layers.0.self_attn", "layers.1.self_attn")
    assert result["layers.1.self_attn"].dropout == (0.4 if train else 0.0)
    real = ~PADDED
    assert torch.allclose(output[real], expected[real], atol=1e-6)  # in evaluation mode the plain run is a fused one
    assert all((call.weights[1, :, :, 3:] == 0).all() for call in result)


def written_out(query, key, value, dropout=0.0):
    weights = torch.softmax(query @ key.transpose(-2, -1) * DIM**-0.5, dim=-1)
    return F.dropout(weights, dropout) @ value


def einsum(query, key, value):
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) * DIM**-0.5
    return torch.einsum("bhqk,bhkd->bqhd", scores.softmax(-1), value).transpose(1, 2)


def keys_first(query, key, value):
    weights = (key @ query.mT * DIM**-0.5).softmax(dim=-2)
    return (value.mT @ weights).mT


def turned(query, key, value):
    weights = F.softmax(query @ key.mT * DIM**-0.5, -1)
    return torch.matmul(value.transpose(2, 3), weights.permute(0, 1, 3, 2)).mT


def flattened(query, key, value):
    weights = F.softmax(query @ key.mT * DIM**-0.5, -1, dtype=torch.float32).to(query.dtype)
    return weights.flatten(0, 1).bmm(value.flatten(0, 1)).unflatten(0, (BATCH, HEADS))


def einsum_dots(query, key, value):
    scores = torch.einsum("...qd,...kd->...qk", query, key) * DIM**-0.5
    return torch.einsum("...qk,...kd->...qd", scores.softmax(-1), value)


def einsum_dots_turned(query, key, value):
    scores = torch.einsum("...qd,...kd->...kq", query, key) * DIM**-0.5
    return torch.einsum("...kd, ...kq -> q...d", value, scores.softmax(-2)).movedim(0, -2)


def einsum_without_arrow(query, key, value):
    scores = torch.einsum("...qd,...kd->...qk", query, key) * DIM**-0.5
    return torch.einsum("...ak,...kb", scores.softmax(-1), value)


def heads_behind(query, key, value):
    """Keys are the last axis but one, heads the last."""
    scores = torch.einsum("bhqd,bhkd->bqkh", query, key) * DIM**-0.5
    return torch.einsum("bqkh,bhkd->bhqd", scores.softmax(2), value)


def elementwise(query, key, value):
    weights = (query @ key.mT * DIM**-0.5).softmax(-1)
    return (weights[..., None] * value[..., None, :, :]).sum(-2)


def elementwise_turned(query, key, value):
    weights = (key @ query.mT * DIM**-0.5).softmax(-2)
    return torch.sum(value.unsqueeze(-2).mul(weights.unsqueeze(-1)), dim=-3, keepdim=True).squeeze(-3)


def elementwise_with_dropout(query, key, value):
    weights = F.dropout((query @ key.mT * DIM**-0.5).softmax(-1), 0.0)
    return (value.unsqueeze(2) * weights.unsqueeze(-1)).sum((3,))


FORMS = [
    written_out, einsum, keys_first, turned, flattened, einsum_dots, einsum_dots_turned, einsum_without_arrow,
    heads_behind, elementwise, elementwise_turned, elementwise_with_dropout,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_attention_that_is_written_out(form, context):
    query, key, value = heads()
    with context():
        call = captured(Function(form), query, key, value)
    assert (call.kind, call.changed, call.dropout) == ("softmax", False, 0.0)
    expected = by_definition(query, key)
    assert torch.allclose(call.weights.reshape(expected.shape), expected, atol=1e-6)
    assert call.difference <= 1e-6


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_map_is_followed_when_its_leading_axes_change_places(dropout):
    def heads_first(query, key, value):
        weights = F.dropout(F.softmax(query @ key.mT * DIM**-0.5, -1), dropout)
        return weights.permute(1, 0, 2, 3) @ value.transpose(0, 1)

    query, key, value = heads()
    call = captured(Function(heads_first), query, key, value)
    assert (call.shape, call.dropout) == ((HEADS, BATCH, QUERIES, KEYS), dropout)
    assert torch.allclose(call.weights, by_definition(query, key).transpose(0, 1), atol=1e-6)


def test_gates_after_the_softmax_change_the_map():
    gate = torch.rand(QUERIES, KEYS)

    def gated(query, key, value):
        first = torch.softmax(query @ key.mT, -1)
        second = torch.softmax(-(query @ key.mT), -1)
        return (gate * first + (1 - gate) * second) @ value

    query, key, value = heads()
    call = captured(Function(gated), query, key, value)
    expected = gate * by_definition(query, key, scale=1) + (1 - gate) * by_definition(-query, key, scale=1)
    assert call.changed
    assert torch.allclose(call.weights, expected, atol=1e-6)


def test_other_softmaxes_are_not_attention_and_nothing_is_said():
    def forward(query, key, value):
        classes = torch.softmax(query, -1)  # no product follows
        gates = torch.stack([query, query]).softmax(0)  # of a pair
        open_gate = torch.stack([query, query], -1).softmax(-1)[..., 0]
        gated = gates[0] * query + gates[1] * query + open_gate * query
        return F.scaled_dot_product_attention(query, key, value).sum() + classes.sum() + gated.sum()

    assert captured(Function(forward), *heads()).kind == "scaled_dot_product_attention"


POOLINGS = {
    "weights behind": lambda x, scores: (scores.unsqueeze(-1).softmax(1) * x).sum(1),
    "an axis more": lambda x, scores: torch.sum(x * scores.softmax(-1)[..., None], 1),
    "a product of matrices": lambda x, scores: (scores.softmax(1).unsqueeze(1) @ x).squeeze(1),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_by_attention_is_a_map_of_one_query(name):
    x, scores = torch.randn(BATCH, KEYS, DIM), torch.randn(BATCH, KEYS)
    call = captured(Function(POOLINGS[name]), x, scores)
    assert call.shape == (BATCH, 1, 1, KEYS)
    assert torch.allclose(call.weights[:, 0, 0], scores.softmax(-1))


def by_feature(query, key, value):
    return (torch.softmax(key, -2) * key).sum(-2)


def own_kernel(query, key, value):
    return torch.tensordot((query @ key.mT).softmax(-1), value, ([1, 3], [1, 2]))


def values_of_each_query(query, key, value):
    weights = (query @ key.mT).softmax(-1)
    return (weights[..., None] * (value.unsqueeze(2) + query.unsqueeze(3)[..., :1])).sum(-2)


@pytest.mark.parametrize("form", [by_feature, own_kernel, values_of_each_query])
def test_a_softmax_whose_product_is_not_understood_is_warned_of(form):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.odd = Function(form)

        def forward(self, *inputs):
            return F.scaled_dot_product_attention(*inputs).sum() + self.odd(*inputs).sum() + self.odd(*inputs).sum()

    module = Both()
    message = (
        r"softmax of shape \(2, 3, \d+, \d+\) in module 'odd' \(2 calls\), which went (through \w+ )?into "
        r"(mul|tensordot|matmul) in module 'odd': not followed .*Adapter"
    )
    with pytest.warns(CaptureWarning, match=message), capture(module) as result:
        module(*heads())
    assert result.names == ("",)
    with capture(module, layers=["[!o]*", ""]):
        module(*heads())
    message = r"no attention call of Function was recorded\. softmax of shape"
    with pytest.raises(CaptureError, match=message), capture(module.odd):
        module.odd(*heads())


@pytest.mark.parametrize("kind", ["sdpa", "written out", "multi-head"])
def test_a_dropout_that_is_on_draws_as_before_and_the_map_is_the_one_before_it(kind):
    query, key, value = heads()
    frames = torch.randn(5, 2, 6)
    dropping = multi_head(dropout=0.4)
    modules = {
        "sdpa": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.4), (query, key, value)),
        "written out": (lambda q, k, v: written_out(q, k, v, 0.4), (query, key, value)),
        "multi-head": (lambda x: dropping(x, x, x)[0], (frames,)),
    }
    function, inputs = modules[kind]
    call = captured(Function(function), *inputs)
    expected = by_definition(query, key)
    if kind == "multi-head":
        expected = dropping.eval()(frames, frames, frames, average_attn_weights=False)[1]
    assert call.dropout == 0.4
    assert torch.allclose(call.weights, expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when it compiles
@pytest.mark.parametrize("compiled", [False, True])
def test_flex_attention(compiled):
    query, key, value = heads(7, 7)
    slope = torch.tensor([0.1, 0.5, 0.9])
    causal = create_block_mask(lambda b, h, i, j: i >= j, None, None, 7, 7, device="cpu")
    attend = torch.compile(flex_attention) if compiled else flex_attention

    def forward(query, key, value):
        return attend(query, key, value, score_mod=lambda s, b, h, i, j: s + slope[h] * (j - i), block_mask=causal)

    distance = torch.arange(7.0)[None] - torch.arange(7.0)[:, None]
    expected = by_definition(query, key, slope[:, None, None] * distance + torch.full((7, 7), -torch.inf).triu(1))
    for options, kept in (({}, [0, 1, 2]), ({"heads": [2, 1], "max_bytes": 1}, [2, 1])):
        module = Function(forward)
        with capture(module, **options) as result:
            output = module(query, key, value)
        assert torch.allclose(output, expected @ value, atol=1e-5)
        assert result.calls[0].kind == "flex_attention"
        assert torch.allclose(result.calls[0].weights, expected[:, kept], atol=1e-6)


def test_gradients_pass_as_before():
    query, key, value = (each.requires_grad_() for each in heads())
    module = Function(lambda *inputs: F.scaled_dot_product_attention(*inputs).square().sum())
    expected = torch.autograd.grad(module(query, key, value), (query, key, value))
    with capture(module) as result:
        output = module(query, key, value)
    assert not result.calls[0].weights.requires_grad
    for ours, theirs in zip(torch.autograd.grad(output, (query, key, value)), expected, strict=True):
        assert torch.equal(ours, theirs)


class Twice(nn.Module):
    """One attention in two places, and called twice in one of them."""

    def __init__(self):
        super().__init__()
        self.first = nn.ModuleDict({"attention": multi_head()})
        self.second = nn.ModuleDict({"attention": self.first["attention"]})

    def forward(self, x):
        for block in (self.first, self.second, self.second):
            x = x + block["attention"](x, x, x)[0]
        return x


def test_shared_modules_and_passes_are_numbered():
    module = Twice()
    with capture(module) as result:
        module(torch.randn(5, 2, 6))
        module(torch.randn(3, 2, 6))
    assert result.names == ("first.attention", *(f"first.attention#{index}" for index in range(1, 6)))
    assert [call.shape[2] for call in result] == [5, 5, 5, 3, 3, 3]
    with pytest.raises(KeyError, match=r"no call 'third'.*first\.attention#5"):
        result["third"]


class Stack(nn.Module):
    """Blocks of attention, one after another."""

    def __init__(self, depth=3):
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"attention": multi_head()}) for _ in range(depth))

    def forward(self, x):
        for block in self.blocks:
            x = x + block["attention"](x, x, x)[0]
        return x


@pytest.mark.parametrize(
    ("layers", "kept"), [(["blocks.[02].*"], (0, 2)), ([1], (1,)), (["blocks.0.*", 2], (0, 2)), (None, (0, 1, 2))]
)
def test_layers_by_pattern_or_number(layers, kept):
    module = Stack()
    with capture(module, layers=layers) as result:
        module(torch.randn(5, 2, 6))
    assert result.names == tuple(f"blocks.{layer}.attention" for layer in kept)
    assert sum(result.skipped.values()) == 3 - len(kept)


def test_a_capture_inside_a_capture_records_each_call_in_both():
    module = Stack()
    with capture(module) as outer, capture(module.blocks[1]["attention"]) as inner:
        module(torch.randn(5, 2, 6))
    assert outer.names == tuple(f"blocks.{layer}.attention" for layer in range(3))
    assert inner.names == ("",)
    assert torch.equal(inner.calls[0].weights, outer.calls[1].weights)


def test_what_runs_outside_the_module_is_not_recorded():
    module, other = Stack(), Stack()
    with capture(module) as result:
        other(torch.randn(5, 2, 6))
        module(torch.randn(5, 2, 6))
        module.blocks[0]["attention"](*[torch.randn(5, 2, 6)] * 3)
    assert len(result) == 3
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in module.modules())


def test_an_error_in_the_module_is_its_own_and_leaves_nothing_behind():
    module = Stack()
    with pytest.raises(AssertionError, match="embedding"), capture(module):
        module(torch.randn(5, 2, 7))
    with capture(module) as result:
        with pytest.raises(AssertionError, match="embedding"):
            module(torch.randn(5, 2, 7))
        module(torch.randn(5, 2, 6))
    assert result.names == tuple(f"blocks.{layer}.attention" for layer in range(3))
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in module.modules())


def test_a_map_that_does_not_explain_the_output_is_refused(monkeypatch):
    def shifted(args, kwargs, output):
        maps, dropout = read(args, kwargs, output)
        maps.factor *= 1.01
        return maps, dropout

    read = watcher.scaled_dot_product
    monkeypatch.setattr(watcher, "scaled_dot_product", shifted)
    with pytest.raises(
        CaptureError,
        match=r"call 0 of the captured module itself .*does not explain the output: max \|P V - out\| is .*at most",
    ):
        captured(Function(F.scaled_dot_product_attention), *heads())


def test_an_output_that_is_not_a_number_is_refused():
    query, key, value = heads()
    value[0, 0, 0, 0] = math.nan
    with (
        pytest.raises(CaptureError, match="the module's own output holds NaN"),
        capture(module := Function(F.scaled_dot_product_attention)),
    ):
        module(query, key, value)


def test_jagged_tensors_are_refused():
    jagged = torch.nested.nested_tensor([torch.randn(3, 2, 8), torch.randn(5, 2, 8)], layout=torch.jagged)
    module = Function(lambda x: F.scaled_dot_product_attention(x, x, x))
    with pytest.raises(CaptureError, match=r"jagged.*padded tensors and a mask"), capture(module):
        module(jagged.transpose(1, 2))


def test_jagged_inputs_of_modules_of_torch_are_refused():
    layer = nn.TransformerEncoderLayer(6, 3, 8, batch_first=True)
    module = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    jagged = torch.nested.nested_tensor([torch.randn(3, 6), torch.randn(5, 6)], layout=torch.jagged)
    message = r"module 'layers\.0\.self_attn' \(nn\.MultiheadAttention\) was given jagged.*padded tensors and a mask"
    with pytest.raises(CaptureError, match=message), capture(module):
        module(jagged)


def test_a_module_that_was_not_called_is_refused():
    module = Stack()
    message = "Stack was not called inside the `with`: run it there"
    with pytest.raises(CaptureError, match=message), capture(module):
        Stack()(torch.randn(5, 2, 6))


def test_padding_does_not_become_jagged_tensors_meanwhile():
    layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
    module = nn.TransformerEncoder(layer, 2).eval()  # which makes jagged tensors of padded ones on its fast path
    frames = torch.randn(2, 5, 6)
    with torch.no_grad(), capture(module) as result:
        module(frames, src_key_padding_mask=PADDED)
    assert len(result) == 2
    assert all((call.weights[1, :, :, 3:] == 0).all() for call in result)


def test_a_module_without_attention_is_refused():
    module = nn.Linear(3, 5)
    with (
        pytest.raises(CaptureError, match=r"no attention call was seen in Linear.*attn_implementation"),
        capture(module),
    ):
        module(torch.ones(2, 3))
    with (
        pytest.raises(CaptureError, match=r"layers or layout left out blocks\.0\.attention"),
        capture(stack := Stack(), layers=["encoder.*"]),
    ):
        stack(torch.randn(5, 2, 6))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_graphs_are_refused():
    attend, inputs = Function(F.scaled_dot_product_attention), heads()
    model = nn.Sequential(torch.jit.trace(attend, inputs))
    with pytest.raises(CaptureError, match=r"0 \(.*\) is a compiled graph \(TorchScript\)"), capture(model):
        model(*inputs)
    exported = torch.export.export(attend, inputs).module()
    with pytest.raises(CaptureError, match=r"a compiled graph .an exported graph.*it was made from"), capture(exported):
        exported(*inputs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_torch_compile_made_runs_uncompiled_meanwhile():
    module = Stack()
    frames = torch.randn(5, 2, 6)
    compiled = torch.compile(module, backend="eager")
    with capture(compiled) as result:
        output = compiled(frames)
    assert result.names == tuple(f"_orig_mod.blocks.{layer}.attention" for layer in range(3))
    assert torch.equal(output, module(frames))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduce": "patches"}, "reduce is 'patches'; expected None or 'frames'"),
        ({"reduce": "frames"}, r"layout of Stack is not known.*TokenLayout\(frames=.*Recognised.*videomae"),
        ({"heads": [3]}, r"call 0 of 'blocks\.0\.attention'.*head 3 was asked for; it has 0 to 2"),
        ({"queries": [5]}, "query token 5 was asked for; it has 0 to 4"),
        ({"max_bytes": 0}, "max_bytes is 0"),
        ({"queries": [2], "layout": TokenLayout(1, 5)}, "no query frame 2; the layout has frames 0 to 0"),
    ],
)
def test_bad_options(options, message):
    module = Stack()
    with pytest.raises(CaptureError, match=message), capture(module, **options):
        module(torch.randn(5, 2, 6))


def test_the_table_has_a_row_a_call():
    module = Stack()
    with capture(module) as result:
        module(torch.randn(5, 2, 6))
    table = result.table()
    assert list(table.name) == list(result.names)
    assert list(table.queries) == [5] * 3
    assert result.difference == table.difference.max()


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_through_a_checkpoint_inside_a_capture(reentrant):
    def model():
        torch.manual_seed(0)
        layer = nn.Linear(DIM, DIM)
        inner = Function(lambda x: (layer(x) @ x.mT).softmax(-1) @ x)
        inner.layer = layer
        run = Function(lambda x: torch.utils.checkpoint.checkpoint(inner, x, use_reentrant=reentrant))
        run.inner = inner
        return run

    x, gradients = torch.randn(BATCH, KEYS, DIM, requires_grad=True), []
    for captures in (False, True):
        module = model()
        if captures:
            with capture(module) as result:
                module(x).sum().backward()
            assert result.names == ("inner",)
        else:
            module(x).sum().backward()
        gradients.append(module.inner.layer.weight.grad)
    assert torch.equal(*gradients)
