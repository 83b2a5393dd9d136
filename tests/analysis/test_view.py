"""A view of a function that is no GMSA model: its record, and all that follows from maps, logits and features."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import VOCABULARY, moved, small_clip, small_model

from analysis import inspect_clip, open_record, save_record
from analysis.attention.of_view import (
    block_map,
    branch_head_patterns,
    branch_head_profiles,
    branch_profile,
    branch_unevenness,
    branch_verticality,
    frame_gates,
    frame_local_share,
)
from analysis.attention.pattern_table import PATTERNS, pattern_table
from analysis.attention.profiles import attention_profile, unevenness
from analysis.errors import RecordError
from analysis.gmsa_view import view_clips
from analysis.record.assemble import record_of
from analysis.record.layers import of_layer
from analysis.sensitivity.of_view import autograd_capability, view_gradient_norms, view_sensitivity
from analysis.sweep.analyses import ANALYSES
from analysis.view import Capabilities, ModelNote, TraceView
from figures.inspector.payload import pack
from figures.overview import draw
from gmsa.screen_tables import clip_summary
from gmsa_models.masks import Toeplitz
from gmsa_models.trace import HeadGroup, LayerTrace

FRAMES, HEADS, WIDTH = 13, 3, 12


def causal_layer(values, seed, heads=HEADS):
    """Plain attention of frames to frames before them: maps (1, heads, query, key), and the mixed frames."""
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, heads, values.shape[-1], 5, generator=generator)
    logits = (values[:, None] @ query) @ (values[:, None] @ key).mT / 5
    mask = torch.ones(values.shape[1], values.shape[1]).tril().bool()
    weights = logits.masked_fill(~mask, -torch.inf).softmax(-1)
    return weights, (weights @ values[:, None]).mean(1), mask


def foreign_view(layers=2, grad=False):
    """A view made by hand from functions: one stream, two layers, five classes, no neighbourhood."""
    clip = small_clip(FRAMES)
    hidden, traced = torch.from_numpy(clip.floats("visual"))[None], []
    for number in range(layers):
        weights, output, mask = causal_layer(hidden, number)
        groups = {"global": (HeadGroup(0, HEADS, mask),)}
        traced.append(LayerTrace(input=hidden, weights={"global": weights}, head_groups=groups))
        hidden = output
    function = lambda modality, layer: lambda frames: causal_layer(frames[None], layer)[1][0]  # noqa: E731
    capabilities = Capabilities(gradient_norms=autograd_capability(function) if grad else None)
    return TraceView(
        (clip,), (clip,), {"visual": tuple(traced)}, torch.ones(1, FRAMES, dtype=torch.bool),
        hidden.mean(1)[:, : len(VOCABULARY)], VOCABULARY, ModelNote("plain function"), capabilities=capabilities,
    )  # fmt: skip


def test_its_record_has_all_that_follows_from_maps_logits_and_features():
    view = foreign_view()
    record = record_of(view)
    absent = {"gate", "gate_map", "contribution", "local_share", "certificate", "gradient_norm", "sensitivity"}
    assert not (absent | {"neighbourhood", "layer"}) & set(record.variables)
    assert {"attention", "profile", "profile_gini", "similarity", "score", "label", *PATTERNS} <= set(record.data_vars)
    weights, mask = view.layer("visual").weights["global"], torch.ones(FRAMES, FRAMES).tril().bool()
    np.testing.assert_array_equal(record["attention"][0, 0], weights[0])
    profile = attention_profile(weights, mask)[0]
    np.testing.assert_allclose(record["profile"][0, 0], profile, rtol=1e-6)
    assert record["profile_gini"].item() == pytest.approx(float(unevenness(profile).gini), rel=1e-6)
    np.testing.assert_allclose(record["score"], view.logits[0].sigmoid(), rtol=1e-6)
    assert record["model"].item() == "plain function"


def test_the_record_of_a_gmsa_models_view_is_the_one_of_inspect_clip():
    model = small_model().bfloat16()
    record = record_of(view_clips(model, [small_clip()]))
    assert record.identical(inspect_clip(model, small_clip()))
    assert (record.attrs["weights_type"], record.attrs["computed_in"]) == ("bfloat16", "float32")


def test_its_record_saves_opens_and_is_drawn(tmp_path):
    record = record_of(foreign_view(), layers="all")
    assert record["attention"].dims == ("layer", "modality", "branch", "head", "query", "key")
    again = open_record(save_record(record, tmp_path / "record.nc"))
    np.testing.assert_array_equal(again["attention"], record["attention"])
    assert len(pack([again])) > 1000
    assert "layer 1 of 0, 1" in draw(again, layer=1).get_suptitle()
    assert clip_summary([again], 3).renderables


def test_gradient_norms_by_autograd_of_a_function_that_can_be_differentiated():
    view = foreign_view(grad=True)
    record = record_of(view, layer=1)
    inputs = view.layer("visual", 1).input[0]
    jacobian = torch.func.jacrev(lambda frames: causal_layer(frames[None], 1)[1][0])(inputs)
    np.testing.assert_allclose(record["gradient_norm"][0], jacobian.square().sum((1, 3)).sqrt(), rtol=1e-4, atol=1e-6)
    assert "sensitivity" not in record  # by no neighbourhood
    near = record_of(replace(view, chosen=Toeplitz(5)), layer=1)
    assert near["sensitivity"].shape == (1, FRAMES)
    assert float(near["sensitivity"][0, -1]) > 0


def test_a_sweep_computes_of_it_what_it_can():
    view = foreign_view()
    columns = {name for analysis in ANALYSES.values() for name in analysis.compute(view)}
    assert {"gini_visual_global", "verticality_visual_global", "profile_visual_global", "top_scores"} <= columns
    assert not [name for name in columns if name.startswith(("sensitivity", "gate_local", "local_share"))]


def test_heads_may_differ_from_layer_to_layer():
    view = foreign_view()
    weights, _, mask = causal_layer(view.layer("visual", 1).input, 4, heads=5)
    wide = LayerTrace(weights={"global": weights}, head_groups={"global": (HeadGroup(0, 5, mask),)})
    record = record_of(replace(view, layers={"visual": (view.layers["visual"][0], wide)}), layers=[0, 1])
    assert record.sizes["head"] == 5
    assert np.isnan(record["attention"].sel(layer=0, head=[3, 4])).all()
    np.testing.assert_array_equal(record["attention"].sel(layer=1)[0, 0], weights[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips": ()}, "a view of 0 clips has 1 whole ones and 1 rows"),
        ({"valid": torch.ones(1, 12, dtype=torch.bool)}, r"clips of \[13\] frames have \[12\] valid ones"),
        ({"logits": torch.zeros(1, 4)}, r"logits have shape \(1, 4\); expected \(1, 5\)"),
        ({"layers": {}}, "at least one modality and one layer"),
        ({"layers": {"a": (LayerTrace(),), "b": ()}}, r"layers of each modality: \{'a': 1, 'b': 0\}"),
        ({"layers": {"a": (LayerTrace(weights={"up": torch.ones(1, 1, 13, 13)}),)}}, "layer 0 of 'a'.*branch 'up'"),
        (
            {"layers": {"a": (LayerTrace(weights={"global": torch.ones(1, 2, 13, 12)}, head_groups={
                "global": (HeadGroup(0, 2, None),)}),)}},
            r"maps of 'global' have shape \(1, 2, 13, 12\)",
        ),
    ],
)  # fmt: skip
def test_parts_that_do_not_belong_together_are_refused(change, message):
    with pytest.raises(RecordError, match=message):
        replace(foreign_view(), **change)


def test_a_record_is_of_one_clip_and_of_layers_that_there_are():
    two = view_clips(small_model(), [small_clip(), small_clip(9, 1)])
    with pytest.raises(RecordError, match="a view of 2 clips; expected one"):
        record_of(two)
    view = foreign_view()
    for layers, message in (
        ({"layer": 2}, "layer is 2; the model has layers 0 to 1"),
        ({"layers": [0, 2]}, "layer is 2; the model has layers 0 to 1"),
        ({"layers": [1, 0]}, "rising, none twice"),
        ({"layers": [0, 0]}, "rising, none twice"),
        ({"layers": []}, "at least one number"),
        ({"layers": "some"}, "layers is 'some'; expected 'all'"),
        ({"layer": 1, "layers": "all"}, "give one of the two"),
    ):
        with pytest.raises(RecordError, match=message):
            record_of(view, **layers)
    with pytest.raises(RecordError, match="no modality 'smell' in this view; it has visual"):
        view.layer("smell")


@pytest.mark.parametrize(
    ("kind", "modalities"),
    [("baseline", ("audio",)), ("share-att", ("visual", "audio")), ("gate-att", ("audio",)), ("gate-op", ("audio",)),
     ("none", ("visual", "audio"))],
)  # fmt: skip
def test_a_padded_batch_gives_what_each_clip_gives_alone(kind, modalities):
    model = moved(small_model(kind, modalities=modalities, layers=2))
    clips = [small_clip(13), small_clip(7, 1)]
    batch = view_clips(model, clips, chosen=Toeplitz(5))
    for row, clip in enumerate(clips):
        alone = view_clips(model, [clip], chosen=Toeplitz(5))
        compare(batch, row, alone, clip.frames)
        assert batch.clip(row).whole == (clip,)


def compare(view, row, alone, frames):
    """Statistics of one clip of a view are those of the clip's own view, and NaN where it is padding."""
    for layer in range(2):
        for modality in view.modalities:
            for branch in view.branches:
                place = (modality, branch, layer)
                check(branch_profile(view, *place)[row], branch_profile(alone, *place)[0], frames)
                check(branch_unevenness(view, *place).gini[row], branch_unevenness(alone, *place).gini[0])
                check(branch_verticality(view, *place).adjusted[row], branch_head_patterns(alone, *place)[
                    "verticality_adjusted"][0])  # fmt: skip
                for name, values in branch_head_patterns(view, *place).items():
                    check(values[row], branch_head_patterns(alone, *place)[name][0])
            for name, gate in frame_gates(view, modality, layer).items():
                check(gate[row], frame_gates(alone, modality, layer)[name][0], frames)
            for function in (frame_local_share, view_gradient_norms):
                values, expected = function(view, modality, layer), function(alone, modality, layer)
                assert (values is None) == (expected is None)
                if values is not None:
                    check(values[row], expected[0], frames)
            share = view_sensitivity(view, modality, view.chosen, layer)
            assert (share is None) == (not view.branches)


