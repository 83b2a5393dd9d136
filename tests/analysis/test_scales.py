"""Blocks with several local branches, and a local layer before a global one, against plain definitions."""

import numpy as np
import pytest
import torch

from analysis import inspect_clip
from analysis.attention.gates import local_gate
from analysis.explanations.registry import applicable, explain
from analysis.explanations.relevance.propagation import propagated_relevance
from analysis.explanations.stream import stream_inputs, streams
from analysis.gmsa_view import view_clips
from analysis.inspect.maps import certify
from analysis.interventions.ablation import Ablation, ablated_logits
from analysis.interventions.cells import DIRECTIONS, effect_edits, taken_spans
from analysis.interventions.counterfactuals import gate_shift
from analysis.interventions.edits import EditError
from analysis.interventions.effects import effect_map
from analysis.interventions.running import run_with
from analysis.interventions.sites import Site, sites
from analysis.record.combine import combine_models
from analysis.record.files import open_record, save_record
from analysis.sensitivity.autograd import autograd_norms
from analysis.sensitivity.norms import local_sensitivity
from analysis.study.passes import model_statistics
from analysis.study.seeds.variants import rebuilt
from analysis.sweep.analyses import ANALYSES
from analysis.sweep.plan import find_models
from analysis.sweep.work import computed_columns
from figures.inspector.payload import pack
from figures.inspector.records import split_records
from figures.overview import draw
from gmsa_models import save
from gmsa_models.data.batch import Batch
from gmsa_models.masks import BlockDiagonal, Scales, Toeplitz, ToeplitzDilated, neighbourhood_mask
from gmsa_models.recompute import block_state
from tests.small_models import moved, small_clip, small_model
from tests.unpacked import Unpacked

BRANCHES = ["global", "BD3", "TP5", "TD9x2"]
FRAMES = 13


def model_of(kind="gate-op-scales", **changes):
    return moved(small_model(kind, **changes), 0.3)


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.fixture(scope="module")
def record(model):
    return inspect_clip(model, small_clip(FRAMES), certify=True)


def test_the_record_has_every_branch(model, record):
    assert record["branch"].values.tolist() == BRANCHES
    np.testing.assert_allclose(record["gate"].sum("branch"), 1.0, rtol=1e-5)
    assert record["gate"].attrs["lane_reference"] == 1 / 4
    np.testing.assert_allclose(record["profile"].mean("frame").sel(branch="global"), 1.0, rtol=1e-5)
    masks = [neighbourhood_mask(part, FRAMES).numpy() for part in model.config.neighbourhood.parts]
    for branch, mask in zip(BRANCHES[1:], masks, strict=True):
        np.testing.assert_array_equal(record["branch_neighbourhood"].sel(branch=branch), mask)
        assert (record["attention"].sel(branch=branch).values[..., ~mask] == 0).all()
    assert record["branch_neighbourhood"].sel(branch="global").all()
    np.testing.assert_array_equal(record["neighbourhood"], np.any(masks, 0))
    parts = record["contribution"].sel(branch=BRANCHES[1:]).sum("branch")
    np.testing.assert_allclose(record["local_share"], parts / record["contribution"].sum("branch"), rtol=1e-5)


@pytest.mark.parametrize("kind", ["gate-op-scales", "local-then-global"])
def test_gradient_norms_and_sensitivity_are_those_of_autograd(kind):
    model, clip = model_of(kind), small_clip(FRAMES)
    trace = run_with(model, clip)
    for number in range(model.config.layers):
        record = inspect_clip(model, clip, layer=number)
        for stream, encoder in model.encoders.items():
            block, given = encoder.layers[number].attention, trace.layer(stream, number).input[0]
            norms = autograd_norms(lambda x, block=block: block.trace(x[None], None).output[0], given, 2**27)
            shown = record["gradient_norm"].sel(modality=stream).values
            np.testing.assert_allclose(shown, norms, rtol=1e-4, atol=1e-5 * float(norms.max()))
            share = local_sensitivity(norms, model.config.neighbourhood)
            np.testing.assert_allclose(record["sensitivity"].sel(modality=stream), share, rtol=1e-4)
    if kind == "local-then-global":
        assert (inspect_clip(model, clip)["sensitivity"] == 1).all()


