"""Forward hooks that change a model: what goes around them refuses them, and what passes through them shows them."""

import pytest
import torch
from small_models import KINDS, moved, small_clip, small_model

from analysis import explain, frame_gradient_norms, inspect_clip, run_with
from gmsa_models import Batch
from gmsa_models.errors import ArgumentError

# A module of each class whose `forward` a trace goes around.
PLACES = {
    "": "the whole GMSAClassifier",
    "encoders.audio": "encoders.audio",
    "encoders.audio.layers.0": "encoders.audio.layers.0",
    "encoders.audio.layers.0.attention": "encoders.audio.layers.0.attention",
}


def halve_output(module):
    module.register_forward_hook(lambda module, args, output: 0.5 * output)


def halve_input(module):
    module.register_forward_pre_hook(lambda module, args: (0.5 * args[0], *args[1:]))


def own_forward(module):
    forward = module.forward
    module.forward = lambda *args: -forward(*args)


@pytest.mark.parametrize("change", [halve_output, own_forward])
@pytest.mark.parametrize("place", PLACES)
def test_records_refuse_hooks_that_change_the_pass(place, change):
    model, clip = moved(small_model(layers=2)), small_clip()
    change(model.get_submodule(place))
    with pytest.raises(ArgumentError, match=f"changes what the model gives: at {PLACES[place]}. .*make the change"):
        inspect_clip(model, clip)
    with pytest.raises(ArgumentError, match="changes what the model gives"):
        run_with(model, clip, ["knock-out visual/0/local/weights keys 3..6"])


@pytest.mark.parametrize("place", list(PLACES)[1:])
def test_records_refuse_hooks_before_a_module(place):
    model = moved(small_model())
    halve_input(model.get_submodule(place))
    with pytest.raises(ArgumentError, match=f"at {place}. "):
        inspect_clip(model, small_clip())


@pytest.mark.parametrize("place", PLACES)
def test_hooks_that_read_are_let_through(place):
    model, clip, seen = moved(small_model()), small_clip(), []
    plain = inspect_clip(model, clip)
    model.get_submodule(place).register_forward_hook(lambda module, args, output: seen.append(output.shape))
    model.get_submodule(place).register_forward_pre_hook(lambda module, args: None)
    assert inspect_clip(model, clip).identical(plain)
    assert seen  # it was tried


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_trace_passes_through_all_other_modules(kind, layers):
    batch = Batch.from_clips([small_clip()])
    plain, seen = moved(small_model(kind, layers=layers)), set()
    for name in [name for name, module in plain.named_modules() if not list(module.children())]:
        model = moved(small_model(kind, layers=layers))
        halve_output(model.get_submodule(name))
        given = model(batch)
        torch.testing.assert_close(model.trace(batch).logits, given, msg=lambda words, name=name: f"{name}: {words}")
        if not torch.equal(given, plain(batch)):
            seen.add(name.rsplit(".", 1)[-1])
    layers_of_blocks = {
        "none": set(),
        "gate-op": {"query", "key", "value", "output_global", "output_local", "gate_global", "gate_local"},
    }
    assert seen >= {"classifier", "2", "norm_feed_forward"} | layers_of_blocks.get(
        kind, {"query", "key", "value", "output"}
    )


@pytest.mark.parametrize("place", ["", "classifier", "encoders.visual"])
@pytest.mark.parametrize("method", ["frame-occlusion", "integrated-gradients", "rollout", "relevance-propagation"])
def test_explanations_refuse_hooks_that_streams_go_around(place, method):
    model = moved(small_model())
    halve_output(model.get_submodule(place))
    with pytest.raises(ArgumentError, match="changes what the model gives"):
        explain(model, small_clip(), 1, method)


@pytest.mark.parametrize(
    "method", ["rollout", "gradient-weighted-attention", "relevance-propagation", "attention-local"]
)
@pytest.mark.parametrize("place", ["layers.0", "layers.0.attention"])
def test_explanations_by_maps_refuse_hooks_of_blocks(place, method):
    model = moved(small_model())
    halve_output(model.get_submodule(f"encoders.visual.{place}"))
    with pytest.raises(ArgumentError, match=rf"changes what the model gives: at (encoders\.visual\.)?{place}\. "):
        explain(model, small_clip(), 1, method)


@pytest.mark.parametrize("place", ["", ".layers.1", ".layers.1.attention"])
def test_gradient_norms_refuse_hooks_of_blocks(place):
    model = moved(small_model(layers=2))
    halve_output(model.get_submodule(f"encoders.visual{place}"))
    with pytest.raises(ArgumentError, match="changes what the model gives"):
        frame_gradient_norms(model, small_clip(), "visual", layer=1)
    frame_gradient_norms(model, small_clip(), "audio", layer=1)


class Doubled(torch.nn.Module):
    """A layer with something after it, and its weights for who asks."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, inputs):
        return 2.0 * self.layer(inputs)


def wrap(model, kind):
    block = model.encoders["visual"].layers[0].attention
    name = "output_global" if kind == "gate-op" else "output"
    setattr(block, name, Doubled(getattr(block, name)))
    return model


@pytest.mark.parametrize("kind", ["baseline", "share-att", "gate-att", "gate-op"])
def test_wrapped_layers_count_in_passes_and_gradient_norms(kind):
    model, clip = wrap(moved(small_model(kind)), kind).double(), small_clip()
    batch = Batch.from_clips([clip]).to(dtype=torch.float64)
    given = model(batch)
    assert not torch.allclose(given, moved(small_model(kind)).double()(batch), rtol=1e-3)
    torch.testing.assert_close(model.trace(batch).logits, given)
    exact = frame_gradient_norms(model, clip, "visual", method="autograd")
    torch.testing.assert_close(frame_gradient_norms(model, clip, "visual"), exact)
    with pytest.raises(ArgumentError, match='takes its weights alone; method "autograd" is exact'):
        frame_gradient_norms(model, clip, "visual", method="closed-form")


@pytest.mark.parametrize("kind", ["baseline", "share-att", "gate-att"])
def test_contributions_refuse_wrapped_layers(kind):
    with pytest.raises(ArgumentError, match=r"output of an attention block is a Doubled .* takes the weights alone"):
        inspect_clip(wrap(moved(small_model(kind)), kind), small_clip())
