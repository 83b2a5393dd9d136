"""Heads that are modules of a list: joined by what they are given, never taken for layers, nor layers for them."""

import numpy as np
import pytest
import torch
from torch import nn

from analysis import inspect_module
from analysis.capture import TokenLayout, capture
from analysis.module_sites import Probes

STEPS, DIM = 5, 6
LAYOUT = TokenLayout(STEPS)


class Head(nn.Module):
    """Attention of one head."""

    def __init__(self, width=DIM):
        super().__init__()
        self.query, self.key, self.value = nn.Linear(DIM, width), nn.Linear(DIM, width), nn.Linear(DIM, width)

    def forward(self, x):
        return (3 * self.query(x) @ self.key(x).mT).softmax(-1) @ self.value(x)


class Wrapped(nn.Module):
    """A head behind a norm of its own."""

    def __init__(self):
        super().__init__()
        self.norm, self.core = nn.LayerNorm(DIM), Head()

    def forward(self, x):
        return self.core(self.norm(x))


class Summed(nn.Module):
    """Heads whose outputs are added up."""

    def __init__(self, kind=Head, anew=False):
        super().__init__()
        self.heads = nn.ModuleList(kind() for _ in range(3))
        self.anew = anew

    def forward(self, x):
        return sum(head(x + 0 if self.anew else x) for head in self.heads)


class Joined(nn.Module):
    """Heads whose outputs are concatenated."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList(Head(2) for _ in range(3))

    def forward(self, x):
        return torch.cat([head(x) for head in self.heads], -1)


class Model(nn.Module):
    """Layers that are added to what they are given, each by a factor."""

    def __init__(self, layer, depth=2, factor=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(layer() for _ in range(depth))
        self.read = nn.Linear(DIM, 4)
        self.factor = factor

    def forward(self, x):
        for layer in self.layers:
            x = x + self.factor * layer(x)
        return self.read(x.mean(1))


X = torch.randn(1, STEPS, DIM, generator=torch.Generator().manual_seed(2))
LAYERS = {
    "summed": Summed,
    "concatenated": Joined,
    "wrapped": lambda: Summed(Wrapped),
    "given copies": lambda: Summed(anew=True),
}


@pytest.mark.parametrize("name", LAYERS)
def test_heads_in_a_list_are_heads(name):
    model = Model(LAYERS[name]).eval()
    record = inspect_module(model, X, layout=LAYOUT, layers="all", probes=Probes(None))
    with torch.no_grad(), capture(model) as captured:
        model(X)
    maps = torch.stack([call.weights[0, 0] for call in captured]).unflatten(0, (2, 3))
    np.testing.assert_allclose(record.attention.values[:, 0, 0], maps, atol=1e-6)
    inside = ".*.core" if name == "wrapped" else ""
    assert record.attrs["attention_modules"] == f"layers.0.heads{inside}, layers.1.heads{inside}"
    jacobian = torch.func.jacrev(model.layers[0])(X)[0, :, :, 0]  # of the whole layer
    norms = jacobian.permute(0, 2, 1, 3).flatten(2).norm(dim=-1).detach()
    np.testing.assert_allclose(record.gradient_norm.values[0, 0], norms, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 0.0])
def test_layers_are_no_heads(factor):
    record = inspect_module(Model(Head, 3, factor).eval(), X, layout=LAYOUT, layers="all", parts=["attention"])
    assert (record.sizes["layer"], record.sizes["head"]) == (3, 1)


def test_heads_may_be_taken_for_layers():
    record = inspect_module(
        Model(Summed).eval(), X, layout=LAYOUT, layers="all", parts=["attention"], heads_of_lists=False
    )
    assert (record.sizes["layer"], record.sizes["head"]) == (6, 1)
    assert record.attrs["attention_modules"].startswith("layers.0.heads.0, layers.0.heads.1")


def test_heads_without_a_module_around_them_have_no_norms():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.heads, self.read = nn.ModuleList(Head() for _ in range(2)), nn.Linear(DIM, 4)

        def forward(self, x):
            return self.read(sum(head(x) for head in self.heads).mean(1))

    record = inspect_module(Bare().eval(), X, layout=LAYOUT)
    assert (record.sizes["head"], "gradient_norm" in record) == (2, False)


def test_spatial_maps_of_joined_heads():
    model = Model(Summed).eval()
    tokens = torch.randn(1, STEPS * 2, DIM)
    record = inspect_module(model, tokens, layout=TokenLayout(STEPS, 2), layer=1, parts=["attention"], pinned=3)
    assert record.spatial_attention.shape[-3:] == (3, STEPS, 2)
    with torch.no_grad(), capture(model, layout=TokenLayout(STEPS, 2), layers=["layers.1.*"]) as captured:
        model(tokens)
    expected = torch.stack([call.spatial_map(3)[0, 0] for call in captured])
    np.testing.assert_allclose(record.spatial_attention.values.reshape(3, STEPS, 2), expected, atol=1e-6)
