"""Scores of several models in one pass over the videos equal those of each model alone."""

import numpy as np
import pytest
from small_models import VOCABULARY, small_clip, small_model

from analysis.study import scores
from analysis.study.scores import score_models
from gmsa_models import Vocabulary
from gmsa_models.data.errors import UnfitClipError
from gmsa_models.evaluation.scoring import predict


def turned(model):
    """The same model, its classes under other labels."""
    model.vocabulary = Vocabulary(VOCABULARY.dataset, VOCABULARY.indices[::-1], VOCABULARY.names[::-1])
    return model


def test_models_that_take_other_batches_are_scored_like_each_alone(monkeypatch):
    models = {
        "one": small_model("baseline"),
        "same": small_model("gate-att"),
        "labels": turned(small_model("gate-op")),
        "order": small_model("share-att", modalities=("audio", "visual")),
        "short": small_model("gate-op", max_frames=12),
        "double": small_model("baseline").double().train(),
    }
    clips, told = [small_clip(8 + 5 * seed % 13, seed) for seed in range(23)], []
    monkeypatch.setattr(scores, "WINDOW", 10)
    found = score_models(models, iter(clips), told.append)
    assert told == [10, 10, 3]
    assert models["double"].training
    for name, model in models.items():
        alone = predict(model, clips)
        assert found[name]["video"].values.tolist() == [clip.id for clip in clips] == list(alone.ids)
        np.testing.assert_allclose(found[name]["score"], alone.scores, atol=1e-6)
        assert np.array_equal(found[name]["label"], alone.labels)
        assert found[name]["class"].values.tolist() == list(model.vocabulary.indices)
        assert found[name]["frames"].values.tolist() == [clip.frames for clip in clips]
    assert found["one"]["label"].values.any()


def test_a_clip_that_one_model_cannot_take_is_refused():
    narrow = small_model(input_widths={"visual": 16, "audio": 8})
    with pytest.raises(UnfitClipError, match="'visual' is 12 wide; the model takes 16"):
        score_models({"fits": small_model(), "narrow": narrow}, [small_clip()])
