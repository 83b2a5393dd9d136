"""Keys and values in another order, both alike: the verification cannot tell, replaced frames can."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis.capture import CrossLayout, LayoutError, TokenLayout, TokenTable
from analysis.errors import RecordError
from analysis.inspect.module import inspect_module
from analysis.module_order import check_key_order

FRAMES, PATCHES, DIM = 5, 3, 8
LAYOUT = TokenLayout(FRAMES, PATCHES)
INPUT = torch.randn(1, FRAMES * PATCHES, DIM, generator=torch.Generator().manual_seed(0))
ORDER = torch.tensor([2, 0, 1, 4, 3])
TOKENS = (ORDER[:, None] * PATCHES + torch.arange(PATCHES)).flatten()
MOVED = TokenTable((TOKENS // PATCHES)[None, None], (TOKENS % PATCHES)[None, None], FRAMES, PATCHES)
STEPS = (torch.arange(FRAMES * PATCHES) // PATCHES)[None, :, None]


class Layer(nn.Module):
    """An attention with a residual connection, whose queries and keys are put in any order before it."""

    def __init__(self, fused, queries=None, keys=None):
        super().__init__()
        self.fused, self.queries, self.keys = fused, queries, keys
        self.packed = nn.Linear(DIM, 3 * DIM)

    def forward(self, x):
        query, key, value = self.packed(x).chunk(3, -1)
        query = query if self.queries is None else query[:, self.queries]
        key, value = (each if self.keys is None else each[:, self.keys] for each in (key, value))
        if self.fused:
            contexts = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        else:
            contexts = (query @ key.mT / DIM**0.5).softmax(-1) @ value
        return x + (contexts if self.queries is None else contexts[:, self.queries.argsort()])


class Model(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x).mean(1)


@pytest.mark.parametrize("fused", [True, False])
def test_tokens_in_the_order_of_the_layout_pass(fused):
    table = check_key_order(Model(Layer(fused), Layer(fused), Layer(fused)), INPUT, layout=LAYOUT, steps=STEPS)
    assert (table["frame"] == table["moved"]).all()
    assert len(table) == 3 * FRAMES * (2 if fused else 1)
    assert (table[table["call"] == "layers.0"]["share"] == 1).all()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("layer", [0, 1])
def test_keys_and_values_in_another_order_are_refused(fused, layer):
    layers = [Layer(fused), Layer(fused)]
    layers[layer].keys = TOKENS
    message = f"layers.{layer}: where time step 0 of the input is another, the key tokens move most .* time step 1"
    with pytest.raises(LayoutError, match=message):
        inspect_module(Model(*layers), INPUT, layout=LAYOUT, steps=STEPS, check="order")


def test_the_layout_that_says_their_order_passes():
    model = Model(Layer(True, keys=TOKENS))
    check_key_order(model, INPUT, layout=CrossLayout(queries=LAYOUT, keys=MOVED), steps=STEPS)
    with pytest.raises(LayoutError, match="the query tokens move most"):
        check_key_order(
            Model(Layer(True, queries=TOKENS)), INPUT, layout=CrossLayout(queries=LAYOUT, keys=LAYOUT), steps=STEPS
        )


def test_a_transposed_layout_is_refused():
    with pytest.raises(LayoutError, match=r"layers\.0: where time step \d .* that are of time step "):
        check_key_order(Model(Layer(True)), INPUT, layout=TokenLayout(FRAMES, PATCHES, "patch frame"), steps=STEPS)


def test_other_checks_are_an_error():
    with pytest.raises(RecordError, match="check is 'keys'; expected None or 'order'"):
        inspect_module(Model(Layer(True)), INPUT, layout=LAYOUT, check="keys")
