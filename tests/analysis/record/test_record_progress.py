"""How far a record has come: rising steps to the end, in which each query frame of the gradient norms has its share."""

import pytest
import torch
from small_models import small_clip, small_model

from analysis import inspect_clip
from analysis.advance import advance, watched
from analysis.gmsa_view import view_clips
from analysis.record.assemble import record_of
from analysis.record.progress import STEPS
from analysis.sensitivity.autograd import autograd_norms, sampled_norms
from analysis.sensitivity.of_view import view_gradient_norms

KINDS = ("baseline", "share-att", "gate-att", "gate-op")


@pytest.mark.parametrize("kind", KINDS)
def test_shares_of_the_gradient_norms_sum_to_one_a_modality(kind):
    view, shares = view_clips(small_model(kind), [small_clip()], max_bytes=1), []
    for modality in view.modalities:
        with watched(shares.append):
            view_gradient_norms(view, modality)
        assert sum(shares) == pytest.approx(1)
        assert len(shares) > 1  # of chunks of queries, or of heads
        shares.clear()


@pytest.mark.parametrize(
    "norms",
    [lambda *of: autograd_norms(*of, 1000), lambda *of: sampled_norms(*of, 2, 0, 1000)],
    ids=["exact", "sampled"],
)
def test_shares_of_a_module_are_a_query_each(norms):
    shares = []
    with watched(shares.append):
        norms(torch.sin, torch.ones(5, 3))
    assert shares == [pytest.approx(0.2)] * 5


def test_only_the_innermost_is_told_and_only_in_its_block():
    outer, inner = [], []
    with watched(outer.append):
        advance(0.25)
        with watched(inner.append):
            advance(0.5)
        advance(0.75)
    advance(1.0)
    assert (outer, inner) == ([0.25, 0.75], [0.5])


@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_steps_rise_from_none_to_all(kind):
    steps = []
    inspect_clip(small_model(kind, layers=2), small_clip(), layers="all", record_progress=lambda *at: steps.append(at))
    done = [at for at, _ in steps]
    assert {total for _, total in steps} == {STEPS}
    assert (done[0], done[-1]) == (0, STEPS)
    assert done == sorted(set(done))
    if kind in ("gate-att", "gate-op"):  # almost all of the time goes into gradient norms, layer by layer
        assert any(40 < at < 60 for at in done)


def test_a_wide_modality_takes_the_square_of_its_width():
    view, steps = view_clips(small_model(), [small_clip()], max_bytes=1), []
    record_of(view, parts=["sensitivity"], progress=lambda done, total: steps.append(done))
    wide, narrow = 12**2, 8**2
    assert (STEPS - 1) * wide // (wide + narrow) in steps
    assert steps[:2] == [0, (STEPS - 1) * wide // (wide + narrow) // view.frames]


def test_parts_that_take_no_time_are_done_at_once():
    steps = []
    inspect_clip(small_model(), small_clip(), parts=("score",), record_progress=lambda *at: steps.append(at))
    assert steps == [(0, STEPS), (STEPS, STEPS)]
