"""Which axes of a map are clips, heads and folded patches: by sizes, given, or one error; never swapped in silence."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis import inspect_module
from analysis.capture import CaptureError, LayoutError, TokenLayout, capture
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


def frames(form, patches, count, axes=None, fused=False, clips=CLIPS, **options):
    x = torch.randn(clips, TIME * patches, count * DIM, generator=torch.Generator().manual_seed(1))
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


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("clips", "patches", "heads"), [(1, 3, 5), (2, 3, 5), (2, 2, 2), (1, 4, 4), (7, 7, 7), (4, 2, 8)]
)
@pytest.mark.parametrize("form", FORMS)
def test_axes_that_are_not_given_are_told_by_what_reaches_them(form, clips, patches, heads, fused):
    call, expected = frames(form, patches, heads, fused=fused, clips=clips)
    assert call.shape == (clips * patches, heads, TIME, TIME)
    assert torch.allclose(call.frames.weights, expected, atol=1e-6)


class Deep(nn.Module):
    """Two layers of divided attention as modules; the second is given tokens that every patch has reached."""

    def __init__(self, form, patches, heads):
        super().__init__()
        self.first, self.second = Divided(form, patches, heads), Divided(form, patches, heads)
        self.mixed = None

    def forward(self, x):
        self.mixed = x + x.mean(1, keepdim=True)
        return self.first(x) + self.second(self.mixed)


@pytest.mark.parametrize("form", ["clip head patch", "(clip head patch)", "head clip patch"])
def test_a_deeper_layer_is_told_by_what_it_is_given_itself(form):
    x = torch.randn(1, TIME * 4, 4 * DIM)
    module = Deep(form, 4, 4)
    with capture(module, reduce="frames", layout=TokenLayout(TIME, 4, folded="patch")) as result:
        module(x)
    for call, given in zip(result, (x, x + x.mean(1, keepdim=True)), strict=True):
        assert torch.allclose(call.frames.weights, mean_over_patches(given, 4, 4), atol=1e-6)
    assert torch.equal(module.mixed, x + x.mean(1, keepdim=True)), "what the module keeps is of its own pass"


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("form", ["clip head patch", "clip patch head"])
def test_what_nothing_tells_is_an_error_that_names_the_argument(form, fused):
    class Mixed(Divided):
        def forward(self, x):
            return super().forward(x + x.mean(1, keepdim=True))

    module, x = Mixed(form, 4, 4, fused), torch.randn(1, TIME * 4, 4 * DIM)
    message = (
        r"of sizes \(1, 4, 4\), hold 1 clip.*TokenLayout\(\.\.\., axes='clip patch head' or axes='clip head patch'\)"
    )
    layout = TokenLayout(TIME, 4, folded="patch")
    with pytest.raises(LayoutError, match=message), capture(module, reduce="frames", layout=layout):
        module(x)


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


@pytest.mark.parametrize("clips", [1, 2, 3])
@pytest.mark.parametrize("outside", [False, True])
def test_heads_in_the_batch_of_several_clips(outside, clips):
    torch.manual_seed(0)
    module, x = Folded(3, outside), torch.randn(clips, TIME, 3 * DIM)
    for axes in (None, "head clip" if outside else "clip head"):
        with capture(module, layout=TokenLayout(TIME, axes=axes)) as result:
            module(x)
        assert torch.allclose(result.calls[0].weights, heads_of(x, 3), atol=1e-6)
        assert torch.allclose(result.calls[0].frames.weights, heads_of(x, 3), atol=1e-6)


class Counted(nn.Module):
    """Attention (batch, heads) or (heads, batch) of inputs with the batch first, second, or without one."""

    def __init__(self, heads, order="bh", batch=0, **known):
        super().__init__()
        self.count, self.order, self.batch, self.passes, self.noise = heads, order, batch, 0, 0
        self.register_buffer("mean", torch.zeros(1))
        self.kept, self.cache = [], {}
        for name, value in known.items():
            setattr(self, name, value)

    def forward(self, x):
        self.passes += 1
        self.mean += 1
        self.kept.append(len(x))
        self.cache[self.passes] = len(x)
        self.noise = torch.rand(1)
        x = x[:, None] if self.batch is None else x
        parts = x.unflatten(-1, (self.count, DIM))
        parts = parts.permute(1, 2, 0, 3) if self.batch in (1, None) else parts.transpose(1, 2)
        parts = parts.transpose(0, 1) if self.order == "hb" else parts
        return ((3 * parts) @ parts.roll(1, -1).mT).softmax(-1) @ parts


@pytest.mark.parametrize("order", ["bh", "hb"])
@pytest.mark.parametrize(("batch", "shape"), [(0, (3, TIME)), (0, (1, TIME)), (1, (TIME, 3)), (0, (TIME, TIME)),
                                              (1, (TIME, 1)), (None, (TIME,))])  # fmt: skip
@pytest.mark.parametrize("heads", [3, TIME])
def test_clips_are_those_that_their_numbers_reach(order, batch, shape, heads):
    torch.manual_seed(0)
    x = torch.randn(*shape, heads * DIM)
    module = Counted(heads, order, batch)
    with capture(module, reduce="frames", layout=TokenLayout(TIME)) as result:
        module(x)
    expected = heads_of({0: x, 1: x.transpose(0, 1) if x.ndim == 3 else x, None: x[None]}[batch], heads)
    assert torch.allclose(result.calls[0].frames.weights, expected, atol=1e-6)


@pytest.mark.parametrize(("order", "axes"), [("bh", "clip head"), ("hb", "head clip")])
@pytest.mark.parametrize("heads", [3, TIME])
def test_the_second_of_two_axes_of_one_size_is_of_clips_only_where_the_layout_says_it(order, axes, heads):
    x = torch.randn(TIME, TIME, heads * DIM, generator=torch.Generator().manual_seed(1))
    module = Counted(heads, order, batch=1)
    with pytest.raises(LayoutError, match="reach them in another way"), capture(module, layout=TokenLayout(TIME)):
        module(x)
    with capture(module, layout=TokenLayout(TIME, axes=axes)) as result:
        module(x)
    assert torch.allclose(result.calls[0].frames.weights, heads_of(x.transpose(0, 1), heads), atol=1e-6)


def test_passes_that_tell_the_axes_leave_the_module_and_random_numbers_as_they_were():
    x, layout = torch.randn(3, TIME, 3 * DIM), TokenLayout(TIME)
    plain, module = Counted(3, "hb"), Counted(3, "hb")
    torch.manual_seed(4)
    expected = plain(x)
    torch.manual_seed(4)
    with capture(module, reduce="frames", layout=layout):
        assert torch.equal(module(x), expected)
    assert (module.passes, module.mean, module.noise) == (plain.passes, plain.mean, plain.noise)
    assert (module.kept, module.cache) == (plain.kept, plain.cache)


def test_a_number_of_heads_that_the_module_says_needs_no_pass():
    counts = []

    class Seen(Counted):
        def forward(self, x):
            counts.append(1)
            return super().forward(x)

    for known, clips in (({}, TIME), ({"num_heads": 3}, 2)):
        x = torch.randn(clips, TIME, 3 * DIM)
        counts.clear()
        module = Seen(3, **known)
        with capture(module, layout=TokenLayout(TIME)) as result:
            module(x)
        assert torch.allclose(result.calls[0].frames.weights, heads_of(x, 3), atol=1e-6)
        assert (len(counts) > 1) == (not known)


@pytest.mark.parametrize("fused", [False, True])
def test_views_in_the_batch_are_no_heads(fused):
    class Views(nn.Module):
        def forward(self, x):  # (clip, view, time, dim)
            x = x.flatten(0, 1)
            return F.scaled_dot_product_attention(x, x, x) if fused else (x @ x.mT).softmax(-1) @ x

    module, x = Views(), torch.randn(1, 3, TIME, DIM)
    message = r"sizes \(3,\), would by their sizes hold 1 clip.*Where they are windows or views.*lengths="
    with pytest.raises(LayoutError, match=message), capture(module, reduce="frames", layout=TokenLayout(TIME)):
        module(x)
    with capture(module, reduce="frames", layout=TokenLayout(TIME, lengths=(TIME,) * 3)) as result:
        module(x)
    assert result.calls[0].frames.weights.shape == (3, 1, TIME, TIME)


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
    with pytest.raises(
        LayoutError, match=r"has the axes \(2, 5, 3\) in front of its tokens; the layout says 'clip patch"
    ):
        frames("clip head patch", 3, 5, axes="clip patch head")


def test_sizes_that_hold_no_such_clips():
    module, x = Counted(3), torch.randn(4, TIME, 3 * DIM)
    layout = TokenLayout(TIME, lengths=(TIME,) * 5)
    with (
        pytest.raises(LayoutError, match=r"of sizes \(4, 3\), cannot hold 5 clip\(s\) x 1"),
        capture(module, layout=layout),
    ):
        module(x)


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
