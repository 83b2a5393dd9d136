"""Neighbourhoods that are each clip's own segments: masks, kernels beside the dense form, and whole models."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import moved, small_clip, small_model

from gmsa_models import Batch, Clip
from gmsa_models.attention import ATTENTION
from gmsa_models.attention.kernels.local_attention import local_attention
from gmsa_models.checkpoints import load, save
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import (
    ChangePoints,
    Spans,
    batch_mask,
    neighbourhood_from_dict,
    neighbourhood_from_text,
    neighbourhood_mask,
    neighbourhood_text,
    neighbourhood_to_dict,
)
from gmsa_models.segments import batch_spans, clip_spans, spans_of_mask

LOCAL = ("share-att", "gate-att", "gate-op")
# A clip of one segment, one of a segment a frame, and three between; the last ends before its segments do.
DIFFERENT = (Spans((0,)), Spans(tuple(range(29))), Spans((0, 1, 7, 23)), Spans((0, 13, 14, 15)), Spans((0, 28, 40)))
LENGTHS = torch.tensor([29, 11, 24, 3, 1])
STREAMS = ("visual", "audio")

STARTS = st.sets(st.integers(1, 45), max_size=20)


def spans_of(starts):
    return Spans((0, *sorted(starts)))


def changing_clip(frames=19, at=(7, 12), seed=0):
    """A clip whose features change at the given frames."""
    generator = np.random.default_rng(seed)
    levels = np.repeat(generator.integers(0, 256, (len(at) + 1, 20)), np.diff((0, *at, frames)), axis=0)
    values = np.clip(levels + generator.integers(-9, 9, levels.shape), 0, 255).astype(np.uint8)
    return Clip(f"changing{seed}", {"visual": values[:, :12], "audio": values[:, 12:]})


def test_mask_by_hand():
    expected = ["xx...", "xx...", "..x..", "...xx", "...xx"]
    mask = neighbourhood_mask(Spans((0, 2, 3, 9)), 5)
    assert ["".join("x" if cell else "." for cell in row) for row in mask.tolist()] == expected
    both = batch_mask((Spans((0,)), Spans((0, 2, 3))), 5)
    assert both[1].equal(mask)
    assert spans_of_mask(mask) == Spans((0, 2, 3))
    assert spans_of_mask(both) == (Spans((0,)), Spans((0, 2, 3)))


@given(STARTS, st.integers(1, 99))
def test_written_and_stored_forms_round_trip(starts, penalty):
    for neighbourhood in (spans_of(starts), ChangePoints(penalty)):
        assert neighbourhood_from_text(neighbourhood_text(neighbourhood)) == neighbourhood
        stored = json.loads(json.dumps(neighbourhood_to_dict(neighbourhood)))
        assert neighbourhood_from_dict(stored) == neighbourhood


@pytest.mark.parametrize("starts", [(), (1,), (0, 0), (0, 4, 3), (0, -2), (0, True)])
def test_spans_start_at_0_and_ascend(starts):
    with pytest.raises(ArgumentError, match="Spans: "):
        Spans(starts)


@pytest.mark.parametrize("text", ["SP", "SP3", "SP0-", "SP0-4-4", "CP0", "CP", "CP4x2"])
def test_what_is_no_segmentation_is_refused(text):
    with pytest.raises(ArgumentError):
        neighbourhood_from_text(text)


@settings(max_examples=60)
@given(
    starts=st.lists(STARTS, min_size=1, max_size=4),
    frames=st.integers(1, 47),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
def test_local_attention_equals_the_dense_form_whose_masks_differ_in_the_batch(starts, frames, padded, seed):
    spans = [spans_of(each) for each in starts]
    torch.manual_seed(seed)
    query, key, value = (torch.randn(len(spans), frames, 2, 3).transpose(1, 2) for _ in range(3))
    valid = torch.arange(frames) < torch.randint(1, frames + 1, (len(spans), 1)) if padded else None
    allowed = batch_mask(tuple(spans), frames)[:, None]
    rows = torch.ones(()) if valid is None else valid[:, None, :, None]
    if valid is not None:
        allowed = (allowed & valid[:, None, None, :]) | torch.eye(frames, dtype=torch.bool)
    logits = (query @ key.mT / 3**0.5).masked_fill(~allowed, float("-inf"))
    result = local_attention(query, key, value, tuple(spans), valid)
    assert result.isfinite().all()
    torch.testing.assert_close(result * rows, torch.softmax(logits, -1) @ value * rows, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", LOCAL)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("spans", [DIFFERENT, DIFFERENT[2]], ids=["of each clip", "of all"])
def test_a_block_and_its_gradient_are_those_of_its_trace(kind, padded, spans):
    torch.manual_seed(3)
    block = moved(ATTENTION[kind](24, 4, ChangePoints(), 31)).bound_to(spans)
    inputs = torch.randn(5, 29, 24, requires_grad=True)
    valid = torch.arange(29) < LENGTHS[:, None] if padded else None
    real = torch.ones(5, 29, dtype=torch.bool) if valid is None else valid
    fast, plain = block(inputs, valid), block.trace(inputs, valid)
    torch.testing.assert_close(fast[real], plain.output[real], rtol=0, atol=1e-5)
    outside = plain.weights["local"] * ~batch_mask(spans, 29).expand(5, -1, -1)[:, None]
    assert (outside == 0).all()
    weight = torch.randn(5, 29, 24) * real[..., None]
    parameters = [inputs, *block.parameters()]
    ours, theirs = (torch.autograd.grad((each * weight).sum(), parameters) for each in (fast, plain.output))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_block_that_is_bound_to_no_clip_says_so():
    block = ATTENTION["gate-op"](8, 2, ChangePoints(), 9)
    for call in (block, block.trace):
        with pytest.raises(ArgumentError, match=r"depends on the clip.*model\.bound_to"):
            call(torch.randn(1, 5, 8))
    with pytest.raises(ArgumentError, match="segments of 2 clips for a batch of 3"):
        block.bound_to((Spans((0,)), Spans((0, 2))))(torch.randn(3, 5, 8))


def test_the_segments_of_a_clip_do_not_depend_on_the_batch():
    clips = [changing_clip(), changing_clip(23, (3,), 1), small_clip(5)]
    batch = Batch.from_clips(clips, STREAMS)
    alone = tuple(clip_spans(clip, ChangePoints(2), STREAMS) for clip in clips)
    assert alone[:2] == (Spans((0, 7, 12)), Spans((0, 3)))
    assert batch_spans(batch.features, batch.valid, ChangePoints(2)) == alone
    assert clip_spans(clips[0], ChangePoints(19), STREAMS) == Spans((0,)), "what is kept is of one criterion"


@pytest.mark.parametrize("kind", LOCAL)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_model_attends_to_each_clips_own_segments(kind, layers):
    model = moved(small_model(kind, neighbourhood=ChangePoints(2), layers=layers))
    clips = [changing_clip(), changing_clip(23, (3,), 1), changing_clip(9, (), 2)]
    batch = Batch.from_clips(clips, STREAMS)
    with torch.no_grad():
        logits, trace = model(batch), model.trace(batch)
        alone = torch.cat([model(Batch.from_clips([clip], STREAMS)) for clip in clips])
        copies = model.bound_to(batch).encoders["visual"](batch.features["visual"].repeat(2, 1, 1))
    torch.testing.assert_close(logits, trace.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(copies[:3], copies[3:])
    masks = trace.layer("audio", layers - 1).neighbourhood
    assert masks.shape == (3, 23, 23)
    for mask, clip in zip(masks, clips, strict=True):
        own = neighbourhood_mask(clip_spans(clip, ChangePoints(2)), clip.frames)
        assert mask[: clip.frames, : clip.frames].equal(own)


def test_a_bound_model_keeps_its_segments_and_shares_its_weights():
    model, clip = moved(small_model("gate-op", neighbourhood=ChangePoints(2))), changing_clip()
    bound = model.bound_to(clip)
    assert bound.config.neighbourhood == Spans((0, 7, 12))
    assert model.config.neighbourhood == ChangePoints(2), "the model itself is left as it is"
    other = Batch.from_clips([changing_clip(19, (3,), 1)], STREAMS)
    with torch.no_grad():
        assert bound.trace(other).layer("visual").neighbourhood.equal(neighbourhood_mask(Spans((0, 7, 12)), 19))
        assert not torch.equal(bound(other), model(other))
    assert [*map(id, bound.parameters())] == [*map(id, model.parameters())]
    fixed = small_model("gate-op")
    assert fixed.bound_to(clip) is fixed


def test_a_checkpoint_keeps_the_criterion(tmp_path):
    model = small_model("gate-att", neighbourhood=ChangePoints(3))
    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.config == model.config
    batch = Batch.from_clips([changing_clip()], STREAMS)
    with torch.no_grad():
        assert torch.equal(again(batch), model(batch))
