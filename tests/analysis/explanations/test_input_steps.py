"""The time steps of an input: whatever axis time is, also where others are multiples of it; else one error."""

import numpy as np
import pytest
import torch
from torch import nn

from analysis import inspect_module
from analysis.capture import TokenLayout
from analysis.explanations.input_steps import module_steps
from gmsa_models.errors import ArgumentError


class Model(nn.Module):
    """Attention over (time, channels) that are made of an input by a function."""

    def __init__(self, width, tokens):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(width, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.read = nn.Linear(6, 3)
        self.tokens = tokens

    def forward(self, values):
        tokens = self.embed(self.tokens(values))
        return self.read(self.attention(tokens, tokens, tokens)[0].mean(1))


# Shape of the input, its time steps, the axis that they are of, and what makes tokens of it.
FORMS = {
    "time first": ((1, 4, 8), 4, 1, lambda x: x),
    "channels first": ((1, 8, 4), 4, 2, lambda x: x.mT),
    "as many channels, time first": ((1, 4, 4), 4, 1, lambda x: x),
    "as many channels, channels first": ((1, 4, 4), 4, 2, lambda x: x.mT),
    "two time steps, channels first": ((1, 6, 2), 2, 2, lambda x: x.mT),
    "video": ((1, 6, 3, 6, 6), 3, 1, lambda x: x.unflatten(1, (3, 2)).flatten(2)),
    "video, channels first": ((1, 3, 6, 6, 6), 3, 2, lambda x: x.unflatten(2, (3, 2)).movedim(2, 1).flatten(2)),
    "video, time last": ((1, 3, 6, 6, 6), 3, 4, lambda x: x.unflatten(4, (3, 2)).movedim(4, 1).flatten(2)),
    "neighbours mixed in": ((1, 8, 8), 8, 2, lambda x: (x + 0.5 * x.roll(1, -1) + 0.5 * x.roll(-1, -1)).mT),
}


def width(shape, steps):
    return int(np.prod(shape)) // steps


@pytest.mark.parametrize("name", FORMS)
def test_gradients_are_of_the_axis_that_is_time(name):
    shape, steps, axis, tokens = FORMS[name]
    model, values = Model(width(shape, steps), tokens).eval(), torch.randn(shape, requires_grad=True)
    record = inspect_module(
        model,
        values.detach(),
        layout=TokenLayout(steps),
        parts=["score", "explanation"],
        target=1,
        activation="sigmoid",
    )
    model(values)[0, 1].backward()
    parts = values.grad.movedim(axis, 0).reshape(steps, -1)
    np.testing.assert_allclose(record.explanation.sel(explainer="saliency")[0], parts.norm(dim=1), rtol=1e-4)


def test_numbers_that_are_multiples_by_chance_are_no_time():
    tokens = nn.Conv1d(8, 5, 4, stride=2, padding=0)  # 10 samples, of which 4 time steps are made; 8 channels
    model = Model(5, lambda x: tokens(x).mT).eval()
    with pytest.raises(ArgumentError, match=r"shape \(1, 8, 10\); which of it belongs to each of the 4 .*give steps="):
        inspect_module(model, torch.randn(1, 8, 10), layout=TokenLayout(4), parts=["score", "explanation"])


def test_without_tokens_the_sizes_must_tell():
    assert module_steps(torch.randn(1, 8, 3), 4).flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    with pytest.raises(ArgumentError, match=r"shape \(1, 8, 4\).*give steps="):
        module_steps(torch.randn(1, 8, 4), 4)


def test_arguments_by_name():
    model = Model(8, lambda x: x.mT).eval()

    class Named(nn.Module):
        def forward(self, *, numbers, values):
            return model(values)

    named = Named()
    named.model = model
    inputs = {"numbers": torch.arange(3), "values": torch.randn(1, 8, 4)}
    record = inspect_module(named, inputs, layout=TokenLayout(4), parts=["score", "explanation"])
    assert record.sizes["frame"] == 4
