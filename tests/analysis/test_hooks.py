"""Forward hooks that change a model: what goes around them refuses them, and what passes through them shows them."""

import pytest
import torch
from small_models import KINDS, moved, small_clip, small_model

from analysis import effect_map, explain, frame_gradient_norms, inspect_clip, run_with, trace_paths
from analysis.gmsa_view import view_clips
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
    words = "changes what the model gives|the classifier is a Linear that computes something else"
    with pytest.raises(ArgumentError, match=words):
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
    with pytest.raises(ArgumentError, match=r"an attention block's output is a Doubled .* takes the weights alone"):
        inspect_clip(wrap(moved(small_model(kind)), kind), small_clip())


def read_second_argument(module):
    module.register_forward_hook(lambda module, args, output: (args[1], None)[1])


@pytest.mark.parametrize("place", ["encoders.visual", "encoders.visual.layers.0", "encoders.visual.layers.0.attention"])
def test_hooks_that_read_the_second_argument_are_let_through(place):
    model, clip = moved(small_model()), small_clip()
    plain = frame_gradient_norms(model, clip, "visual")
    read_second_argument(model.get_submodule(place))
    assert torch.equal(frame_gradient_norms(model, clip, "visual"), plain)
    explain(model, clip, 1, "relevance-propagation")


@pytest.mark.parametrize("returned", [lambda output: (output, output), lambda output: output.double() + 1.0, str])
def test_hooks_that_return_something_else_are_refused(returned):
    model = moved(small_model())
    model.register_forward_hook(lambda module, args, output: returned(output))
    for way in (inspect_clip, lambda model, clip: explain(model, clip, 1, "saliency")):
        with pytest.raises(ArgumentError, match="at the whole GMSAClassifier"):
            way(model, small_clip())


def test_hooks_that_change_the_frames_in_place_are_refused_and_the_batch_stays():
    model, batch = moved(small_model()), Batch.from_clips([small_clip()])
    before = batch.features["visual"].clone()
    model.encoders["visual"].register_forward_pre_hook(lambda module, args: (args[0].mul_(0.5), None)[1])
    with pytest.raises(ArgumentError, match=r"at encoders\.visual\. "):
        model.trace(batch)
    assert torch.equal(batch.features["visual"], before)


def changed_method(name):
    model = moved(small_model("baseline"))
    block = model.encoders["visual"].layers[0].attention
    way = getattr(block, name)
    setattr(block, name, lambda *args: 0.5 * way(*args))
    return model


@pytest.mark.parametrize("name", ["attend", "forward"])
def test_methods_of_single_blocks_are_refused_where_a_trace_goes_around_them(name):
    with pytest.raises(ArgumentError, match=r"at encoders\.visual\.layers\.0\.attention\. "):
        changed_method(name).trace(Batch.from_clips([small_clip()]))


@pytest.mark.parametrize("name", ["values", "output_from"])
def test_methods_of_single_blocks_that_both_ways_call_are_let_through(name):
    model, batch = changed_method(name), Batch.from_clips([small_clip()])
    torch.testing.assert_close(model.trace(batch).logits, model(batch))


def test_hooks_of_all_modules_are_refused_where_they_change_the_pass():
    model, batch = moved(small_model("baseline")), Batch.from_clips([small_clip()])
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, args, output: 0.5 * output if type(module).__name__ == "Baseline" else None
    )
    try:
        with pytest.raises(ArgumentError, match="changes what the model gives"):
            model.trace(batch)
    finally:
        hook.remove()
    model.trace(batch)


@pytest.mark.parametrize(("method", "place"), [("integrated-gradients", "project"), ("relevance-propagation", "norm")])
def test_explanations_by_weights_refuse_layers_that_are_more(method, place):
    model = moved(small_model(widths={"visual": 8, "audio": 8}))
    halve_output(model.encoders["visual"].get_submodule(place))
    with pytest.raises(ArgumentError, match=r"takes (its|the) weights alone"):
        explain(model, small_clip(), 1, method)


@pytest.mark.parametrize("place", ["encoders.visual.norm", "encoders.visual.layers.0.feed_forward.2", "classifier"])
@pytest.mark.parametrize("kind", ["share-att", "gate-op"])
def test_effects_and_paths_refuse_layers_that_are_more(place, kind):
    model = moved(small_model(kind))
    halve_output(model.get_submodule(place))
    for way in (effect_map, trace_paths):
        with pytest.raises(ArgumentError, match=r"takes (its|the) weights alone"):
            way(model, small_clip(), 1)


@pytest.mark.parametrize("place", ["query", "value", "output"])
def test_linear_layers_whose_hooks_read_stay_plain(place):
    model, clip = moved(small_model("baseline")), small_clip()
    record = inspect_clip(model, clip)
    model.encoders["visual"].layers[0].attention.get_submodule(place).register_forward_hook(lambda *seen: None)
    assert inspect_clip(model, clip).identical(record)
    frame_gradient_norms(model, clip, "visual", method="closed-form")


def test_gradient_norms_under_autocast_are_those_without():
    model, clip = moved(small_model()), small_clip()
    view = view_clips(model, [clip])
    with torch.autocast("cpu", torch.bfloat16):
        inside = view.capabilities.gradient_norms(view, "visual", 0)
    assert torch.equal(inside[0], frame_gradient_norms(model, clip, "visual"))
