"""Which argument holds the frames, and which heads, clips and rows a batch has: right, or one error; never others."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis import KnockOut, inspect_module, run_module_with
from analysis.capture import LayoutError, TokenLayout, capture
from analysis.capture.given import frame_tensors
from analysis.interventions.edits import DropFrames, EditError
from analysis.module_order import check_key_order

TIME, DIM = 7, 4  # of a head
LAYOUT = TokenLayout(TIME)


class Core(nn.Module):
    """Multi-head attention, heads on an axis of their own or folded into the batch; keeps its map."""

    def __init__(self, heads, said=None, folded=False):
        super().__init__()
        self.count, self.folded, self.qkv = heads, folded, nn.Linear(heads * DIM, 3 * heads * DIM)
        if said is not None:
            self.num_heads = said

    def forward(self, x):
        parts = [each.unflatten(-1, (self.count, -1)).transpose(1, 2) for each in self.qkv(x).chunk(3, -1)]
        self.weights = (parts[0] @ parts[1].mT / DIM**0.5).softmax(-1).detach()
        query, key, value = (each.flatten(0, 1) if self.folded else each for each in parts)
        contexts = F.scaled_dot_product_attention(query, key, value)
        return contexts.unflatten(0, (len(x), -1)) if self.folded else contexts


class Net(nn.Module):
    """A function of the attention of what another makes of the arguments."""

    def __init__(self, core, given=lambda x: x, returned=lambda y, *args: y.mean(2).flatten(1)):
        super().__init__()
        torch.manual_seed(0)
        self.attention, self.given, self.returned = core, given, returned
        self.prompts, self.read = nn.Embedding(9, 8), nn.Linear(core.count * DIM, 3)

    def forward(self, *args):
        return self.read(self.returned(self.attention(self.given(*args)), *args))


def numbers(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights_of(module, *args, layout=LAYOUT):
    with torch.no_grad(), capture(module, reduce="frames", layout=layout) as captured:
        module(*args)
    (call,) = captured
    return call.frames.weights


# What is given before the frames, and what is made of both.
FIRST = {
    "times of one clip": (lambda clips: torch.linspace(0, 1, TIME)[None], lambda t, x: x + t[..., None]),
    "times": (lambda clips: numbers(clips, TIME), lambda t, x: x + t[..., None]),
    "times as a column": (lambda clips: numbers(1, TIME, 1), lambda t, x: x + t),
    "2 prompts": (lambda clips: torch.tensor([[1, 2, 3, 4, 5], [1, 3, 3, 4, 8]]), lambda p, x: x),
    "3 prompts of as many words": (lambda clips: torch.arange(3 * TIME).reshape(3, TIME) % 5, lambda p, x: x),
    "vectors of 3 prompts": (lambda clips: numbers(3, 5, 8), lambda p, x: x),
    "a mask": (lambda clips: torch.ones(1, TIME), lambda m, x: x * m[..., None]),
    "a bias": (lambda clips: numbers(1, 1, TIME, TIME), lambda b, x: x + b[0, 0].mean()),
}


@pytest.mark.parametrize("first", FIRST)
def test_the_clips_are_those_of_the_tensor_that_holds_the_frames(first):
    build, make = FIRST[first]
    for clips, heads, says, folded in product((1, 2, 3), (1, 2, 6), (True, False), (True, False)):
        module = Net(Core(heads, heads if says else None, folded), make)
        args = build(clips), numbers(clips, TIME, heads * DIM, seed=2)
        weights = weights_of(module, *args)
        assert weights.shape == (clips, heads, TIME, TIME), (clips, heads, says, folded)
        assert torch.allclose(weights, module.attention.weights, atol=1e-6)


@pytest.mark.parametrize("clips", [1, 2])
@pytest.mark.parametrize("says", [True, False])
def test_two_tensors_of_features_and_of_other_numbers_of_clips_are_told_by_what_they_reach(clips, says):
    module = Net(Core(2, 2 if says else None), lambda prompts, x: x)
    args = numbers(3 - clips, TIME, 5), numbers(clips, TIME, 2 * DIM)
    try:
        assert torch.allclose(weights_of(module, *args), module.attention.weights, atol=1e-6)
    except LayoutError as error:
        assert "nor other inputs" in str(error)  # noqa: PT017
        assert not says


def test_tensors_by_what_speaks_against_them():
    frames, times, mask, bias = numbers(1, TIME, 5), numbers(1, TIME), torch.ones(1, TIME, 5), numbers(1, TIME, TIME)
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)):
        (best,) = frame_tensors([(frames, times, mask, bias)[place] for place in order], TIME)
        assert best is frames
    first = numbers(TIME, 2, 5)
    (best,) = frame_tensors([times, first], TIME)
    assert best is first
    assert [each.dtype for each in frame_tensors([torch.arange(2 * TIME).reshape(1, TIME, 2) + 2, frames], TIME)] == [
        torch.float32, torch.int64
    ]  # fmt: skip


CONVOLVED = nn.Conv1d(8, 8, 15, padding=7).requires_grad_(False)
SEVERAL = {
    "a clip and its reverse": (lambda x: torch.cat([x, x.flip(1)]), TIME),
    "two streams": (lambda x: torch.cat([x, 2 * x]), TIME),
    "windows": (lambda x: x.unflatten(1, (2, TIME)).flatten(0, 1), 2 * TIME),
    "windows less the mean": (lambda x: (x - x.mean(1, True)).unflatten(1, (2, TIME)).flatten(0, 1), 2 * TIME),
    "windows of a convolution": (lambda x: CONVOLVED(x.mT).mT.unflatten(1, (2, TIME)).flatten(0, 1), 2 * TIME),
    "three views": (lambda x: torch.cat([x, x.roll(1, 1), x.roll(2, 1)]), TIME),
}


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("name", SEVERAL)
def test_several_rows_of_a_clip_are_no_heads(name, says):
    make, length = SEVERAL[name]
    for clips in (1, 2):
        module, x = Net(Core(2, 2 if says else None), make), numbers(clips, length, 8)
        rows = len(make(x))
        with pytest.raises(LayoutError, match=r"call 0 of 'attention' .* of sizes \(\d, 2\).*lengths="):
            weights_of(module, x)
        weights = weights_of(module, x, layout=TokenLayout(TIME, lengths=(TIME,) * rows))
        assert torch.allclose(weights, module.attention.weights, atol=1e-6)
    message = "which leaves 4 heads, where the module says that it has 2.*axes='clip head'"
    if says and rows == 4:
        with pytest.raises(LayoutError, match=message):
            weights_of(module, numbers(2, length, 8))


def test_two_streams_of_two_arguments_are_no_heads():
    module = Net(Core(2, 2), lambda *streams: torch.cat(streams))
    streams = numbers(1, TIME, 8), numbers(1, TIME, 8, seed=3)
    with pytest.raises(LayoutError, match="where the module says that it has 2: these are windows, views"):
        inspect_module(module, streams, layout=LAYOUT, features={"attention": np.ones((TIME, 2))}, parts=["attention"])
    single = Net(Core(1), lambda *streams: torch.cat(streams))
    with pytest.raises(LayoutError, match="reach them in another way"):
        weights_of(single, numbers(1, TIME, DIM), numbers(1, TIME, DIM, seed=3))


def test_groups_of_heads_without_a_batch_are_said():
    class Groups(nn.Module):
        def forward(self, x):
            parts = x.unflatten(-1, (2, 3, DIM)).permute(1, 2, 0, 3)
            return F.scaled_dot_product_attention(parts, parts[:, :1], parts[:, :1])

    x = numbers(TIME, 6 * DIM)
    with pytest.raises(LayoutError, match=r"on its first axis and on others.*axes='head' where all are heads"):
        weights_of(Groups(), x)
    assert weights_of(Groups(), x, layout=TokenLayout(TIME, axes="head")).shape == (1, 6, TIME, TIME)


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("clips", [1, 2, 4])
def test_the_number_of_heads_of_a_module_around_is_no_more_than_a_hint(clips, folded):
    module = Net(Core(4, folded=folded))
    module.num_heads = 8
    x = numbers(clips, TIME, 4 * DIM)
    assert torch.allclose(weights_of(module, x), module.attention.weights, atol=1e-6)


def test_some_of_the_heads_that_a_module_says_are_some():
    module, x = Net(Core(2, 4)), numbers(2, TIME, 2 * DIM)
    assert torch.allclose(weights_of(module, x), module.attention.weights, atol=1e-6)


def written(x, order):
    result = torch.empty_like(x)
    result[order.argsort()] = x
    return result


REORDERED = {
    "index": lambda x, order: x[order],
    "index_select": lambda x, order: x.index_select(0, order),
    "gather": lambda x, order: x.gather(0, order[:, None, None].expand_as(x)),
    "stack": lambda x, order: torch.stack([x[int(each)] for each in order]),
    "cat": lambda x, order: torch.cat([x[int(each), None] for each in order]),
    "written": written,
}


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("how", REORDERED)
def test_clips_in_another_order_are_refused_and_in_their_own_are_not(how, heads):
    module = Net(Core(heads, heads), REORDERED[how])
    for order in ([1, 0], [0, 2, 1], [2, 1, 0], [0, 2, 1, 3], [1, 2, 3, 0]):
        x = numbers(len(order), TIME, heads * DIM)
        with pytest.raises(LayoutError, match=r"clips in another order there|reach them in another way"):
            weights_of(module, x, torch.tensor(order))
        same = torch.arange(len(order))
        assert torch.allclose(weights_of(module, x, same), module.attention.weights, atol=1e-6)


@pytest.mark.parametrize("flipped", [torch.flipud, lambda x: x.roll(1, 0), lambda x: x.flip(0)])
def test_clips_that_are_turned_are_refused(flipped):
    with pytest.raises(LayoutError, match=r"as where it sorts them by length|reach them in another way"):
        weights_of(Net(Core(2, 2), flipped), numbers(2, TIME, 8))


class Loop(nn.Module):
    """Heads one after another, in a module that says how many there are; `core`: a module without weights attends."""

    def __init__(self, core=None, said=3):
        super().__init__()
        self.num_heads, self.qkv, self.core, self.mask = said, nn.Linear(12, 36), core, None

    def forward(self, x):
        attend = self.core or self.attend
        parts = [each.unflatten(-1, (3, -1)).unbind(2) for each in self.qkv(x).chunk(3, -1)]
        return torch.cat([attend(*each) for each in zip(*parts, strict=True)], -1)

    def attend(self, query, key, value):
        scores = query @ key.mT / 2
        if self.mask is not None:
            scores = scores.masked_fill(self.mask, -torch.inf)
        return scores.softmax(-1) @ value


class Dot(nn.Module):
    def forward(self, query, key, value):
        return F.scaled_dot_product_attention(query, key, value)


class Layers(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        torch.manual_seed(0)
        self.layers, self.read = nn.ModuleList(layers), nn.Linear(12, 3)

    def forward(self, x):
        for each in self.layers:
            x = x + each(x)
        return self.read(x.mean(1))


@pytest.mark.parametrize("core", [None, Dot])
@pytest.mark.parametrize("count", [1, 2])
def test_heads_in_a_loop_are_one_layer(core, count):
    module, x = Layers(*(Loop(core and core()) for _ in range(count))).eval(), numbers(1, 6, 12)
    record = inspect_module(module, x, layout=TokenLayout(6), layers="all", neighbourhood=None)
    assert record.sizes["head"] == 3
    assert record.sizes.get("layer", 1) == count
    assert record.sizes["modality"] == 1
    with torch.no_grad():
        parts = [each.unflatten(-1, (3, -1)).transpose(1, 2) for each in module.layers[0].qkv(x).chunk(3, -1)]
        expected = (parts[0] @ parts[1].mT / 2).softmax(-1)[0]
    first = record.attention.values.reshape(count, 3, 6, 6)[0]
    assert torch.allclose(torch.from_numpy(first), expected, atol=1e-6)
    assert np.isfinite(record.gradient_norm.values).all()


def test_a_knock_out_reaches_all_heads_of_a_loop():
    module, x = Layers(Loop()).eval(), numbers(1, 6, 12)
    edits = [KnockOut("attention/0/global/weights", keys=(2.0, 4.0))]
    edited = run_module_with(module, x, edits, layout=TokenLayout(6)).output
    module.layers[0].mask = torch.zeros(6, 6, dtype=torch.bool)
    module.layers[0].mask[:, 2:4] = True
    assert torch.allclose(edited, module(x), atol=1e-6)


def test_calls_in_a_loop_stay_apart_where_it_is_said_or_the_number_is_another():
    x, options = numbers(1, 6, 12), {"layout": TokenLayout(6), "layers": "all", "parts": ["attention"]}
    record = inspect_module(Layers(Loop()), x, heads_of_lists=False, **options)
    assert (record.sizes["layer"], record.sizes["head"]) == (3, 1)
    record = inspect_module(Layers(Loop(said=4)), x, **options)
    assert (record.sizes["layer"], record.sizes["head"]) == (3, 1)


class Timed(nn.Module):
    """Attention of frames, with their times given first."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.attention, self.read = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, times, frames):
        x = frames + 1e-4 * times[..., None]
        return self.read(self.attention(x, x, x)[0].mean(1))


