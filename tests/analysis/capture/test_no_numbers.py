"""What has no numbers that can be read is one clear error: sparse and complex maps, empty batches, the meta device."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis import inspect_module
from analysis.capture import CaptureError, LayoutError, TokenLayout, TokenTable, capture
from analysis.errors import RecordError

LAYOUT = TokenLayout(6)
FRAMES = torch.ones(1, 6, 5).cumsum(1)


def sparse(query, key, value):
    return ((query @ key.mT).softmax(-1)[0].to_sparse() @ value[0])[None]


def compressed(query, key, value):
    return ((query @ key.mT).softmax(-1)[0].to_sparse_csr() @ value[0])[None]


def sparse_softmax(query, key, value):
    return torch.sparse.mm(torch.sparse.softmax((query @ key.mT)[0].to_sparse(), -1), value[0])[None]


def complex_map(query, key, value):
    return ((query @ key.mT).softmax(-1).to(torch.complex64) @ torch.complex(value, value)).real


def written_out(query, key, value):
    return (query @ key.mT).softmax(-1) @ value


def fused(query, key, value):
    return F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]


class Attention(nn.Module):
    def __init__(self, attend):
        super().__init__()
        self.q, self.k, self.v, self.attend = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), attend

    def forward(self, x):
        return self.attend(self.q(x), self.k(x), self.v(x))


class MultiHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.core = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.core(x, x, x)[0]


class Model(nn.Module):
    def __init__(self, attend=fused, labels=None):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
        self.attention = MultiHead() if attend == "multi-head" else Attention(attend)
        self.config = SimpleNamespace(id2label=labels)

    def forward(self, x):
        return self.head(self.attention(self.embed(x)).mean(1))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("attend", [sparse, compressed, sparse_softmax, complex_map])
def test_maps_that_are_sparse_or_complex_are_named_as_not_understood(attend):
    with pytest.raises(
        CaptureError,
        match=r"no attention call of Model .* softmax of shape .* in module 'attention' .*write an Adapter",
    ):
        inspect_module(Model(attend), FRAMES, layout=LAYOUT)


@pytest.mark.parametrize("attend", [written_out, fused, "multi-head"])
@pytest.mark.parametrize("part", [(slice(0), slice(None)), (slice(None), slice(0))], ids=["clips", "tokens"])
def test_nothing_is_an_error(attend, part):
    model = Model(attend)
    with pytest.raises(CaptureError, match=r"is of an empty batch, or of no tokens: it has the sizes .* at least one"):
        inspect_module(model, FRAMES[part], layout=LAYOUT)
    with pytest.raises(CaptureError, match="is of an empty batch"), capture(model):
        model(FRAMES[part])


@pytest.mark.parametrize("attend", [written_out, fused, "multi-head"])
def test_the_meta_device_is_an_error(attend):
    model = Model(attend)
    with pytest.raises(RecordError, match=r"^input 0 of Model is on the meta device, which has no numbers: load"):
        inspect_module(model, FRAMES.to("meta"), layout=LAYOUT)
    model = model.to("meta")
    with pytest.raises(RecordError, match=r"^embed\.weight of Model is on the meta device"):
        inspect_module(model, FRAMES, layout=LAYOUT)
    with pytest.raises(CaptureError, match="tensors on the meta device, which have no numbers"), capture(model):
        model(FRAMES.to("meta"))


def test_weights_that_a_library_loads_as_they_are_used_are_no_error():
    model = Model()
    weights, bias = model.embed.weight, model.embed.bias

    def load(module, args):
        return F.linear(args[0], weights, bias)

    model.embed = nn.Identity()
    model.embed.register_forward_pre_hook(load)
    model.embed.spare, model.embed._hf_hook = nn.Parameter(torch.empty(1, device="meta")), True
    record = inspect_module(model, FRAMES, layout=LAYOUT, parts=["attention"])
    expected = inspect_module(Model(), FRAMES, layout=LAYOUT, parts=["attention"])
    np.testing.assert_array_equal(record.attention, expected.attention)


@pytest.mark.parametrize("inputs", [FRAMES.numpy(), "frames", [FRAMES]], ids=["array", "text", "list"])
def test_inputs_of_another_kind_are_an_error(without_checks, inputs):
    with pytest.raises(RecordError, match=r"^inputs is (ndarray|str|list); expected a tensor, a tuple of arguments"):
        inspect_module(Model(), inputs, layout=LAYOUT)


@pytest.mark.parametrize(
    ("frame", "patch", "message"),
    [(torch.arange(6)[None], torch.arange(6)[None] * 0, r"^frame is \(1, 6\) of torch\.int64; expected whole num"),
     (torch.arange(6.0)[None, None], torch.zeros(1, 1, 6), r"^frame is \(1, 1, 6\) of torch\.float32; expected who"),
     (torch.arange(6)[None, None], torch.zeros(1, 1, 5, dtype=torch.long), r"^patch has the shape \(1, 1, 5\); frame")],
)  # fmt: skip
def test_tables_of_other_axes_or_types_are_an_error(without_checks, frame, patch, message):
    with pytest.raises(LayoutError, match=message):
        TokenTable(frame, patch, 6)


def test_class_names_that_do_not_count_from_0_are_an_error():
    labels = {1: "one", 2: "two", 3: "three"}
    with pytest.raises(
        RecordError, match=r"id2label .* has no class 0, but \[1, 2, 3\]; expected .* give class_names="
    ):
        inspect_module(Model(labels=labels), FRAMES, layout=LAYOUT)
    record = inspect_module(
        Model(labels=labels), FRAMES, layout=LAYOUT, class_names=list("abc"), parts=["attention", "score"]
    )
    assert list(record.class_name.values) == list("abc")
