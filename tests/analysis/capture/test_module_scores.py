"""Scores of a module: what an activation is taken of again, or says nothing by, is warned of; logits are not."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis import inspect_module, module_effect_map
from analysis.capture import TokenLayout
from analysis.errors import RecordWarning

FRAMES, DIM = 7, 8
CLIP = torch.randn(1, FRAMES, DIM, generator=torch.Generator().manual_seed(1))
LAYOUT = TokenLayout(FRAMES)


class Model(nn.Module):
    def __init__(self, classes=3, end=lambda logits: logits):
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(DIM, 2, batch_first=True)
        self.head, self.end = nn.Linear(DIM, classes), end

    def forward(self, x):
        return self.end(self.head(self.attention(x, x, x, need_weights=False)[0].mean(1)))


def own_softmax(logits):
    return logits.exp() / logits.exp().sum(1, keepdim=True)


ENDS = {
    "softmax": (3, lambda logits: logits.softmax(1), "softmax", "numbers from 0 to 1 that sum to 1"),
    "softmax of its own": (3, own_softmax, "softmax", "numbers from 0 to 1 that sum to 1"),
    "softmax as a sigmoid": (3, lambda logits: logits.softmax(1), "sigmoid", "numbers from 0 to 1 that sum to 1"),
    "sigmoid": (3, torch.sigmoid, "sigmoid", "of a sigmoid or softmax inside it"),
    "sigmoid as a softmax": (3, nn.Sigmoid(), "softmax", "of a sigmoid or softmax inside it"),
    "sigmoid of one": (1, torch.Tensor.sigmoid, "sigmoid", "of a sigmoid or softmax inside it"),
    "one": (1, lambda logits: logits, "softmax", "returns one number, whose softmax is 1 for every input"),
    "logarithms": (3, lambda logits: logits.log_softmax(1), "sigmoid", "logarithms of probabilities"),
}


@pytest.mark.parametrize("name", ENDS)
def test_scores_that_are_no_probabilities_of_the_module_are_warned_of(name):
    classes, end, activation, message = ENDS[name]
    module = Model(classes, end)
    with pytest.warns(RecordWarning, match=message) as told:
        inspect_module(module, CLIP, layout=LAYOUT, activation=activation, parts=["score"])
    assert len(told) == 1
    with pytest.warns(RecordWarning, match=message):
        module_effect_map(module, CLIP, 0, windows=[(0.0, 2.0)], layout=LAYOUT, activation=activation)


@pytest.mark.parametrize(
    ("classes", "end", "activation", "read"),
    [
        (3, lambda logits: logits, "softmax", lambda values: values.softmax(1)),
        (3, lambda logits: logits.log_softmax(1), "softmax", torch.exp),
        (3, lambda logits: logits.sigmoid().log() - (-logits).sigmoid().log(), "sigmoid", torch.sigmoid),
        (1, lambda logits: logits, "sigmoid", torch.sigmoid),
        (3, lambda logits: logits.abs().clamp(max=1), "sigmoid", torch.sigmoid),
        (3, lambda logits: logits + F.softmax(logits, 1).max(), "softmax", lambda values: values.softmax(1)),
    ],
)
def test_logits_are_not_and_their_scores_are_right(classes, end, activation, read):
    module = Model(classes, end)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = inspect_module(module, CLIP, layout=LAYOUT, activation=activation, parts=["score"])
    with torch.no_grad():
        expected = read(module(CLIP))[0].numpy()
    np.testing.assert_allclose(record.score.values, expected, atol=1e-6)
