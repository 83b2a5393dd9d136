"""What stands between a softmax and the product with values: followed, named, or warned of; losses are no attention."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis.capture import AttentionCall, CaptureError, CaptureWarning, capture

BATCH, HEADS, QUERIES, KEYS, DIM = 2, 3, 7, 11, 5
GENERATOR = torch.Generator().manual_seed(3)
QUERY, KEY, VALUE = (2 * torch.randn(BATCH, HEADS, size, DIM, generator=GENERATOR) for size in (QUERIES, KEYS, KEYS))
SCORES = QUERY @ KEY.mT
MAP = SCORES.softmax(-1)


class Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


class Layers(nn.Module):
    """Attention that is understood, and a second layer of any kind."""

    def __init__(self, second):
        super().__init__()
        self.first = Function(lambda: F.scaled_dot_product_attention(QUERY, KEY, VALUE))
        self.second = Function(second)

    def forward(self):
        self.first()
        return self.second()


def captured(module, seed=1) -> list[AttentionCall]:
    """The calls of a module's second layer; the output must be what it is without."""
    torch.manual_seed(seed)
    expected = module()
    torch.manual_seed(seed)
    with capture(module) as result:
        output = module()
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    assert result.names[0] == "first"
    return list(result)[1:]


class OwnFunction(torch.autograd.Function):
    """A function that autograd does not know."""

    @staticmethod
    def forward(context, weights):
        return weights.clamp(min=0.01)


CONVOLUTION = nn.Conv2d(HEADS, HEADS, 1, bias=False).requires_grad_(requires_grad=False)
MIXING = nn.Linear(HEADS, HEADS).requires_grad_(requires_grad=False)
BACKWARDS = torch.arange(KEYS).flip(0)
BEST = 4


def written_in_place(weights):
    weights = weights.clone()
    weights[..., 0] = 0
    return weights


def head_by_head_in_place(weights):
    result = torch.zeros(weights.shape)
    for head in range(HEADS):
        result[:, head] = weights[:, head] * 2
    return result


def best_keys(weights):
    best = weights.topk(BEST, -1)
    return torch.zeros_like(weights).scatter(-1, best.indices, best.values)


