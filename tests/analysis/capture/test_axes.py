"""Which axes of a map are clips, heads and folded patches: by sizes, given, or one error; never swapped in silence."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis import inspect_module
from analysis.capture import CaptureError, LayoutError, TokenLayout, capture
from analysis.capture.axes import find_axes, parse_axes
from analysis.module_sites import Probes

CLIPS, TIME, DIM = 2, 7, 5  # of a head

# Forms of divided attention over time: what the axes in front of the tokens are, and how they are arranged.
FORMS = {
    "clip patch head": lambda x: x.permute(0, 2, 3, 1, 4),
    "clip head patch": lambda x: x.permute(0, 3, 2, 1, 4),
    "(clip patch) head": lambda x: x.permute(0, 2, 3, 1, 4).flatten(0, 1),
    "(clip head) patch": lambda x: x.permute(0, 3, 2, 1, 4).flatten(0, 1),
    "head clip patch": lambda x: x.permute(3, 0, 2, 1, 4),
    "(clip patch head)": lambda x: x.permute(0, 2, 3, 1, 4).flatten(0, 2),
    "(clip head patch)": lambda x: x.permute(0, 3, 2, 1, 4).flatten(0, 2),
    "(head clip patch)": lambda x: x.permute(3, 0, 2, 1, 4).flatten(0, 2),
}


class Divided(nn.Module):
    """Attention over time of each patch: (clips, time x patches, heads x dim) with its axes in some form."""

    def __init__(self, form, patches, heads, fused=False):
        super().__init__()
        self.form, self.patches, self.heads, self.fused = FORMS[form], patches, heads, fused

    def forward(self, x):
        parts = x.unflatten(1, (TIME, self.patches)).unflatten(-1, (self.heads, DIM))
        query, key = self.form(3 * parts), self.form(parts.roll(1, -1))
        if self.fused:
            return F.scaled_dot_product_attention(query, key, query, scale=1.0).sum()
        return ((query @ key.mT).softmax(-1) @ query).sum()


def mean_over_patches(x, patches, heads):
    """(clips, heads, time, time), one patch at a time."""
    parts = x.unflatten(1, (TIME, patches)).unflatten(-1, (heads, DIM))
    scores = torch.einsum("ctphd,csphd->cphts", 3 * parts, parts.roll(1, -1))
    return scores.softmax(-1).mean(1)


def frames(form, patches, count, axes=None, fused=False, **options):
    x = torch.randn(CLIPS, TIME * patches, count * DIM, generator=torch.Generator().manual_seed(1))
    layout = TokenLayout(TIME, patches, folded="patch", axes=axes)
    module = Divided(form, patches, count, fused)
    with capture(module, reduce="frames", layout=layout, **options) as result:
        module(x)
    (call,) = result
    return call, mean_over_patches(x, patches, count)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("patches", "heads"), [(3, 5), (4, 4)])
@pytest.mark.parametrize("form", FORMS)
def test_axes_that_are_given(form, patches, heads, fused):
    call, expected = frames(form, patches, heads, axes=form, fused=fused)
    assert call.shape == (CLIPS * patches, heads, TIME, TIME)
    assert torch.allclose(call.frames.weights, expected, atol=1e-6)
    call, _ = frames(form, patches, heads, axes=form, fused=fused, heads=[2, 0], queries=[3, 1], max_bytes=1)
    assert torch.allclose(call.frames.weights[:, :, [3, 1]], expected[:, [2, 0]][:, :, [3, 1]], atol=1e-6)


@pytest.mark.parametrize("form", ["clip patch head", "clip head patch", "(clip patch) head"])
def test_sizes_that_tell_the_axes(form):
    call, expected = frames(form, 3, 5)
    assert torch.allclose(call.frames.weights, expected, atol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("form", "patches", "heads"),
    [("clip head patch", 4, 4), ("clip patch head", 4, 4), ("(clip patch head)", 3, 5), ("(clip head patch)", 4, 4)],
)
def test_sizes_that_do_not_tell_are_an_error_that_names_the_argument(form, patches, heads, fused):
    with pytest.raises(LayoutError, match=r"TokenLayout\(\.\.\., axes='clip patch head' or axes='clip head patch'\)"):
        frames(form, patches, heads, fused=fused)


class Folded(nn.Module):
    """Attention whose heads are folded into the batch, heads inside (clip head) or outside (head clip)."""

    def __init__(self, heads, outside=False):
        super().__init__()
        self.heads, self.outside = heads, outside
        self.read = nn.Linear(heads * DIM, 3)

    def fold(self, x):
        return x.unflatten(-1, (self.heads, DIM)).permute((2, 0, 1, 3) if self.outside else (0, 2, 1, 3)).flatten(0, 1)

    def forward(self, x):
        query, key = self.fold(3 * x), self.fold(x).roll(1, -1)
        output = torch.bmm(torch.bmm(query, key.mT).softmax(-1), query)
        output = output.unflatten(0, (self.heads, -1) if self.outside else (-1, self.heads))
        return self.read(output.movedim(0 if self.outside else 1, 2).flatten(2).mean(1))


def heads_of(x, heads):
    parts = x.unflatten(-1, (heads, DIM))
    return torch.einsum("cthd,cshd->chts", 3 * parts, parts.roll(1, -1)).softmax(-1)


def test_heads_in_the_batch_of_one_clip_are_its_heads():
    torch.manual_seed(0)
    module, x = Folded(3).eval(), torch.randn(1, TIME, 3 * DIM)
    with torch.no_grad(), capture(module, reduce="frames", layout=TokenLayout(TIME)) as result:
        module(x)
    assert torch.allclose(result.calls[0].frames.weights, heads_of(x, 3), atol=1e-6)
    record = inspect_module(
        module, x, layout=TokenLayout(TIME), parts=["attention"], features={"attention": x[0].numpy()}
    )
    assert record.sizes["head"] == 3
    assert torch.allclose(torch.from_numpy(record.attention.values[0, 0]), heads_of(x, 3)[0], atol=1e-6)


@pytest.mark.parametrize("outside", [False, True])
def test_heads_in_the_batch_of_several_clips_need_their_order(outside):
    module, x = Folded(3, outside), torch.randn(CLIPS, TIME, 3 * DIM)
    message = r"sizes \(6,\), hold 3 heads of 2 clip\(s\) x 1 in an order.*axes='clip head' or axes='head clip'"
    with pytest.raises(LayoutError, match=message), capture(module, reduce="frames", layout=TokenLayout(TIME)):
        module(x)
    layout = TokenLayout(TIME, axes="head clip" if outside else "clip head")
    with capture(module, layout=layout) as result:
        module(x)
    assert torch.allclose(result.calls[0].weights, heads_of(x, 3), atol=1e-6)
    assert torch.allclose(result.calls[0].frames.weights, heads_of(x, 3), atol=1e-6)


def test_groups_of_heads_are_heads():
    query, key = torch.randn(CLIPS, 3, 4, TIME, DIM), torch.randn(CLIPS, 3, 1, TIME, DIM)

    class Grouped(nn.Module):
        def forward(self, query, key):
            return (query @ key.mT).softmax(-1) @ key

    module = Grouped()
    with capture(module, reduce="frames", layout=TokenLayout(TIME)) as result:
        module(query, key)
    expected = (query @ key.mT).softmax(-1).flatten(1, 2)
    assert torch.allclose(result.calls[0].frames.weights, expected, atol=1e-6)


@pytest.mark.parametrize("text", ["clip frame head", "clip head head", "clip patch", ""])
def test_axes_by_other_names(text):
    with pytest.raises(LayoutError, match=r"axes is .*; expected 'clip', 'head', 'patch', each once"):
        TokenLayout(TIME, 4, folded="patch", axes=text)


def test_axes_that_do_not_fit():
    with pytest.raises(LayoutError, match=r"has the axes \(2, 5, 4\) in front of its tokens; axes of the layout give"):
        find_axes((2, 5, 4), 5, 2, parse_axes("clip head patch", "patch"), "a call")


@pytest.mark.parametrize("fused", [False, True])
def test_one_head_by_number(fused):
    class Plain(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(x, x, x, scale=1.0) if fused else (x @ x.mT).softmax(-1) @ x

    module, x = Plain(), torch.randn(CLIPS, TIME, DIM)
    with capture(module, heads=[0]) as result:
        module(x)
    assert torch.allclose(result.calls[0].weights[:, 0], (x @ x.mT).softmax(-1), atol=1e-6)
    for heads, message in (([1], "head 1 was asked for; it has 0 to 0"), ([0, 0], "head 0 was asked for 2 times")):
        with pytest.raises(CaptureError, match=message), capture(module, heads=heads):
            module(x)


@pytest.mark.parametrize("fused", [False, True])
def test_attention_under_vmap_is_one_error(fused):
    def attend(x):
        return F.scaled_dot_product_attention(x, x, x) if fused else (x @ x.mT).softmax(-1) @ x

    class Mapped(nn.Module):
        def forward(self, x):
            return torch.vmap(attend)(x)

    module = Mapped()
    with pytest.raises(CaptureError, match=r"in|of.*runs under torch\.vmap, which hides an axis"), capture(module):
        module(torch.randn(CLIPS, TIME, DIM))


@pytest.mark.parametrize("padded", [True, False])
def test_a_padded_encoder_of_torch_has_a_record(padded):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), 2)
            self.read = nn.Linear(6, 3)

        def forward(self, x):
            padding = torch.zeros(1, TIME, dtype=torch.bool)
            padding[:, 5:] = padded
            return self.read(self.encoder(x, src_key_padding_mask=padding).mean(1))

    model, x = Model().eval(), torch.randn(1, TIME, 6)
    record = inspect_module(model, x, layout=TokenLayout(TIME), probes=Probes(2))
    assert (record.attention.values[..., 5:] == 0).all() == padded
    assert torch.allclose(torch.from_numpy(record.score.values), model(x)[0].softmax(0).detach(), atol=1e-6)
    assert torch.backends.mha.get_fastpath_enabled()
