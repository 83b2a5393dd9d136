"""Several scales in one layer, and a local layer before a global one: blocks, names, configs, files."""

import json

import pytest
import torch

from gmsa_models import load, save
from gmsa_models.attention import Baseline, GateOp, GateOpScales, Local
from gmsa_models.attention.stages import staged_pass
from gmsa_models.checkpoints.header import CheckpointError
from gmsa_models.config import ModelConfig
from gmsa_models.errors import ArgumentError, ConfigError
from gmsa_models.masks import (
    BlockDiagonal,
    Scales,
    Toeplitz,
    ToeplitzDilated,
    neighbourhood_from_dict,
    neighbourhood_from_text,
    neighbourhood_mask,
    neighbourhood_text,
    neighbourhood_to_dict,
)
from gmsa_models.recompute import block_state
from gmsa_models.variants import build, nearest_variant
from tests.small_models import moved, small_model

THREE = Scales((Toeplitz(3), BlockDiagonal(4), ToeplitzDilated(9, 2)))
CLIPS, FRAMES, DIM, HEADS = 3, 13, 10, 2


def random_block(kind, neighbourhood, seed=0):
    torch.manual_seed(seed)
    block = kind(DIM, HEADS, neighbourhood, 17).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(0.6 * torch.randn_like(parameter))
    return block.eval()


