"""What is hidden, that nothing of it is used, and what the error is relative to."""

import numpy as np
import pytest
import torch
from references.pretraining import tiny_encoders
from references.training import tiny_clip
from small_models import moved, small_clip, small_model

from gmsa_models import Batch
from gmsa_models.masks import ChangePoints
from gmsa_models.pretraining.errors_of_frames import squared_errors
from gmsa_models.pretraining.hidden_frames import hidden_spans
from gmsa_models.pretraining.model import FramePredictor, from_visible

KINDS = ["baseline", "share-att", "gate-att", "gate-op", "none", "segments"]


def predictor_of(kind: str) -> FramePredictor:
    changes = {"neighbourhood": ChangePoints(1)} if kind == "segments" else {}
    model = moved(small_model("gate-op" if kind == "segments" else kind, classes=0, **changes))
    return moved(FramePredictor(model), 0.1)


def two_clips() -> tuple[Batch, torch.Tensor]:
    """A clip of 13 frames of which 4 to 6 are hidden, and one of 9 of which the last two are."""
    hidden = torch.zeros(2, 13, dtype=torch.bool)
    hidden[0, 4:7] = hidden[1, 7:9] = True
    return Batch.from_clips([small_clip(13, 0), small_clip(9, 1)]), hidden


class TestSpans:
    @pytest.mark.parametrize(("frames", "count"), [(1, 0), (2, 1), (3, 1), (11, 3), (60, 18)])
    def test_the_share_of_the_real_frames_is_hidden(self, frames: int, count: int) -> None:
        valid = torch.arange(61)[None] < frames
        hidden = hidden_spans(valid, 0.3, 5, [(7,)])
        assert int(hidden.sum()) == count
        assert not (hidden & ~valid).any()

    def test_they_are_spans(self) -> None:
        hidden = hidden_spans(torch.ones(40, 60, dtype=torch.bool), 0.1, 6, [(seed,) for seed in range(40)]).numpy()
        spans = (np.diff(hidden, axis=1, prepend=False, append=False) != 0).sum(1) / 2
        assert spans.max() <= 3  # six frames: one span, but where it met the end of the clip
        assert spans.mean() < 1.3

    def test_one_seed_one_choice_whatever_the_batch(self) -> None:
        valid = torch.ones(2, 30, dtype=torch.bool)
        both = hidden_spans(valid, 0.3, 5, [(1, 2), (1, 3)])
        assert torch.equal(hidden_spans(valid[1:], 0.3, 5, [(1, 3)])[0], both[1])
        assert not torch.equal(both[0], both[1])


class TestNothingHiddenIsUsed:
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_gradient_by_hidden_frames_is_exactly_zero(self, kind: str) -> None:
        predictor, (batch, hidden) = predictor_of(kind), two_clips()
        features = {name: values.clone().requires_grad_() for name, values in batch.features.items()}
        for name, predicted in predictor(features, batch.valid, hidden).items():
            (gradient,) = torch.autograd.grad(predicted.square().sum(), features[name], retain_graph=True)
            assert (gradient[hidden] == 0).all()
            if kind != "none":  # which sees each frame alone
                assert (gradient[batch.valid & ~hidden] != 0).any()

    @pytest.mark.parametrize("kind", KINDS)
    def test_predictions_are_the_same_bits_whatever_is_hidden(self, kind: str) -> None:
        predictor, (batch, hidden) = predictor_of(kind), two_clips()
        others = {name: values.clone() for name, values in batch.features.items()}
        for values in others.values():
            values[hidden] = values[hidden].flip(0) * 50 - 3
        with torch.no_grad():
            first, second = (predictor(each, batch.valid, hidden) for each in (batch.features, others))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_segments_are_those_of_the_nearest_visible_frames(self) -> None:
        visible = torch.tensor([[True, False, False, False, True, False]])
        values = torch.arange(6.0)[None, :, None]
        assert from_visible(values, visible)[0, :, 0].tolist() == [0, 0, 0, 4, 4, 4]

    def test_baseline_predicts_all_hidden_frames_of_a_clip_alike(self) -> None:
        """Without a neighbourhood nothing says where in the clip a hidden frame lies."""
        batch, hidden = two_clips()
        for kind, alike in (("baseline", True), ("gate-att", False)):
            predicted = predictor_of(kind)(batch.features, batch.valid, hidden)["visual"][:3]
            assert torch.allclose(predicted, predicted[:1].expand_as(predicted), atol=1e-5) == alike


class TestErrors:
    def test_by_hand(self) -> None:
        values = torch.tensor([[[0.0], [2.0], [7.0]]])
        hidden = torch.tensor([[False, False, True]])
        real = torch.ones(1, 3, dtype=torch.bool)
        errors = squared_errors({"visual": torch.tensor([[4.0]])}, {"visual": values}, real, hidden)["visual"]
        assert (float(errors.model), float(errors.mean), float(errors.visible_mean)) == (9.0, 16.0, 36.0)

    def test_padding_changes_nothing(self) -> None:
        model = FramePredictor(tiny_encoders())
        alone = Batch.from_clips([tiny_clip(3)])
        padded = Batch.from_clips([tiny_clip(3), max((tiny_clip(n) for n in range(9)), key=lambda clip: clip.frames)])
        frames = alone.valid.shape[1]
        hidden = torch.zeros(2, padded.valid.shape[1], dtype=torch.bool)
        hidden[0, 1:3] = True
        first = squared_errors(
            model(alone.features, alone.valid, hidden[:1, :frames]), alone.features, alone.valid, hidden[:1, :frames]
        )
        second = squared_errors(model(padded.features, padded.valid, hidden), padded.features, padded.valid, hidden)
        for name, errors in first.items():
            assert errors.model.item() == pytest.approx(second[name].model.item(), rel=1e-5)
            assert float(errors.mean) == pytest.approx(float(second[name].mean), rel=1e-5)
