"""Sites of modules that attend: G by every way of the frames into them, on the axes that are theirs, run by run."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from analysis import inspect_module
from analysis.capture import CrossLayout, TokenLayout, TokenTable
from analysis.errors import RecordError
from analysis.module_sites import Probes

STEPS, DIM = 6, 8
EXACT = Probes(None)
PARTS = ["attention", "similarity", "sensitivity"]


class Attention(nn.Module):
    """One head; keys and values of another tensor, or of two, where it is given some; several times in a run."""

    def __init__(self, dim=DIM):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(dim, dim) for _ in range(3))
        self.memory, self.num_heads = None, 1

    def forward(self, x, others=None, times=1, turn=None):
        turn = turn or (lambda values: values)
        for _ in range(times):
            keys, values = others if isinstance(others, tuple) else (x if others is None else others,) * 2
            keys = keys if self.memory is None else keys + self.memory
            query, key, value = self.q(turn(x)), self.k(turn(keys)), self.v(turn(values))
            x = turn(F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0])
        return x


class Model(nn.Module):
    """Embeds frames and hands them, with what `others` makes of them, to one module that attends."""

    def __init__(self, others=lambda self, y: {}, dim=DIM):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.attend, self.head, self.others = nn.Linear(5, dim), Attention(dim), nn.Linear(dim, 3), others
        self.position = nn.Parameter(torch.randn(1, STEPS, dim))

    def forward(self, x):
        y = self.embed(x)
        return self.head((y + self.attend(y, **self.others(self, y))).mean(1))


def norms(function, tokens):
    """|dY_i / dX_j| of a function from (frames, numbers) to (frames, numbers)."""
    jacobian = torch.autograd.functional.jacobian(function, tokens)
    return jacobian.permute(0, 2, 1, 3).flatten(2).norm(dim=-1).numpy()


def frames(rows=1, tokens=STEPS):
    return torch.randn(rows, tokens, 5, generator=torch.Generator().manual_seed(1))


SAME = {
    "in a tuple": lambda self, y: {"others": (y, y)},
    "copies": lambda self, y: {"others": torch.stack([y, y]).unbind()},
    "a tuple of copies": lambda self, y: {"others": (y + 0, y.clone())},
}


@pytest.mark.parametrize("others", SAME.values(), ids=SAME)
def test_keys_that_are_the_tokens_again_are_a_way_too(others):
    model, values = Model(others).eval(), frames()
    record = inspect_module(model, values, layout=TokenLayout(STEPS), probes=EXACT, parts=PARTS)
    tokens = model.embed(values).detach()[0]
    expected = norms(lambda x: model.attend(x[None], **others(model, x[None]))[0], tokens)
    np.testing.assert_allclose(record.gradient_norm.values[0], expected, rtol=1e-4, atol=1e-6)


def keep(self, y):
    self.attend.memory = y.flip(1)
    return {}


ELSEWHERE = {
    "another size": lambda self, y: {"others": y.unflatten(1, (3, 2)).mean(2)},
    "stacked": lambda self, y: {"others": tuple(torch.stack([y, 2 * y]))},
    "an attribute": keep,
    "one of another tensor": lambda self, y: {"others": (y, self.embed.weight.sum() * y)},
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_frames_that_reach_a_module_in_another_way_are_an_error(name):
    layout = TokenLayout(STEPS)
    if name == "another size":
        numbers = torch.arange(STEPS)
        queries, keys = (TokenTable(each[None, None], each[None, None] * 0, STEPS) for each in (numbers, numbers[:3]))
        layout = CrossLayout(queries, keys)
    model, values = Model(ELSEWHERE[name]), frames()
    with pytest.raises(RecordError, match=r"^attend: what it returns moves by .* leave out the part 'sensitivity'"):
        inspect_module(model, values, layout=layout, probes=EXACT, parts=PARTS)
    assert "gradient_norm" not in inspect_module(model, values, layout=layout, parts=PARTS[:2])


def test_what_does_not_follow_from_the_frames_is_no_other_way():
    others = {"a parameter": lambda self, y: {"others": (self.position, self.position)}}["a parameter"]
    model, values = Model(others), frames()
    record = inspect_module(model, values, layout=TokenLayout(STEPS), probes=EXACT, parts=PARTS)
    tokens = model.embed(values).detach()[0]
    expected = norms(lambda x: model.attend(x[None], (model.position, model.position))[0], tokens)
    np.testing.assert_allclose(record.gradient_norm.values[0], expected, rtol=1e-4, atol=1e-6)


class Masked(nn.Module):
    """Takes numbers of words, and a mask of floats."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.attend, self.head = nn.Embedding(40, DIM), Attention(), nn.Linear(DIM, 3)

    def forward(self, mask, words):
        y = self.words(words)
        self.attend.memory = mask[..., None].log() * 0
        return self.head(self.attend(y).mean(1))


