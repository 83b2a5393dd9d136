"""G and S_i in the record."""

import numpy as np
import pytest
import torch
from small_models import small_clip, small_model

from analysis import inspect_clip
from analysis.sensitivity.norms import frame_gradient_norms
from gmsa_models.masks import Toeplitz


@pytest.mark.parametrize("kind", ["share-att", "gate-att", "gate-op"])
def test_the_record_holds_g_and_s(kind):
    model, clip = small_model(kind), small_clip()
    record = inspect_clip(model, clip, parts=("sensitivity", "neighbourhood"))
    near = record["neighbourhood"].values
    for modality in model.config.modalities:
        norms = frame_gradient_norms(model, clip, modality).double().numpy()
        np.testing.assert_allclose(record["gradient_norm"].sel(modality=modality), norms, rtol=1e-5, atol=1e-7)
        inside = np.array([row[mask].mean() for row, mask in zip(norms, near, strict=True)])
        outside = np.array([row[~mask].mean() for row, mask in zip(norms, near, strict=True)])
        found = record["sensitivity"].sel(modality=modality)
        np.testing.assert_allclose(found, inside / (inside + outside), rtol=1e-4)


@pytest.mark.parametrize(("chosen", "there"), [(None, False), (Toeplitz(4), True)])
def test_s_needs_a_neighbourhood(chosen, there):
    record = inspect_clip(small_model("baseline"), small_clip(), neighbourhood=chosen, parts=("sensitivity",))
    assert "gradient_norm" in record
    assert ("sensitivity" in record) == there


def test_the_control_has_neither():
    assert not {"gradient_norm", "sensitivity"} & set(inspect_clip(small_model("none"), small_clip()))


def test_half_precision_is_widened():
    model = small_model("gate-op").to(torch.bfloat16)
    record = inspect_clip(model, small_clip(), parts=("sensitivity",))
    assert record["gradient_norm"].dtype == np.float32
    assert np.isfinite(record["gradient_norm"]).all()