# What makes another map of one -> the names by which it is known.
BETWEEN = {
    "clamp": (lambda p: p.clamp(min=0.01), ("clamp",)),
    "nan_to_num": (lambda p: p.nan_to_num(), ("nan_to_num",)),
    "tril": (lambda p: p.tril(), ("tril",)),
    "gather": (lambda p: p.gather(-1, BACKWARDS.expand_as(p)), ("gather",)),
    "index_select": (lambda p: p.index_select(-1, BACKWARDS), ("index_select",)),
    "picked in another order": (lambda p: p[..., BACKWARDS], ("__getitem__",)),
    "heads picked in another order": (lambda p: p[:, [2, 0, 1]], ("__getitem__",)),
    "picked by slices": (lambda p: p[:, :, :, None][..., 0, :], ()),
    "conv2d": (lambda p: CONVOLUTION(p), ("conv2d",)),
    "linear": (lambda p: MIXING(p.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), ("linear",)),
    "linear of data": (
        lambda p: F.linear(p.permute(0, 2, 3, 1), torch.eye(HEADS)).permute(0, 3, 1, 2),
        ("linear",),
    ),
    "power": (lambda p: p**2, ("pow",)),
    "exp of log": (lambda p: p.log().exp(), ("log", "exp")),
    "normalised again": (lambda p: p.square() / p.square().sum(-1, keepdim=True), ("square", "div")),
    "normalize": (lambda p: F.normalize(p, p=1, dim=-1), ("normalize",)),
    "subtracted": (lambda p: 1 - p, ("__rsub__",)),
    "divided": (lambda p: 1 / p, ("__rdiv__",)),
    "lerp": (lambda p: torch.lerp(p, torch.ones_like(p) / KEYS, 0.5), ("lerp",)),
    "addcmul": (lambda p: torch.addcmul(p, p, p), ("addcmul",)),
    "cumulated": (lambda p: p.cumsum(-1), ("cumsum",)),
    "comparison": (lambda p: (p > 0.1).float(), ("gt",)),
    "best keys": (best_keys, ("topk", "scatter")),
    "mean over heads": (lambda p: p.mean(1, keepdim=True).expand(-1, HEADS, -1, -1), ("mean",)),
    "maximum over heads": (lambda p: p.amax(1)[:, None].expand(-1, HEADS, -1, -1), ("amax",)),
    "written in place": (written_in_place, ("__setitem__",)),
    "in place through a view": (lambda p: (p.diagonal(dim1=-2, dim2=-1).zero_(), p)[1], ("zero_",)),
    "head by head into another": (head_by_head_in_place, ("__getitem__", "mul", "__setitem__")),
    "function of autograd": (OwnFunction.apply, ("clamp",)),
    "stacked and summed": (lambda p: torch.stack([p, p]).sum(0), ("stack", "sum")),
    "batches side by side": (lambda p: torch.cat([p[:1], p[1:]]), ("__getitem__", "cat")),
    "keys side by side": (lambda p: torch.cat(p.chunk(2, -1), -1), ()),
    "detached": (lambda p: p.detach().data, ()),
    "cast": (lambda p: p.double().float(), ()),
    "turned": (lambda p: p.mT.contiguous().adjoint(), ()),
}


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("name", [name for name in BETWEEN if name != "keys side by side"])
def test_a_map_is_followed_through_any_function_and_says_which(name, context):
    change, names = BETWEEN[name]
    with context():
        expected = change(SCORES.softmax(-1))
        (call,) = captured(Layers(lambda: change(SCORES.softmax(-1)) @ VALUE))
    assert (call.name, call.kind, call.between) == ("second", "softmax", names)
    assert torch.allclose(call.weights, expected, atol=1e-6)
    assert call.difference <= 1e-5


def one_by_one(*each):
    """Pairs of matrices."""
    return zip(*(one.flatten(0, 1) for one in each), strict=True)