def test_a_mask_of_floats_is_left_as_it_is():
    inputs = {"mask": torch.ones(1, STEPS), "words": torch.arange(STEPS)[None] * 5}
    model = Masked()
    record = inspect_module(model, inputs, layout=TokenLayout(STEPS), probes=EXACT, parts=PARTS)
    model.attend.memory = None
    expected = norms(lambda x: model.attend(x[None])[0], model.words(inputs["words"]).detach()[0])
    np.testing.assert_allclose(record.gradient_norm.values[0], expected, rtol=1e-4, atol=1e-6)


class Turned(nn.Module):
    """Its module that attends has the frames on another axis than the second, of the same size as that."""

    def __init__(self, channels):
        super().__init__()
        torch.manual_seed(0)
        dim = STEPS if channels else DIM
        self.embed, self.attend, self.head = nn.Linear(5, dim), Attention(dim), nn.Linear(dim, 3)
        self.channels = channels

    def turn(self, x):
        return x.mT if self.channels else x.transpose(0, 1)

    def attended(self, y):
        """Of (time, dim), or (time, patch, dim)."""
        if self.channels:
            return self.attend(y.mT[None], turn=self.turn)[0].mT
        return self.attend(y, turn=self.turn)

    def forward(self, x):
        y = self.embed(x)[0]
        return self.head((y + self.attended(y)).flatten(0, -2).mean(0))[None]


@pytest.mark.parametrize("channels", [True, False], ids=["batch dim time", "time patch dim"])
def test_frames_are_found_on_the_axis_that_is_theirs(channels):
    layout = TokenLayout(STEPS, axes="clip head") if channels else TokenLayout(STEPS, STEPS, folded="patch")
    values = frames() if channels else frames(STEPS)[None]
    model = Turned(channels).eval()
    record = inspect_module(model, values, layout=layout, probes=EXACT, parts=PARTS)
    tokens = model.embed(values)[0].detach()
    flat = tokens.flatten(1)
    expected = norms(lambda y: model.attended(y.reshape(tokens.shape)).flatten(1), flat)
    np.testing.assert_allclose(record.gradient_norm.values[0], expected, rtol=1e-4, atol=1e-6)
    means = F.normalize(tokens if channels else tokens.mean(1), dim=-1)
    np.testing.assert_allclose(record.similarity.values[0], means @ means.T, atol=1e-6)


