"""Relevance: ways that add up, conservation, rollout by hand, a branch that is cut off."""

import pytest
import references.explanations as slow
import torch
from small_models import KINDS, small_clip, small_model

from analysis.explanations.registry import explain
from analysis.explanations.stream import stream_inputs, streams
from gmsa_models.data.batch import Batch
from gmsa_models.evaluating import evaluating

ATTENDING = [kind for kind in KINDS if kind != "none"]
WAYS = ("relevance-propagation", "rollout", "gradient-weighted-attention")


@pytest.mark.parametrize("kind", ATTENDING)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("method", WAYS)
def test_local_and_global_parts_add_up_to_the_whole(kind, layers, method):
    found = explain(small_model(kind, layers=layers).double(), small_clip(), 2, method)
    expected = {"global", "residual"} | (set() if kind == "baseline" else {"local"})
    assert set(found.branches) == expected
    torch.testing.assert_close(sum(found.branches.values()), found.values, rtol=0, atol=1e-12)
    assert all(each.abs().max() > 1e-9 for each in found.branches.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_relevance_and_what_the_biases_give_add_up_to_the_logit(kind, norm):
    model, clip = small_model(kind, norm=norm, layers=2).double(), small_clip()
    with torch.no_grad():
        model.classifier.bias[2] += 0.75
    found = explain(model, clip, 2, "relevance-propagation")
    assert abs(found.convergence_delta) < 1e-9
    # All other biases of these untrained models are 0: relevance is the logit less the classifier's bias.
    assert float(found.values.sum()) == pytest.approx(slow.logit(model, stream_inputs(model, clip), 2) - 0.75, abs=1e-9)


def test_relevance_of_biases_is_what_the_frames_do_not_have():
    model, clip = small_model("gate-op").double(), small_clip()
    with torch.no_grad():
        model.encoders["visual"].layers[0].feed_forward[2].bias[:3] += 3.0
    found = explain(model, clip, 2, "relevance-propagation")
    assert abs(found.convergence_delta) < 1e-9
    assert abs(float(found.values.sum()) - slow.logit(model, stream_inputs(model, clip), 2)) > 1e-3


def test_rollout_of_one_layer_is_the_mean_of_attention_received_and_the_frame_itself():
    model, clip = small_model("baseline").double(), small_clip()
    found = explain(model, clip, 2, "rollout")
    weights = model.trace(Batch.from_clips([clip]).to(dtype=torch.float64)).layer("visual").weights["global"][0]
    torch.testing.assert_close(found.values[0], 0.5 * weights.mean((0, 1)) + 0.5 / 13)
    assert float(found.values[0].sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("layers", [2, 3])
def test_rollout_of_layers_multiplies_them_the_last_first(layers):
    model, clip = small_model("gate-att", layers=layers).double(), small_clip()
    trace = model.trace(Batch.from_clips([clip]).to(dtype=torch.float64))
    product = torch.full((1, 13), 1 / 13, dtype=torch.float64)
    for layer in reversed(range(layers)):
        mean = trace.layer("audio", layer).weights["combined"][0].mean(0)
        product = product @ (0.5 * torch.eye(13, dtype=torch.float64) + 0.5 * mean / mean.sum(1, keepdim=True))
    torch.testing.assert_close(explain(model, clip, 2, "rollout").values[1], product[0])


@pytest.mark.parametrize("kind", ["baseline", "share-att"])
def test_gradient_weighted_attention_is_the_positive_gradient_times_the_map(kind):
    model, clip = small_model(kind).double(), small_clip()
    stream, inputs = streams(model, 2, clip)["visual"], stream_inputs(model, clip)["visual"]
    with evaluating(model), torch.enable_grad():
        encoded, (layer,) = stream.encoder.trace(inputs[None], None, True)
        name = "global" if kind == "baseline" else "combined"
        (gradient,) = torch.autograd.grad(encoded.mean(1)[0] @ stream.weights, [layer.weights[name]])
    expected = (gradient.clamp(min=0) * layer.weights[name]).detach()[0].mean(0).mean(0) + 1 / 13
    torch.testing.assert_close(explain(model, clip, 2, "gradient-weighted-attention").values[0], expected)


def test_a_branch_that_is_cut_off_has_no_relevance():
    model = small_model("gate-op").double()
    with torch.no_grad():
        for encoder in model.encoders.values():
            encoder.layers[0].attention.output_local.weight.zero_()
    found = explain(model, small_clip(), 2, "relevance-propagation")
    assert not found.branches["local"].any()
    assert found.branches["global"].any()


def test_scaling_the_classifier_scales_relevance_and_leaves_rollout():
    model, clip = small_model("share-att").double(), small_clip()
    before = {name: explain(model, clip, 2, name).values for name in ("relevance-propagation", "rollout")}
    with torch.no_grad():
        model.classifier.weight.mul_(3)
    torch.testing.assert_close(
        explain(model, clip, 2, "relevance-propagation").values, 3 * before["relevance-propagation"]
    )
    torch.testing.assert_close(explain(model, clip, 2, "rollout").values, before["rollout"])