def test_every_map_is_certified_within_its_own_neighbourhood(model, record):
    assert (record["certificate"] != 0).all()
    assert (record["certificate"].sel(check="neighbourhood", branch=BRANCHES[1:]) == 1).all()
    batch = Batch.from_clips([small_clip(FRAMES)], ("visual", "audio"))
    with torch.no_grad():
        trace = model.trace(batch)
    weights = trace.layer("visual").weights["BD3"]
    weights[0, 0, 0, 0] -= 1e-3
    weights[0, 0, 0, 6] += 1e-3  # inside the union of the neighbourhoods, and in no block of 3 with frame 0
    failed = {(each.branch, each.check) for each in certify(model, trace) if each.passed is False}
    assert ("BD3", "neighbourhood") in failed
    assert {branch for branch, _ in failed} == {"BD3"}


def test_certificates_of_a_layer_that_lacks_a_branch():
    for number, (own, other) in enumerate((("local", "global"), ("global", "local"))):
        record = inspect_clip(model_of("local-then-global"), small_clip(FRAMES), layer=number, certify=True)
        assert (record["certificate"].sel(branch=own) == 1).any()
        assert not (record["certificate"].sel(branch=own) == 0).any()
        assert (record["certificate"].sel(branch=other) == -1).all()


@pytest.mark.parametrize("kind", ["gate-op-scales", "local-then-global"])
@pytest.mark.parametrize("source", [None, "mean"])
def test_every_cell_of_an_effect_map_is_a_pass_of_its_own(kind, source):
    model, clip, windows = model_of(kind).double(), small_clip(FRAMES), [(0.0, 4.0), (4.0, 9.0)]
    found, quantity = (
        effect_map(model, clip, 2, windows=windows, source=source),
        "weights" if source is None else "values",
    )
    branches = model.encoders["visual"].layers[0].attention.branches
    assert list(dict.fromkeys(found["branch"].values)) == list(branches)
    clean = float(run_with(model, clip).logits[0, 2])
    for unit, (branch, head) in enumerate(zip(found["branch"].values, found["head"].values, strict=True)):
        site = Site("visual", quantity, 0, str(branch), () if head < 0 else (int(head),))
        base = float(run_with(model, clip, effect_edits(site, [(0.0, 13.0)], source)).logits[0, 2])
        for direction, start in zip(DIRECTIONS, (clean, base), strict=True):
            for place, window in enumerate(windows):
                edits = effect_edits(site, taken_spans(window, direction, 13.0), source)
                expected = float(run_with(model, clip, edits).logits[0, 2]) - start
                effect = found["effect"].sel(direction=direction, modality="visual").values[unit, place]
                np.testing.assert_allclose(effect, expected, rtol=1e-6, atol=1e-9)


def test_a_window_of_layers_takes_each_branch_where_it_is():
    model, clip = model_of("local-then-global").double(), small_clip(FRAMES)
    found = effect_map(model, clip, 2, windows=[(0.0, 4.0)], layer=(0, 1))
    assert list(dict.fromkeys(found["branch"].values)) == ["global", "local"]
    clean = float(run_with(model, clip).logits[0, 2])
    for branch, layer in (("local", 0), ("global", 1)):
        edits = effect_edits(Site("visual", "weights", layer, branch), [(0.0, 4.0)])
        expected = float(run_with(model, clip, edits).logits[0, 2]) - clean
        unit = int(np.flatnonzero((found["branch"] == branch) & (found["head"] == -1))[0])
        effect = found["effect"].sel(direction="noising", modality="visual").values[unit, 0]
        np.testing.assert_allclose(effect, expected, rtol=1e-7, atol=1e-10)