def frames(seed=1):
    return torch.randn(CLIPS, FRAMES, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_with_one_neighbourhood_it_is_gate_op():
    """The same numbers where the weights are the same: output, gates, maps, and the pass by contexts."""
    one, two = random_block(GateOpScales, Scales((Toeplitz(5),))), random_block(GateOp, Toeplitz(5))
    names = {"local": "TP5", "global": "global"}
    with torch.no_grad():
        for ours, theirs in names.items():
            getattr(two, f"output_{ours}").weight.copy_(one.outputs[theirs].weight)
            getattr(two, f"gate_{ours}").weight.copy_(one.gates[theirs].weight)
        for name in ("query", "key", "value"):
            getattr(two, name).load_state_dict(getattr(one, name).state_dict())
        two.output_bias.copy_(one.output_bias)
    inputs, valid = frames(), torch.arange(FRAMES) < torch.tensor([13, 7, 1])[:, None]
    torch.testing.assert_close(one(inputs, valid), two(inputs, valid), rtol=0, atol=1e-13)
    first, second = one.trace(inputs, valid), two.trace(inputs, valid)
    for ours, theirs in names.items():
        torch.testing.assert_close(first.gates[theirs], second.gates[ours], rtol=0, atol=1e-15)
        assert torch.equal(first.weights[theirs], second.weights[ours])


def test_each_branch_attends_to_its_own_neighbourhood():
    block = random_block(GateOpScales, THREE)
    assert block.branches == ("global", "TP3", "BD4", "TD9x2")
    traced = block.trace(frames())
    masks = [neighbourhood_mask(part, FRAMES) for part in THREE.parts]
    for branch, mask in zip(block.local_branches, masks, strict=True):
        assert torch.equal((traced.weights[branch] > 0).all(0).all(0), mask)
        assert torch.equal(traced.head_groups[branch][0].mask, mask)
    assert torch.equal(traced.neighbourhood, torch.stack(masks).any(0))
    torch.testing.assert_close(sum(traced.gates.values()), torch.ones_like(traced.gates["TP3"]))


@pytest.mark.parametrize("shut", ["global", "TP3", "TD9x2"])
def test_a_shut_branch_leaves_the_others_their_proportions(shut):
    block = random_block(GateOpScales, THREE)
    before = block.trace(frames())

    class Shut:
        def __call__(self, branch, quantity, value):
            here = quantity == "gate" and branch == ("" if shut == "global" else shut)
            return torch.zeros_like(value) if here else value

        def touches(self, branch, quantities):
            return "gate" in quantities

    after = staged_pass(block, frames(), None, Shut()).gates
    rest = sum(gate for branch, gate in before.gates.items() if branch != shut)
    for branch, gate in after.items():
        expected = torch.zeros_like(gate) if branch == shut else before.gates[branch] / rest
        torch.testing.assert_close(gate, expected, rtol=1e-9, atol=1e-12)


def test_two_gates_that_are_set_stay_as_they_are_set():
    block = random_block(GateOpScales, THREE)
    before = block.trace(frames()).gates
    numbers = {"TP3": 0.5, "BD4": 0.25}

    def setting(numbers):
        class Set:
            def __call__(self, branch, quantity, value):
                return torch.full_like(value, numbers[branch]) if quantity == "gate" and branch in numbers else value

            def touches(self, branch, quantities):
                return "gate" in quantities

        return staged_pass(block, frames(), None, Set()).gates

    gates = setting(numbers)
    assert (gates["TP3"] == 0.5).all()
    assert (gates["BD4"] == 0.25).all()
    left = before["global"] + before["TD9x2"]
    torch.testing.assert_close(gates["TD9x2"], 0.25 * before["TD9x2"] / left, rtol=0, atol=1e-12)
    too_much = setting({"TP3": 0.9, "BD4": 0.6})
    torch.testing.assert_close(too_much["TP3"], torch.full_like(too_much["TP3"], 0.6))
    assert (too_much["global"] == 0).all()
    nothing = setting(dict.fromkeys(("", *block.local_branches), 0.0))
    assert (nothing["global"] == 0.25).all()


def test_scales_as_text_and_in_files():
    text = "TP3+BD4+TD9×2"
    assert neighbourhood_text(THREE) == text
    assert neighbourhood_from_text("tp3+BD4+TD9x2") == THREE
    assert neighbourhood_from_dict(json.loads(json.dumps(neighbourhood_to_dict(THREE)))) == THREE
    assert THREE.names == ("TP3", "BD4", "TD9x2")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scales(()), "expected 1 to 16 neighbourhoods"),
        (lambda: Scales((Toeplitz(3), Toeplitz(3))), "no two alike"),
        (lambda: neighbourhood_from_text("TP3+CP4"), "got TP3, CP4; expected BDn"),
        (lambda: neighbourhood_from_text("TP3+"), "neighbourhood ''"),
        (lambda: neighbourhood_from_dict({"kind": "scales"}), "scales needs a parts"),
        (lambda: neighbourhood_from_dict({"kind": "scales", "parts": 3}), "parts are 3; expected a list"),
        (lambda: neighbourhood_from_dict({"kind": "scales", "parts": [3]}), "a part is 3"),
        (lambda: neighbourhood_from_dict({"kind": "scales", "parts": [neighbourhood_to_dict(THREE)]}), "a part is"),
        (lambda: GateOp(DIM, HEADS, THREE, 17), "GateOp takes one neighbourhood for all, got Scales"),
        (lambda: GateOpScales(DIM, HEADS, Toeplitz(3), 17), "GateOpScales takes Scales, got Toeplitz"),
    ],
)
def test_scales_that_cannot_be(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_a_stack_has_a_block_a_layer():
    model = build("local-then-global", "demo", classes=7)
    for encoder in model.encoders.values():
        assert [type(layer.attention) for layer in encoder.layers] == [Local, Baseline]
    assert model.config.branches == ("global", "local")
    with pytest.raises(ConfigError, match="'local-then-global' is of 2 layers; layers is 3"):
        ModelConfig("local-then-global", {"visual": 8}, 3, Toeplitz(3), layers=3)
    with pytest.raises(ConfigError, match="takes one neighbourhood, got Scales"):
        ModelConfig("local-then-global", {"visual": 8}, 3, THREE, layers=2)


@pytest.mark.parametrize("kind", ["gate-op-scales", "local-then-global", "local"])
def test_it_comes_back_from_its_file(kind, tmp_path):
    model = moved(small_model(kind))
    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_a_config_of_another_size_has_the_style_of_the_variant():
    assert nearest_variant(small_model("gate-op-scales").config) == "gate-op-scales"
    assert nearest_variant(small_model("local-then-global").config) == "local-then-global"


def test_a_state_has_every_branch_shut():
    from gmsa_models.data.batch import Batch
    from tests.small_models import small_clip

    model = moved(small_model("gate-op-scales"))
    batch = Batch.from_clips([small_clip()], ("visual", "audio"))
    with torch.no_grad():
        state = block_state(model, batch, model.trace(batch), "visual")
    assert list(state.shut) == list(model.config.branches)
    for branch, (_, gates) in state.shut.items():
        assert (gates[branch] == 0).all()
        torch.testing.assert_close(sum(gates.values()), torch.ones_like(gates[branch]))


@pytest.mark.parametrize("name", ["gate-op-scales", "local-then-global"])
def test_weights_of_other_code_are_not_read_as_one(name):
    from gmsa_models.checkpoints.importing.deduce import variant_of

    with pytest.raises(CheckpointError, match=f"not read as '{name}'.*known: baseline, share-att-bd"):
        variant_of(name)
