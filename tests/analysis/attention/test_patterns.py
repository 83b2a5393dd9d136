"""Patterns of maps: by hand, against the slow definitions, by what must not change them."""

import math
from functools import partial

import numpy as np
import pytest
import references.patterns as slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import KINDS, small_clip, small_model

from analysis.attention.pattern_table import INDEX, PATTERNS, branch_patterns, pattern_table
from analysis.attention.patterns import (
    attention_entropy,
    diagonal_share,
    head_distances,
    head_redundancy,
    hoyer_sparsity,
    keys_for_mass,
    mean_attention_distance,
    relative_attention_entropy,
)
from gmsa_models import Batch
from gmsa_models.errors import ArgumentError

# Each with its slow definition.
STATISTICS = {
    "entropy": (attention_entropy, slow.entropy),
    "relative entropy": (relative_attention_entropy, slow.relative_entropy),
    "distance": (lambda weights, *masks: mean_attention_distance(weights, 1.0, *masks), slow.distance),
    "diagonal share": (
        lambda weights, *masks: diagonal_share(weights, 1, *masks),
        partial(slow.diagonal_share, within=1),
    ),
    "hoyer": (hoyer_sparsity, slow.hoyer),
    "keys for mass": (
        lambda weights, *masks: keys_for_mass(weights, 0.7, *masks),
        partial(slow.keys_for_mass, mass=0.7),
    ),
}
# Those that do not look at where in time a key is.
TIMELESS = ("entropy", "relative entropy", "hoyer", "keys for mass")


def band(frames: int, reach: int) -> torch.Tensor:
    """|i - j| <= reach."""
    position = torch.arange(frames)
    return (position[:, None] - position[None]).abs() <= reach


