"""Models on a GPU: records, explanations, curves and edits make no tensor on the wrong device, and the same numbers."""

import numpy as np
import pytest
import torch
from pretended_gpu import GPU, move, pretended_gpu
from small_models import KINDS, small_clip, small_model

from analysis import inspect_clip, run_with
from analysis.explanations.faithfulness import Replacer
from analysis.explanations.registry import applicable, explain

PARTS = ("attention", "similarity", "profile", "gate", "pattern", "contribution", "sensitivity", "score", "certificate")


def test_the_pretended_gpu_refuses_what_a_gpu_refuses():
    with pretended_gpu() as device:
        there, generator = torch.ones(3, device=device), torch.Generator()
        assert (there.device, (there + 1).sum().item(), (there + torch.tensor(1.0)).cpu().tolist()) == (
            GPU,
            6.0,
            [2] * 3,
        )
        assert there[torch.tensor([0, 2])].device == GPU
        for wrong in (
            lambda: there + torch.ones(3), lambda: there.numpy(), lambda: torch.where(there > 0, torch.ones(3), there),
            lambda: torch.rand(3, generator=generator, device=device),
        ):  # fmt: skip
            with pytest.raises((RuntimeError, TypeError)):
                wrong()


@pytest.mark.parametrize("kind", KINDS)
def test_records(kind):
    expected = inspect_clip(small_model(kind), small_clip(), parts=PARTS)
    with pretended_gpu():
        record = inspect_clip(move(small_model(kind)), small_clip(), parts=PARTS)
    assert set(record) == set(expected)
    for name in expected:
        if expected[name].dtype.kind == "f":
            np.testing.assert_allclose(record[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_explanations_and_curves(kind):
    model, clip, ranking = small_model(kind), small_clip(), torch.linspace(1, 0, small_clip().frames)
    expected = {method: explain(model, clip, 2, method).values for method in applicable(model)}
    curves = Replacer(model, clip, 2).curves(ranking)
    with pretended_gpu():
        there = move(small_model(kind))
        for method, values in expected.items():
            result = explain(there, clip, 2, method).values
            if method == "gradient-shap":  # captum adds noise of no deviation, which the pretended device does not draw
                continue
            torch.testing.assert_close(result, values, rtol=1e-4, atol=1e-5, equal_nan=True, msg=method)
        again = Replacer(there, clip, 2).curves(ranking)
    torch.testing.assert_close(again.deletion, curves.deletion, rtol=0, atol=1e-5)
    torch.testing.assert_close(again.insertion, curves.insertion, rtol=0, atol=1e-5)


@pytest.mark.parametrize("edit", [
    "knock-out visual/0/local/weights keys 2..4", "force-gate visual/0/gate to 0.25", "drop visual/input at 3..5",
    "patch visual/input from mean at 2..5", "neighbourhood visual/0/local/neighbourhood as TP4",
])  # fmt: skip
def test_edits(edit):
    clip = small_clip()
    expected = run_with(small_model("gate-op"), clip, [edit]).logits
    with pretended_gpu():
        logits = run_with(move(small_model("gate-op")), clip, [edit]).logits.cpu()
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
