"""Explanations of any module: by hand on a linear one, against slow definitions, and through records that are drawn."""

import numpy as np
import pytest
import torch
from torch import nn

from analysis import inspect_module, open_record, save_record
from analysis.capture import TokenLayout
from analysis.errors import RecordError
from analysis.explanations.faithfulness import MEASURES, curve_counts
from analysis.explanations.input_steps import module_steps
from analysis.explanations.module_explanations import MODULE_METHODS, POINTS, ModuleScore
from analysis.module_sites import Probes
from analysis.module_view import view_module
from figures.inspector.payload import pack
from gmsa_models.errors import ArgumentError

STEPS, EACH, CLASSES = 5, 3, 4
ALL = ["attention", "profile", "similarity", "score", "label", "sensitivity", "explanation"]


class Linear(nn.Module):
    """Logits that are a sum over the numbers of the input, after attention that adds nothing to them."""

    def __init__(self, steps=STEPS):
        super().__init__()
        torch.manual_seed(3)
        self.weight = nn.Parameter(torch.randn(CLASSES, steps * EACH, 2))
        self.scale = nn.Parameter(torch.zeros(()))
        self.embed = nn.Linear(2 * EACH, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, values):
        tokens = self.embed(values.unflatten(1, (-1, EACH)).flatten(2))
        attended, _ = self.attention(tokens, tokens, tokens)
        return (values * self.weight).sum((1, 2))[None] + self.scale * attended.sum()


@pytest.fixture
def linear():
    return Linear().eval(), torch.randn(1, STEPS * EACH, 2, generator=torch.Generator().manual_seed(1))


def score_of(module, values, target=2, softmax=False):
    return ModuleScore(module, values, module_steps(values, STEPS), target, softmax)


def view_of(module, values):
    return view_module(module, values, layout=TokenLayout(STEPS))


def shares(module, values, target=2):
    """What each time step adds to the logit beyond its mean frame."""
    more = (values - values.mean(1, keepdim=True))[0] * module.weight[target]
    return more.detach().reshape(STEPS, -1).sum(1)


@pytest.mark.parametrize("method", ["frame-occlusion", "integrated-gradients", "gradient-shap"])
def test_of_a_linear_module_each_method_finds_what_each_step_adds(linear, method):
    module, values = linear
    found, units, missing = MODULE_METHODS[method](score_of(module, values), view_of(module, values))
    torch.testing.assert_close(found.float(), shares(module, values), rtol=1e-4, atol=1e-4)
    assert units == "logit"
    assert missing is None or abs(missing) < 1e-4


def test_gradients_by_hand(linear):
    module, values = linear
    score = score_of(module, values)
    found, _, _ = MODULE_METHODS["input-x-gradient"](score, view_of(module, values))
    torch.testing.assert_close(found, (values[0] * module.weight[2]).detach().reshape(STEPS, -1).sum(1))
    found, units, _ = MODULE_METHODS["saliency"](score, view_of(module, values))
    torch.testing.assert_close(found, module.weight[2].detach().reshape(STEPS, -1).norm(dim=1))
    assert units == "1"


def test_the_logit_of_a_softmax_is_its_log_odds(linear):
    module, values = linear
    share = module(values).softmax(1)[0, 2].item()
    score = score_of(module, values, softmax=True)(values).item()
    assert score == pytest.approx(np.log(share / (1 - share)), rel=1e-4)


def test_curves_are_those_of_a_loop(linear):
    module, values = linear
    ranking = torch.tensor([0.1, 0.9, torch.nan, 0.3, 0.9])
    curves = score_of(module, values).curves(ranking)
    order = [1, 4, 3, 0, 2]
    base = values.mean(1, keepdim=True).expand_as(values)
    for steps, curve, kept in ((range(STEPS + 1), curves.deletion, base), (range(STEPS + 1), curves.insertion, values)):
        other = values if kept is base else base
        for count in steps:
            mixed = other.clone()
            for step in order[:count]:
                mixed[:, step * EACH : (step + 1) * EACH] = kept[:, step * EACH : (step + 1) * EACH]
            assert float(curve[count]) == pytest.approx(module(mixed)[0, 2].item(), abs=1e-4)


def test_long_clips_have_curves_of_fewer_points_with_the_same_ends():
    torch.manual_seed(0)
    module, values = Linear(40).eval(), torch.randn(1, 40 * EACH, 2)
    score = ModuleScore(module, values, module_steps(values, 40), 0, False)
    curves = score.curves(torch.arange(40.0))
    assert len(curves.deletion) == len(curves.insertion) == len(curve_counts(40, POINTS)) < 41
    assert float(curves.deletion[0]) == pytest.approx(module(values)[0, 0].item(), abs=1e-4)
    assert float(curves.deletion[-1]) == float(curves.insertion[0])


