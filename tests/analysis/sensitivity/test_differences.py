"""Automatic derivatives beside finite differences: alike where autograd has all, apart where a part is cut."""

import pytest
import torch
from torch import nn

from analysis.capture import TokenLayout
from analysis.errors import RecordError
from analysis.inspect.module import inspect_module
from analysis.module_sites import Probes
from analysis.sensitivity.differences import derivative_gap
from gmsa_models.masks import Toeplitz

FRAMES, DIM = 7, 5
with torch.random.fork_rng(devices=[]):
    torch.manual_seed(3)
    LINEAR = torch.nn.Linear(DIM, 3 * DIM).requires_grad_(requires_grad=False)
TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return -0.1 * gradient


def parts(x):
    return torch.nn.functional.linear(x, LINEAR.weight.to(x), LINEAR.bias.to(x)).chunk(3, -1)


def attention(x, query=None, weights=None, keys=None):
    """Beside the frames themselves, as in a block with a residual; each argument changes a part."""
    q, k, v = parts(x if query is None else query(x))
    k, v = (k, v) if keys is None else (keys(k), keys(v))
    p = (2 * q @ k.mT).softmax(-1)
    return 3 * x + (p if weights is None else weights(p)) @ v


def hooked(p):
    if p.requires_grad:
        p.register_hook(lambda gradient: 0.01 * gradient)
    return p


def under_no_grad(x):
    q, k, v = parts(x)
    with torch.no_grad():
        p = (2 * q @ k.mT).softmax(-1)
    return 3 * x + p @ v


SMOOTH = {
    "attention": attention,
    "of the frame alone": lambda x: x.tanh() * 100,
    "constant": lambda x: x * 0 + 1,
    "kinks": lambda x: parts(x)[0].relu() @ torch.ones(DIM, DIM).to(x),
    "sharp": lambda x: (20 * parts(x)[0] @ x.mT).softmax(-1) @ x,
    "large numbers": lambda x: x + 1000,
}
CUT = {
    "detached map": lambda x: attention(x, weights=torch.Tensor.detach),
    "detached keys and values": lambda x: attention(x, keys=torch.Tensor.detach),
    "under no_grad": under_no_grad,
    "gradient hook": lambda x: attention(x, weights=hooked),
    "gradient reversal": lambda x: attention(x, query=Reversed.apply),
}


def frames(dtype=torch.float32, seed=1):
    return torch.randn(FRAMES, DIM, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_of_what_is_computed_are_within_the_bound(name, dtype):
    assert max(derivative_gap(SMOOTH[name], frames(dtype, seed), seed) for seed in range(5)) == 0


@pytest.mark.parametrize("dtype", TYPES[:2])
@pytest.mark.parametrize("name", CUT)
def test_a_part_that_is_cut_differs_though_most_of_a_frame_is_kept(name, dtype):
    assert min(derivative_gap(CUT[name], frames(dtype, seed), seed) for seed in range(5)) > 0.05


class Attention(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x[0])[None]


class Model(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.attention, self.read = Attention(function), nn.Linear(DIM, 3)

    def forward(self, x):
        return self.read(self.attention(x).mean(1))


def without_gradients(x):
    with torch.no_grad():
        return attention(x)


def in_checkpoint(x):
    return torch.utils.checkpoint.checkpoint(attention, x, use_reentrant=True)


REFUSED = {name: (function, "not the derivatives of what it returns") for name, function in CUT.items()} | {
    "no_grad": (without_gradients, "cannot be differentiated by its tokens"),
    "numpy": (lambda x: attention(torch.from_numpy(x.detach().numpy().copy())), "cannot be differentiated"),
    "reentrant checkpoint": (in_checkpoint, "cannot be differentiated by its tokens"),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("probes", [Probes(None), Probes(4)])
@pytest.mark.parametrize("name", REFUSED)
def test_gradient_norms_of_another_function_are_an_error(name, probes):
    function, message = REFUSED[name]
    arguments = {"layout": TokenLayout(FRAMES), "neighbourhood": Toeplitz(1), "probes": probes}
    with pytest.raises(RecordError, match=message):
        inspect_module(Model(function), frames()[None], parts=["sensitivity"], **arguments)
    record = inspect_module(Model(attention), frames()[None], parts=["sensitivity"], **arguments)
    assert bool((record.gradient_norm > 0).all())
