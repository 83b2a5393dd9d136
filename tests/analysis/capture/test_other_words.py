"""Maps that are returned, written through a view, or of kernels by their own names; pieces of keys, and operators."""

import warnings

import pytest
import torch
from torch import library, nn
from torch.nn import functional as F

from analysis import KnockOut, run_module_with
from analysis.capture import CaptureWarning, TokenLayout, capture
from analysis.interventions.edits import EditError

FRAMES, DIM, HEADS = 7, 8, 2
CLIP = torch.randn(1, FRAMES, DIM, generator=torch.Generator().manual_seed(1))
CONTEXTS = [torch.no_grad, torch.inference_mode, torch.enable_grad]


class Two(nn.Module):
    """Attention that is understood, then some that is written in another way."""

    def __init__(self, second):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.MultiheadAttention(DIM, HEADS, batch_first=True), second
        self.q, self.k, self.v, self.read = (nn.Linear(DIM, DIM) for _ in range(4))

    def parts(self, x):
        x = x + self.first(x, x, x, need_weights=False)[0]
        return [each(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in (self.q, self.k, self.v)]

    def forward(self, x):
        q, k, v = self.parts(x)
        return self.read(self.second(q, k, v).transpose(1, 2).flatten(2).mean(1))

    def map(self, x):
        q, k, _ = self.parts(x)
        return (q @ k.mT / 2).softmax(-1)


def captured(module, context=torch.no_grad):
    """Calls of a pass, whose output must be what it is without."""
    module.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with context():
            expected = module(CLIP)
            with capture(module) as result:
                output = module(CLIP)
            assert torch.equal(output, expected)
            return result
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


class Reused(nn.Module):
    """What nn.MultiheadAttention returns beside its output is multiplied with other values."""

    def __init__(self, mean):
        super().__init__()
        torch.manual_seed(0)
        self.attention, self.mean = nn.MultiheadAttention(DIM, HEADS, batch_first=True), mean
        self.values, self.read = nn.Linear(DIM, DIM), nn.Linear(DIM, 3)

    def forward(self, x):
        y, weights = self.attention(x, x, x, average_attn_weights=self.mean)
        values = self.values(y)
        if not self.mean:
            values = values.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        mixed = weights @ values
        return self.read((mixed if self.mean else mixed.transpose(1, 2).flatten(2)).mean(1))


@pytest.mark.parametrize("mean", [True, False])
def test_a_map_that_is_returned_is_followed_to_other_products(mean):
    result = captured(Reused(mean))
    assert result.names == ("attention", "")
    one, other = result
    expected = one.weights.mean(1, keepdim=True) if mean else one.weights
    torch.testing.assert_close(other.weights, expected)
    assert other.between == (("mean",) if mean else ())
    products = ("multi_head_attention_forward", "matmul")
    assert result.shared == {"attention": products, "": products}
    for stream, pattern in (("first", "attention"), ("second", "")):
        edit = KnockOut(f"{stream}/0/global/weights", keys=(0.0, 2.0))
        with pytest.raises(EditError, match="its map goes into several products"):
            run_module_with(Reused(mean), CLIP, [edit], layout=TokenLayout(FRAMES), streams={stream: pattern})


def test_a_map_that_is_only_returned_is_none_of_several_products():
    class Returned(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(DIM, HEADS, batch_first=True)

        def forward(self, x):
            y, weights = self.attention(x, x, x)
            self.entropy = -(weights * weights.log()).sum(-1)
            return y.mean(1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = captured(Returned())
    assert result.names == ("attention",)
    assert result.shared == {}


def through_data(buffer, head, weights):
    buffer.data[:, head] = weights


# Ways to write the map of one head into a tensor of all.
WRITES = {
    "setitem": lambda buffer, head, weights: buffer.__setitem__((slice(None), head), weights),
    "copy_": lambda buffer, head, weights: buffer[:, head].copy_(weights),
    "add_": lambda buffer, head, weights: buffer[:, head].add_(weights),
    "select": lambda buffer, head, weights: buffer.select(1, head).copy_(weights),
    "unbind": lambda buffer, head, weights: buffer.unbind(1)[head].copy_(weights),
    "narrow": lambda buffer, head, weights: buffer.narrow(1, head, 1).squeeze(1).copy_(weights),
    "data": through_data,
    "turned": lambda buffer, head, weights: buffer.mT[:, head].copy_(weights.mT),
}


def head_by_head(write, turned=False):
    def second(q, k, v):
        scores, buffer = q @ k.mT / 2, torch.zeros(1, HEADS, FRAMES, FRAMES)
        for head in range(HEADS):
            if write is None:
                torch.softmax(scores[:, head], -1, out=buffer[:, head])
            else:
                write(buffer, head, scores[:, head].softmax(-1))
        return (v.mT @ buffer.mT).mT if turned else buffer @ v

    return second


@pytest.mark.parametrize("context", CONTEXTS[:2])
@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("name", [*WRITES, "out"])
def test_a_map_that_is_written_through_a_view_is_known_again(name, turned, context):
    module = Two(head_by_head(WRITES.get(name), turned))
    result = captured(module, context)
    assert result.names == ("first", "")
    with torch.no_grad():
        torch.testing.assert_close(result[""].weights, module.map(CLIP))
    assert result[""].between != ()
    edit = KnockOut("*/0/global/weights", keys=(0.0, 2.0), renormalise=False)
    with pytest.raises(EditError, match="may have been put in another order"):
        run_module_with(module, CLIP, [edit], layout=TokenLayout(FRAMES), streams={"second": ""})


def of_neighbours(q, k, v):
    padded = F.pad(v, (0, 0, 1, 1)).unfold(2, 3, 1)
    keys = F.pad(k, (0, 0, 1, 1))
    p = torch.stack([(q * keys[:, :, each : each + FRAMES]).sum(-1) for each in range(3)], -1).softmax(-1)
    return sum(p[..., each : each + 1] * padded[..., each] for each in range(3))


def key_by_key(weights, values):
    def second(q, k, v):
        p = (q @ k.mT / 2).softmax(-1)
        return sum(weights(p, key) * values(v, key) for key in range(FRAMES))

    return second


PIECES = {
    "index": key_by_key(lambda p, key: p[..., key, None], lambda v, key: v[..., key, None, :]),
    "index, then an axis": key_by_key(lambda p, key: p[..., key].unsqueeze(-1), lambda v, key: v[..., key, None, :]),
    "slice": key_by_key(lambda p, key: p[..., key : key + 1], lambda v, key: v[..., key : key + 1, :]),
    "narrow": key_by_key(lambda p, key: p.narrow(-1, key, 1), lambda v, key: v.narrow(-2, key, 1)),
    "select": key_by_key(lambda p, key: p.select(-1, key)[..., None], lambda v, key: v.select(-2, key)[:, :, None]),
    "split": key_by_key(lambda p, key: p.split(1, -1)[key], lambda v, key: v.split(1, -2)[key]),
    "unbind": key_by_key(lambda p, key: p.unbind(-1)[key][..., None], lambda v, key: v.unbind(-2)[key][..., None, :]),
    "unfold": of_neighbours,
    "a key times the values": lambda q, k, v: (q @ k.mT).softmax(-1)[..., 0][..., None, :] @ v + 0 * v,
    "a key as a vector": lambda q, k, v: v + ((q @ k.mT).softmax(-1)[0, 0, :, 0] @ v[0, 0]),
}


@pytest.mark.parametrize("name", PIECES)
def test_products_in_pieces_of_one_key_are_warned_of(name):
    with pytest.warns(CaptureWarning, match=r"softmax of shape .* in the captured module itself"):
        result = captured(Two(PIECES[name]))
    assert result.names == ("first",)


EXPERTS = [nn.Linear(DIM // HEADS, DIM // HEADS) for _ in range(3)]


def mixture_of_experts(q, k, v):
    gates = (q @ torch.ones(DIM // HEADS, 3)).softmax(-1)
    return sum(gates[..., number, None] * expert(v) for number, expert in enumerate(EXPERTS))


def test_gates_of_experts_are_no_pieces_of_keys():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert captured(Two(mixture_of_experts)).names == ("first",)


KERNELS = {
    "aten": torch.ops.aten.scaled_dot_product_attention,
    "an overload": torch.ops.aten.scaled_dot_product_attention.default,
    "causal": lambda q, k, v: torch.ops.aten.scaled_dot_product_attention(q, k, v, None, 0.0, True),
    "flash": lambda q, k, v: torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[0],
    "math": lambda q, k, v: torch._scaled_dot_product_attention_math(q, k, v)[0],
    "math, causal": lambda q, k, v: torch._scaled_dot_product_attention_math(q, k, v, is_causal=True)[0],
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_by_their_own_names_are_recorded(name):
    module = Two(KERNELS[name])
    result = captured(module)
    assert [call.kind for call in result][1:] == ["scaled_dot_product_attention"]
    with torch.no_grad():
        q, k, _ = module.parts(CLIP)
    scores = q @ k.mT / 2
    if "causal" in name:
        scores = scores.masked_fill(torch.ones(FRAMES, FRAMES).triu(1).bool(), -torch.inf)
    torch.testing.assert_close(result[""].weights, scores.softmax(-1))


@library.custom_op("gmsa_tests::mixed", mutates_args=())
def mixed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v).clone()


@library.custom_op("gmsa_tests::scaled", mutates_args=())
def scaled(values: torch.Tensor, factor: float) -> torch.Tensor:
    return values * factor


def test_operators_that_may_be_attention_are_warned_of():
    message = r"operators: mixed\.default in the captured module itself \(1 call\): may be attention"
    with pytest.warns(CaptureWarning, match=message):
        assert captured(Two(mixed)).names == ("first",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert captured(Two(lambda q, k, v: scaled(v, 2.0) + torch.ops.aten.relu(k))).names == ("first",)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_branches_of_an_operator_are_warned_of():
    def branch(q, k, v):
        return (q @ k.mT / 2).softmax(-1) @ v

    def other(q, k, v):
        return q.contiguous() * 2

    module = Two(lambda q, k, v: torch.cond(q.sum() > -1e9, branch, other, (q, k, v)))
    with pytest.warns(CaptureWarning, match=r"operators: cond in the captured module itself"):
        assert captured(module).names == ("first",)