# Products in other words.
FORMS = {
    "linalg": torch.linalg.matmul,
    "linear": lambda p, v: torch.stack([F.linear(*each) for each in one_by_one(p, v.mT)]),
    "turned": lambda p, v: (v.mT @ p.mT).mT,
    "from the right": lambda p, v: v.__rmatmul__(p),
    "one map of all heads": lambda p, v: p.mean(1, keepdim=True) @ v,
    "logarithms": lambda p, v: SCORES.log_softmax(-1).exp() @ v,
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_products_in_other_words(name):
    calls = captured(Layers(lambda: FORMS[name](SCORES.softmax(-1), VALUE)))
    maps = torch.stack([call.weights for call in calls]).reshape(MAP.shape)
    expected = MAP.mean(1, keepdim=True).expand_as(MAP) if name == "one map of all heads" else MAP
    assert torch.allclose(maps, expected, atol=1e-6)


def test_a_map_times_itself_is_another_map():
    scores = SCORES[..., :KEYS, :QUERIES]
    (call,) = captured(Layers(lambda: (lambda p: (p @ p) @ VALUE[:, :, :QUERIES])(scores.softmax(-1))))
    assert call.between == ("matmul",)
    assert torch.allclose(call.weights, torch.linalg.matrix_power(scores.softmax(-1), 2), atol=1e-6)


def test_heads_one_by_one_are_calls_of_their_own():
    calls = captured(
        Layers(lambda: torch.stack([p @ VALUE[:, head] for head, p in enumerate(SCORES.softmax(-1).unbind(1))]))
    )
    assert [call.name for call in calls] == ["second", "second#1", "second#2"]
    for head, call in enumerate(calls):
        assert torch.allclose(call.weights[:, 0], MAP[:, head], atol=1e-6)


def own_product(weights, value):
    return torch.stack(
        [torch.tensordot(p, v, 1) for p, v in zip(weights.flatten(0, 1), value.flatten(0, 1), strict=True)]
    )


# What is not understood -> the function that it went into, and those on the way.
HIDDEN = {
    "tensordot": (own_product, "through unbind into tensordot"),
    "added to a product": (
        lambda p, v: torch.baddbmm(torch.zeros(1), p.flatten(0, 1), v.flatten(0, 1)), "into baddbmm",
    ),
    "halves of the keys": (
        lambda p, v: sum(a @ b for a, b in zip(p.chunk(2, -1), v.chunk(2, -2), strict=True)),
        "through chunk into matmul",
    ),
    "best keys": (
        lambda p, v: (lambda best: best.values.unsqueeze(-2) @ v.unsqueeze(2).expand(-1, -1, QUERIES, -1, -1).gather(
            3, best.indices[..., None].expand(-1, -1, -1, -1, DIM)))(p.topk(BEST, -1)),
        "through topk, unsqueeze into matmul",
    ),
    "best keys one by one": (
        lambda p, v: (lambda best: (best.values[..., None] * v.unsqueeze(2).expand(-1, -1, QUERIES, -1, -1).gather(
            3, best.indices[..., None].expand(-1, -1, -1, -1, DIM))).sum(3))(p.topk(BEST, -1)),
        "through topk, __getitem__, mul into sum",
    ),
    "keys behind": (
        lambda p, v: (p.unsqueeze(-2) * v.mT.unsqueeze(-3)).sum(-1), "into mul",
    ),
    "numpy": (lambda p, v: torch.from_numpy(p.numpy() @ v.numpy()), "into numpy"),
}  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_not_understood_is_warned_of_with_its_module_and_function(name):
    form, way = HIDDEN[name]
    module = Layers(lambda: form(SCORES.softmax(-1), VALUE))
    message = rf"softmax of shape \(2, 3, 7, 11\) in module 'second' \(1 call\), which went {way} in module 'second'"
    with pytest.warns(CaptureWarning, match=message), capture(module) as result:
        module()
    assert result.names == ("first",)
    message = rf"no attention call of Function was recorded\. softmax.*which went {way}"
    with pytest.raises(CaptureError, match=message), capture(module.second):
        module.second()


LABELS = torch.arange(BATCH) % DIM
TARGET = torch.rand(BATCH, DIM, 4, 4, generator=GENERATOR)
READ = nn.Parameter(torch.ones(4, 2 * DIM))
EXPERTS = torch.randn(9, BATCH, DIM, generator=GENERATOR)


def mixture_of_experts(x):
    weights, chosen = torch.randn(BATCH, 9).softmax(-1).topk(2, -1)
    weights = weights / weights.sum(-1, keepdim=True)
    result = torch.zeros(BATCH, DIM)
    for expert in range(9):
        row, place = (chosen == expert).nonzero(as_tuple=True)
        result.index_add_(0, row, EXPERTS[expert][row] * weights[row, place, None])
    return result


def distillation(x):
    teacher, student = x.softmax(-1), (x + 1).log_softmax(-1)
    return -(teacher * student).sum(-1).mean() + F.kl_div(student, teacher, reduction="none").sum(-1).mean()


def dice(x):
    shares = (TARGET * 3).softmax(1)
    return 1 - (2 * (shares * TARGET).sum((2, 3)) / (shares.sum((2, 3)) + TARGET.sum((2, 3)))).mean()


def focal(x):
    shares = x.softmax(-1)
    own = shares[torch.arange(BATCH), LABELS]
    return ((1 - own) ** 2 * F.cross_entropy(x, LABELS, reduction="none")).mean()


LOSSES = {
    "probabilities": lambda x: x.softmax(-1),
    "most probable": lambda x: F.one_hot(x.softmax(-1).argmax(-1), DIM),
    "as numbers": lambda x: torch.tensor(x.softmax(-1).numpy()),
    "cross entropy": lambda x: F.cross_entropy(x, LABELS) + F.nll_loss(x.log_softmax(-1), LABELS),
    "soft labels": lambda x: -(x.log_softmax(-1) * torch.eye(DIM)[LABELS]).sum(-1),
    "by hand": lambda x: -(x.softmax(-1) * torch.eye(DIM)[LABELS]).sum(-1).log().mean(),
    "entropy": lambda x: -(x.softmax(-1) * x.softmax(-1).log()).sum(-1),
    "expected class": lambda x: (x.softmax(-1) * torch.arange(DIM).float()).sum(-1),
    "brier": lambda x: F.mse_loss(x.softmax(-1), torch.eye(DIM)[LABELS], reduction="none").sum(-1),
    "similarity": lambda x: F.cosine_similarity(x.softmax(-1), torch.eye(DIM)[LABELS]),
    "distillation": distillation,
    "dice": dice,
    "focal": focal,
    "mixture of experts": mixture_of_experts,
    "classes beside features": lambda x: F.linear(torch.cat([x, x.softmax(-1)], -1), READ),
    "gates": lambda x: (lambda gates: gates[0] * x + gates[1] * x)(torch.stack([x, x]).softmax(0)),
    "classes that are read": lambda x: F.linear(x.softmax(-1), nn.Parameter(READ[:, :DIM])),
}  # fmt: skip


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_classifiers_are_no_attention_and_nothing_is_said(name, context):
    x = torch.randn(BATCH, DIM, generator=torch.Generator().manual_seed(1))
    with context(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert captured(Layers(lambda: LOSSES[name](x))) == []


# A dropout by any name: of the map, the values multiplied by it, whether the map before is known, and its rate.
DROPOUTS = {
    "dropout": (lambda p: F.dropout(p, 0.4), 0.4),
    "in place": (lambda p: F.dropout(p, 0.4, inplace=True), 0.4),
    "module in place": (nn.Dropout(0.4, inplace=True), 0.4),
    "torch": (lambda p: torch.dropout(p, 0.4, True), 0.4),
    "torch in place": (lambda p: torch.dropout_(p, 0.4, True), 0.4),
    "of whole heads": (lambda p: F.dropout2d(p, 0.4), 0.4),
    "a mask": (lambda p: p * (torch.rand_like(p) > 0.4) / 0.6, 0.4),
    "a scaled mask": (lambda p: p * ((torch.rand(p.shape) > 0.4) / 0.6), 0.4),
    "a mask that was drawn": (lambda p: torch.bernoulli(torch.full_like(p, 0.6)).div(0.6).mul(p), 0.4),
    "a mask in place": (lambda p: p.mul_(torch.empty_like(p).bernoulli_(0.6).div_(0.6)), 0.4),
    "a mask that was dropped": (lambda p: p * F.dropout(torch.ones_like(p), 0.4), 0.4),
    "scaled behind": (lambda p: F.dropout(p, 0.4) * 1.0, 0.4),
}


@pytest.mark.parametrize("name", DROPOUTS)
def test_the_map_is_the_one_before_a_dropout_by_any_name(name):
    drop, rate = DROPOUTS[name]
    (call,) = captured(Layers(lambda: drop(SCORES.softmax(-1)) @ VALUE))
    assert call.dropout == pytest.approx(rate)
    assert torch.allclose(call.weights, MAP, atol=1e-6)
    assert call.difference <= 1e-5


def test_a_mask_without_a_scale_has_the_share_of_zeros_as_its_rate():
    masks = []

    def forward():
        weights = SCORES.softmax(-1)
        masks.append(torch.rand_like(weights) > 0.4)
        return (weights * masks[-1]) @ VALUE

    (call,) = captured(Layers(forward))
    assert torch.allclose(call.weights, MAP, atol=1e-6)
    assert call.dropout == pytest.approx(float((~masks[-1]).float().mean()))


# What cannot be undone is in the map, and said.
NOT_UNDONE = {
    "alpha": (lambda p: F.alpha_dropout(p, 0.4, training=True), ("alpha_dropout",), 0.4),
    "noise": (lambda p: p * torch.randn_like(p), ("mul by random numbers",), 0.0),
    "dropped twice": (lambda p: F.dropout(F.dropout(p, 0.4), 0.3), ("dropout",), 0.3),
    "then clamped": (lambda p: F.dropout(p, 0.4).clamp(max=0.5), ("dropout", "clamp"), 0.4),
}


@pytest.mark.parametrize("name", NOT_UNDONE)
def test_a_dropout_that_cannot_be_undone_is_in_the_map_and_named(name):
    drop, names, rate = NOT_UNDONE[name]
    torch.manual_seed(1)
    expected = drop(SCORES.softmax(-1))
    (call,) = captured(Layers(lambda: drop(SCORES.softmax(-1)) @ VALUE))
    assert (call.between, call.dropout) == (names, rate)
    assert torch.allclose(call.weights, expected, atol=1e-6)


def test_gates_behind_a_dropout_change_the_map_before_it():
    gate = torch.rand(QUERIES, KEYS, generator=torch.Generator().manual_seed(2))
    (call,) = captured(Layers(lambda: (gate * F.dropout(SCORES.softmax(-1), 0.4)) @ VALUE))
    assert (call.between, call.dropout) == (("mul",), 0.4)
    assert torch.allclose(call.weights, gate * MAP, atol=1e-6)


def test_nothing_is_kept_of_maps_that_are_gone():
    module = Layers(lambda: (SCORES.softmax(-1).clamp(min=0.01) @ VALUE).sum())
    with capture(module) as result:
        for _ in range(3):
            module()
    assert len(result) == 6


def test_the_table_names_what_changed_a_map():
    module = Layers(lambda: SCORES.softmax(-1).clamp(min=0.01).tril() @ VALUE)
    with capture(module) as result:
        module()
    assert list(result.table().between) == ["", "clamp, tril"]
    assert list(result.table().changed) == [False, True]


@pytest.mark.parametrize(
    "softmax",
    [
        lambda scores: torch.ops.aten.softmax(scores, -1),
        lambda scores: torch.ops.aten._softmax.default(scores, -1, False),
        lambda scores: torch._softmax(scores, -1, False),
        lambda scores: (scores - scores.logsumexp(-1, keepdim=True)).exp(),
        lambda scores: (scores - torch.logsumexp(scores, [-1])[..., None]).exp(),
    ],
)
def test_other_ways_to_write_a_softmax(softmax):
    (call,) = captured(Layers(lambda: softmax(SCORES) @ VALUE))
    torch.testing.assert_close(call.weights, MAP)
    assert call.between == ()


def test_a_sum_of_exponentials_of_other_scores_makes_no_map():
    assert captured(Layers(lambda: (SCORES - (SCORES + 1).logsumexp(-1, keepdim=True)).exp() @ VALUE)) == []


def test_a_row_of_its_own_is_warned_of_with_its_place():
    row, parameter = SCORES[0, 0, 0], nn.Parameter(SCORES[0, 0, 0].clone())
    message = r"softmax of shape \(11,\) in module 'second' \(1 call\), which went into matmul in module 'second'"
    with pytest.warns(CaptureWarning, match=message):
        captured(Layers(lambda: row.softmax(0) @ VALUE[0, 0]))
    assert captured(Layers(lambda: parameter.softmax(0) @ VALUE[0, 0])) == [], "weights of a mixture are no attention"
    assert captured(Layers(lambda: row.softmax(0).max())) == []
