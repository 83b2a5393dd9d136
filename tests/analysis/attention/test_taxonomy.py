"""Head taxonomy: hand-made maps of each kind, a slow definition, and what must not change it."""

import numpy as np
import pytest
import torch
from small_models import small_clip, small_model

from analysis.attention.pattern_table import pattern_table
from analysis.attention.segments import frame_groups
from analysis.attention.taxonomy import MEASURES, RULES, head_kind, segment_share
from analysis.inspect.maps import head_taxonomy
from gmsa_models.data.batch import Batch


def test_each_kind_has_its_rule_the_first_that_holds_counts():
    none = dict.fromkeys(MEASURES, 0.0)
    assert head_kind(none) == "mixed"
    for kind, (column, least) in RULES.items():
        assert head_kind(none | {column: least}) == kind
        assert head_kind(none | {column: least - 0.01}) == "mixed"
        assert head_kind(none | {column: float("nan")}) == "mixed"
    assert head_kind(dict.fromkeys(MEASURES, 1.0)) == "vertical"


def test_segment_share_by_hand_and_slowly():
    groups = torch.tensor([0, 0, 1, 1, 1])
    own = (groups[:, None] == groups).double()
    assert float(segment_share(own / own.sum(1, keepdim=True), groups)) == pytest.approx(1.0)
    assert float(segment_share(1 - own, groups)) == 0.0
    weights = torch.rand(3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = segment_share(weights, groups)
    for head in range(3):
        shares = []
        for query in range(5):
            inside = sum(float(weights[head, query, key]) for key in range(5) if groups[key] == groups[query])
            shares.append(inside / float(weights[head, query].sum()))
        assert float(found[head]) == pytest.approx(np.mean(shares))
    torch.testing.assert_close(segment_share(7 * weights, groups), found)


@pytest.mark.parametrize("kind", ["baseline", "share-att", "gate-att", "gate-op"])
def test_measures_are_means_over_videos_of_what_the_pattern_table_says(kind):
    model, clips = small_model(kind), [small_clip(), small_clip(11, seed=1)]
    seen = []
    table = head_taxonomy(model, clips, seen.append)
    assert sum(seen) == 2
    tables = [pattern_table(model.trace(Batch.from_clips([clip]))) for clip in clips]
    assert len(table) == len(tables[0])
    expected = np.mean([each["verticality_adjusted"] for each in tables], 0)
    np.testing.assert_allclose(table["vertical"], expected, rtol=1e-6, atol=1e-9)
    local = [1 - each["attention_distance"] / each["uniform_distance"] for each in tables]
    np.testing.assert_allclose(table["local"], np.mean(local, 0), rtol=1e-5, atol=1e-7)
    assert table["kind"].isin([*RULES, "mixed"]).all()
    trace = model.trace(Batch.from_clips(clips[:1]))
    one = head_taxonomy(model, clips[:1])
    groups, weights = frame_groups(clips[0]), trace.layer("audio").weights["global"][0]
    even = float(segment_share(torch.ones(13, 13), groups))
    shares = (segment_share(weights, groups) - even) / (1 - even)
    rows = one[(one["modality"] == "audio") & (one["branch"] == "global")]
    np.testing.assert_allclose(rows["segment_aligned"], shares.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["share-att", "gate-att", "gate-op"])
def test_local_heads_are_held_against_their_own_neighbourhood(kind):
    model, clip = small_model(kind), small_clip()
    layer = model.trace(Batch.from_clips([clip])).layer("audio")
    groups = frame_groups(clip)
    even = float(segment_share(layer.neighbourhood.double(), groups))
    shares = (segment_share(layer.weights["local"][0].detach(), groups) - even) / (1 - even)
    table = head_taxonomy(model, [clip])
    rows = table[(table["modality"] == "audio") & (table["branch"] == "local")]
    np.testing.assert_allclose(rows["segment_aligned"], shares, rtol=1e-4, atol=1e-6)
    patterns = pattern_table(model.trace(Batch.from_clips([clip])))
    share, uniform = patterns["diagonal_share"], patterns["uniform_diagonal_share"]
    expected = (share - uniform) / (1 - uniform).clip(lower=1e-9)
    np.testing.assert_allclose(table["diagonal"], expected, rtol=1e-5, atol=1e-6)


def test_without_segments_alignment_is_not_known_and_the_control_has_no_heads():
    assert head_taxonomy(small_model(), [small_clip(segments=())])["segment_aligned"].isna().all()
    assert head_taxonomy(small_model("none"), [small_clip()]).empty
