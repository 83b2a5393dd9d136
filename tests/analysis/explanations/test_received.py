"""What each frame receives, as explanations: against maps and gradient norms taken by hand."""

import pytest
import torch
from small_models import small_clip, small_model

from analysis.attention.profiles import attention_profile
from analysis.explanations.registry import explain
from analysis.sensitivity.norms import frame_gradient_norms, local_sensitivity
from gmsa_models.data.batch import Batch
from gmsa_models.errors import ArgumentError


def layer_of(model, modality):
    return model.trace(Batch.from_clips([small_clip()])).layer(modality)


@pytest.mark.parametrize("kind", ["share-att", "gate-att", "gate-op"])
def test_profiles_are_the_attention_profiles_of_each_branch(kind):
    model = small_model(kind)
    for row, modality in enumerate(("visual", "audio")):
        layer = layer_of(model, modality)
        for branch, mask in (("global", None), ("local", layer.neighbourhood)):
            expected = attention_profile(layer.weights[branch][0], mask)
            found = explain(model, small_clip(), 2, f"attention-{branch}").values[row]
            torch.testing.assert_close(found, expected.detach())


def test_sensitivity_weights_the_local_rows_by_s_and_the_global_ones_by_the_rest():
    model = small_model("gate-op")
    found = explain(model, small_clip(), 2, "sensitivity-weighted").values
    for row, modality in enumerate(("visual", "audio")):
        layer = layer_of(model, modality)
        share = local_sensitivity(frame_gradient_norms(model, small_clip(), modality), layer.neighbourhood)
        columns = torch.zeros(13)
        for query in range(13):
            near = layer.weights["local"][0, :, query].mean(0)
            far = layer.weights["global"][0, :, query].mean(0)
            columns += share[query] * near + (1 - share[query]) * far
        torch.testing.assert_close(found[row], columns.detach(), rtol=1e-4, atol=1e-5)
    # Rows sum to 1, so over the frames the profile averages to 1.
    torch.testing.assert_close(found.mean(1), torch.ones(2), rtol=1e-5, atol=1e-5)


def test_where_s_is_not_defined_the_branches_count_alike():
    model = small_model("gate-op")
    with torch.no_grad():  # values that do not depend on the frames: no output has a gradient
        for encoder in model.encoders.values():
            encoder.layers[0].attention.value.weight.zero_()
    found = explain(model, small_clip(), 2, "sensitivity-weighted").values
    for row, modality in enumerate(("visual", "audio")):
        weights = layer_of(model, modality).weights
        both = (weights["local"][0] + weights["global"][0]).detach() / 2
        torch.testing.assert_close(found[row], both.mean(0).sum(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["baseline", "gate-att"])
def test_gradient_received_is_the_mean_of_a_column_beside_the_mean_frames(kind):
    model = small_model(kind)
    found = explain(model, small_clip(), 2, "gradient-received").values
    for row, modality in enumerate(("visual", "audio")):
        norms = frame_gradient_norms(model, small_clip(), modality)
        expected = [float(norms[:, frame].mean() / norms.mean()) for frame in range(13)]
        torch.testing.assert_close(found[row], torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_what_a_block_lacks_is_refused():
    with pytest.raises(ArgumentError, match="needs a block with a local branch"):
        explain(small_model("baseline"), small_clip(), 2, "sensitivity-weighted")
    with pytest.raises(ArgumentError, match="no attention block whose gradient"):
        explain(small_model("none"), small_clip(), 2, "gradient-received")
    with pytest.raises(ArgumentError, match="it has no attention"):
        explain(small_model("none"), small_clip(), 2, "attention-global")
