"""Autograd and sampling beside the closed form; what is refused."""

import pytest
import references.sensitivity as slow
import torch

from analysis.sensitivity.autograd import autograd_norms, sampled_ends
from analysis.sensitivity.norms import frame_gradient_norms
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import Toeplitz
from tests.analysis.sensitivity.test_sensitivity import KINDS, make_batch, make_clip, make_model


class TestOtherMethods:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("max_bytes", [1, 2**28])
    def test_autograd_is_the_closed_form(self, kind, max_bytes):
        model = make_model(kind, Toeplitz(3))
        batch = make_batch(model, [5, 7])
        expected = frame_gradient_norms(model, batch, "visual")
        actual = frame_gradient_norms(model, batch, "visual", method="autograd", max_bytes=max_bytes)
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=0.0, equal_nan=True)

    @pytest.mark.parametrize("kind", [*KINDS, "none"])
    @pytest.mark.parametrize("norm", ["pre", "post"])
    def test_encoder_equals_derivatives_taken_one_at_a_time(self, kind, norm):
        model = make_model(kind, Toeplitz(3), (5, 3, 2), norm=norm)
        batch = make_batch(model, [5])
        batch.features["visual"].requires_grad_()
        encoded = model.trace(batch, grad=True).layer("visual").encoded[0]
        expected = slow.frame_gradient_norms(encoded, batch.features["visual"])
        actual = frame_gradient_norms(model, batch, "visual", at="encoder")[0].detach()
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=0.0)

    def test_the_control_has_no_attention_to_answer_by(self):
        model = make_model("none", size=(5, 3, 2))
        batch = make_batch(model, [5])
        assert (frame_gradient_norms(model, batch, "visual") == 0).all()
        at_encoder = frame_gradient_norms(model, batch, "visual", at="encoder")[0]
        assert (at_encoder[~torch.eye(5, dtype=torch.bool)] == 0).all()
        assert (at_encoder.diagonal() > 0).all()

    def test_some_rows_alone(self):
        model = make_model("gate-op", Toeplitz(3))
        batch = make_batch(model, [7])
        layer = model.encoders["visual"].layers[0]
        given = layer.norm_attention(batch.features["visual"]).detach()[0]
        rows = autograd_norms(
            lambda frames: layer.attention.trace(frames[None]).output[0], given, 2**20, queries=[4, 1]
        )
        torch.testing.assert_close(rows, frame_gradient_norms(model, batch, "visual")[0, [4, 1]], rtol=1e-9, atol=0.0)

    def test_sampled_errors_are_as_large_as_they_say(self):
        """|estimate - truth| / standard error: beyond 2 for about 5 in 100, its mean square about 1."""
        model = make_model("gate-att", Toeplitz(3), (11, 3, 4))
        batch = make_batch(model, [11])
        truth = frame_gradient_norms(model, batch, "visual")
        scores = []
        for seed in range(4):
            estimate, error = frame_gradient_norms(
                model, batch, "visual", method="sampled", probes=256, seed=seed, return_standard_error=True
            )
            scores.append((estimate - truth) / error)
        scores = torch.cat(scores)
        assert 0.02 < (scores.abs() > 2).double().mean() < 0.09
        assert 0.8 < scores.square().mean() < 1.25

    @pytest.mark.parametrize("probes", [2, 5, 32])
    def test_intervals_of_few_probes_hold_the_norm_as_often_as_they_say(self, probes):
        model = make_model("gate-att", Toeplitz(3), (11, 3, 4))
        batch = make_batch(model, [11])
        truth = frame_gradient_norms(model, batch, "visual")
        held = []
        for seed in range(8):
            estimate, error = frame_gradient_norms(
                model, batch, "visual", method="sampled", probes=probes, seed=seed, return_standard_error=True
            )
            low, high = sampled_ends(estimate, error, probes)
            assert (low >= 0).all()
            held.append((low <= truth) & (truth <= high))
        assert 0.88 < torch.stack(held).double().mean() < 0.99
        with pytest.raises(ArgumentError, match="probes is 1"):
            sampled_ends(estimate, error, 1)

    def test_sampled_converges_with_the_root_of_the_probes(self):
        model = make_model("baseline", size=(11, 3, 4))
        batch = make_batch(model, [11])
        truth = frame_gradient_norms(model, batch, "visual")
        errors = []
        for probes in (16, 256):
            estimate = frame_gradient_norms(model, batch, "visual", method="sampled", probes=probes, seed=5)
            errors.append(float(((estimate - truth) / truth).square().mean().sqrt()))
        assert 2.8 < errors[0] / errors[1] < 5.6

    def test_sampled_depends_on_the_seed_and_on_nothing_else(self):
        model = make_model("baseline")
        batch = make_batch(model, [7])

        def sample(**options):
            return frame_gradient_norms(model, batch, "visual", method="sampled", probes=5, **options)

        torch.testing.assert_close(sample(seed=1, max_bytes=1), sample(seed=1))
        assert not torch.allclose(sample(seed=1), sample(seed=2))

    def test_standard_errors_of_exact_methods_are_zero_and_of_no_gradient_too(self):
        model = make_model("baseline")
        batch = make_batch(model, [4, 7])
        for method in ("closed-form", "autograd"):
            norms, error = frame_gradient_norms(model, batch, "visual", method=method, return_standard_error=True)
            assert (error.isnan() == norms.isnan()).all()
            assert (error[~error.isnan()] == 0).all()
        control = make_model("none")
        norms, error = frame_gradient_norms(
            control, batch, "visual", at="encoder", method="sampled", probes=2, return_standard_error=True
        )
        assert error[1, 0, 1] == 0
        assert norms[1, 0, 1] == 0

    def test_a_clip_gives_one_matrix_cut_to_the_longest_the_model_takes(self):
        model = make_model("baseline", size=(7, 5, 2))
        clip = make_clip(10, 12)
        norms = frame_gradient_norms(model, clip, "visual")
        assert norms.shape == (9, 9)
        torch.testing.assert_close(norms, frame_gradient_norms(model, clip.cut(9), "visual"))


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"at": "head"}, r"at 'head' is unknown; known: attention, encoder"),
            ({"norm": "spectral"}, r"norm 'spectral' is unknown; known: frobenius"),
            ({"method": "guess"}, r"method 'guess' is unknown; known: closed-form, autograd, sampled"),
            ({"modality": "smell"}, r"modality 'smell' is unknown; known: visual"),
            ({"at": "encoder", "method": "closed-form"}, r'no closed form at "encoder"'),
            ({"layer": 1}, r"no layer 1; the model has 1"),
        ],
    )
    def test_unknown_names_list_the_known(self, options, message):
        model = make_model("baseline")
        with pytest.raises(ArgumentError, match=message):
            frame_gradient_norms(model, make_batch(model, [7]), **{"modality": "visual"} | options)

    def test_too_few_probes_and_no_memory(self):
        model = make_model("gate-att", Toeplitz(3))
        batch = make_batch(model, [7])
        with pytest.raises(ArgumentError, match=r"probes is 1; a standard error needs at least 2"):
            frame_gradient_norms(model, batch, "visual", method="sampled", probes=1)
        with pytest.raises(ArgumentError, match=r"max_bytes is 0"):
            frame_gradient_norms(model, batch, "visual", max_bytes=0)
