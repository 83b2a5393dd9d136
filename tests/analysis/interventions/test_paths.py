"""Paths to a logit: they add up to it, each by hand on a linear model, and a planted one is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fifth_block import HeadGate
from small_models import moved, small_clip, small_model

from analysis.interventions.paths import trace_paths
from analysis.interventions.running import run_with
from gmsa_models.attention import ATTENTION
from gmsa_models.masks import Toeplitz

BLOCKS = ("baseline", "share-att", "gate-att", "gate-op", "head-gate")


@pytest.fixture(autouse=True)
def fifth(monkeypatch):
    monkeypatch.setitem(ATTENTION, "head-gate", HeadGate)


def model_of(kind, **changes):
    neighbourhood = None if kind == "baseline" else Toeplitz(5)
    return moved(small_model(kind, neighbourhood=neighbourhood, **changes).double(), 0.3)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize(("norm", "layers"), [("post", 1), ("pre", 2)])
def test_paths_add_up_to_the_logit(kind, norm, layers):
    model, clip = model_of(kind, norm=norm, layers=layers), small_clip(13)
    found = trace_paths(model, clip, 2, steps=200)
    np.testing.assert_allclose(found["logit"], run_with(model, clip).logits[0, 2])
    whole = float(found["path"].sum() + found["direct"].sum() + found["constant"])
    np.testing.assert_allclose(whole, found["logit"] + found["error"])
    assert abs(float(found["error"])) < 1e-2 * max(1.0, abs(float(found["logit"])))
    fewer = trace_paths(model, clip, 2, steps=10)
    assert abs(float(found["error"])) < abs(float(fewer["error"])) + 1e-9
    np.testing.assert_allclose(found["own"] + found["others"], found["path"].sum("query").rename(key="frame"))


@pytest.mark.parametrize("kind", ["baseline", "gate-op"])
def test_paths_of_a_linear_model_are_its_terms(kind):
    """Without feed-forward and norms the logit is linear in each term of Y."""
    model, clip = model_of(kind, norm="pre"), small_clip(9)
    for encoder in model.encoders.values():
        encoder.norm = torch.nn.Identity()
        with torch.no_grad():
            encoder.layers[0].feed_forward[2].weight.zero_()
    found, trace = trace_paths(model, clip, 1, steps=3), run_with(model, clip)
    assert abs(float(found["error"])) < 1e-9
    block, layer = model.encoders["visual"].layers[0].attention, trace.layer("visual")
    weights = model.classifier.weight[1, :12]
    contexts = {branch: each.clone() for branch, each in block.contexts(layer).items()}
    before = block.output_from(contexts, layer.gates or None)[0, 5] @ weights / 9
    value = block.values(layer.input)[0, :, 3]
    maps = block.context_maps(layer)["global"][0, :, 5, 3]
    contexts["global"][0, :, 5] -= maps[:, None] * value
    after = block.output_from(contexts, layer.gates or None)[0, 5] @ weights / 9
    path = found["path"].sel(modality="visual", branch="global", query=5.0, key=3.0)
    np.testing.assert_allclose(path, (before - after).item(), rtol=1e-8)
    mean = layer.input  # the hidden frames come before the norm
    assert mean is not None
    hidden = torch.from_numpy(clip.floats("visual")).double()
    expected = (hidden - hidden.mean(0)) @ weights / 9
    np.testing.assert_allclose(found["direct"].sel(modality="visual"), expected.detach(), rtol=1e-8)


def test_nothing_passes_outside_the_neighbourhood():
    found = trace_paths(model_of("gate-op"), small_clip(13), "Food")
    local = found["path"].sel(branch="local")
    far = np.abs(np.subtract.outer(found["query"].values, found["key"].values)) > 2
    assert float(np.abs(local.values[:, far]).max()) == 0
    assert float(np.abs(local.values[:, ~far]).max()) > 0
    with pytest.raises(ValueError, match="control"):
        trace_paths(small_model("none"), small_clip(13), 2)