def test_edits_of_gates_and_neighbourhoods_by_branch(model):
    clip = small_clip(FRAMES)
    names = [str(site) for site in sites(model) if site.stream == "visual"]
    assert {"visual/0/gate", "visual/0/TP5/gate", "visual/0/TD9x2/neighbourhood"} <= set(names)
    assert "visual/0/global/gate" not in names
    for text in ("force-gate visual/0/gate to 0.5 branch TP5", "force-gate visual/0/TP5/gate to 0.5 branch TP5"):
        gates = run_with(model, clip, [text]).layer("visual").gates
        assert (gates["TP5"] == 0.5).all()
        torch.testing.assert_close(sum(gates.values()), torch.ones_like(gates["TP5"]))
    both = run_with(model, clip, ["force-gate visual/0/gate to 0", "force-gate visual/0/gate to 0.25 branch BD3"])
    assert (both.layer("visual").gates["global"] == 0).all()
    assert (both.layer("visual").gates["BD3"] == 0.25).all()
    with pytest.raises(EditError, match="no branch 'local'; the layer has global, BD3"):
        run_with(model, clip, ["force-gate visual/0/gate to 0 branch local"])
    edited = inspect_clip(model, clip, edits=["neighbourhood */0/TP5/neighbourhood as TP1"])
    mask = edited["branch_neighbourhood"].sel(branch="TP5").values
    np.testing.assert_array_equal(mask, np.eye(FRAMES, dtype=bool))
    assert (edited["attention"].sel(branch="TP5").values[..., ~mask] == 0).all()
    own = Scales((BlockDiagonal(3), Toeplitz(1), ToeplitzDilated(9, 2)))
    np.testing.assert_array_equal(edited["neighbourhood"], neighbourhood_mask(own, FRAMES))


def test_ablations_of_a_branch_are_edited_passes(model):
    clip = small_clip(FRAMES)
    batch = Batch.from_clips([clip], ("visual", "audio"))
    with torch.no_grad():
        state = block_state(model, batch, model.trace(batch), "visual")
        for branch in BRANCHES:
            shut, zero = ablated_logits(
                model, state, [Ablation("visual", "shut", branch), Ablation("visual", "zero", branch)]
            )
            forced = run_with(model, clip, [f"force-gate visual/0/gate to 0 branch {branch}"]).logits
            torch.testing.assert_close(shut, forced, rtol=1e-5, atol=1e-6)
            scaled = run_with(model, clip, [f"scale visual/0/{branch}/contexts by 0"]).logits
            torch.testing.assert_close(zero, scaled, rtol=1e-5, atol=1e-6)


def test_a_shift_of_gates_is_of_the_global_one(model):
    answer = gate_shift(model, small_clip(FRAMES))
    for edit in answer.edits:
        assert edit.place.branch == ""


@pytest.mark.parametrize("kind", ["gate-op-scales", "local-then-global"])
def test_explanations_know_the_branches(kind):
    model, clip = model_of(kind), small_clip(FRAMES)
    names = applicable(model)
    assert ("attention-global" in names) == (kind == "gate-op-scales")
    assert "attention-local" in names
    received = explain(model, clip, 1, "attention-local").values
    view = view_clips(model, [clip])
    local = [branch for branch in view.layer("visual").weights if branch != "global"]
    profiles = [inspect_clip(model, clip)["profile"].sel(branch=branch).values for branch in local]
    np.testing.assert_allclose(received, np.mean(profiles, 0), rtol=1e-5)
    ways = (*model.encoders["visual"].layers[0].attention.branches, "residual")
    for name in ("rollout", "gradient-weighted-attention", "relevance-propagation"):
        explanation = explain(model, clip, 1, name)
        assert set(explanation.branches) == set(ways)
        torch.testing.assert_close(sum(explanation.branches.values()), explanation.values, rtol=1e-4, atol=1e-5)
    for name, stream in streams(model, 1, clip).items():
        _, missing = propagated_relevance(stream, stream_inputs(model, clip)[name])
        assert abs(missing) < 1e-4


def test_curves_of_replaced_frames_are_passes(model):
    """Which frames are replaced, one after another, has no fast form here: it is the model itself that is asked."""
    from analysis.explanations.incremental.replacement import replacement_curve

    clip = small_clip(FRAMES)
    stream, inputs = streams(model, 1, clip)["visual"], stream_inputs(model, clip)["visual"]
    baseline, order = inputs.mean(0, keepdim=True).expand_as(inputs), torch.randperm(FRAMES)
    curve = replacement_curve(stream, inputs, baseline, order)
    for step in (0, 4, FRAMES):
        replaced = inputs.clone()
        replaced[order[:step]] = baseline[order[:step]]
        with torch.no_grad():
            expected = stream.encoder(replaced[None]).mean(1)[0] @ stream.weights
        torch.testing.assert_close(curve[step], expected, rtol=1e-5, atol=1e-5)


