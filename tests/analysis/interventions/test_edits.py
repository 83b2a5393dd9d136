"""Edits: each against a plain pass in which the change is written by hand, over blocks, masks, layers and padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fifth_block import HeadGate
from references.edits import edited_logits
from small_models import moved, small_clip, small_model

from analysis.interventions.edits import (
    DropFrames,
    EditError,
    ForceGate,
    KnockOut,
    MoveFrames,
    Patch,
    ReplaceNeighbourhood,
    ScaleHead,
)
from analysis.interventions.running import EditRun, logits_with, run_with
from analysis.interventions.sites import Site, SiteError, site_value, sites
from gmsa_models.attention import ATTENTION
from gmsa_models.data.batch import Batch
from gmsa_models.masks import BlockDiagonal, Toeplitz, ToeplitzDilated

BLOCKS = ("baseline", "share-att", "gate-att", "gate-op", "head-gate")
LOCAL = BLOCKS[1:]
GATED = BLOCKS[2:]
EVERY_BLOCK = pytest.mark.parametrize("kind", BLOCKS)
NEIGHBOURHOODS = (BlockDiagonal(4), Toeplitz(5), ToeplitzDilated(8, 2))
CLIPS = (small_clip(13, 0), small_clip(7, 1))


@pytest.fixture(autouse=True)
def fifth(monkeypatch):
    monkeypatch.setitem(ATTENTION, "head-gate", HeadGate)


def model_of(kind, layers=1, neighbourhood=NEIGHBOURHOODS[1], **changes):
    neighbourhood = None if kind == "baseline" else neighbourhood
    return moved(small_model(kind, layers=layers, neighbourhood=neighbourhood, **changes).double(), 0.3)


def check(model, edits, by_hand, clips=CLIPS):
    """Edited passes of a padded batch, of each clip, and from a clean pass, against `by_hand`; all change something."""
    together = run_with(model, clips, edits).logits
    for row, clip in enumerate(clips):
        run, expected = EditRun(model, [clip]), edited_logits(model, clip, *by_hand(clip))
        np.testing.assert_allclose(together[row], expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(run.logits([edits])[0, 0], expected, rtol=1e-9, atol=1e-9)
        assert np.abs(run.clean.logits[0].numpy() - expected).max() > 1e-6


def put(region, values):
    """A change by hand: some numbers in place of others."""

    def change(array):
        changed = array.copy()
        changed[region] = values(array) if callable(values) else values
        return changed

    return change


@EVERY_BLOCK
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_no_edit_is_the_model_and_the_definition_too(kind, layers, norm):
    model = model_of(kind, layers, norm=norm, widths={"visual": 16, "audio": 8})
    expected = model(Batch.from_clips(CLIPS, tuple(model.encoders)).to(dtype=torch.float64)).detach()
    torch.testing.assert_close(run_with(model, CLIPS).logits, expected)
    np.testing.assert_allclose(edited_logits(model, CLIPS[1], {}), expected[1], rtol=1e-9)


@EVERY_BLOCK
def test_identity_edits_change_nothing(kind):
    model = model_of(kind, 2)
    run = EditRun(model, [CLIPS[0]])
    watched = run.trace(watch=map(str, sites(model))).watched
    patched = [Patch(site, watched[site.stage]) for site in sites(model) if site.quantity in Patch.quantities]
    assert len(patched) > 30
    found = run.logits([[], *([each] for each in patched), patched, [ScaleHead("*/*/*/contexts", 1.0)]])
    torch.testing.assert_close(found, run.clean.logits.expand_as(found), rtol=0, atol=1e-12)
    torch.testing.assert_close(run.trace(patched).logits, run.clean.logits, rtol=0, atol=1e-12)


@EVERY_BLOCK
@pytest.mark.parametrize(
    ("layer", "renormalise", "neighbourhood"),
    [(0, True, NEIGHBOURHOODS[0]), (1, True, NEIGHBOURHOODS[1]), (1, False, NEIGHBOURHOODS[2])],
)
def test_knocking_out_edges(kind, layer, renormalise, neighbourhood):
    model, branch = model_of(kind, 2, neighbourhood), "global" if kind == "baseline" else "local"
    edits = [KnockOut(f"visual/{layer}/{branch}/weights[heads 2, 3]", (1, 5), (2, 6), renormalise)]
    quantity, nothing = ("mask", False) if renormalise else ("weights", 0.0)
    at = {("visual", layer, branch, quantity, head): put(np.s_[1:5, 2:6], nothing) for head in (2, 3)}
    check(model, edits, lambda clip: (at,))


@pytest.mark.parametrize("kind", LOCAL)
def test_queries_that_have_no_key_left_attend_to_nothing(kind):
    model = model_of(kind)
    edits = [KnockOut("visual/0/*/weights[head 3]", keys=(0, 30))]
    at = {("visual", 0, branch, "mask", 3): put(np.s_[:, :], False) for branch in ("global", "local")}
    check(model, edits, lambda clip: (at,))
    weights = run_with(model, CLIPS[0], edits).layer("visual").weights["local"]
    assert not weights[:, -1].any()
    assert weights[:, 0].any()


@EVERY_BLOCK
@pytest.mark.parametrize("quantity", ["queries", "keys", "values", "logits", "weights", "contexts"])
def test_patching_a_branch_from_another_clip(kind, quantity):
    model, branch, other = model_of(kind, 2), "global" if kind == "baseline" else "local", small_clip(13, 9)
    layer = len(quantity) % 2
    site = f"audio/{layer}/{branch}/{quantity}"
    span = slice(1, 4) if quantity in ("logits", "weights") else slice(3, 6)
    start = None if quantity in ("logits", "weights") else 3.0
    edits = [Patch(f"{site}[head 3]", other, (1, 4), start)]
    source = run_with(model, other, watch=[site]).watched[Site.parse(site).stage][0, -1].numpy()
    at = {("audio", layer, branch, quantity, 3): put(np.s_[1:4], source[span])}
    check(model, edits, lambda clip: (at,), CLIPS[:1])


@EVERY_BLOCK
@pytest.mark.parametrize(
    ("layer", "quantity"), [(None, "input"), (0, "input"), (1, "input"), (0, "output"), (1, "encoded")]
)
def test_patching_a_layer_with_zeros_and_with_the_mean(kind, layer, quantity):
    model, site = model_of(kind, 2), Site("visual", quantity, layer)
    zero = {("visual", layer, "", quantity, None): put(np.s_[1:4], 0.0)}
    check(model, [Patch(site, "zero", (1, 4))], lambda clip: (zero,))
    mean = {("visual", layer, "", quantity, None): put(np.s_[1:4], lambda array: array.mean(0))}
    check(model, [Patch(site, "mean", (1, 4))], lambda clip: (mean,))


def test_patching_the_pooled_vector():
    zero = {("visual", None, "", "pooled", None): put(np.s_[:], 0.0)}
    check(model_of("gate-op"), [Patch("visual/pooled", "zero")], lambda clip: (zero,))


@EVERY_BLOCK
def test_a_mean_of_heads_and_the_clips_own_other_seconds(kind):
    model, branch = model_of(kind), "global" if kind == "baseline" else "local"
    mean = [Patch(f"visual/0/{branch}/values[head 2]", "mean", (1, 4))]
    check(model, mean, lambda clip: ({("visual", 0, branch, "values", 2): put(np.s_[1:4], lambda a: a.mean(0))},))
    own = [Patch(f"visual/0/{branch}/contexts[head 2]", "own", (1, 4), 3.0)]
    check(model, own, lambda clip: ({("visual", 0, branch, "contexts", 2): put(np.s_[1:4], lambda a: a[3:6])},))


@pytest.mark.parametrize("kind", GATED)
@pytest.mark.parametrize(("branch", "value"), [("global", 0.0), ("local", 0.3), ("local", 1.0)])
def test_forcing_a_gate(kind, branch, value):
    model, of_global = model_of(kind, 2), value if branch == "global" else 1 - value
    heads = (None,) if kind == "gate-op" else range(4)
    at = {("visual", 1, "", "gate", head): put(np.s_[2:5], of_global) for head in heads}
    check(model, [ForceGate("visual/1/gate", value, branch, (2, 5))], lambda clip: (at,))
    if kind != "gate-op":
        one = {("visual", 1, "", "gate", 2): put(np.s_[:], of_global)}
        check(model, [ForceGate("visual/1/gate[head 2]", value, branch)], lambda clip: (one,))


@pytest.mark.parametrize("kind", LOCAL)
@pytest.mark.parametrize("neighbourhood", NEIGHBOURHOODS)
def test_replacing_the_neighbourhood(kind, neighbourhood):
    model = model_of(kind, neighbourhood=Toeplitz(1))
    at = {("visual", 0, "local", "neighbourhood", None): lambda _: neighbourhood}
    edits = [ReplaceNeighbourhood("visual/0/local/neighbourhood", neighbourhood)]
    check(model, edits, lambda clip: (at,))
    traced, plain = run_with(model, CLIPS[0], edits).layer("visual"), model_of(kind, neighbourhood=neighbourhood)
    expected = run_with(plain, CLIPS[0]).layer("visual")
    assert torch.equal(traced.neighbourhood, expected.neighbourhood)
    assert torch.equal(traced.head_groups["local"][0].mask, expected.neighbourhood)


@EVERY_BLOCK
def test_scaling_a_head_in_every_branch_that_has_it(kind):
    model = model_of(kind, 2)
    at = {("audio", 0, branch, "contexts", 3): put(np.s_[2:6], lambda a: -2 * a[2:6]) for branch in ("global", "local")}
    check(model, [ScaleHead("audio/0/*/contexts[head 3]", -2.0, (2, 6))], lambda clip: (at,))


@EVERY_BLOCK
def test_dropping_frames_is_padding_them(kind):
    model = model_of(kind, 2)

    def by_hand(clip):
        kept = np.ones(clip.frames, bool)
        kept[2:4] = False
        return {}, {"visual": kept, "audio": kept}

    check(model, [DropFrames("*/input", (2, 4))], by_hand)


@pytest.mark.parametrize("kind", LOCAL)
@pytest.mark.parametrize(
    ("span", "to", "order"), [((1, 3), 4, [0, 3, 4, 5, 1, 2, 6]), ((4, 7), 0, [4, 5, 6, 0, 1, 2, 3])]
)
def test_moving_frames(kind, span, to, order):
    model = model_of(kind)
    moved_by_hand = {("visual", None, "", "input", None): lambda a: a[order + list(range(7, len(a)))]}
    check(model, [MoveFrames("visual/input", span, to)], lambda clip: (moved_by_hand,))


@pytest.mark.parametrize("kind", GATED)
def test_edits_combine_in_the_order_of_the_computation(kind):
    model = model_of(kind, 2)
    edits = [
        ScaleHead("visual/1/local/contexts[head 0]", 3.0),
        KnockOut("visual/0/global/weights[head 1]", keys=(0, 2)),
        Patch("visual/0/global/values", "zero", (3, 5)),
        ForceGate("audio/0/gate", 0.25, "local"),
        MoveFrames("visual/input", (1, 3), 4.0),
        KnockOut("visual/0/global/weights[head 1]", keys=(5, 6), renormalise=False),
    ]
    order = [0, 3, 4, 5, 1, 2, 6]
    heads = (None,) if kind == "gate-op" else range(4)
    at = {
        ("visual", None, "", "input", None): lambda a: a[order + list(range(7, len(a)))],
        ("visual", 0, "global", "mask", 1): put(np.s_[:, :2], False),
        ("visual", 0, "global", "weights", 1): put(np.s_[:, 5:6], 0.0),
        ("visual", 1, "local", "contexts", 0): lambda a: 3 * a,
    }
    at |= {("visual", 0, "global", "values", head): put(np.s_[3:5], 0.0) for head in range(4)}
    at |= {("audio", 0, "", "gate", head): put(np.s_[:], 0.75) for head in heads}
    check(model, edits, lambda clip: (at,))
    check(model, edits[::-1], lambda clip: (at,))


@pytest.mark.parametrize("kind", BLOCKS)
def test_many_lists_of_edits_are_many_passes(kind, monkeypatch):
    model, clip = model_of(kind, 2), CLIPS[0]
    lists = [
        [],
        [KnockOut("visual/0/*/weights", keys=(2, 5))],
        [KnockOut("visual/1/global/weights[head 1]", keys=(2, 5))],
        [ScaleHead("audio/1/global/contexts", 0.0), ScaleHead("visual/0/global/contexts", 0.0)],
        [DropFrames("audio/input", (0, 3)), Patch("visual/pooled", "zero")],
        [Patch("visual/1/encoded", "mean"), Patch("audio/0/input", "mean", (0, 4))],
    ]
    expected = torch.cat([run_with(model, clip, edits).logits for edits in lists])
    torch.testing.assert_close(logits_with(model, clip, lists), expected)
    monkeypatch.setattr("analysis.interventions.running.ROWS", 14)
    torch.testing.assert_close(logits_with(model, clip, lists), expected)
    assert logits_with(model, clip, []).shape == (0, 5)


@EVERY_BLOCK
def test_gradients_through_edits_are_finite_differences(kind):
    model, branch = model_of(kind), "global" if kind == "baseline" else "local"
    place = Site("visual", "values", 0, branch)
    edits = [
        KnockOut(f"visual/0/{branch}/weights", (0, 4), (2, 5)),
        ScaleHead(f"visual/0/{branch}/contexts[head 2]", 1.7, (1, 6)),
        Patch(f"visual/0/{branch}/values[head 3]", "mean", (0, 3)),
        *([ForceGate("visual/0/gate", 0.3, at=(0, 2))] if kind in GATED else []),
    ]
    value = run_with(model, CLIPS[1], watch=[place]).watched[place.stage]
    direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def logits(step):
        return run_with(
            model, CLIPS[1], [*edits[:2], *edits[3:], Patch(place, value + step * direction)], grad=True
        ).logits

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(logits(step)[0, 2], step)
    difference = (logits(torch.tensor(1e-5)) - logits(torch.tensor(-1e-5)))[0, 2].detach() / 2e-5
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-9)
    # And by what the pass computes before the edits.
    trace = run_with(model, CLIPS[1], edits, grad=True)
    with torch.enable_grad():
        (by_input,) = torch.autograd.grad(trace.logits[0, 2], trace.layer("visual").input)
    given, move = trace.layer("visual").input.detach(), torch.zeros_like(by_input)
    move[0, 4, 3] = 1e-5
    up, down = (run_with(model, CLIPS[1], [*edits, Patch("visual/0/input", given + by)]).logits for by in (move, -move))
    torch.testing.assert_close(by_input[0, 4, 3], (up - down)[0, 2] / 2e-5, rtol=1e-5, atol=1e-9)


@EVERY_BLOCK
def test_every_site_is_watched_and_a_trace_holds_many(kind):
    model = model_of(kind, 2)
    trace = run_with(model, CLIPS, watch=["*/input", "*/*/*/logits", *map(str, sites(model))])
    assert set(trace.watched) == {site.stage for site in sites(model)}
    plain = run_with(model, CLIPS)
    held = [
        site for site in sites(model) if site.quantity in ("weights", "contexts", "gate", "output", "encoded", "pooled")
    ]
    assert len(held) >= 12
    for site in held:
        torch.testing.assert_close(site_value(plain, site), trace.watched[site.stage], rtol=1e-9, atol=1e-12)
    with pytest.raises(SiteError, match=r"visual/0/global/logits is not in this trace; run_with\(model, clip, watch="):
        site_value(plain, "visual/0/global/logits")


def test_heads_are_numbered_as_in_the_layer():
    model = model_of("share-att")
    trace = run_with(model, CLIPS[0], watch=["visual/0/local/logits"])
    assert torch.equal(
        site_value(trace, "visual/0/local/weights[head 3]"), trace.layer("visual").weights["local"][:, 1:]
    )
    assert site_value(trace, "visual/0/local/logits[heads 2, 3]").shape == (1, 2, 13, 13)
    with pytest.raises(SiteError, match="this site has heads 2, 3"):
        site_value(trace, "visual/0/local/weights[head 1]")
    with pytest.raises(SiteError, match=r"no head 1 at visual/0/local/weights\[head 1\]; .* has 2, 3"):
        run_with(model, CLIPS[0], [KnockOut("visual/0/local/weights[head 1]")])


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([KnockOut("visual/0/middle/weights")], "no site visual/0/middle/weights; it has visual/input, visual/0/input"),
        ([KnockOut("image/0/global/weights")], "no site image/0/global/weights"),
        ([KnockOut("visual/2/global/weights")], "no site visual/2/global/weights"),
        ([ForceGate("visual/0/gate[head 1]")], "no head 1 at"),
        ([KnockOut("visual/0/global/weights", keys=(13, 20))], "no frame starts in 13 to 20 s; the clip has 13 frames"),
        ([DropFrames("visual/input", (0, 13))], "every frame of 'visual' is dropped"),
        ([MoveFrames("visual/input", (2, 5), 11.0)], "3 frames from 2 s moved to 11 s; the clip ends at 13 s"),
        ([ForceGate("*/0/gate"), ForceGate("visual/0/gate", 0.5)], "ForceGate at .* replace the same values"),
        ([Patch("visual/0/output"), Patch("visual/0/output", "zero", (3, 4))], "replace the same values"),
        ([MoveFrames("*/input", (2, 5), 0.0), Patch("visual/input", "zero", (3, 4))], "replace the same values"),
        ([Patch("visual/0/output", CLIPS[1])], "13 frames from 0 s on; the clip to patch from has 7 frames"),
        (
            [Patch("visual/0/global/weights", CLIPS[1], (0, 3))],
            "a clip of 7 frames; this one has 13, and keys must match",
        ),
        ([Patch("visual/0/output", "own", (0, 3), 11.0)], "3 frames from 11 s on; the clip ends at 13 s"),
    ],
)
def test_edits_that_do_not_fit_are_refused(edits, message):
    with pytest.raises((EditError, SiteError), match=message):
        run_with(model_of("gate-op"), CLIPS[0], edits)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KnockOut("visual/0/gate"), "KnockOut at visual/0/gate; expected a site of weights"),
        (lambda: KnockOut("visual/0/local/weights", keys=(5, 5)), "keys is 5 to 5 s"),
        (lambda: KnockOut("visual/0/local/weights", queries=(-1, 5)), "queries is -1 to 5 s"),
        (lambda: Patch("visual/0/local/mask"), "expected a site of input or queries"),
        (lambda: Patch("visual/0/output", "median"), "expected a clip, a tensor or one of mean, zero, own"),
        (lambda: Patch("visual/0/output", "mean", (0, 3), 2.0), "the source is no clip"),
        (lambda: Patch("visual/0/output", "own", (0, 3)), "needs the second at which they start"),
        (lambda: Patch("visual/pooled", "zero", (0, 3)), "one vector a clip"),
        (lambda: Patch("visual/pooled", "own", start=3.0), "one vector a clip; it takes no seconds"),
        (lambda: Patch("visual/pooled", CLIPS[1], start=3.0), "one vector a clip; it takes no seconds"),
        (lambda: ForceGate("visual/0/gate", 1.5), "a gate of 1.5; expected a number from 0 to 1"),
        (lambda: ForceGate("visual/0/gate", 0.5, "combined"), "expected 'global' or 'local'"),
        (lambda: DropFrames("visual/0/input", (1, 2)), "expected the input of a stream"),
        (lambda: ReplaceNeighbourhood("visual/0/local/neighbourhood"), "needs a neighbourhood"),
        (lambda: KnockOut("visual/0/local/weights[heads]"), "is no site; expected stream/quantity"),
    ],
)
def test_edits_that_cannot_be_are_refused(make, message):
    with pytest.raises((EditError, SiteError), match=message):
        make()
