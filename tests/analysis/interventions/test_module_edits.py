"""Edits of modules that are no GMSA models: each equals a plain module changed by hand; no site is one error."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis import module_effect_map, run_module_with
from analysis.capture import TokenLayout, capture
from analysis.interventions.edits import (
    DropFrames,
    EditError,
    ForceGate,
    KnockOut,
    MoveFrames,
    Patch,
    ReplaceNeighbourhood,
    ScaleHead,
)
from analysis.interventions.sites import SiteError
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import Toeplitz

FRAMES, PATCHES, HEADS, DIM, SECONDS = 5, 3, 2, 8, 2.0


def plain(name, what, value):
    return value


def by_hand(name, query, key, value, change):
    """Attention written out, each part of which may be changed."""
    scores = change(name, "scores", query @ key.mT / query.shape[-1] ** 0.5)
    weights = change(name, "weights", scores.softmax(-1).nan_to_num())
    return change(name, "contexts", weights @ change(name, "values", value))


def split(values):
    return values.unflatten(-1, (HEADS, -1)).transpose(1, 2)


class Joint(nn.Module):
    """A class token and all patches of all frames together, in `nn.MultiheadAttention`."""

    layout = TokenLayout(FRAMES, PATCHES, front=1)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.token = nn.Parameter(torch.randn(1, 1, DIM))
        self.layers = nn.ModuleList(nn.MultiheadAttention(DIM, HEADS, batch_first=True) for _ in range(2))
        self.head = nn.Linear(DIM, 4)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)

    def forward(self, frames, change=None):
        hidden = torch.cat([self.token, frames.flatten(1, 2)], 1)
        for number, layer in enumerate(self.layers):
            hidden = hidden + self.attend(f"attention/{number}", layer, hidden, change)
        return self.head(hidden[:, 0])

    def attend(self, name, layer, hidden, change):
        if change is None:
            return layer(hidden, hidden, hidden, need_weights=False)[0]
        parts = F.linear(hidden, layer.in_proj_weight, layer.in_proj_bias).chunk(3, -1)
        contexts = by_hand(name, *map(split, parts), change)
        return layer.out_proj(contexts.transpose(1, 2).flatten(2))

    def tokens(self, name, span):
        """Which tokens of a row are of some frames."""
        return slice(1 + span.start * PATCHES, 1 + span.stop * PATCHES)


class Divided(nn.Module):
    """Patch by patch over time (a fused kernel), then frame by frame over space (a softmax of its own); then a mean."""

    layout = {  # noqa: RUF012
        "temporal": TokenLayout(FRAMES, PATCHES, folded="patch"),
        "spatial": TokenLayout(FRAMES, PATCHES, folded="frame"),
    }  # fmt: skip

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.temporal, self.spatial = Fused(), Written()
        self.head = nn.Linear(DIM, 4)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)

    def forward(self, frames, change=None):
        rows = frames[0].transpose(0, 1)
        hidden = (rows + self.temporal(rows, change)).transpose(0, 1)
        return self.head((hidden + self.spatial(hidden, change)).mean((0, 1)))[None]


class Fused(nn.Module):
    name = "temporal/0"

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM)

    def forward(self, rows, change=None):
        parts = [split(each) for each in self.qkv(rows).chunk(3, -1)]
        contexts = self.attend(*parts) if change is None else by_hand(self.name, *parts, change)
        return contexts.transpose(1, 2).flatten(2)

    def attend(self, query, key, value):
        return F.scaled_dot_product_attention(query, key, value)


class HeadsFirst(Fused):
    """Heads lie in front of the patches."""

    def attend(self, query, key, value):
        turned = (each.transpose(0, 1)[None] for each in (query, key, value))
        return F.scaled_dot_product_attention(*turned)[0].transpose(0, 1)


class Written(Fused):
    name = "spatial/0"

    def attend(self, query, key, value):
        return torch.einsum("bhqk,bhkd->bhqd", (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1), value)


@pytest.fixture
def frames():
    return torch.randn(1, FRAMES, PATCHES, DIM, generator=torch.Generator().manual_seed(2))


def run(module, frames, edits=(), **options):
    return run_module_with(module, frames, edits, layout=module.layout, frame_seconds=SECONDS, **options)


def at(names, what, function):
    """A change by hand of one part of some calls."""

    def change(name, part, value):
        return function(value.clone()) if name in names and part == what else value

    return change


def assigned(place, number):
    def function(value):
        value[place] = number
        return value

    return function


def scaled(place, factor):
    def function(value):
        value[place] *= factor
        return value

    return function


def mean_over_frames(first, heads, span, front):
    """Values of some frames by the mean over frames, patch by patch."""

    def function(value):
        grid = value[:, :, front:].unflatten(2, (FRAMES, PATCHES)).clone()
        grid[:, heads, span] = grid[:, heads].mean(2, keepdim=True)
        value[:, :, front:] = grid.flatten(2, 3)
        return value

    return function


EVERY = slice(None)
S = slice
# A name, the edit, and the same by hand: in which calls, which part, and how. Frames are of 2 s; token 0 is of none.
JOINT = {
    "edges before the softmax": (
        KnockOut("attention/0/global/weights[head 1]", queries=(4.0, 8.0), keys=(2.0, 6.0)),
        at(["attention/0"], "scores", assigned((EVERY, 1, S(7, 13), S(4, 10)), -torch.inf)),
    ),
    "edges after the softmax": (
        KnockOut("attention/0/global/weights[head 0]", queries=(4.0, 8.0), keys=(2.0, 6.0), renormalise=False),
        at(["attention/0"], "weights", assigned((EVERY, 0, S(7, 13), S(4, 10)), 0)),
    ),
    "edges of all queries, the class token among them": (
        KnockOut("attention/*/global/weights", keys=(0.0, 4.0)),
        at(["attention/0", "attention/1"], "scores", assigned((EVERY, EVERY, EVERY, S(1, 7)), -torch.inf)),
    ),
    "all edges": (
        KnockOut("attention/1/global/weights[head 0]"),
        at(["attention/1"], "scores", assigned((EVERY, 0), -torch.inf)),
    ),
    "a head scaled": (
        ScaleHead("attention/1/global/contexts[head 1]", 0.25),
        at(["attention/1"], "contexts", scaled((EVERY, 1), 0.25)),
    ),
    "a head scaled at some frames": (
        ScaleHead("attention/0/global/contexts[head 1]", -2.0, at=(2.0, 6.0)),
        at(["attention/0"], "contexts", scaled((EVERY, 1, S(4, 10)), -2.0)),
    ),
    "values by their mean": (
        Patch("attention/0/global/values[head 0]", "mean", at=(2.0, 8.0)),
        at(["attention/0"], "values", mean_over_frames(0, [0], S(1, 4), 1)),
    ),
    "contexts by zeros": (
        Patch("attention/0/global/contexts", "zero", at=(2.0, 4.0)),
        at(["attention/0"], "contexts", assigned((EVERY, EVERY, S(4, 7)), 0)),
    ),
    "frames dropped": (
        DropFrames("*/input", at=(2.0, 6.0)),
        at(["attention/0", "attention/1"], "scores", assigned((EVERY, EVERY, EVERY, S(4, 10)), -torch.inf)),
    ),
}  # fmt: skip


def temporal_mean(value):
    value[:, :, 1:3] = value.mean(2, keepdim=True)
    return value


DIVIDED = {
    "edges over time": (
        KnockOut("temporal/0/global/weights[head 1]", queries=(0.0, 4.0), keys=(6.0, 10.0)),
        at(["temporal/0"], "scores", assigned((EVERY, 1, S(0, 2), S(3, 5)), -torch.inf)),
    ),
    "edges within a frame, before a softmax of the module's own": (
        KnockOut("spatial/0/global/weights[head 0]", queries=(4.0, 6.0)),
        at(["spatial/0"], "scores", assigned((2, 0), -torch.inf)),
    ),
    "edges after it": (
        KnockOut("spatial/0/global/weights[head 1]", keys=(4.0, 8.0), renormalise=False),
        at(["spatial/0"], "weights", assigned((S(2, 4), 1), 0)),
    ),
    "a head scaled in both": (
        ScaleHead("*/0/global/contexts[head 1]", 0.5),
        at(["temporal/0", "spatial/0"], "contexts", scaled((EVERY, 1), 0.5)),
    ),
    "values over time by their mean": (
        Patch("temporal/0/global/values", "mean", at=(2.0, 6.0)), at(["temporal/0"], "values", temporal_mean),
    ),
    "contexts of a frame by zeros": (
        Patch("spatial/0/global/contexts", "zero", at=(2.0, 4.0)),
        at(["spatial/0"], "contexts", assigned((1,), 0)),
    ),
}  # fmt: skip
CASES = [(Joint, *case) for case in JOINT.values()] + [(Divided, *case) for case in DIVIDED.values()]


@pytest.mark.parametrize(("kind", "edit", "change"), CASES, ids=[*JOINT, *DIVIDED])
def test_an_edit_equals_the_module_changed_by_hand(kind, edit, change, frames):
    module = kind()
    result = run(module, frames, [edit]).output
    with torch.no_grad():
        expected, clean = module(frames, change), module(frames)
    torch.testing.assert_close(result, expected, atol=2e-6, rtol=1e-5)
    assert (expected - clean).abs().max() > 1e-3  # the change is one
    assert module.training


@pytest.mark.parametrize("name", [name for name in DIVIDED if "over time" in name])
def test_heads_in_front_of_patches(name, frames):
    module, (edit, change) = Divided(), DIVIDED[name]
    turned = HeadsFirst()
    turned.load_state_dict(module.temporal.state_dict())
    layout = module.layout | {"temporal": TokenLayout(FRAMES, PATCHES, folded="patch", axes="clip head patch")}
    with torch.no_grad():
        expected = module(frames, change)
    module.temporal = turned
    result = run_module_with(module, frames, [edit], layout=layout, frame_seconds=SECONDS).output
    torch.testing.assert_close(result, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", [Joint, Divided])
def test_no_edit_and_edits_that_change_nothing_give_the_same_to_the_bit(kind, frames):
    module = kind()  # in training mode, where torch takes no fused path; there is no dropout
    with torch.no_grad():
        clean = module(frames)
    assert torch.equal(run(module, frames, []).output, clean)
    assert torch.equal(run(module, frames, [ScaleHead("*/0/global/contexts", 1.0)]).output, clean)


def test_edits_together_and_as_texts(frames):
    module = Joint()
    texts = [
        "knock-out attention/0/global/weights[head 1] queries 4..8 keys 2..6",
        JOINT["a head scaled at some frames"][0],
    ]
    changes = [JOINT[name][1] for name in ("edges before the softmax", "a head scaled at some frames")]

    def both(name, part, value):
        for change in changes:
            value = change(name, part, value)
        return value

    with torch.no_grad():
        expected = module(frames, both)
    torch.testing.assert_close(run(module, frames, texts).output, expected, atol=2e-6, rtol=1e-5)


def test_dropped_frames_are_as_if_they_were_not_there(frames):
    module = Joint()
    result = run(module, frames, [DropFrames("attention/input", at=(2.0, 6.0))]).output
    with torch.no_grad():
        expected = module(frames[:, [0, 3, 4]])
    torch.testing.assert_close(result, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("quantity", ["values", "contexts"])
def test_a_patch_from_another_pass(quantity, frames):
    module, site = Joint(), f"attention/0/global/{quantity}"
    other = frames.flip(1) * 2
    watched = run(module, other, watch=[site]).watched
    (value,) = watched.values()
    assert value.shape == (1, HEADS, FRAMES, PATCHES * DIM // HEADS)
    patched = run(module, frames, [Patch(site, value)]).output
    kept = {}

    def keep(name, part, each):
        kept[name, part] = each
        return each

    def replace(name, part, each):
        if (name, part) == ("attention/0", quantity):
            each = torch.cat([each[:, :, :1], kept[name, part][:, :, 1:]], 2)
        return each

    with torch.no_grad():
        module(other, keep)
        expected = module(frames, replace)
    torch.testing.assert_close(patched, expected, atol=2e-6, rtol=1e-5)
    own = next(iter(run(module, frames, watch=[site]).watched.values()))
    torch.testing.assert_close(
        run(module, frames, [Patch(site, own)]).output, module.eval()(frames), atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("kind", "edit", "error", "message"),
    [
        (Joint, ForceGate("attention/0/gate", 0.0), SiteError, "the model has no site attention/0/gate; it has att"),
        (Joint, ReplaceNeighbourhood("attention/0/local/neighbourhood", Toeplitz(2)), SiteError, "has no site"),
        (Joint, KnockOut("visual/0/global/weights"), SiteError, "no site visual/0/global/weights; it has attention"),
        (Joint, KnockOut("attention/2/global/weights"), SiteError, "has no site attention/2"),
        (Joint, KnockOut("attention/0/global/weights[head 2]"), SiteError, "no head 2 at .* has 0, 1"),
        (Joint, MoveFrames("*/input", at=(0.0, 2.0), to=4.0), EditError, "MoveFrames at .* cannot be made on a mod"),
        (Joint, Patch("*/input", "zero", at=(0.0, 2.0)), EditError, "Patch at .* cannot be made on a module"),
        (Joint, Patch("attention/0/global/weights", "zero"), EditError, "Patch at .* cannot be made on a module"),
        (Joint, KnockOut("attention/0/global/weights", keys=(10.0, 12.0)), EditError, "no frame starts in 10 to"),
        (Joint, DropFrames("*/input", at=(0.0, 10.0)), EditError, "every frame is dropped"),
        (
            Joint, Patch("attention/0/global/values", torch.ones(3, 3)), EditError,
            r"at attention/0/global/values of a tensor \(3, 3\); expected one that broadcasts to \(1, 2, 5, 12\)",
        ),
        (Divided, DropFrames("*/input", at=(0.0, 2.0)), EditError, r"still move the logits by .*Divided uses them"),
    ],
)  # fmt: skip
def test_what_has_no_site_is_one_error(kind, edit, error, message, frames):
    with pytest.raises(error, match=message):
        run(kind(), frames, [edit])


class Gated(nn.Module):
    """A map that is multiplied with gates after its softmax."""

    layout = TokenLayout(FRAMES)

    def __init__(self, dropout=0.0):
        super().__init__()
        self.dropout = dropout

    def forward(self, frames):
        weights = (frames @ frames.mT).softmax(-1)
        weights = F.dropout(weights, self.dropout) if self.dropout else weights * 0.5
        return (weights @ frames).mean(1)


def test_maps_that_are_changed_between_and_dropouts_that_are_on(frames):
    one = frames[:, :, 0]
    with pytest.raises(EditError, match=r"changed between its softmax and the values .*; give renormalise=False"):
        run_module_with(
            Gated(), one, [KnockOut("attention/0/global/weights", keys=(0.0, 1.0))], layout=TokenLayout(FRAMES)
        )
    edit = KnockOut("attention/0/global/weights", keys=(0.0, 1.0), renormalise=False)
    weights = (one @ one.mT).softmax(-1) * 0.5
    weights[..., 0] = 0
    result = run_module_with(Gated(), one, [edit], layout=TokenLayout(FRAMES)).output
    torch.testing.assert_close(result, (weights @ one).mean(1))
    with pytest.raises(EditError, match="a dropout is on"):
        run_module_with(Gated(0.5), one, [edit], layout=TokenLayout(FRAMES))


def test_the_effect_map_is_a_pass_a_cell(frames):
    module, windows = Joint().eval(), [(0.0, 4.0), (4.0, 10.0)]
    effects = module_effect_map(
        module, frames, 2, windows=windows, layer=1, activation="sigmoid", layout=module.layout, frame_seconds=SECONDS
    )
    assert dict(effects.sizes) == {"direction": 2, "modality": 1, "unit": 3, "window": 2}
    with torch.no_grad():
        clean = module(frames)[0, 2]
    assert float(effects["clean"]) == pytest.approx(float(clean))
    tokens = [slice(1, 7), slice(7, 16)]
    for (unit, heads), (column, window) in product(enumerate((EVERY, 0, 1)), enumerate(tokens)):
        logits = []
        for taken in ((window,), (tokens[1 - column],), tokens):

            def change(name, part, value, taken=taken, heads=heads):
                for span in taken if (name, part) == ("attention/1", "scores") else ():
                    value = assigned((EVERY, heads, EVERY, span), -torch.inf)(value.clone())
                return value

            with torch.no_grad():
                logits.append(module(frames, change)[0, 2])
        cell = effects.isel(modality=0, unit=unit)
        assert float(cell["base"]) == pytest.approx(float(logits[2]), abs=1e-5)
        expected = [float(logits[0] - clean), float(logits[1] - logits[2])]
        np.testing.assert_allclose(cell["effect"].isel(window=column), expected, atol=1e-5)


def test_the_effect_map_of_a_window_of_layers_takes_its_edges_in_each(frames):
    module, windows = Joint().eval(), [(0.0, 4.0), (4.0, 10.0)]
    effects = module_effect_map(
        module, frames, 2, windows=windows, layer=(0, 1), activation="sigmoid", layout=module.layout,
        frame_seconds=SECONDS,
    )  # fmt: skip
    assert effects.attrs["layer"] == "0-1"
    with torch.no_grad():
        clean = module(frames)[0, 2]
    for column, taken in enumerate((slice(1, 7), slice(7, 16))):

        def change(name, part, value, taken=taken):
            return assigned((EVERY, 1, EVERY, taken), -torch.inf)(value.clone()) if part == "scores" else value

        with torch.no_grad():
            logit = module(frames, change)[0, 2]
        cell = effects["effect"].sel(direction="noising").isel(modality=0, unit=2, window=column)
        assert float(cell) == pytest.approx(float(logit - clean), abs=1e-5)


def test_an_effect_map_by_patches_and_what_it_refuses(frames):
    module = Divided()
    options = {"windows": [(0.0, 4.0)], "layout": module.layout, "frame_seconds": SECONDS}
    effects = module_effect_map(module, frames, 1, source="mean", **options)
    result = run(module, frames, [Patch("spatial/0/global/values[head 1]", "mean", at=(0.0, 4.0))]).output
    odds, clean = (each.log_softmax(1)[0, 1] for each in (result, module.eval()(frames).detach()))
    logit = torch.logit(odds.exp()) - torch.logit(clean.exp())
    cell = effects["effect"].sel(direction="noising", modality="spatial").isel(unit=2, window=0)
    assert float(cell) == pytest.approx(float(logit), abs=1e-4)
    for change, message in (({"target": 4}, "classes 0 to 3"), ({"target": True}, "target is True"),
                            ({"layer": 1}, "layers 0 to 0"), ({"source": "clip"}, "expected None,")):  # fmt: skip
        with pytest.raises(ArgumentError, match=message):
            module_effect_map(module, frames, **{"target": 0, **options, **change})


class ListedHeads(nn.Module):
    """Heads that are modules of a list, whose contexts are added."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.heads = nn.ModuleList(Written() for _ in range(3))
        self.head = nn.Linear(DIM, 4)

    def forward(self, rows, change=None):
        for number, each in enumerate(self.heads):
            each.name = str(number)
        return self.head(sum(each(rows, change) for each in self.heads).mean(1))