@pytest.mark.parametrize("steps", [12, 13, 14])
def test_frames_are_told_from_as_many_channels_by_more_than_a_few_tokens(steps):
    """Of these sizes the few tokens that make sure of one reading would fit the channels too."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, steps), Attention(steps), Mean(steps)).eval()
    values = frames(1, steps)
    layout = TokenLayout(steps, axes="clip head")
    record = inspect_module(model, values, layout=layout, probes=EXACT, parts=PARTS)
    tokens = model[0](values).detach()[0]
    expected = norms(lambda x: model[1](x[None])[0], tokens)
    np.testing.assert_allclose(record.gradient_norm.values[0], expected, rtol=1e-4, atol=1e-6)


class Mean(nn.Linear):
    def __init__(self, dim):
        super().__init__(dim, 3)

    def forward(self, x):
        return super().forward(x.mean(1))


class OutputTurned(Attention):
    """Given (batch, time, dim), it returns (batch, dim, time)."""

    def forward(self, x):
        return super().forward(x).mT


def test_frames_of_the_output_are_found_on_another_axis_than_those_of_the_input():
    model = Turned(channels=True)
    model.attend = OutputTurned(STEPS)
    model.attended = lambda y: model.attend(y[None])[0].mT
    values = frames()
    record = inspect_module(model, values, layout=TokenLayout(STEPS), probes=EXACT, parts=PARTS)
    expected = norms(model.attended, model.embed(values)[0].detach())
    np.testing.assert_allclose(record.gradient_norm.values[0], expected, rtol=1e-4, atol=1e-6)


class Flipped(Attention):
    def forward(self, x):
        return super().forward(x.flip(1))


def test_tokens_in_another_order_inside_are_an_error():
    model, values = Model(), frames()
    model.attend = Flipped()
    with pytest.raises(RecordError, match="where one of the tokens that it is given is replaced, another of its call"):
        inspect_module(model, values, layout=TokenLayout(STEPS), probes=EXACT, parts=PARTS)


class Runs(nn.Module):
    """Runs one module, under two paths, a number of times in each of its runs; in those of 0 it attends not at all."""

    def __init__(self, times):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.attend, self.head, self.times = nn.Linear(5, DIM), Attention(), nn.Linear(DIM, 3), times
        self.again = self.attend

    def forward(self, x):
        y, self.tokens = self.embed(x), []
        for number, times in enumerate(self.times):
            self.tokens.append(y.detach()[0])
            y = y + (self.again if number % 2 else self.attend)(y, times=times)
        return self.head(y.mean(1))


@pytest.mark.parametrize("times", [(1, 1, 3), (3, 2, 1), (0, 0, 1, 2)], ids=str)
def test_each_run_of_a_module_has_its_own_norms(times):
    model, values = Runs(times).eval(), frames()
    record = inspect_module(
        model, values, layout=TokenLayout(STEPS), probes=EXACT, layers="all", parts=PARTS, streams={"attention": "*"}
    )
    model(values)
    tokens = list(model.tokens)
    expected = [
        norms(lambda x, times=count: model.attend(x[None], times=times)[0], given)
        for given, count in zip(tokens, times, strict=True)
        for _ in range(count)
    ]
    np.testing.assert_allclose(record.gradient_norm.values[:, 0], expected, rtol=1e-4, atol=1e-6)
    first = F.normalize(tokens[next(number for number, count in enumerate(times) if count)], dim=-1)
    np.testing.assert_allclose(record.similarity.values[0], first @ first.T, atol=1e-6)


def test_norms_are_of_evaluation_mode():
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.attend = nn.MultiheadAttention(5, 1, dropout=0.5, batch_first=True)

        def forward(self, x):
            return self.attend(x, x, x)[0].mean(1)

    model, values = Dropped().train(), frames()
    record = inspect_module(model, values, layout=TokenLayout(STEPS), probes=EXACT, parts=PARTS)
    assert model.attend.training
    model.eval()
    expected = norms(lambda x: model.attend(x[None], x[None], x[None])[0][0], values[0])
    np.testing.assert_allclose(record.gradient_norm.values[0], expected, rtol=1e-4, atol=1e-6)


class Returns(Attention):
    """Returns several tensors, of which some are of its contexts."""

    def __init__(self, put):
        super().__init__()
        self.put = put

    def forward(self, x):
        return self.put(x, super().forward(x))


@pytest.mark.parametrize(
    ("put", "taken"),
    [
        (lambda x, out: (3 * x, out), 1),
        (lambda x, out: (out, x @ x.mT), 0),
        (lambda x, out: {"tokens": x, "states": [out, out]}, "states"),
    ],
    ids=["residual first", "scores behind", "a dictionary"],
)
def test_norms_are_of_the_output_that_attention_reaches(put, taken):
    model, values = Model().eval(), frames()
    attend = model.attend = Returns(put).eval()
    model.forward = lambda x: model.head(sum(each.sum() for each in tree_leaves(attend(model.embed(x)))).expand(1, DIM))
    record = inspect_module(model, values, layout=TokenLayout(STEPS), probes=EXACT, parts=PARTS)
    expected = norms(lambda x: Attention.forward(attend, x[None])[0], model.embed(values).detach()[0])
    np.testing.assert_allclose(record.gradient_norm.values[0], expected, rtol=1e-4, atol=1e-6)


def test_several_outputs_of_attention_are_an_error():
    model, values = Model(), frames()
    model.attend = Returns(lambda x, out: (out, x + out))
    model.forward = lambda x: model.head(sum(model.attend(model.embed(x))).mean(1))
    with pytest.raises(RecordError, match="attend: its module returns several tensors that are made of its attention"):
        inspect_module(model, values, layout=TokenLayout(STEPS), probes=EXACT, parts=PARTS)
    inspect_module(model, values, layout=TokenLayout(STEPS), parts=PARTS[:2])


class Beside(nn.Module):
    """Its keys are made of the frames elsewhere."""

    def __init__(self, codes=False):
        super().__init__()
        torch.manual_seed(0)
        made = (lambda: nn.Embedding(9, DIM)) if codes else (lambda: nn.Linear(5, DIM))
        self.first, self.second, self.places = made(), made(), nn.Embedding(9, DIM)
        self.attend, self.head = Attention(), nn.Linear(DIM, 3)

    def forward(self, beside, x):
        y = self.first(x) * beside if beside.is_floating_point() else self.first(x) + self.places(beside)
        return self.head((y + self.attend(y, (self.second(x),) * 2)).mean(1))


class Small(Attention):
    def forward(self, x, others):
        return 1e-6 * super().forward(x, others)


CODES = torch.tensor([[3, 1, 4, 1, 5, 0]])
SPIKES = (torch.rand(1, STEPS, 5, generator=torch.Generator().manual_seed(2)) > 0.5).float()


@pytest.mark.parametrize(
    ("inputs", "codes"),
    [
        ((torch.ones(1, 1), SPIKES), False),
        ((torch.full((1, 1), 1.3), SPIKES), False),
        ((torch.arange(STEPS)[None], CODES), True),
        ((torch.full((1, 1), 1.3), CODES), True),
        ((torch.ones(1, 1), frames()), False),
    ],
    ids=["spikes", "spikes beside a number", "codes behind positions", "codes beside a number", "small outputs"],
)
def test_every_input_that_carries_frames_is_another(inputs, codes, request):
    model = Beside(codes=codes)
    if "small" in request.node.name:
        model.attend = Small()
    with pytest.raises(RecordError, match=r"^attend: what it returns moves by"):
        inspect_module(model, inputs, layout=TokenLayout(STEPS), probes=EXACT, parts=PARTS)


def test_positions_and_masks_are_no_frames():
    class Placed(Beside):
        def forward(self, places, causal, x):
            y = self.first(x) + self.places(places)
            self.attend.memory = self.places(places) + causal.log().clamp(min=-1).sum()
            return self.head(self.attend(y).mean(1))

    model, causal = Placed().eval(), torch.ones(STEPS, STEPS).tril()
    values = torch.arange(STEPS)[None], causal, frames()
    record = inspect_module(model, values, layout=TokenLayout(STEPS), probes=EXACT, parts=PARTS)
    model(*values)
    tokens = (model.first(values[2]) + model.places(values[0])).detach()[0]
    model.attend.memory = model.attend.memory.detach()
    expected = norms(lambda x: model.attend(x[None])[0], tokens)
    np.testing.assert_allclose(record.gradient_norm.values[0], expected, rtol=1e-4, atol=1e-6)
