"""Ablation of heads and branches: against weights that are ablated themselves, against the equations, by invariance."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from references.ablation import (
    contexts_by_definition,
    output_by_definition,
    with_constant_values,
    without_columns,
)
from small_models import small_clip, small_model

from analysis.gmsa_view import attention_block
from analysis.interventions.ablation import (
    Ablation,
    ContextMeans,
    ablated_contexts,
    ablated_logits,
    all_ablations,
    edits_of,
)
from analysis.interventions.running import logits_with, run_with
from gmsa_models.data.batch import Batch
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import Toeplitz
from gmsa_models.recompute import block_state, logits_from

ATTENDING = ("baseline", "share-att", "gate-att", "gate-op")
EVERY_BLOCK = pytest.mark.parametrize("kind", ATTENDING)
PADDED = pytest.mark.parametrize("lengths", [(13, 13), (13, 7)], ids=["full", "padded"])


def random_model(kind: str, **changes):
    """A small model whose every parameter, biases and gates too, is far from its initial value."""
    model = small_model(kind, **changes).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def batch_of(*lengths: int) -> Batch:
    """Clips of some lengths, in float64."""
    return Batch.from_clips([small_clip(frames, seed) for seed, frames in enumerate(lengths)]).to(dtype=torch.float64)


def states_of(model, batch: Batch, layer: int = 0) -> dict:
    """Modality -> state of its block."""
    with torch.inference_mode():
        trace = model.trace(batch)
        return {name: block_state(model, batch, trace, name, layer) for name in model.encoders}


def made_means(model, seed: int = 5, layer: int = 0) -> ContextMeans:
    """A table of means that has nothing to do with any clip, a vector a head and branch."""
    generator, values = torch.Generator().manual_seed(seed), {}
    for modality, state in states_of(model, batch_of(5), layer).items():
        for branch, context in state.contexts.items():
            values[modality, branch] = torch.randn(context.shape[1], context.shape[3], generator=generator).double()
    return ContextMeans(values, 7, 77, layer)


def logits_after(model, batch: Batch, ablation: Ablation, means: ContextMeans | None = None) -> np.ndarray:
    """Logits after one ablation."""
    with torch.inference_mode():
        state = states_of(model, batch, ablation.layer)[ablation.modality]
        return ablated_logits(model, state, [ablation], means)[0].numpy()


def logits_with_block(model, batch: Batch, modality: str, block) -> np.ndarray:
    """Logits of the model, one attention block exchanged, by a plain forward pass."""
    changed = copy.deepcopy(model)
    changed.encoders[modality].layers[0].attention = block
    with torch.inference_mode():
        return changed(batch).numpy()


@EVERY_BLOCK
@PADDED
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_recomputed_without_ablation_is_the_forward_pass(kind, lengths, layers, norm):
    model, batch = random_model(kind, layers=layers, norm=norm), batch_of(*lengths)
    with torch.inference_mode():
        expected = model(batch).numpy()
        for layer in range(layers):
            for modality, state in states_of(model, batch, layer).items():
                output = attention_block(model, modality, layer).output_from(state.contexts)
                found = logits_from(model, state, torch.stack([output, output])).numpy()
                np.testing.assert_allclose(found[0], expected, rtol=1e-10, atol=1e-10)
                np.testing.assert_array_equal(found[0], found[1])


@PADDED
@pytest.mark.parametrize("head", range(4))
@EVERY_BLOCK
def test_a_zeroed_head_is_one_whose_columns_of_the_output_are_zero(kind, head, lengths):
    model, batch = random_model(kind), batch_of(*lengths)
    for modality, d in (("visual", 3), ("audio", 2)):
        block = without_columns(attention_block(model, modality), slice(head * d, head * d + d))
        found = logits_after(model, batch, Ablation(modality, "zero", head=head))
        np.testing.assert_allclose(found, logits_with_block(model, batch, modality, block), rtol=1e-9, atol=1e-9)
        assert np.abs(found - logits_with_block(model, batch, modality, attention_block(model, modality))).max() > 1e-3


@PADDED
@pytest.mark.parametrize("head", [0, 3])
@pytest.mark.parametrize("kind", ["baseline", "share-att", "gate-att"])
def test_a_head_at_its_mean_is_a_constant_in_the_output_bias(kind, head, lengths):
    model, batch, means = random_model(kind), batch_of(*lengths), made_means(random_model(kind))
    for modality, d in (("visual", 3), ("audio", 2)):
        parts = [means.values[modality, branch].numpy() for branch in states_of(model, batch)[modality].contexts]
        each = np.concatenate(parts) if kind == "share-att" else sum(parts)
        block = without_columns(attention_block(model, modality), slice(head * d, head * d + d), each[head])
        found = logits_after(model, batch, Ablation(modality, "mean", head=head), means)
        np.testing.assert_allclose(found, logits_with_block(model, batch, modality, block), rtol=1e-9, atol=1e-9)


@PADDED
@pytest.mark.parametrize("kind", ["baseline", "share-att", "gate-op"])
def test_a_head_at_its_mean_is_one_whose_values_are_constant(kind, lengths):
    """Where rows of weights sum to 1, a constant value is a constant context, the same in both branches."""
    model, batch, constant = random_model(kind), batch_of(*lengths), np.array([0.7, -1.3, 0.4])
    state = states_of(model, batch)["visual"]
    same = {
        ("visual", name): torch.from_numpy(np.tile(constant, (each.shape[1], 1)))
        for name, each in state.contexts.items()
    }
    block = with_constant_values(attention_block(model, "visual"), slice(3, 6), constant)
    found = logits_after(model, batch, Ablation("visual", "mean", head=1), ContextMeans(same, 1, 1))
    np.testing.assert_allclose(found, logits_with_block(model, batch, "visual", block), rtol=1e-9, atol=1e-9)


@PADDED
def test_a_zeroed_branch_in_the_weights(lengths):
    batch = batch_of(*lengths)
    for kind, pieces in (
        ("share-att", {"global": slice(0, 6), "local": slice(6, 12)}),
        ("gate-op", {"global": slice(0, 12), "local": slice(0, 12)}),
    ):
        model = random_model(kind)
        for branch, columns in pieces.items():
            only = branch if kind == "gate-op" else None
            block = without_columns(attention_block(model, "visual"), columns, branch=only)
            found = logits_after(model, batch, Ablation("visual", "zero", branch))
            np.testing.assert_allclose(found, logits_with_block(model, batch, "visual", block), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("branch", ["global", "local"])
@pytest.mark.parametrize("kind", ["gate-att", "gate-op"])
@pytest.mark.parametrize("way", ["zero", "mean", "shut"])
def test_a_branch_of_a_gated_block_by_the_equations(kind, branch, way):
    model, batch = random_model(kind), batch_of(11)
    block, state, means = attention_block(model, "visual"), states_of(model, batch)["visual"], made_means(model)
    inputs = model.trace(batch).layer("visual").input[0].detach().numpy()
    parts = contexts_by_definition(block, inputs)
    other = "local" if branch == "global" else "global"
    opened = None
    if way == "shut" and kind == "gate-att":
        parts[other], parts[branch] = parts[f"{other} alone"], [0.0 * each for each in parts[branch]]
    elif way == "shut":
        opened = float(branch == "local")
    else:
        mean = [0.0] * 4 if way == "zero" else list(means.values["visual", branch].numpy())
        parts[branch] = [0.0 * each + one for each, one in zip(parts[branch], mean, strict=True)]
    expected = output_by_definition(block, parts["global"], parts["local"], opened)
    with torch.inference_mode():
        found = block.output_from(*ablated_contexts(model, state, Ablation("visual", way, branch), means))[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_one_head_of_one_branch_leaves_the_other_branch_alone():
    model, batch = random_model("gate-op"), batch_of(7)
    state = states_of(model, batch)["audio"]
    contexts, gates = ablated_contexts(model, state, Ablation("audio", "zero", "local", 2))
    assert gates is None
    assert not contexts["local"][:, 2].any()
    for branch, heads in (("local", [0, 1, 3]), ("global", [0, 1, 2, 3])):
        assert torch.equal(contexts[branch][:, heads], state.contexts[branch][:, heads])
    assert state.contexts["local"][:, 2].all()  # nothing was changed in place


@EVERY_BLOCK
def test_padding_and_batching_change_nothing(kind):
    model, means = random_model(kind), made_means(random_model(kind))
    chosen = [one for one in all_ablations(model) if one.modality == "visual"]
    with torch.inference_mode():
        together = ablated_logits(model, states_of(model, batch_of(13, 7))["visual"], chosen, means)
        for place, frames in enumerate((13, 7)):
            clip = Batch.from_clips([small_clip(frames, place)]).to(dtype=torch.float64)
            alone = ablated_logits(model, states_of(model, clip)["visual"], chosen, means)
            np.testing.assert_allclose(together[:, place], alone[:, 0], rtol=1e-10, atol=1e-10)


def test_ablations_in_pieces_are_ablations_at_once(monkeypatch):
    model, batch = random_model("gate-att"), batch_of(13, 7)
    chosen = [one for one in all_ablations(model, ("zero", "shut")) if one.modality == "audio"]
    with torch.inference_mode():
        at_once = ablated_logits(model, states_of(model, batch)["audio"], chosen)
        monkeypatch.setattr("analysis.interventions.ablation.ROWS", 70)
        np.testing.assert_allclose(ablated_logits(model, states_of(model, batch)["audio"], chosen), at_once, atol=1e-12)


def test_every_branch_and_head_of_every_block_is_listed():
    counts = {
        "baseline": (1 + 4) * 2,
        "share-att": (2 + 4) * 2,
        "gate-att": (2 + 4) * 2 + 2,
        "gate-op": (2 + 4) * 2 + 2,
    }
    for kind, count in counts.items():
        found = all_ablations(small_model(kind))
        assert len(set(found)) == len(found) == 2 * count
        assert {one.unit for one in found} == {"branch", "head"}
    assert Ablation("visual", "zero").unit == "block"
    assert Ablation("visual", "zero", "local", 1).unit == "head of a branch"


@pytest.mark.parametrize(
    ("kind", "ablation", "message"),
    [
        ("baseline", Ablation("visual", "zero", "local"), "Baseline has no branch 'local'; it has global"),
        ("gate-op", Ablation("visual", "zero", head=4), "no head 4 in a block of 4 heads"),
        ("share-att", Ablation("visual", "shut", "local"), "only a whole branch of a block with gates can be shut"),
        ("gate-op", Ablation("visual", "shut", head=1), "only a whole branch"),
        ("gate-op", Ablation("visual", "gone", head=1), "unknown kind 'gone'; known: mean, zero, shut"),
        ("gate-op", Ablation("visual", "mean", head=1), "needs the mean contexts of layer 0 over a data set; got none"),
        ("gate-op", Ablation("audio", "zero", head=1), "is not of layer 0 of 'visual'"),
    ],
)
def test_ablations_that_a_block_does_not_have_are_refused(kind, ablation, message):
    model = small_model(kind).double()
    with pytest.raises(ArgumentError, match=message), torch.inference_mode():
        ablated_logits(model, states_of(model, batch_of(7))["visual"], [ablation])


def test_means_of_another_layer_the_control_and_strange_names_are_refused():
    model = small_model("gate-op", layers=2).double()
    with pytest.raises(ArgumentError, match="got those of layer 1"):
        logits_after(model, batch_of(7), Ablation("visual", "mean", head=1), made_means(model, layer=1))
    with pytest.raises(ArgumentError, match="control"):
        all_ablations(small_model("none"))
    with pytest.raises(ArgumentError, match="unknown unit 'layer'; known: branch, head"):
        all_ablations(model, units=("layer",))
    control, batch = small_model("none").double(), batch_of(7)
    with pytest.raises(ArgumentError, match="control"):
        block_state(control, batch, control.trace(batch), "visual")


def test_what_does_not_fit_a_block_is_refused():
    model, batch = random_model("baseline", neighbourhood=None), batch_of(7)
    state = states_of(model, batch)["visual"]
    gates = {"global": state.hidden, "local": state.hidden}
    with pytest.raises(ArgumentError, match="gates for a Baseline, which has none after its contexts"):
        attention_block(model, "visual").output_from(state.contexts, gates)
    with pytest.raises(ArgumentError, match=r"expected \(copies, 1, 7, 12\)"):
        logits_from(model, state, state.hidden[None, :, :5])


@EVERY_BLOCK
def test_ablations_are_edits(kind):
    model, clip, means = random_model(kind, layers=2), small_clip(13), made_means(random_model(kind, layers=2))
    chosen = all_ablations(model)
    found = logits_with(model, clip, [edits_of(model, one, means) for one in chosen])
    for one, logits in zip(chosen, found, strict=True):
        np.testing.assert_allclose(logits, logits_after(model, batch_of(13), one, means)[0], rtol=1e-9, atol=1e-9)
        edited = run_with(model, clip, edits_of(model, one, means)).logits[0]
        np.testing.assert_allclose(logits, edited, rtol=1e-9, atol=1e-9)


def test_a_wide_neighbourhood_makes_shutting_either_branch_alike():
    """Where N_i is every frame both maps are one, so GateAtt with either gate shut is Baseline."""
    model, batch = random_model("gate-att", neighbourhood=Toeplitz(60)), batch_of(11, 7)
    one, two = (logits_after(model, batch, Ablation("visual", "shut", branch)) for branch in ("global", "local"))
    np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-10)
