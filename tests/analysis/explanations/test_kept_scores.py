"""Scores of choices of frames: what a whole pass of each choice gives, whichever way they are made."""

import pytest
import torch
from fifth_block import HeadGate
from small_models import moved, small_clip, small_model

from analysis.explanations.incremental import kept_scores as module
from analysis.explanations.incremental.equal_frames import EqualFrames
from analysis.explanations.incremental.kept_projections import KeptProjections
from analysis.explanations.incremental.kept_scores import KeptScores, kept_scores
from analysis.explanations.stream import Stream, streams
from gmsa_models.attention import ATTENTION
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import Toeplitz

FRAMES = 19
KINDS = ("baseline", "share-att", "gate-att", "gate-op", "gate-op-scales")
STACKS = [*((kind, layers) for kind in KINDS for layers in (1, 2, 3)), ("local-then-global", 2)]


def case(kind, layers, norm, equal, widths=None):
    """A stream of a model, frames of a clip and what replaces them."""
    model = small_model(kind, norm=norm, layers=layers, widths=widths).double()
    stream = streams(moved(model).requires_grad_(False), 1, small_clip(FRAMES))["visual"]
    generator = torch.Generator().manual_seed(0)
    inputs, other = torch.randn(2, FRAMES, 12, dtype=torch.float64, generator=generator)
    return stream, inputs, other[:1].expand_as(other) if equal else other


def choices():
    generator = torch.Generator().manual_seed(1)
    some = torch.rand(30, FRAMES, generator=generator) < torch.rand(30, 1, generator=generator)
    whole = torch.ones(1, FRAMES, dtype=torch.bool)
    return torch.cat([whole, ~whole, ~torch.eye(FRAMES, dtype=torch.bool), some])


def by_passes(stream, inputs, other):
    return stream(torch.where(choices()[:, :, None], inputs, other))


def taken(monkeypatch):
    """Names of the ways that scores were made, call by call."""
    names = []
    for each in (KeptProjections, EqualFrames):

        def call(self, kept, old=each.__call__, name=each.__name__):
            names.append(name)
            return old(self, kept)

        monkeypatch.setattr(each, "__call__", call)
    resume = Stream.resume
    monkeypatch.setattr(Stream, "resume", lambda self, hidden: names.append("resume") or resume(self, hidden))
    return names


@pytest.mark.parametrize("equal", [True, False], ids=["equal", "others"])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize(("kind", "layers"), STACKS)
def test_scores_are_those_of_whole_passes(monkeypatch, kind, layers, norm, equal):
    stream, inputs, other = case(kind, layers, norm, equal)
    expected = by_passes(stream, inputs, other)
    names = taken(monkeypatch)
    found = kept_scores(stream, inputs, other, choices())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    assert set(names) == {"EqualFrames" if equal and kind == "baseline" else "KeptProjections"}
    assert kept_scores(stream, inputs, other, choices()[:0]).shape == (0,)


@pytest.mark.parametrize("kind", ["baseline", "gate-op"])
def test_frames_that_a_linear_map_makes_equal_are_equal(monkeypatch, kind):
    stream, inputs, other = case(kind, 2, "pre", True, {"visual": 8, "audio": 8})
    expected = by_passes(stream, inputs, other)
    names = taken(monkeypatch)
    torch.testing.assert_close(kept_scores(stream, inputs, other, choices()), expected, rtol=1e-9, atol=1e-11)
    assert set(names) == {"EqualFrames" if kind == "baseline" else "KeptProjections"}


@pytest.mark.parametrize("together", [1, 7])
def test_how_many_are_made_at_once_changes_nothing(monkeypatch, together):
    monkeypatch.setattr(module, "clips_together", lambda frames, width: together)
    for kind, equal in (("baseline", True), ("gate-op", False)):
        stream, inputs, other = case(kind, 2, "pre", equal)
        found = kept_scores(stream, inputs, other, choices())
        torch.testing.assert_close(found, by_passes(stream, inputs, other), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["none", "head-gate"])
def test_a_model_without_attention_and_a_block_with_a_pass_of_its_own_take_whole_passes(monkeypatch, kind):
    monkeypatch.setitem(ATTENTION, "head-gate", HeadGate)
    model = small_model(kind, neighbourhood=None if kind == "none" else Toeplitz(5)).double()
    stream = streams(moved(model).requires_grad_(False), 1, small_clip(FRAMES))["visual"]
    inputs, other = torch.randn(2, FRAMES, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = by_passes(stream, inputs, other)
    names = taken(monkeypatch)
    torch.testing.assert_close(kept_scores(stream, inputs, other, choices()), expected, rtol=1e-9, atol=1e-11)
    assert set(names) == {"resume"}


@pytest.mark.parametrize("equal", [True, False], ids=["equal", "others"])
def test_choices_of_another_number_of_frames_are_refused(equal):
    stream, inputs, other = case("baseline", 1, "pre", equal)
    with pytest.raises(ArgumentError, match="masks over 5 frames; the clip has 19"):
        KeptScores(stream, inputs, other)(torch.ones(2, 5, dtype=torch.bool))
