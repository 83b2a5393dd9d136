"""What was made of a map, and has its shape by chance alone, is not taken for one; nor is a map that was changed."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis.capture import CaptureError, CaptureWarning, LayoutError, TokenLayout, capture

TIME, DIM = 6, 12
LAYOUT = TokenLayout(TIME)


class Attention(nn.Module):
    """softmax(x x^T) of as many heads as time steps, or of one, and what a function makes of it and of x."""

    def __init__(self, finish, heads=1):
        super().__init__()
        torch.manual_seed(0)
        self.finish, self.num_heads, self.weight = finish, heads, nn.Parameter(torch.randn(TIME, TIME))

    def forward(self, x):
        parts = x if self.num_heads == 1 else x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        self.weights = (parts @ parts.mT).softmax(-1)
        return self.finish(self.weights, x, self.weight)


class Both(nn.Module):
    """Attention that is seen, beside another."""

    def __init__(self, other):
        super().__init__()
        self.other = other

    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x), self.other(x)


def clip(width=DIM):
    return torch.randn(1, TIME, width, generator=torch.Generator().manual_seed(1))


def calls_of(module, x, layout=LAYOUT):
    with capture(module, reduce=layout and "frames", layout=layout) as captured:
        module(x)
    return captured.calls


PICKED = {
    "select": lambda p, x, w: p.select(-1, 0) @ x,
    "unbind": lambda p, x, w: p.unbind(-1)[0] @ x,
    "diagonal": lambda p, x, w: p.diagonal(dim1=-2, dim2=-1) @ x,
    "einsum": lambda p, x, w: torch.einsum("bhqk->bhq", p) @ x,
}
ADDED = {
    "baddbmm": lambda p, x, w: torch.baddbmm(x, p, x) @ w,
    "addbmm": lambda p, x, w: torch.addbmm(x[0], p, x) @ w,
    "addmm": lambda p, x, w: torch.addmm(x[0], p[0], x[0]) @ w,
    "tensordot": lambda p, x, w: torch.tensordot(p[0], x[0], ([1], [0])) @ w,
    "inner": lambda p, x, w: torch.inner(p[0], x[0]) @ w,
    "linear": lambda p, x, w: F.linear(p[0], x[0].T, w[0]) @ w,
    "addcmul": lambda p, x, w: torch.addcmul(x, p, x) @ w,
}


@pytest.mark.parametrize("layout", [None, LAYOUT], ids=["tokens", "frames"])
@pytest.mark.parametrize("name", PICKED)
def test_a_map_whose_keys_are_gone_is_none(name, layout):
    module = Attention(PICKED[name], TIME)
    with pytest.raises(CaptureError, match=rf"in the captured module itself .* through {name} into matmul"):
        calls_of(module, clip(), layout)
    with pytest.warns(CaptureWarning, match=rf"in module 'other' .* through {name} into matmul"):
        (call,) = calls_of(Both(module), clip(), layout)
    assert call.module == ""


@pytest.mark.parametrize("name", ADDED)
def test_a_product_that_is_added_to_other_numbers_is_no_map(name):
    with pytest.raises(CaptureError, match=rf"which went into {name} in the captured module itself"):
        calls_of(Attention(ADDED[name]), clip(TIME))


def test_a_map_with_a_product_added_is_another_map():
    module = Attention(lambda p, x, w: torch.baddbmm(p, x, x.mT) @ x)
    (call,) = calls_of(module, clip(TIME))
    assert call.between == ("baddbmm",)


@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_heads_are_no_queries_where_these_were_reduced(reduce):
    with pytest.raises(LayoutError, match=r"as many tokens as heads or channels \(6\)"):
        calls_of(Attention(lambda p, x, w: getattr(p, reduce)(2) @ x, TIME), clip())
    (call,) = calls_of(Attention(lambda p, x, w: getattr(p, reduce)(1) @ x, TIME), clip())  # of the heads
    assert call.between == (reduce,)


PARTS = {
    "a part": lambda p: p[..., :2].zero_(),
    "a column": lambda p: p[..., 0].zero_(),
    "select": lambda p: p.select(-1, 0).zero_(),
    "unbind": lambda p: p.unbind(-1)[0].fill_(0),
    "data": lambda p: p.data[..., 0].mul_(0),
    "view": lambda p: p.view(-1).__setitem__(slice(0, None, TIME), 0),
    "out": lambda p: torch.mul(p[..., 0], 0, out=p[..., 0]),
}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("change", PARTS.values(), ids=PARTS)
def test_the_map_before_a_dropout_is_none_of_one_that_was_changed_through_a_view(change, inference):
    def finish(p, x, w):
        p = F.dropout(p, 0.3)
        change(p)
        module.multiplied = p
        return p @ x

    module, torch_mode = Attention(finish), torch.inference_mode if inference else torch.no_grad
    torch.manual_seed(2)
    with torch_mode():
        (call,) = calls_of(module, clip(), None)
    assert torch.equal(call.weights[:, 0], module.multiplied)
    assert call.between[0] == "dropout"
    assert len(call.between) == 2


def test_the_map_before_a_dropout_stays_where_other_tensors_are_written_into():
    def finish(p, x, w):
        p, other = F.dropout(p, 0.3), x.clone()
        other[:, 0].zero_()
        return p @ other

    (call,) = calls_of(Attention(finish), clip(), None)
    assert (call.between, call.dropout) == ((), 0.3)


def compiled(x):
    return torch.softmax(x @ x.transpose(-1, -2), -1) @ x


def doubled(x):
    return x + x


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_compiled_functions_with_a_softmax_are_warned_of():
    before = torch.jit.ScriptFunction.__call__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        attends, doubles = torch.jit.script(compiled), torch.jit.script(doubled)
    with pytest.raises(CaptureError, match="TorchScript: compiled in the captured module itself"):
        calls_of(Calls(attends), clip())
    with pytest.warns(CaptureWarning, match=r"TorchScript: compiled in module 'other' \(1 call\)"):
        calls_of(Both(Calls(attends)), clip())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calls_of(Both(Calls(doubles)), clip())
    assert torch.jit.ScriptFunction.__call__ is before


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_a_softmax_that_says_no_axis_is_of_the_one_that_torch_takes():
    (call,) = calls_of(Calls(lambda x: nn.Softmax()(x[0] @ x[0].T) @ x[0]), clip(), None)
    assert torch.equal(call.weights[0, 0], (clip()[0] @ clip()[0].T).softmax(1))
    module = Calls(lambda x: nn.Softmax()(x @ x.mT) @ x)  # of three axes: over the clips
    with pytest.warns(CaptureWarning, match=r"shape \(1, 6, 6\) in module 'other'"):
        calls_of(Both(module), clip())