def test_the_part_of_a_record_that_explains_has_its_ways(model):
    ways = inspect_clip(model, small_clip(FRAMES), parts=["explanation"], target=1)["explanation_way"]
    assert ways["way"].values.tolist() == [*BRANCHES, "residual"]
    whole = ways.sel(explainer="rollout").sum("way")
    assert float(whole.sum("frame").min()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("kind", ["gate-op-scales", "local-then-global"])
def test_sweeps_and_studies_of_such_models(kind, tmp_path):
    model = model_of(kind)
    save(model, tmp_path / "model.safetensors")
    _, modalities, branches = find_models([str(tmp_path / "model.safetensors")])
    assert set(model.config.branches) <= set(branches)
    columns = [each.name for analysis in ANALYSES.values() for each in analysis.columns(modalities, branches)]
    view = view_clips(model, [small_clip(FRAMES), small_clip(FRAMES, 1)], chosen=Toeplitz(3))
    computed = dict(computed_columns(view, ANALYSES.values()))
    assert set(computed) <= set(columns)
    first = model.encoders["visual"].layers[0].attention.branches
    assert {f"gini_visual_{branch}" for branch in first} <= set(computed)
    if kind == "gate-op-scales":
        gate = local_gate(view.layer("visual")).mean((1, 2))
        np.testing.assert_allclose(computed["gate_local_visual"], gate, rtol=1e-5)
    statistics = model_statistics(model, [small_clip(FRAMES)], Toeplitz(3))
    assert bool(statistics["verticality"].isnull().all()) == (kind == "local-then-global")
    assert statistics["gini"].sel(branch=first[-1]).notnull().all()


def test_a_study_scales_each_of_several_scales():
    model = model_of(neighbourhood=Scales((Toeplitz(5), Toeplitz(15), Toeplitz(45))))
    scaled = rebuilt(model, "gate-op-scales", Toeplitz(4), 0)
    assert scaled.config.neighbourhood == Scales((Toeplitz(1), Toeplitz(2), Toeplitz(6)))


def test_records_of_other_branches_stand_side_by_side(record, tmp_path):
    other = inspect_clip(model_of("gate-op"), small_clip(FRAMES))
    joined = combine_models([other, record])
    assert joined["branch"].values.tolist() == ["global", "local", *BRANCHES[1:]]
    save_record(joined, tmp_path / "both.nc")
    first, second = split_records(open_record(tmp_path / "both.nc"))
    assert first["branch"].values.tolist() == ["global", "local"]
    np.testing.assert_array_equal(second["branch_neighbourhood"], record["branch_neighbourhood"])


def test_the_page_has_each_branch_with_its_mask_and_its_colour(record):
    other = inspect_clip(model_of("local-then-global"), small_clip(FRAMES), layers=[0, 1])
    unpacked = Unpacked(pack([record, other]))
    models = unpacked.header["models"]
    assert [model["branches"] for model in models] == [BRANCHES, ["local"], ["global"]]
    assert [model["local"] for model in models] == [BRANCHES[1:], ["local"], ["local"]]
    for branch in BRANCHES[1:]:
        stored = unpacked[f"0/neighbourhood/{branch}"]
        np.testing.assert_array_equal(stored > 0, record["branch_neighbourhood"].sel(branch=branch))
        maps = record["attention"].sel(modality="audio", branch=branch, head=1).values
        np.testing.assert_array_equal(unpacked[f"0/attention/audio/{branch}/1"], maps)
        about = unpacked.header["arrays"][f"0/attention/audio/{branch}/1"]
        assert about["support"] == f"0/neighbourhood/{branch}"
    for colours in unpacked.header["branches"].values():
        own = [colours[branch] for branch in BRANCHES]
        assert len(set(own)) == len(own)


@pytest.mark.parametrize("layers", [[0], [0, 1]])
def test_the_overview_draws_them(record, layers):
    draw(record)
    draw(record, inspect_clip(model_of("gate-op"), small_clip(FRAMES)))
    for layer in layers:
        draw(inspect_clip(model_of("local-then-global"), small_clip(FRAMES), layer=layer))
