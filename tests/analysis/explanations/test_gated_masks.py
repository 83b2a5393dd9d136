"""GateAtt with frames replaced, step by step: what a pass of the block says of every choice of them."""

import pytest
import torch
from small_models import moved, small_clip, small_model

import analysis.explanations.incremental.gated_masks as module
from analysis.explanations.incremental import kept_scores as scores_of_choices
from analysis.explanations.incremental.gated_masks import GatedMasks, _Live
from analysis.explanations.incremental.kept_scores import kept_scores
from analysis.explanations.stream import streams
from gmsa_models.masks import BlockDiagonal, Toeplitz, ToeplitzDilated

FRAMES = 24
NEIGHBOURHOODS = {"block": BlockDiagonal(5), "toeplitz": Toeplitz(4), "dilated": ToeplitzDilated(3, 3)}


def case(neighbourhood, sharpness=1.0):
    """A block, its context by a pass, and frames of two kinds."""
    model = small_model("gate-att", neighbourhood=neighbourhood, max_frames=FRAMES, norm="pre").double().eval()
    block = model.encoders["visual"].layers[0].attention.requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for gate in (block.gate_global, block.gate_local):
        gate.copy_(torch.randn(gate.shape, generator=generator))
    block.query.weight.mul_(sharpness)
    width = block.query.in_features
    own, other = torch.randn(2, FRAMES, width, dtype=torch.float64, generator=generator)

    def by_a_pass(kept):
        trace = block.trace(torch.where(kept[:, :, None], own, other))
        return trace.contexts["combined"].transpose(1, 2).flatten(2)

    return GatedMasks(block, own, other), by_a_pass


def choices(name):
    generator = torch.Generator().manual_seed(1)
    rank = torch.randperm(FRAMES, generator=generator)
    every = {
        "one frame out": ~torch.eye(FRAMES, dtype=torch.bool),
        "one after another": rank >= torch.arange(FRAMES + 1)[:, None],
        "and from the start again": (rank >= torch.arange(FRAMES + 1)[:, None]).repeat(3, 1),
        "five at a time": rank >= torch.arange(0, FRAMES + 1, 5)[:, None],
        "any": torch.rand(40, FRAMES, generator=generator) < 0.5,
        "the same again": torch.ones(3, FRAMES, dtype=torch.bool),
    }
    return every[name]


NAMES = (
    "one frame out",
    "one after another",
    "and from the start again",
    "five at a time",
    "any",
    "the same again",
)


@pytest.mark.parametrize("sharpness", [1.0, 40.0], ids=["soft", "sharp"])
@pytest.mark.parametrize("neighbourhood", NEIGHBOURHOODS.values(), ids=NEIGHBOURHOODS)
@pytest.mark.parametrize("name", NAMES)
def test_every_step_is_what_a_pass_gives(name, neighbourhood, sharpness):
    for together in (1, 7, 100):
        masks, by_a_pass = case(neighbourhood, sharpness)
        for kept in choices(name).split(together):
            torch.testing.assert_close(masks.contexts(kept), by_a_pass(kept), rtol=1e-9, atol=1e-11)


def test_sums_are_carried_and_made_anew_where_they_must_be(monkeypatch):
    made, put = [], []
    monkeypatch.setattr(GatedMasks, "_made", lambda *args, old=GatedMasks._made: made.append(1) or old(*args))
    monkeypatch.setattr(
        _Live, "put", lambda self, rows, sums, old=_Live.put: put.append(len(rows)) or old(self, rows, sums)
    )
    masks, _ = case(NEIGHBOURHOODS["block"])
    for kept in choices("and from the start again").split(10):
        masks.contexts(kept)
    assert len(made) == 1  # the second time and the third begin at a copy of the first choice
    assert put == [1] * 3 * FRAMES
    monkeypatch.setattr(module, "FRESH", 10)
    for kept in choices("one after another")[5:].split(10):
        masks.contexts(kept)
    assert 1 < len(made) <= 3
    sharp, _ = case(NEIGHBOURHOODS["block"], 40.0)
    put.clear()
    sharp.contexts(choices("one after another"))
    assert max(put) > 1  # rows of which too little is left, beside the one whose query changes


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_scores_are_those_of_whole_passes(monkeypatch, norm):
    model = moved(small_model("gate-att", max_frames=FRAMES, norm=norm).double()).requires_grad_(False)
    stream, generator = streams(model, 1, small_clip(FRAMES))["visual"], torch.Generator().manual_seed(0)
    inputs, baseline = torch.randn(
        2, FRAMES, model.config.modalities["visual"], dtype=torch.float64, generator=generator
    )
    expected = kept_scores(stream, inputs, baseline, choices("any"))
    calls = []
    monkeypatch.setattr(scores_of_choices, "LONG", FRAMES)
    monkeypatch.setattr(
        GatedMasks, "contexts", lambda self, kept, old=GatedMasks.contexts: calls.append(len(kept)) or old(self, kept)
    )
    found = kept_scores(stream, inputs, baseline, choices("any"))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    assert sum(calls) == len(choices("any"))
    assert kept_scores(stream, inputs, baseline, choices("any")[:0]).shape == (0,)
