"""What branches contribute: by hand, against slow sums, parts that add up, by what must not change it."""

import math

import numpy as np
import pytest
import references.patterns as slow
import torch
from small_models import KINDS, small_clip, small_model

from analysis.attention.gates import (
    branch_contributions,
    contribution_norms,
    feature_gates,
    gated_weight,
    local_share,
    mean_gates,
    output_bias,
    pair_gates,
)
from analysis.gmsa_view import attention_block, view_clips
from analysis.inspect.clips import inspect_clip
from analysis.sweep.analyses import chosen
from gmsa_models import Batch
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import BlockDiagonal, Toeplitz
from gmsa_models.trace import LayerTrace

BLOCKS = KINDS[:-1]


def traced(kind: str, frames: tuple[int, ...] = (13, 7), dtype=torch.float64, **changes):
    """A model, the trace of a padded batch, the block and the layer of its visual stream."""
    model = small_model(kind, **changes).to(dtype)
    # Biases and gates of an untrained model are 0 or near 1/2; here they must be seen.
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "bias" in name or "gate" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=dtype)
    batch = Batch.from_clips([small_clip(count, seed) for seed, count in enumerate(frames)]).to(dtype=dtype)
    trace = model.trace(batch)
    return model, trace, attention_block(model, "visual"), trace.layer("visual")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", BLOCKS)
def test_parts_add_up_to_the_output(kind, bias):
    _, trace, block, layer = traced(kind, bias=bias)
    parts = branch_contributions(block, layer)
    assert list(parts) == (["global"] if kind == "baseline" else ["global", "local"])
    total = sum(parts.values())
    if bias:
        assert output_bias(block).abs().max() > 0.1
        total = total + output_bias(block)
    else:
        assert output_bias(block) is None
    torch.testing.assert_close(total[trace.valid], layer.output[trace.valid])


@pytest.mark.parametrize("kind", BLOCKS)
def test_parts_equal_slow_sums_over_keys_and_heads(kind):
    _, _, block, layer = traced(kind)
    parts = branch_contributions(block, layer)
    values = {name: tensor.detach().numpy() for name, tensor in block.state_dict().items()}
    for branch, part in parts.items():
        expected = slow.contribution(kind, branch, layer, values, clip=1, frame=4, heads=4)
        np.testing.assert_allclose(part[1, 4].detach(), expected, atol=1e-9)


def test_shutting_a_branch_leaves_the_other():
    _, trace, block, layer = traced("gate-op")
    shut = {"global": torch.ones_like(layer.gates["global"]), "local": torch.zeros_like(layer.gates["local"])}
    parts = branch_contributions(block, LayerTrace(**(vars(layer) | {"gates": shut})))
    torch.testing.assert_close(parts["global"], layer.branch_outputs["global"])
    assert (parts["local"] == 0).all()
    share = local_share(contribution_norms(parts, trace.valid))
    assert (share[trace.valid] == 0).all()


def test_norms_and_share_by_hand():
    parts = {"global": torch.tensor([[[3.0, 4.0], [1.0, 0.0]]]), "local": torch.tensor([[[0.0, 15.0], [9.0, 9.0]]])}
    norms = contribution_norms(parts, torch.tensor([[True, False]]))
    assert norms["global"][0, 0] == 5
    assert norms["local"][0, 0] == 15
    assert local_share(norms)[0, 0] == 0.75
    assert math.isnan(local_share(norms)[0, 1])
    assert math.isnan(norms["local"][0, 1])
    swapped = {"global": norms["local"], "local": norms["global"]}
    assert local_share(swapped)[0, 0] == 0.25


def test_a_common_rotation_and_scale_of_the_parts_keep_the_share():
    _, trace, block, layer = traced("gate-att")
    parts = branch_contributions(block, layer)
    share = local_share(contribution_norms(parts, trace.valid))
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(0))).Q.double()
    turned = {branch: 7 * part @ rotation for branch, part in parts.items()}
    again = local_share(contribution_norms(turned, trace.valid))
    torch.testing.assert_close(again, share, equal_nan=True)
    assert ((share[trace.valid] > 0) & (share[trace.valid] < 1)).all()
    assert share[~trace.valid].isnan().all()


def test_pair_gates_are_means_over_the_keys_they_say():
    _, trace, _, layer = traced("gate-att")
    everywhere, inside = pair_gates(layer, trace.valid), pair_gates(layer, trace.valid, inside=True)
    gate = layer.gates["local"][1, 2, 4]
    # The second clip has 7 frames; the neighbourhood is Toeplitz(3), one frame on either side.
    assert everywhere["local"][1, 2, 4].item() == pytest.approx(gate[:7].mean().item())
    assert inside["local"][1, 2, 4].item() == pytest.approx(gate[3:6].mean().item())
    assert inside["local"][1, 2, 6].item() == pytest.approx(layer.gates["local"][1, 2, 6, 5:7].mean().item())
    for gates in (everywhere, inside):
        total = gates["global"] + gates["local"]
        torch.testing.assert_close(total[0], torch.ones_like(total[0]))
        assert total[1, :, 7:].isnan().all()