def check(values, expected, frames=None):
    if frames is not None:
        assert values[frames:].isnan().all()
        values = values[tuple(slice(0, frames) for _ in values.shape)]
    torch.testing.assert_close(values, expected, rtol=2e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("kind", ["baseline", "share-att", "gate-att", "gate-op"])
def test_the_map_of_a_block_is_the_one_that_its_record_gives(kind):
    from analysis.attention.blend import blended_attention

    model = moved(small_model(kind))
    view, record = view_clips(model, [small_clip()]), inspect_clip(model, small_clip())
    for modality in view.modalities:
        expected = blended_attention(record, modality)
        np.testing.assert_allclose(block_map(view, modality)[0], expected, rtol=1e-5, atol=1e-7)


def test_what_is_computed_once_is_not_computed_again_and_belongs_to_one_view():
    view = view_clips(small_model(), [small_clip(), small_clip(9, 1)])
    assert view_gradient_norms(view, "visual") is view_gradient_norms(view, "visual")
    profiles = branch_head_profiles(view, "visual", "global")
    assert branch_head_profiles(view.clip(0), "visual", "global").shape[0] == 1 != len(profiles)


def test_a_table_of_patterns_takes_a_view():
    view = foreign_view()
    table = pattern_table(view, layer=1)
    np.testing.assert_allclose(table["verticality"], branch_verticality(view, "visual", "global", 1).value[0])


def test_one_layer_of_a_record_of_several_is_the_record_of_that_layer():
    view = foreign_view(layers=3, grad=True)
    several = record_of(view, layers="all")
    for layer in range(3):
        one = of_layer(several, layer)
        assert one.identical(record_of(view, layer=layer))