@pytest.mark.parametrize("what", ["scores", "contexts", "values"])
def test_heads_that_are_modules_of_a_list_are_heads_of_one_layer(what, frames):
    module, one = ListedHeads(), frames[:, :, 0] * 3
    edit = {
        "scores": KnockOut("attention/0/global/weights[heads 1, 4]", keys=(2.0, 6.0)),
        "contexts": ScaleHead("attention/0/global/contexts[heads 1, 4]", 0.5, at=(2.0, 6.0)),
        "values": Patch("attention/0/global/values[heads 1, 4]", "zero", at=(2.0, 6.0)),
    }[what]
    function = {
        "scores": lambda head: assigned((EVERY, head, EVERY, S(1, 3)), -torch.inf),
        "contexts": lambda head: scaled((EVERY, head, S(1, 3)), 0.5),
        "values": lambda head: assigned((EVERY, head, S(1, 3)), 0),
    }[what]

    def change(name, part, value):
        for number, head in (("0", 1), ("2", 0)):
            value = at([number], what, function(head))(name, part, value)
        return value

    options = {"layout": TokenLayout(FRAMES), "frame_seconds": SECONDS, "watch": ["attention/0/global/contexts"]}
    result = run_module_with(module, one, [edit], **options)
    with torch.no_grad():
        torch.testing.assert_close(result.output, module(one, change), atol=2e-6, rtol=1e-5)
        assert (result.output - module(one)).abs().max() > 1e-3
    assert next(iter(result.watched.values())).shape == (1, 3 * HEADS, FRAMES, DIM // HEADS)


def test_capture_hands_on_what_was_written(frames):
    module = Divided().eval()

    def zero(call, maps, result):
        result.zero_()

    with torch.no_grad(), capture(module, reduce="frames", layout=module.layout, rewrite=zero) as captured:
        output = module(frames)
    assert len(captured) == 2
    torch.testing.assert_close(output, module.head(frames.mean((1, 2))))


class Single(nn.Module):
    """One layer whose product of scores and values is a function."""

    layout = TokenLayout(FRAMES)

    def __init__(self, attend):
        super().__init__()
        torch.manual_seed(0)
        self.attend = attend
        self.parts = nn.Linear(DIM, 3 * DIM)
        self.head = nn.Linear(DIM, 4)
        nn.init.normal_(self.parts.weight)

    def forward(self, frames):
        query, key, value = map(split, self.parts(frames).chunk(3, -1))
        contexts = self.attend(query * query.shape[-1] ** -0.5, key, value)
        return self.head(contexts.transpose(1, 2).flatten(2).tanh().mean(1))


ROWS = torch.randn(1, FRAMES, DIM, generator=torch.Generator().manual_seed(2))
ORDER = torch.tensor([3, 0, 4, 1, 2])
OUT = KnockOut("*/0/global/weights", keys=(2.0, 6.0), renormalise=False)


@pytest.mark.parametrize(
    ("attend", "name"),
    [
        (lambda q, k, v: (q @ k.mT).softmax(-1)[..., ORDER] @ v[:, :, ORDER], "__getitem__"),
        (lambda q, k, v: (q @ k.mT).softmax(-1).flip(-1) @ v.flip(-2), "flip"),
        (lambda q, k, v: (q @ k.mT).softmax(-1).index_select(-1, ORDER) @ v[:, :, ORDER], "index_select"),
        (lambda q, k, v: ((q @ k.mT).softmax(-1)[:, :, ORDER] @ v)[:, :, ORDER.argsort()], "__getitem__"),
    ],
)
def test_a_map_in_another_order_takes_no_edits(attend, name):
    module = Single(attend).eval()
    with pytest.raises(EditError, match=rf"may have been put in another order \({name}\)"):
        run_module_with(module, ROWS, [OUT], layout=module.layout)
    with torch.no_grad():
        assert torch.equal(run_module_with(module, ROWS, layout=module.layout).output, module(ROWS))


@pytest.mark.parametrize(
    ("attend", "names"),
    [
        (lambda q, k, v: (lambda p: p @ v + p @ k.tanh())((q @ k.mT).softmax(-1)), "matmul, matmul"),
        (
            lambda q, k, v: (lambda p: p @ v + torch.einsum("bhqk,qkd->bhqd", p, torch.ones(FRAMES, FRAMES, 4)))(
                (q @ k.mT).softmax(-1)
            ),
            "matmul, einsum",
        ),
        (lambda q, k, v: (lambda p: p @ (p @ v))((q @ k.mT).softmax(-1)), "matmul, matmul"),
    ],
)
@pytest.mark.parametrize("edit", [OUT, ScaleHead("*/0/global/contexts")])
def test_a_map_of_several_products_takes_no_edits(attend, names, edit):
    module = Single(attend).eval()
    with pytest.raises(EditError, match=rf"its map goes into several products \({names}\)"):
        run_module_with(module, ROWS, [edit], layout=module.layout)
    with torch.no_grad():
        assert torch.equal(run_module_with(module, ROWS, layout=module.layout).output, module(ROWS))


@pytest.mark.parametrize("least", [-torch.inf, torch.finfo(torch.float32).min, -1e4, -90.0])
def test_a_query_with_nothing_left_under_a_mask_hands_nothing_on(least):
    far = (torch.arange(FRAMES)[:, None] - torch.arange(FRAMES)).abs() > 1
    mask = torch.zeros(FRAMES, FRAMES).masked_fill(far, least)

    def taken_out(q, k, v):
        scores = (q @ k.mT + mask).masked_fill(far, -torch.inf)
        scores[..., :2] = -torch.inf  # all that the first query may see
        return scores.softmax(-1).nan_to_num() @ v

    forms = (
        lambda q, k, v: (q @ k.mT + mask).softmax(-1) @ v,
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0),
    )
    edit = KnockOut("*/0/global/weights", keys=(0.0, 4.0))
    expected = Single(taken_out).eval()(ROWS)
    for form in forms:
        module = Single(form).eval()
        result = run_module_with(module, ROWS, [edit], layout=module.layout, frame_seconds=SECONDS)
        torch.testing.assert_close(result.output, expected, atol=1e-6, rtol=1e-5)


