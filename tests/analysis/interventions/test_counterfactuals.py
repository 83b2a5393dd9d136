"""Counterfactuals: the fewest by trying all, answers that a pass of their own confirms, and what cannot be."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import moved, small_clip, small_model

from analysis.interventions.counterfactuals import (
    counterfactuals,
    fewest_edges,
    fewest_seconds,
    gate_shift,
    gate_shift_by_frame,
)
from analysis.interventions.edits import DropFrames, EditError, KnockOut, Patch
from analysis.interventions.fewest import fewest_set
from analysis.interventions.running import run_with


def model_of(kind="gate-op", **changes):
    return moved(small_model(kind, **changes), 0.4)


def torn(weights, needed):
    """Margins that fall by each piece's weight, from what is needed."""
    return lambda sets: np.array([needed - sum(weights[piece] for piece in each) for each in sets])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.integers(1, 30), st.sampled_from([0, 3, 20, 500]))
def test_the_fewest_are_those_of_trying_all(weights, needed, budget):
    found = fewest_set(len(weights), torn(weights, needed), budget)
    every = chain.from_iterable(combinations(range(len(weights)), size) for size in range(1, len(weights) + 1))
    fewest = next((each for each in every if sum(weights[piece] for piece in each) > needed), None)
    if fewest is None:
        assert found.pieces is None
        return
    assert found.pieces is not None
    assert found.margin == needed - sum(weights[piece] for piece in found.pieces)
    assert found.margin < 0
    assert found.proven < len(fewest) <= len(found.pieces)
    assert found.minimal == (found.proven == len(found.pieces) - 1)
    if budget == 500:
        assert len(found.pieces) == len(fewest)
        assert found.minimal


def test_a_search_by_rank_puts_back_what_it_does_not_need():
    def margins(sets):
        """Alone each does nothing, 2 the least; 2 with 5 is enough."""
        return np.array([-1.0 if {2, 5} <= set(each) else 1.0 + 0.1 * (2 in each) for each in sets])

    found = fewest_set(50, margins, budget=50)
    assert found.pieces == (2, 5)
    assert (found.proven, found.minimal) == (1, True)
    assert found.tried < 200


def test_many_pieces_of_which_not_all_may_go():
    """Frame by frame of a long clip: with every piece gone there is no answer, with a third of them there is."""

    def margins(sets):
        return np.array([np.inf if len(each) == 60 else 19.5 - sum(piece % 3 == 0 for piece in each) for each in sets])

    found = fewest_set(60, margins, budget=100)
    assert found.pieces == tuple(range(0, 60, 3))
    assert (found.margin, found.proven, found.minimal) == (-0.5, 1, False)


@pytest.mark.parametrize("kind", ["baseline", "gate-att", "none"])
def test_seconds_are_those_that_a_pass_without_them_confirms(kind):
    model, clip = model_of(kind), small_clip(13)
    found = fewest_seconds(model, clip, seconds=2)
    assert all(isinstance(each, DropFrames) for each in found.edits)
    logits = run_with(model, clip, found.edits).logits[0]
    names = model.vocabulary.names
    assert names[int(run_with(model, clip).logits[0].argmax())] == found.before
    assert names[int(logits.argmax())] == found.after != found.before
    assert found.margin < 0
    smaller = [
        run_with(model, clip, some).logits[0]
        for some in combinations(
            [DropFrames("*/input", (at, at + 2.0)) for at in range(0, 12, 2)], len(found.edits) - 1
        )
    ]
    assert "proven the fewest" in found.proof
    assert all(names[int(each.argmax())] == found.before for each in smaller)


def test_edges_are_confirmed():
    model, clip = model_of("gate-op"), small_clip(13)
    found = fewest_edges(model, clip, seconds=5, budget=60)
    assert found.answer
    assert all(isinstance(each, KnockOut) for each in found.edits)
    logits = run_with(model, clip, found.edits).logits[0]
    assert model.vocabulary.names[int(logits.argmax())] == found.after != found.before
    assert found.size == len(found.edits)


@pytest.mark.parametrize(("kind", "layers"), [("gate-att", 1), ("gate-op", 2)])
def test_gates_are_confirmed_and_no_smaller_shift_of_the_line_does_it(kind, layers):
    answers = 0
    for seed in range(2):
        model, clip = moved(small_model(kind, layers=layers), 0.5, seed), small_clip(9, seed)
        for find in (gate_shift, gate_shift_by_frame):
            found = find(model, clip)
            if not found.answer:
                assert np.isnan(found.size)
                continue
            answers += 1
            assert all(isinstance(each, Patch) for each in found.edits)
            trace = run_with(model, clip, found.edits)
            assert model.vocabulary.names[int(trace.logits[0].argmax())] == found.after != found.before
            assert -0.05 < found.margin < 0
            for stream in model.encoders:
                for layer in trace.layers[stream]:
                    assert float(layer.gates["global"].min()) >= 0
                    assert float(layer.gates["global"].max()) <= 1
    assert answers


def test_a_model_answers_what_it_can():
    clip = small_clip(9)
    asked = {kind: len(counterfactuals(model_of(kind), clip, seconds=3, budget=20)) for kind in ("none", "baseline")}
    assert asked == {"none": 1, "baseline": 2}
    assert len(counterfactuals(model_of("gate-op"), clip, seconds=3, budget=20)) == 4
    with pytest.raises(ValueError, match="Baseline has no gates"):
        gate_shift(model_of("baseline"), clip)
    with pytest.raises(ValueError, match="control"):
        fewest_edges(model_of("none"), clip)
    with pytest.raises(EditError, match="expected at least one frame"):
        fewest_seconds(model_of(), clip, seconds=0.5)
    with pytest.raises(EditError, match="a model of 1 class"):
        fewest_seconds(small_model("none", classes=1), clip)


def test_an_answer_that_there_is_not():
    model = model_of("none")
    for encoder in model.encoders.values():
        encoder.norm.weight.data.zero_()
    found = fewest_seconds(model, small_clip(9), seconds=3)
    assert (found.answer, found.after, found.edits) == ("", "", ())
    assert "every set of up to 3 tried" in found.proof