TIMED = {"times": torch.linspace(0, 1, TIME)[None], "frames": numbers(1, TIME, 8)}


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("steps", [None, torch.arange(TIME)[None, :, None]])
def test_the_explanation_is_of_the_frames(named, steps):
    module = Timed().eval()
    record = inspect_module(
        module, TIMED if named else tuple(TIMED.values()), layout=LAYOUT, parts=["explanation"],
        methods=["frame-occlusion"], target=0, steps=steps,
    )  # fmt: skip

    def odds(frames):
        return float(module(TIMED["times"], frames)[0].detach().double().softmax(0)[0].logit())

    frames = TIMED["frames"]
    expected = []
    for step in range(TIME):
        without = frames.clone()
        without[:, step] = frames.mean(1)
        expected.append(odds(frames) - odds(without))
    assert np.allclose(record.explanation.values.reshape(-1, TIME)[0], expected, atol=1e-5)
    assert max(map(abs, expected)) > 1e-3


def test_the_order_of_the_keys_is_told_by_the_frames():
    class Rolled(Timed):
        def forward(self, times, frames):
            x = frames + 1e-4 * times[..., None]
            return self.read(self.attention(x, x.roll(1, 1), x.roll(1, 1))[0].mean(1))

    table = check_key_order(Timed(), TIMED, layout=LAYOUT)
    assert (table["frame"] == table["moved"]).all()
    with pytest.raises(LayoutError, match="the key tokens move most"):
        check_key_order(Rolled(), TIMED, layout=LAYOUT)


def test_dropped_frames_that_are_used_elsewhere_are_refused_whatever_is_given_first():
    with pytest.raises(EditError, match="the dropped frames still move the logits"):
        run_module_with(Timed(), TIMED, [DropFrames("attention/input", at=(1.0, 2.0))], layout=LAYOUT)
