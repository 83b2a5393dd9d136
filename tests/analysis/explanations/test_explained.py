"""The numbers of Figures 7 and 8: against the functions that they are made of, video by video."""

import numpy as np
import pytest
from small_models import VOCABULARY, small_clip, small_model

from analysis.explanations.ground_truth import evidence_scores, label_evidence
from analysis.explanations.registry import applicable, explain
from analysis.interventions.ablation import Ablation
from analysis.interventions.ablation_scores import ablation_scores
from analysis.study.explained import ablation_table, evidence_found, explained_clips, in_order
from gmsa_models import write_clips
from gmsa_models.evaluation.metrics import classification_metrics
from gmsa_models.evaluation.scoring import predict


def clips() -> list:
    return [small_clip(frames, seed, labels=(11, 5)) for seed, frames in enumerate((13, 11, 12))]


def test_the_first_videos_with_known_segments_are_taken_and_cut(tmp_path):
    unknown = small_clip(13, 9, segments=())
    write_clips(tmp_path / "clips.tfrecord", [unknown, *clips()])
    found = explained_clips([str(tmp_path / "clips.tfrecord")], VOCABULARY, 2, 9)
    assert [clip.id for clip in found] == ["clip0", "clip1"]
    assert [clip.frames for clip in found] == [9, 9]
    assert explained_clips([str(tmp_path / "clips.tfrecord")], VOCABULARY, 2, 3) == []  # the event starts at 3 s


@pytest.mark.parametrize("kind", ["baseline", "gate-op"])
def test_evidence_is_that_of_each_video_and_explanation_alone(kind):
    model, seen, given = small_model(kind), [], [clips()[place] for place in (1, 2, 0)]
    table = evidence_found(model, given, seen.append)
    assert table["video"].values.tolist() == ["clip1", "clip2", "clip0"]
    assert sum(seen) == 3
    assert tuple(table["explainer"].values) == applicable(model)
    for clip in clips():
        values = explain(model, clip, 2, "rollout").frames
        expected = evidence_scores(values, label_evidence(clip, 11))
        for measure, value in expected.items():
            assert float(table[measure].sel(video=clip.id, explainer="rollout")) == pytest.approx(value)


def test_costs_are_the_gap_lost_part_by_part():
    model = small_model("gate-op")
    table = ablation_table(model, clips(), resamples=50, seed=0)
    assert table["part"].values.tolist() == ["global branch", "local branch", "head 0", "head 1", "head 2", "head 3"]
    assert table["modality"].values.tolist() == ["visual", "audio"]
    one = ablation_scores(model, clips(), [Ablation("audio", "mean", head=2)])
    scores, labels = one["score"].values[0], one["label"].values
    predictions = predict(model, clips())
    intact = classification_metrics(predictions.scores, predictions.labels)["gap"]
    without = classification_metrics(scores, labels)["gap"]
    found = table.sel(modality="audio", part="head 2")
    assert float(found["cost"]) == pytest.approx(100 * float(intact - without), abs=1e-3)
    assert table.attrs["intact"] == pytest.approx(100 * float(intact), abs=1e-3)


def test_explanations_stand_in_one_order():
    assert in_order(["random", "rollout", "saliency"]) == ["saliency", "rollout", "random"]
    assert np.all([name in applicable(small_model("share-att")) for name in in_order(["random", "rollout"])])