def test_arguments_of_other_kinds_are_one_error():
    """In a process without checks of types, as a user has none."""
    script = """
import torch
from analysis import KnockOut, run_module_with
from analysis.capture import TokenLayout, capture
module, x, layout = torch.nn.MultiheadAttention(4, 2), torch.randn(3, 1, 4), TokenLayout(3)
def attempt(function, *given, **named):
    try:
        function(*given, **named)
    except ValueError as error:
        print(type(error).__name__, error)
for edits in ([3], KnockOut("*/0/global/weights", keys=(0.0, 1.0)), "knock-out */0/global/weights", None):
    attempt(run_module_with, module, (x, x, x), edits, layout=layout)
def enter(**named):
    with capture(module, **named):
        module(x, x, x)
for name, value in (("heads", 2), ("heads", ["first"]), ("queries", 2), ("layers", "encoder"), ("layout", "frames"),
                    ("layout", {"*": 3})):
    attempt(enter, **{name: value})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    expected = (
        "EditError 3 is no edit; expected one of KnockOut, Patch,",
        "EditError edits is KnockOut(",
        "EditError edits is 'knock-out */0/global/weights'; expected a list",
        "EditError edits is None; expected a list",
        "CaptureError heads is 2; expected a list, as in heads=[2]",
        "CaptureError heads is ['first']; expected a list",
        "CaptureError queries is 2; expected a list",
        "CaptureError layers is 'encoder'; expected a list",
        "LayoutError layout is 'frames'; expected TokenLayout(frames=",
        "LayoutError layout is 3; expected TokenLayout(frames=",
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(expected)
    assert [line for line, start in zip(lines, expected, strict=True) if not line.startswith(start)] == []
