"""Passes of a module begin alike, whatever it writes into, keeps or draws; by itself it returns what it did in them."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis import ScaleHead, inspect_module, run_module_with
from analysis.capture import TokenLayout, capture
from analysis.capture.state import kept_state
from analysis.errors import RecordError
from analysis.module_sites import Probes

STEPS, DIM = 6, 8
LAYOUT = TokenLayout(STEPS)
PARTS = ["attention", "similarity", "sensitivity"]
NOTHING = [ScaleHead("attention/0/global/contexts", factor=1.0)]


class Attention(nn.Module):
    num_heads = 1

    def __init__(self, dim=DIM):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.reach, self.clamp = STEPS, None

    def forward(self, x):
        if self.clamp is not None:
            x.clamp_(-self.clamp, self.clamp)
        place = torch.arange(x.shape[1])
        near = (place[:, None] - place).abs() <= self.reach
        query, key, value = (each(x)[:, None] for each in (self.q, self.k, self.v))
        return F.scaled_dot_product_attention(query, key, value, attn_mask=near)[:, 0]


class Model(nn.Module):
    """Its input is written into, what is before attention depends on what it keeps or draws, its residual on itself."""

    def __init__(self, kind="plain"):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.attend, self.head = nn.Linear(5, DIM), Attention(), nn.Linear(DIM, 3)
        self.kind, self.count, self.kept, self.memory = kind, 0, [], torch.zeros(1, STEPS, DIM)
        self.register_buffer("running", torch.zeros(1, STEPS, DIM))
        self.box, self.generator = Box(), torch.Generator().manual_seed(3)

    def tokens(self, x):
        if self.kind == "input in place":
            x.mul_(0.5)
        y = self.embed(x)
        match self.kind:
            case "torch":
                y = y + torch.randn_like(y)
            case "own generator":
                y = y + torch.randn(y.shape, generator=self.generator)
            case "numpy and python":
                y = y * float(np.random.rand()) + random.random()  # noqa: NPY002
            case "buffer" | "tensor":
                memory = self.running if self.kind == "buffer" else self.memory
                y = y + memory
                memory.copy_(y.detach().flip(1))
            case "counter":
                self.count += 1
                y = y * self.count
            case "list":
                self.kept.append(y.detach().flip(1))
                y = y + sum(self.kept)
            case "object":
                y = y + self.box.memory
                self.box.memory += 1
                self.box.number += 1
                y = y * self.box.number
        return y

    def forward(self, x):
        y = self.tokens(x)
        if self.kind == "residual in place":
            y += self.attend(y)
            return self.head(y.mean(1))
        return self.head((y + self.attend(y.clone())).mean(1))


class Box:
    def __init__(self):
        self.memory, self.number = torch.ones(1, STEPS, DIM), 0


def frames():
    return 4 * torch.randn(1, STEPS, 5, generator=torch.Generator().manual_seed(1))


def norms(function, tokens):
    """|dY_i / dX_j| of a function from (1, frames, numbers) to the same."""
    jacobian = torch.autograd.functional.jacobian(lambda x: function(x[None])[0], tokens[0])
    return jacobian.permute(0, 2, 1, 3).flatten(2).norm(dim=-1).numpy()


def attended(model, tokens):
    """Weights by hand."""
    scores = model.attend.q(tokens) @ model.attend.k(tokens).mT / DIM**0.5
    return scores.softmax(-1).detach().numpy()


KINDS = [
    "plain", "input in place", "residual in place", "torch", "own generator", "numpy and python", "buffer", "tensor",
    "counter", "list", "object",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_maps_similarity_norms_and_edits_are_of_one_pass(kind):
    model, values = Model(kind).eval(), frames()
    given = values.clone()
    record = inspect_module(model, values, layout=LAYOUT, parts=PARTS, probes=Probes(None))
    edited = run_module_with(model, values, NOTHING, layout=LAYOUT).output
    assert torch.equal(values, given)
    with torch.no_grad(), torch.random.fork_rng(), kept_state(model):
        numbers = np.random.get_state(), random.getstate()  # noqa: NPY002
        tokens = model.tokens(values.clone())
        np.random.set_state(numbers[0])  # noqa: NPY002
        random.setstate(numbers[1])
    means = F.normalize(tokens[0], dim=-1)
    np.testing.assert_allclose(record.similarity.values[0], means @ means.T, atol=1e-5)
    np.testing.assert_allclose(record.attention.values.squeeze(), attended(model, tokens)[0], atol=1e-5)
    np.testing.assert_allclose(record.gradient_norm.values[0], norms(model.attend, tokens), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(edited, model(values.clone()), rtol=0, atol=0)


def test_tokens_that_the_module_changes_in_place_are_those_it_was_given():
    model, values = Model().eval(), frames()
    model.attend.clamp = 0.5
    record = inspect_module(model, values, layout=LAYOUT, parts=PARTS, probes=Probes(None))
    tokens = model.embed(values).detach()
    np.testing.assert_allclose(
        record.gradient_norm.values[0], norms(lambda x: model.attend(x.clone()), tokens), rtol=1e-4, atol=1e-6
    )
    means = F.normalize(tokens[0], dim=-1)
    np.testing.assert_allclose(record.similarity.values[0], means @ means.T, atol=1e-6)


def test_each_run_is_computed_in_the_state_in_which_it_was():
    class Twice(Model):
        def forward(self, x):
            y = self.embed(x)
            for self.attend.reach in (1, 4):
                y = y + self.attend(y)
            return self.head(y.mean(1))

    model, values = Twice().eval(), frames()
    record = inspect_module(model, values, layout=LAYOUT, parts=PARTS, probes=Probes(None), layers="all")
    assert model.attend.reach == STEPS
    tokens = model.embed(values).detach()
    for layer, reach in enumerate((1, 4)):
        model.attend.reach = reach
        expected = norms(model.attend, tokens)
        np.testing.assert_allclose(record.gradient_norm.values[layer, 0], expected, rtol=1e-4, atol=1e-6)
        tokens = (tokens + model.attend(tokens)).detach()


def test_a_module_that_by_itself_returns_something_else_has_no_norms():
    model = Model().eval()
    hook = model.attend.register_forward_pre_hook(lambda module, args: (1.5 * args[0] + 1,))
    with pytest.raises(RecordError, match=r"attend: run by itself, .* it returns other numbers by .* pre-hooks"):
        inspect_module(model, frames(), layout=LAYOUT, parts=PARTS)
    inspect_module(model, frames(), layout=LAYOUT, parts=PARTS[:2])
    hook.remove()
    inspect_module(model, frames(), layout=LAYOUT, parts=PARTS)


def test_a_module_whose_passes_differ_by_what_nothing_puts_back_is_an_error():
    count = iter(range(1000))

    class Counted(Model):
        def tokens(self, x):
            return self.embed(x) * next(count)

    for call in (inspect_module, run_module_with):
        with pytest.raises(RecordError, match="Counted returns other numbers when it is given the same inputs again"):
            call(Counted(), frames(), layout=LAYOUT)


def test_what_a_pass_returns_is_not_put_back_with_what_the_module_keeps():
    class Returned(Model):
        def forward(self, x):
            return self.memory.copy_(super().forward(x))

    model = Returned().eval()
    model.memory = torch.zeros(1, 3)
    expected = Model().eval()(frames())
    torch.testing.assert_close(run_module_with(model, frames(), layout=LAYOUT).output, expected, rtol=0, atol=0)
    assert not model.memory.any()


def test_capture_leaves_a_tensor_that_is_written_in_place_to_the_modules_own_pass():
    class Kept(Attention):
        def __init__(self):
            super().__init__(STEPS)
            self.memory, self.num_heads = torch.zeros(1, STEPS, STEPS), None

        def forward(self, x):
            query, key, value = (each(x).unflatten(-1, (2, -1)).transpose(1, 2) for each in (self.q, self.k, self.v))
            output = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
            self.memory.mul_(0.5).add_(output[:1].detach())
            return output + self.memory

    module, values = Kept(), torch.randn(2, STEPS, STEPS)
    expected = module(values)
    module.memory.zero_()
    with capture(module, reduce="frames", layout=LAYOUT):
        output = module(values)
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