def softmax_weights(*batch: int, frames: int, mask: torch.Tensor | None = None, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(*batch, frames, frames, generator=generator, dtype=torch.float64)
    return (logits if mask is None else logits.masked_fill(~mask, -math.inf)).softmax(-1).nan_to_num(0.0)


def test_by_hand():
    weights = torch.tensor([[[0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.25] * 4, [0.1, 0.0, 0.0, 0.9]]])
    mixed = -0.1 * math.log(0.1) - 0.9 * math.log(0.9)
    expected = torch.tensor([[math.log(2), 0.0, math.log(4), mixed]])
    torch.testing.assert_close(attention_entropy(weights), expected)
    torch.testing.assert_close(relative_attention_entropy(weights), expected / math.log(4))
    torch.testing.assert_close(mean_attention_distance(weights, 0.5), torch.tensor([[0.25, 0.0, 0.5, 0.15]]))
    torch.testing.assert_close(diagonal_share(weights, 0), torch.tensor([[0.5, 1.0, 0.25, 0.9]]))
    torch.testing.assert_close(diagonal_share(weights, 1), torch.tensor([[1.0, 1.0, 0.75, 0.9]]))
    # (2 - 1 / |a|_2) / (2 - 1)
    hoyer = [2 - math.sqrt(2), 1.0, 0.0, 2 - 1 / math.sqrt(0.82)]
    torch.testing.assert_close(hoyer_sparsity(weights), torch.tensor([hoyer]))
    torch.testing.assert_close(keys_for_mass(weights), torch.tensor([[0.5, 0.25, 1.0, 0.25]]))
    torch.testing.assert_close(keys_for_mass(weights, 1.0), torch.tensor([[0.5, 0.25, 1.0, 0.5]]))


@pytest.mark.parametrize("name", STATISTICS)
@settings(max_examples=25, deadline=None)
@given(heads=st.integers(1, 3), frames=st.integers(1, 7), real=st.integers(1, 7), reach=st.integers(0, 3))
def test_equals_the_slow_definition_within_mask_and_padding(name, heads, frames, real, reach):
    statistic, definition = STATISTICS[name]
    valid, mask = torch.arange(frames) < real, band(frames, reach)
    weights = softmax_weights(heads, frames=frames, mask=mask & valid & valid[:, None])
    out = statistic(weights, mask, valid)
    for head in range(heads):
        expected = slow.of_queries(weights[head].numpy(), mask.numpy(), valid.numpy(), definition)
        np.testing.assert_allclose(out[head], expected, atol=1e-12)


@pytest.mark.parametrize("name", STATISTICS)
def test_padding_is_nan_and_changes_nothing_else(name):
    statistic, _ = STATISTICS[name]
    weights, mask = softmax_weights(3, frames=7, mask=band(7, 2)), band(11, 2)
    padded = torch.zeros(2, 3, 11, 11, dtype=torch.float64)
    padded[0, :, :7, :7] = weights
    padded[1] = softmax_weights(3, frames=11, mask=mask, seed=1)
    out = statistic(padded, mask, torch.arange(11) < torch.tensor([[7], [11]]))
    torch.testing.assert_close(out[0, :, :7], statistic(weights, band(7, 2)))
    assert out[0, :, 7:].isnan().all()
    assert not out[1].isnan().any()


@pytest.mark.parametrize("name", STATISTICS)
def test_a_common_factor_of_a_row_does_not_matter(name):
    statistic, _ = STATISTICS[name]
    weights = softmax_weights(3, frames=7)
    factors = torch.linspace(0.3, 1.7, 7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(statistic(weights * factors), statistic(weights))


@pytest.mark.parametrize("name", TIMELESS)
def test_reordering_keys_does_not_matter(name):
    statistic, _ = STATISTICS[name]
    weights, order = softmax_weights(3, frames=5), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(statistic(weights[..., order]), statistic(weights))


def test_reversing_time_keeps_distances():
    weights = softmax_weights(3, frames=7)
    for statistic in (partial(mean_attention_distance, frame_seconds=2.0), partial(diagonal_share, within=2)):
        torch.testing.assert_close(statistic(weights.flip(-1, -2)), statistic(weights).flip(-1))


def test_a_transposed_map_has_another_entropy():
    weights = torch.zeros(1, 5, 5)
    weights[..., 3] = 1.0
    assert (attention_entropy(weights) == 0).all()
    with pytest.raises(ArgumentError, match=r"the weight of query 0 on key 0 is the query's, and so is every other"):
        attention_entropy(weights.mT)


def test_uniform_attention_is_uniform_over_the_support():
    mask = band(11, 2)
    weights = (mask / mask.sum(-1, keepdim=True))[None]
    torch.testing.assert_close(attention_entropy(weights, mask), mask.sum(-1).log()[None])
    torch.testing.assert_close(relative_attention_entropy(weights, mask), torch.ones(1, 11))
    torch.testing.assert_close(hoyer_sparsity(weights, mask), torch.zeros(1, 11), atol=1e-6, rtol=0)
    assert (relative_attention_entropy(weights) < 0.7).all()


def test_half_precision_is_widened():
    assert attention_entropy(softmax_weights(3, frames=5).bfloat16()).dtype == torch.float32


def test_what_is_no_map_is_refused_and_placed():
    weights = softmax_weights(3, frames=5)
    with pytest.raises(ArgumentError, match=r"head 0: the weight of query 0 on key 2 lies outside the mask"):
        attention_entropy(weights, band(5, 1))
    with pytest.raises(
        ArgumentError, match=r"head 0: the weight of query 0 on key 3 lies outside the mask or on padding"
    ):
        hoyer_sparsity(weights, None, torch.arange(5) < 3)
    with pytest.raises(ArgumentError, match=r"5 query and 3 key frames"):
        attention_entropy(weights[..., :3])
    with pytest.raises(ArgumentError, match=r"neighbourhood has shape \(3, 3\); expected \(5, 5\)"):
        attention_entropy(weights, band(3, 1))
    with pytest.raises(ArgumentError, match=r"valid has shape \(3,\); expected \(5,\)"):
        attention_entropy(weights, None, torch.ones(3, dtype=torch.bool))
    for bad in (-0.1, math.nan, math.inf):
        broken = weights.clone()
        broken[1, 2, 4] = bad
        with pytest.raises(ArgumentError, match=r"head 1: the weight of query 2 on key 4 is negative or not finite"):
            attention_entropy(broken)
    with pytest.raises(ArgumentError, match=r"band of -1 frames"):
        diagonal_share(weights, -1)
    with pytest.raises(ArgumentError, match=r"mass is 1.5"):
        keys_for_mass(weights, 1.5)


def test_head_distances_by_hand():
    one, two = torch.zeros(3, 3, 3), torch.eye(3)
    one[0], one[1], one[2] = two, two, two[[1, 2, 0]]
    out = head_distances(one)
    torch.testing.assert_close(out, torch.tensor([[0.0, 0, 1], [0, 0, 1], [1, 1, 0]]))
    torch.testing.assert_close(head_redundancy(out), torch.tensor([1.0, 1.0, 0.0]))
    # (1, 0) and (1/2, 1/2): H(3/4, 1/4) - H(1/2, 1/2) / 2 = 0.311278 bit.
    half = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]])
    assert head_distances(half)[0, 1] == pytest.approx(math.sqrt(0.3112781), abs=1e-6)


