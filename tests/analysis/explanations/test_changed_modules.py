"""Models with hooks, wrapped layers and methods of their own: explanations are of what such a model computes."""

import pytest
import torch
from small_models import KINDS, small_clip, small_model
from torch import nn
from torch.nn.utils import parametrize

from analysis import explain
from analysis.explanations.faithfulness import Replacer
from analysis.explanations.incremental.as_written import is_as_written
from analysis.explanations.stream import streams
from gmsa_models import Batch
from gmsa_models.evaluating import evaluation_replica
from gmsa_models.masks import ChangePoints


class Doubled(nn.Module):
    """A layer of weights with something beside it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    @property
    def weight(self):
        return self.layer.weight

    @property
    def bias(self):
        return self.layer.bias

    def forward(self, x):
        return 2.0 * self.layer(x)


class Halved(nn.Module):
    def forward(self, x):
        return x / 2


class Centred:
    def project(self, inputs):
        return super().project(inputs - inputs.mean(1, keepdim=True))


def hook_of_the_block(layer):
    layer.attention.register_forward_hook(lambda module, args, output: 0.5 * output)


def hook_before_the_feed_forward(layer):
    layer.feed_forward.register_forward_pre_hook(lambda module, args: (args[0] + 0.3,))


def method_of_one_block(layer):
    forward = layer.attention.forward
    layer.attention.forward = lambda *args: -forward(*args)


def wrapped_layer(layer):
    layer.feed_forward[2] = Doubled(layer.feed_forward[2])


def parametrised_weight(layer):
    parametrize.register_parametrization(layer.feed_forward[0], "weight", Halved(), unsafe=True)


def block_of_another_class(layer):
    layer.attention.__class__ = type("Own", (Centred, type(layer.attention)), {})


def other_activation(layer):
    layer.feed_forward[1] = nn.ReLU()


CHANGES = {
    each.__name__: each
    for each in (
        hook_of_the_block,
        hook_before_the_feed_forward,
        method_of_one_block,
        wrapped_layer,
        parametrised_weight,
        block_of_another_class,
        other_activation,
    )
}


def changed(kind, layers, change):
    model = small_model(kind, layers=layers)
    for encoder in model.encoders.values():
        CHANGES[change](encoder.layers[0])
    return model


def logit(model, clip):
    with torch.no_grad():
        return float(model.eval()(Batch.from_clips([clip])).double()[0, 2])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["baseline", "gate-op", "gate-att"])
@pytest.mark.parametrize("change", CHANGES)
def test_scores_curves_and_occlusion_are_those_of_the_changed_model(change, kind, layers):
    model, clip = changed(kind, layers, change), small_clip()
    replacer = Replacer(model, clip, 2)
    whole = logit(model, clip)
    kept = torch.ones(2, clip.frames, dtype=torch.bool)
    kept[1, 4] = False
    scores = replacer.logits(kept).double()
    values = torch.zeros(clip.frames)
    values[4] = 1.0
    curves = replacer.curves(values)
    occluded = explain(model, clip, 2, "frame-occlusion").values.double().sum(0)
    assert float(scores[0]) == pytest.approx(whole, abs=2e-5)
    assert float(curves.deletion[0]) == pytest.approx(whole, abs=2e-5)
    assert float(curves.insertion[-1]) == pytest.approx(whole, abs=2e-5)
    assert float(curves.deletion[1]) == pytest.approx(float(scores[1]), abs=2e-5)
    assert float(occluded[4]) == pytest.approx(float(scores[0] - scores[1]), abs=2e-5)
    plain = logit(small_model(kind, layers=layers), clip)
    assert abs(whole - plain) > 1e-4  # the change is one that can be seen


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(change):
    model = evaluation_replica(changed("baseline", 2, change))
    assert not any(is_as_written(each) for each in streams(model, 2, small_clip()).values())


@pytest.mark.parametrize("kind", [*KINDS, "gate-op-scales", "local-then-global"])
def test_models_as_they_are_are_seen_as_such(kind):
    clip = small_clip()
    for model in (small_model(kind), evaluation_replica(small_model(kind).bfloat16(), widen=True)):
        assert all(is_as_written(each) for each in streams(model, 2, clip).values())


def test_a_model_bound_to_a_clip_is_seen_as_it_is():
    model = small_model("gate-op", neighbourhood=ChangePoints(4))
    assert all(is_as_written(each) for each in streams(model, 2, small_clip()).values())


def test_hooks_of_all_modules_count():
    (stream, *_) = streams(small_model("baseline"), 2, small_clip()).values()
    hook = nn.modules.module.register_module_forward_hook(lambda module, args, output: None)
    try:
        assert not is_as_written(stream)
    finally:
        hook.remove()
    assert is_as_written(stream)