def test_a_choice_of_steps_is_computed_once(linear):
    module, values = linear
    runs = []
    module.register_forward_hook(lambda *args: runs.append(1))
    score = score_of(module, values)
    ranking = torch.arange(STEPS).float()
    first = score.curves(ranking)
    count = len(runs)
    again = score.curves(ranking)
    assert len(runs) == count == 2 * STEPS  # 6 points a curve, of which the two curves share both ends
    assert torch.equal(first.deletion, again.deletion)


def test_steps_may_be_of_any_axis(linear):
    module, values = linear
    wrapped = lambda turned: module(turned.transpose(1, 2))  # noqa: E731
    steps = module_steps(values, STEPS).transpose(1, 2)

    class Turned(nn.Module):
        def forward(self, turned):
            return wrapped(turned)

    score = ModuleScore(Turned(), values.transpose(1, 2), steps, 2, False)
    found, _, _ = MODULE_METHODS["frame-occlusion"](score, view_of(module, values))
    torch.testing.assert_close(found.float(), shares(module, values), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: {"values": x}])
def test_a_record_has_them_and_opens_again(linear, wrap, tmp_path):
    module, values = linear
    steps = []
    record = inspect_module(
        module, wrap(values), layout=TokenLayout(STEPS), parts=ALL, probes=Probes(2), target=1,
        progress=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    assert list(record.explainer.values) == list(MODULE_METHODS)
    assert record.explanation.attrs["class_name"] == "class 1"
    assert record.faithfulness.sel(measure=list(MEASURES)).notnull().all()
    assert steps[-1] == (2 * len(MODULE_METHODS),) * 2
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    attention = record.explanation.sel(explainer="attention-global")[0]
    np.testing.assert_allclose(attention, record.profile.sel(branch="global")[0], rtol=1e-5)
    received = record.gradient_norm[0].mean("query")
    np.testing.assert_allclose(
        record.explanation.sel(explainer="gradient-received")[0], received / received.mean(), rtol=1e-4
    )
    assert open_record(save_record(record, tmp_path / "record.nc")).identical(record)
    assert len(pack([record])) > 1000
    # A faithful ranking beats its reverse: of a linear module occlusion's is the best that there is.
    scores = record.faithfulness.sel(measure="comprehensiveness")
    assert float(scores.sel(explainer="frame-occlusion")) == pytest.approx(float(scores.max()))


def test_gradient_received_needs_the_part_that_takes_longest(linear):
    module, values = linear
    record = inspect_module(
        module, values, layout=TokenLayout(STEPS), parts=[each for each in ALL if each != "sensitivity"]
    )
    assert list(record.explainer.values) == [name for name in MODULE_METHODS if name != "gradient-received"]
    assert int(record.explanation.attrs["target"]) == int(record.score.values.argmax())


class Streams(nn.Module):
    """Two modules that attend, one after another."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first_attention, self.second_attention = (nn.MultiheadAttention(4, 2, batch_first=True) for _ in range(2))

    def forward(self, x):
        x, _ = self.first_attention(x, x, x)
        return self.second_attention(x, x, x)[0].mean(1)


def test_what_is_of_the_input_stands_in_the_first_stream():
    record = inspect_module(Streams(), torch.randn(1, STEPS, 4), layout=TokenLayout(STEPS), parts=ALL, probes=Probes(2))
    assert list(record.modality.values) == ["first", "second"]
    for method in ("saliency", "frame-occlusion", "random"):
        values = record.explanation.sel(explainer=method)
        assert values[0].notnull().all()
        assert values[1].isnull().all()
    assert record.explanation.sel(explainer="attention-global").notnull().all()


def test_rollout_follows_the_layers():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layers = nn.ModuleList(nn.MultiheadAttention(4, 2, batch_first=True) for _ in range(2))

        def forward(self, x):
            for layer in self.layers:
                x = x + layer(x, x, x)[0]
            return x.mean(1)

    record = inspect_module(
        Deep(), torch.randn(1, STEPS, 4), layout=TokenLayout(STEPS), layers="all",
        parts=["attention", "explanation"],
    )  # fmt: skip
    first, second = (0.5 * record.attention[at, 0, 0].mean("head").values + 0.5 * np.eye(STEPS) for at in (0, 1))
    np.testing.assert_allclose(record.explanation.sel(explainer="rollout")[0], (second @ first).mean(0), rtol=1e-4)


def test_bad_arguments(linear):
    module, values = linear
    layout = TokenLayout(STEPS)
    with pytest.raises(ArgumentError, match=r"shape \(1, 15, 2\); which of it belongs to each of the 4"):
        module_steps(values, 4)
    with pytest.raises(RecordError, match="steps has 3 time steps; the maps have 5"):
        inspect_module(
            module, values, layout=layout, parts=["explanation"], steps=torch.arange(15).reshape(1, 15, 1) // 5
        )
    with pytest.raises(RecordError, match="target is 4; the module has classes 0 to 3"):
        inspect_module(module, values, layout=layout, parts=["explanation"], target=4)