def test_head_distances_equal_the_slow_definition_and_ignore_frame_order_and_padding():
    weights, order = softmax_weights(2, 5, frames=7), torch.tensor([3, 0, 6, 4, 1, 5, 2])
    out = head_distances(weights)
    assert out.shape == (2, 5, 5)
    for one in range(5):
        for two in range(5):
            expected = slow.head_distance(weights[1, one].numpy(), weights[1, two].numpy())
            assert float(out[1, one, two]) == pytest.approx(expected, abs=1e-9)
    torch.testing.assert_close(head_distances(weights[..., order, :][..., order]), out)
    padded = torch.nn.functional.pad(weights, (0, 4, 0, 4))
    valid = (torch.arange(11) < 7).expand(2, 11)
    torch.testing.assert_close(head_distances(padded, None, valid), out)


def test_redundancy_is_by_the_nearest_other_head_and_a_head_alone_has_none():
    distances = torch.tensor([[0.0, 0.2, 0.9], [0.2, 0.0, 0.5], [0.9, 0.5, 0.0]])
    torch.testing.assert_close(head_redundancy(distances), torch.tensor([0.8, 0.8, 0.5]))
    assert head_redundancy(torch.zeros(3, 1, 1)).isnan().all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_has_a_row_a_head_and_its_numbers_are_the_functions(kind):
    model, clips = small_model(kind), [small_clip(13), small_clip(7, seed=1)]
    trace = model.trace(Batch.from_clips(clips))
    table = pattern_table(trace, frame_seconds=0.5)
    assert list(table.columns) == [*INDEX, *PATTERNS]
    heads = {"baseline": 4, "share-att": 8, "gate-att": 12, "gate-op": 8, "none": 0}[kind]
    assert len(table) == 2 * 2 * heads
    if kind == "none":
        return
    assert table.drop(columns="redundancy").notna().all().all()
    layer = trace.layer("audio")
    here = table[(table["modality"] == "audio") & (table["branch"] == "global")].set_index(["clip", "head"])
    distance = mean_attention_distance(layer.weights["global"], 0.5, None, trace.valid)[1].nanmean(-1)
    np.testing.assert_allclose(here.loc[1, "attention_distance"], distance, rtol=1e-6)
    redundancy = head_redundancy(head_distances(layer.weights["global"], None, trace.valid))[1]
    np.testing.assert_allclose(here.loc[1, "redundancy"], redundancy, rtol=1e-6)


def test_the_table_judges_share_att_heads_by_their_own_masks():
    trace = small_model("share-att").trace(Batch.from_clips([small_clip(13)]))
    table = pattern_table(trace).set_index(["modality", "branch", "head"]).loc["visual"]
    assert table.loc["global"].index.tolist() == [0, 1]
    assert table.loc["local"].index.tolist() == [2, 3]
    halves = table.loc[["global", "local"]].droplevel(0)
    same = [name for name in PATTERNS if name != "redundancy"]
    np.testing.assert_array_equal(table.loc["combined"][same], halves[same])
    assert (table.loc["combined", "uniform_distance"].values[:2] > 4).all()
    assert (table.loc["combined", "uniform_distance"].values[2:] < 1).all()


@pytest.mark.parametrize("kind", ["share-att", "gate-att", "gate-op"])
def test_heads_that_stand_in_two_branches_are_judged_once_and_alike(kind):
    layer = small_model(kind).trace(batch := Batch.from_clips([small_clip(13)])).layer("visual", 0)
    known = []
    for branch in layer.weights:
        shared = branch_patterns(layer, branch, batch.valid, known=known)
        alone = branch_patterns(layer, branch, batch.valid)
        assert all(torch.equal(shared[name].nan_to_num(7.0), alone[name].nan_to_num(7.0)) for name in PATTERNS)
    # GateAtt's combined maps are others than those of its branches; ShareAtt's are the same heads.
    assert len(known) == {"share-att": 2, "gate-att": 3, "gate-op": 2}[kind]