def test_one_mean_gate_a_frame_in_records_and_sweeps():
    model, trace, _, layer = traced("gate-att", neighbourhood=BlockDiagonal(3))
    gates, clip = mean_gates(layer, trace.valid), small_clip(7, 1)
    local, everywhere = layer.gates["local"][1, :, 4], layer.gates["global"][1, :, 4]
    # The second clip has 7 frames; frame 4 is in the block of frames 3 to 5, outside which the local map is 0.
    assert (layer.weights["local"][1, :, 4, :3] == 0).all()
    assert gates["local"][1, 4].item() == pytest.approx(local[:, 3:6].mean().item())
    assert gates["global"][1, 4].item() == pytest.approx(everywhere[:, :7].mean().item())
    assert gates["local"][1, 4].item() != pytest.approx(local[:, :7].mean().item(), rel=1e-3)
    record = inspect_clip(model, clip, parts=["gate", "attention"])
    gate = record["gate"].sel(modality="visual")
    for branch in ("global", "local"):
        np.testing.assert_allclose(gate.sel(branch=branch), gates[branch][1, :7], rtol=1e-6)
    assert "local: keys inside N_i" in gate.attrs["averaged_over"]
    view = view_clips(model, [clip], chosen=BlockDiagonal(3))
    swept = chosen(["gates"])["gates"].compute(view)["gate_local_visual"]
    assert swept[0] == pytest.approx(float(gate.sel(branch="local").mean()), rel=1e-6)
    torch.testing.assert_close(mean_gates(traced("gate-op")[3])["local"], feature_gates(traced("gate-op")[3])["local"])
    with pytest.raises(ArgumentError):
        mean_gates(traced("share-att")[3])


def test_gated_weight_is_the_row_sum_of_the_combined_map():
    _, trace, _, layer = traced("gate-att")
    parts = gated_weight(layer, trace.valid)
    rows = layer.weights["combined"].sum(-1)
    total = parts["global"] + parts["local"]
    torch.testing.assert_close(total[0], rows[0])
    torch.testing.assert_close(total[1, :, :7], rows[1, :, :7])
    assert ((rows[0] - 1).abs() > 1e-3).any()
    keys = [layer.gates["local"][1, 2, 4, key] * layer.weights["local"][1, 2, 4, key] for key in range(7)]
    assert parts["local"][1, 2, 4].item() == pytest.approx(sum(keys).item())


def test_feature_gates_are_means_over_features():
    _, trace, _, layer = traced("gate-op")
    gates = feature_gates(layer, trace.valid)
    assert gates["global"][1, 4].item() == pytest.approx(layer.gates["global"][1, 4].mean().item())
    torch.testing.assert_close((gates["global"] + gates["local"])[trace.valid], torch.ones(20, dtype=torch.float64))
    assert gates["local"][1, 7:].isnan().all()


@pytest.mark.parametrize("kind", BLOCKS)
def test_padding_changes_no_share(kind):
    model, trace, block, layer = traced(kind)
    short = model.trace(Batch.from_clips([small_clip(7, 1)]).to(dtype=torch.float64)).layer("visual")
    together = contribution_norms(branch_contributions(block, layer), trace.valid)
    single = contribution_norms(branch_contributions(block, short))
    for branch, norm in single.items():
        torch.testing.assert_close(together[branch][1, :7], norm[0])
        assert together[branch][1, 7:].isnan().all()
        assert norm.dtype == torch.float64


def test_half_precision_is_widened():
    _, _, block, layer = traced("gate-op", dtype=torch.bfloat16)
    assert contribution_norms(branch_contributions(block, layer))["local"].dtype == torch.float32


def test_what_a_block_lacks_is_said():
    model, _, block, layer = traced("baseline")
    with pytest.raises(ArgumentError, match=r"no gates over pairs of frames in this layer; GateAtt has them"):
        pair_gates(layer)
    with pytest.raises(ArgumentError, match=r"GateAtt has them"):
        gated_weight(traced("gate-op")[3])
    with pytest.raises(ArgumentError, match=r"GateOp has them"):
        feature_gates(traced("gate-att")[3])
    with pytest.raises(ArgumentError, match=r"needs a local branch; got global"):
        local_share(contribution_norms(branch_contributions(block, layer)))
    with pytest.raises(KeyError, match=r"no modality 'smell' in this model; it has visual, audio"):
        attention_block(model, "smell")
    with pytest.raises(IndexError, match=r"no layer 1 of 'visual'; it has 1"):
        attention_block(model, "visual", 1)
    with pytest.raises(ArgumentError, match=r"has no attention block"):
        attention_block(small_model("none"), "visual")


@pytest.mark.parametrize("neighbourhood", [BlockDiagonal(1), Toeplitz(100)])
def test_extreme_neighbourhoods_add_up_too(neighbourhood):
    _, trace, block, layer = traced("gate-att", neighbourhood=neighbourhood)
    total = sum(branch_contributions(block, layer).values()) + output_bias(block)
    torch.testing.assert_close(total[trace.valid], layer.output[trace.valid])
