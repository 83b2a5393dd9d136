"""Shots of a clip: kept by the clip and its files, turned to first frames, and attended to by models."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import moved, small_clip, small_model

from analysis.view import features_sha256
from gmsa_models import Batch, load, read_clips, save, write_clips
from gmsa_models.data.clip import ClipError
from gmsa_models.data.errors import UnfitClipError
from gmsa_models.data.fingerprint import fingerprint_clips, fingerprint_source
from gmsa_models.data.tfrecord.examples import decode_clip, encode_clip
from gmsa_models.errors import ArgumentError, ConfigError
from gmsa_models.feeding import Collation, Inputs, check_fits, fitting
from gmsa_models.masks import (
    Shots,
    Spans,
    neighbourhood_from_dict,
    neighbourhood_from_text,
    neighbourhood_mask,
    neighbourhood_text,
    neighbourhood_to_dict,
)
from gmsa_models.pretraining.model import FramePredictor
from gmsa_models.segments import batch_shots, clip_spans
from gmsa_models.training.task import Classification
from gmsa_models.variants import build, nearest_variant

STREAMS = ("visual", "audio")


def clip_of(*shots, frames=8, seed=0, **changes):
    return replace(small_clip(frames, seed=seed), shots=shots, **changes)


@pytest.mark.parametrize(
    ("shots", "changes", "frames"),
    [
        ((0.0, 3.0), {}, (0, 3)),
        ((0.0, 2.04, 3.0), {}, (0, 3)),  # no frame lies in the second
        ((0.0, 2.04), {}, (0, 3)),
        ((0.0, 3.0 + 4e-7), {}, (0, 3)),  # rounding
        ((0.0, 3.0 + 4e-6), {}, (0, 4)),
        ((-9.0, -2.0, 5.0), {}, (0, 5)),
        ((0.0, 7.5, 30.0), {}, (0,)),
        ((0.0, 0.3, 1.1), {"frame_seconds": 0.1}, (0, 3)),
        ((0.0, 102.0), {"start_seconds": 100.0, "frame_seconds": 0.5}, (0, 4)),
        ((), {}, ()),
    ],
)
def test_the_first_frame_of_each_shot_in_which_one_lies(shots, changes, frames):
    assert clip_of(*shots, **changes).shot_frames == frames


@pytest.mark.parametrize(
    "shots", [(0.5,), (0.0, 0.0), (0.0, 3.0, 2.0), (0.0, float("nan")), (0.0, float("inf")), (float("nan"),), ("a",)]
)
def test_shots_that_are_none_are_refused(shots):
    with pytest.raises(ClipError, match=r"shot"):
        clip_of(*shots)


def test_numbers_of_numpy_become_pythons():
    clip = replace(small_clip(8), shots=np.array([0.0, 2.5], np.float32))
    assert clip.shots == (0.0, 2.5)
    assert {type(each) for each in clip.shots} == {float}


def test_a_cut_clip_has_the_shots_of_its_frames():
    clip = clip_of(0.0, 3.0, 5.0)
    assert clip.cut(5).shots == (0.0, 3.0)
    assert clip.cut(6).shot_frames == (0, 3, 5)


def test_files_keep_shots_and_records_without_have_none(tmp_path):
    clip, plain = clip_of(0.0, 1 / 3, 2.04), small_clip(8, seed=1)
    assert decode_clip(encode_clip(clip)).shots == clip.shots
    assert decode_clip(encode_clip(plain)).shots == ()
    assert b"shots" not in encode_clip(plain)
    write_clips(tmp_path / "a.tfrecord", [clip, plain])
    assert [each.shots for each in read_clips(tmp_path / "a.tfrecord")] == [clip.shots, ()]


def test_digests_tell_shots_apart(tmp_path):
    one, other, none = clip_of(0.0, 3.0), clip_of(0.0, 4.0), small_clip(8)
    digests = [[fingerprint_clips([clip]), features_sha256(clip)] for clip in (one, other, none)]
    for number, clip in enumerate((one, other, none)):
        write_clips(tmp_path / f"{number}.tfrecord", [clip])
        digests[number].append(fingerprint_source(tmp_path / f"{number}.tfrecord"))
    assert all(len(set(each)) == 3 for each in zip(*digests, strict=True))
    assert features_sha256(clip_of(0.0, 3.0)) == digests[0][1]
    assert zlib.crc32(digests[2][1].encode()) == zlib.crc32(features_sha256(small_clip(8)).encode())


def test_written_and_stored_forms():
    for text in ("SHOTS", "shots", " Shots "):
        assert neighbourhood_from_text(text) == Shots()
    assert neighbourhood_text(Shots()) == "SHOTS"
    stored = json.loads(json.dumps(neighbourhood_to_dict(Shots())))
    assert stored == {"kind": "shots"}
    assert neighbourhood_from_dict(stored) == Shots()
    for text in ("SHOTS4", "SHOT", "TP3+SHOTS"):
        with pytest.raises(ArgumentError):
            neighbourhood_from_text(text)
    with pytest.raises(ArgumentError, match="shots has no penalty"):
        neighbourhood_from_dict({"kind": "shots", "penalty": 4})
    with pytest.raises(ArgumentError, match="SHOTS: the mask depends on the clip"):
        neighbourhood_mask(Shots(), 5)


def test_a_clip_without_shots_is_one_error_that_names_it():
    clip, known = small_clip(8, seed=1), clip_of(0.0, 3.0)
    remedy = r"(made1|clip1)'?: the shots of its video are not known.*gmsa features.*CP4"
    model = small_model("gate-op", neighbourhood=Shots())
    for call in (
        lambda: clip_spans(clip, Shots()),
        lambda: model.bound_to(clip),
        lambda: model(Batch.from_clips([known, clip], STREAMS)),
        lambda: model(Batch.from_clips([clip], STREAMS)),
        lambda: check_fits(clip, Inputs.of(model)),
        lambda: check_fits(clip, Inputs.of(small_model("baseline"), chosen=Shots())),
    ):
        with pytest.raises(UnfitClipError, match=remedy):
            call()
    errors = []
    assert list(fitting([clip, known], Inputs.of(model, labels=False), errors.append)) == [known]
    assert len(errors) == 1
    with pytest.raises(UnfitClipError, match="'clip 1 of the batch': the shots"):
        batch_shots(replace(Batch.from_clips([known, clip], STREAMS), ids=()))


@pytest.mark.parametrize("kind", ["share-att", "gate-att", "gate-op"])
def test_a_model_attends_to_the_shots_of_each_clip(kind):
    model = moved(small_model(kind, neighbourhood=Shots()))
    clips = [clip_of(0.0, 3.0), clip_of(0.0, 2.04, frames=11, seed=1), clip_of(-1.0, frames=5, seed=2)]
    spans = (Spans((0, 3)), Spans((0, 3)), Spans((0,)))
    raw = Collation(STREAMS, None, model.config.max_frames)(clips)
    with torch.no_grad():
        for batch in (Batch.from_clips(clips, STREAMS), raw.batch()):
            assert model.spans_of(batch) == spans
            logits = model(batch)
            given = [
                small_bound(model, each)(Batch.from_clips([clip], STREAMS))
                for clip, each in zip(clips, spans, strict=True)
            ]
            torch.testing.assert_close(logits, torch.cat(given), rtol=0, atol=1e-5)
            masks = model.trace(batch).layer("audio").neighbourhood
            assert masks[0, :8, :8].equal(neighbourhood_mask(Spans((0, 3)), 8))
    assert model.bound_to(clips[0]).config.neighbourhood == Spans((0, 3))
    fewer = small_model(kind, neighbourhood=Shots(), max_frames=3)
    assert fewer.spans_of(clips[0]) == (Spans((0,)),), "of the frames that the model takes"


def small_bound(model, spans):
    """The same weights in a model of given segments."""
    result = small_model(model.config.attention, neighbourhood=spans)
    result.load_state_dict(model.state_dict())
    return result.eval()


def test_training_takes_the_shots_of_each_clip():
    model = moved(small_model("gate-op", neighbourhood=Shots()))
    clips = [clip_of(0.0, 3.0), clip_of(0.0, 6.0, seed=1)]
    raw = Collation(STREAMS, None, model.config.max_frames)(clips)
    raw = replace(raw, labels=torch.zeros(2, model.config.classes))
    task = object.__new__(Classification)
    task.model = model
    arguments = task.arguments(raw, torch.device("cpu"), (0,))
    loss = task.objective()(*arguments)
    logits = torch.cat(
        [
            small_bound(model, Spans(at))(Batch.from_clips([clip], STREAMS))
            for clip, at in zip(clips, ((0, 3), (0, 6)), strict=True)
        ]
    )
    expected = torch.nn.functional.softplus(logits).sum() / 2
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


def test_pretraining_takes_shots_which_hidden_frames_do_not_change():
    model, clip = moved(small_model("gate-op", neighbourhood=Shots())), clip_of(0.0, 3.0)
    batch = Batch.from_clips([clip], STREAMS)
    hidden = torch.zeros(1, 8, dtype=torch.bool)
    hidden[0, 2:5] = True
    given = small_bound(model, Spans((0, 3)))
    torch.manual_seed(0)
    predictor = FramePredictor(model)
    other = FramePredictor(given)
    other.load_state_dict(predictor.state_dict())
    ours = predictor(batch.features, batch.valid, hidden, batch.shots)
    theirs = other(batch.features, batch.valid, hidden)
    for name in STREAMS:
        torch.testing.assert_close(ours[name], theirs[name])


def test_a_checkpoint_keeps_the_criterion_and_a_variant_takes_it(tmp_path):
    model = build("gate-op-tp30", "demo", classes=3, modalities={"visual": 12}, neighbourhood=Shots())
    assert nearest_variant(model.config) == "gate-op-seg"
    again = load(save(model, tmp_path / "model.safetensors"))
    assert again.config == model.config
    assert again.config.neighbourhood == Shots()
    with pytest.raises(ConfigError, match="takes no neighbourhood"):
        build("baseline", neighbourhood=Shots())
