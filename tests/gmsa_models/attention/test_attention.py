"""The four blocks: against their definition, against their own plain form, and what must not change them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.equations import block_by_definition

from gmsa_models.attention import ATTENTION, Baseline, GateAtt, GateOp, ShareAtt, attention_weights
from gmsa_models.attention.kernels.gated_weights import gated_attention
from gmsa_models.attention.kernels.second_derivative import SecondDerivativeError
from gmsa_models.errors import ArgumentError
from gmsa_models.masks import BlockDiagonal, Scales, Toeplitz, ToeplitzDilated, neighbourhood_mask
from tests.gmsa_models.attention.test_masks import ANY

BLOCKS = {name: block for name, block in ATTENTION.items() if block is not None}
MASKS = [BlockDiagonal(3), Toeplitz(5), ToeplitzDilated(7, 2), BlockDiagonal(19)]
SCALES = [Scales((BlockDiagonal(3), Toeplitz(5), ToeplitzDilated(7, 2))), Scales((Toeplitz(5),))]
OF_BLOCK = {"baseline": [None], "gate-op-scales": SCALES}
CASES = [pytest.param(name, mask, id=f"{name}-{mask}") for name in BLOCKS for mask in OF_BLOCK.get(name, MASKS)]
# Distinct primes wherever the blocks allow, so that a swapped axis fails: 3 clips, 13 frames, 2 heads of 5, 17 at most.
CLIPS, FRAMES, HEADS, DIM, MOST = 3, 13, 2, 10, 17
LENGTHS = torch.tensor([13, 7, 1])


def random_block(name, mask, dtype=torch.float64, bias=True, seed=0):
    """A block whose gates are far from 1/2 and whose biases are not 0."""
    generator = torch.Generator().manual_seed(seed)
    block = BLOCKS[name](DIM, HEADS, mask, MOST, bias)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=generator))
    return block.to(dtype)


def random_frames(dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(CLIPS, FRAMES, DIM, generator=generator, dtype=torch.float64).to(dtype)


def padding():
    return torch.arange(FRAMES) < LENGTHS[:, None]


@pytest.mark.parametrize(("name", "mask"), CASES)
def test_equals_its_definition(name, mask):
    check_definition(name, mask, bias=True)


@pytest.mark.parametrize("name", list(BLOCKS))
def test_equals_its_definition_without_biases(name):
    check_definition(name, OF_BLOCK.get(name, [ToeplitzDilated(13, 3)])[0], bias=False)


def check_definition(name, mask, bias):
    """Output, maps and gates of each clip of a padded batch are those of the paper's equations for that clip alone."""
    block, inputs, valid = random_block(name, mask, bias=bias), random_frames(), padding()
    fast, plain = block(inputs, valid), block.trace(inputs, valid)
    for row, length in enumerate(LENGTHS.tolist()):
        expected = block_by_definition(block, inputs[row, :length].numpy())
        close(fast[row, :length], expected["output"])
        close(plain.output[row, :length], expected["output"])
        for branch, weights in plain.weights.items():
            close(weights[row, :, :length, :length], expected[branch])
        if name == "gate-att":
            close(plain.gates["global"][row, :, :length, :length], expected["gate"])
        if name == "gate-op":
            close(plain.gates["global"][row, :length], expected["gate"])
        for branch, gate in expected.get("gates", {}).items():
            close(plain.gates[branch][row, :length], gate)


def close(found, expected):
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("name", "mask"), CASES)
def test_forward_equals_explain_and_so_do_gradients(name, mask, padded, dtype, tolerance):
    block, valid = random_block(name, mask, dtype), padding() if padded else None
    real = padding() if padded else torch.ones(CLIPS, FRAMES, dtype=torch.bool)
    inputs = random_frames(dtype).requires_grad_()
    cotangent = random_frames(dtype, seed=2) * real[:, :, None]
    fast, plain = block(inputs, valid), block.trace(inputs, valid).output
    torch.testing.assert_close(fast * real[:, :, None], plain * real[:, :, None], rtol=tolerance, atol=tolerance)
    everything = [inputs, *block.parameters()]
    ours = torch.autograd.grad((fast * cotangent).sum(), everything)
    theirs = torch.autograd.grad((plain * cotangent).sum(), everything)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=100 * tolerance, atol=100 * tolerance)


@settings(max_examples=40)
@given(neighbourhood=ANY, frames=st.integers(1, 61), share=st.floats(0, 1), whole=st.booleans())
def test_gated_attention_in_any_tiling(neighbourhood, frames, share, whole):
    """Many tiles, ragged ends, padding; clip by clip as on a CPU, or the whole batch as elsewhere."""
    torch.manual_seed(frames)
    query, key, value = (torch.randn(2, 3, frames, 5, dtype=torch.float64, requires_grad=True) for _ in range(3))
    gates = [torch.randn(frames, frames, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    valid = torch.arange(frames) < torch.tensor([[frames], [1 + round(share * (frames - 1))]])
    weights_g = attention_weights(query, key, None, valid)
    weights_l = attention_weights(query, key, neighbourhood_mask(neighbourhood, frames), valid)
    gate = torch.sigmoid(weights_g @ gates[0] - weights_l @ gates[1])
    rows = valid[:, None, :, None]
    plain = (gate * weights_g + (1 - gate) * weights_l) @ value * rows
    with pytest.MonkeyPatch.context() as patch:
        if whole:
            patch.setattr("gmsa_models.attention.kernels.gated_weights._parts", lambda query: [slice(0, 2)])
        fast = gated_attention(query, key, value, *gates, neighbourhood, valid) * rows
        inputs, cotangent = (query, key, value, *gates), torch.randn_like(plain)
        ours = torch.autograd.grad(fast, inputs, cotangent)
    theirs = torch.autograd.grad(plain, inputs, cotangent)
    for one, other in zip((fast, *ours), (plain, *theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["gate-att", "gate-op"])
@pytest.mark.parametrize("learning", ["", "gate_global", "gate_local", "output"])
def test_gradients_of_some_parameters_are_those_of_all(name, learning):
    """Those of frozen ones are not computed; the others, and those of the inputs, are the same."""
    block, inputs = random_block(name, Toeplitz(5)), random_frames().requires_grad_()
    cotangent = random_frames(seed=2)
    named = {key: each for key, each in block.named_parameters() if learning and key.startswith(learning)}
    all_wanted = torch.autograd.grad((block(inputs) * cotangent).sum(), [inputs, *named.values()])
    for each in block.parameters():
        each.requires_grad_(any(each is one for one in named.values()))
    some_wanted = torch.autograd.grad((block(inputs) * cotangent).sum(), [inputs, *named.values()])
    for one, other in zip(some_wanted, all_wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["gate-att", "gate-op"])
def test_hand_written_gradients(name):
    """Against finite differences."""
    block, valid = random_block(name, Toeplitz(5)), padding()[:2, :7]
    inputs = random_frames()[:2, :7].requires_grad_()
    torch.autograd.gradcheck(lambda each: block(each, valid) * valid[:, :, None], (inputs,), fast_mode=True)


@pytest.mark.parametrize("name", ["gate-att", "gate-op"])
def test_second_derivative_is_refused_by_forward_and_given_by_explain(name):
    block, inputs = random_block(name, Toeplitz(5)), random_frames().requires_grad_()
    with pytest.raises(SecondDerivativeError, match=r"differentiated once.*trace"):
        torch.autograd.grad(block(inputs).square().sum(), inputs, create_graph=True)
    first = torch.autograd.grad(block.trace(inputs).output.square().sum(), inputs, create_graph=True)[0]
    assert torch.autograd.grad(first.sum(), inputs)[0].abs().max() > 0


@pytest.mark.parametrize(("name", "mask"), CASES)
def test_weights_are_exactly_0_where_they_must_be(name, mask):
    block, valid = random_block(name, mask), padding()
    trace = block.trace(random_frames(), valid)
    pairs = (valid[:, :, None] & valid[:, None, :])[:, None]
    for branch, weights in trace.weights.items():
        assert (weights.masked_fill(pairs, 0) == 0).all(), "padded queries and keys"
        if branch == "local":
            assert (weights.masked_fill(neighbourhood_mask(mask, FRAMES), 0) == 0).all()
        if branch != "combined" or name == "share-att":
            sums = weights.sum(-1)
            torch.testing.assert_close(sums, valid[:, None].expand_as(sums).double())
    if mask is not None:
        assert trace.neighbourhood.equal(neighbourhood_mask(mask, FRAMES))


@pytest.mark.parametrize(("name", "mask"), CASES)
def test_nothing_is_nan_at_padded_frames(name, mask):
    block = random_block(name, mask, torch.float32)
    inputs = random_frames(torch.float32).requires_grad_()
    output = block(inputs, padding())
    assert output.isfinite().all()
    output.sum().backward()
    assert inputs.grad.isfinite().all()
    trace = block.trace(inputs, padding())
    for values in (*trace.weights.values(), *trace.contexts.values(), *trace.gates.values(), trace.output):
        assert values.isfinite().all()


def test_branches_of_each_block():
    paper = ("baseline", "share-att", "gate-att", "gate-op")
    branches = {
        name: random_block(name, None if name == "baseline" else Toeplitz(5)).trace(random_frames()) for name in paper
    }
    found = {
        name: {branch: tuple(w.shape[1:]) for branch, w in trace.weights.items()} for name, trace in branches.items()
    }
    half, whole = (HEADS // 2, FRAMES, FRAMES), (HEADS, FRAMES, FRAMES)
    assert found == {
        "baseline": {"global": whole},
        "share-att": {"global": half, "local": half, "combined": whole},
        "gate-att": {"global": whole, "local": whole, "combined": whole},
        "gate-op": {"global": whole, "local": whole},
    }
    for name, trace in branches.items():
        for branch, weights in trace.weights.items():
            assert trace.contexts[branch].shape == (CLIPS, weights.shape[1], FRAMES, DIM // HEADS)
        assert set(trace.gates) == ({"global", "local"} if name.startswith("gate") else set())
        assert set(trace.branch_outputs) == ({"global", "local"} if name == "gate-op" else set())
    assert branches["gate-att"].gates["global"].shape == (CLIPS, *whole)
    assert branches["gate-op"].gates["global"].shape == (CLIPS, FRAMES, DIM)
    for name in ("gate-att", "gate-op"):
        gates = branches[name].gates
        torch.testing.assert_close(gates["global"] + gates["local"], torch.ones_like(gates["global"]))


def test_share_att_first_half_is_global():
    block, inputs = random_block("share-att", Toeplitz(3)), random_frames()
    trace = block.trace(inputs)
    baseline = random_block("baseline", None)
    baseline.load_state_dict(block.state_dict())
    torch.testing.assert_close(trace.weights["global"], baseline.trace(inputs).weights["global"][:, : HEADS // 2])
    torch.testing.assert_close(
        trace.weights["combined"], torch.cat([trace.weights["global"], trace.weights["local"]], 1)
    )


@pytest.mark.parametrize("name", ["share-att", "gate-att", "gate-op"])
def test_a_neighbourhood_of_everything_is_global(name):
    """With N_i = all frames the two branches see the same maps; ShareAtt and GateAtt are then Baseline."""
    block, inputs = random_block(name, BlockDiagonal(MOST)), random_frames()
    trace = block.trace(inputs)
    if name != "share-att":
        torch.testing.assert_close(trace.weights["local"], trace.weights["global"])
    if name != "gate-op":
        baseline = random_block("baseline", None)
        baseline.load_state_dict({key: value for key, value in block.state_dict().items() if "gate" not in key})
        torch.testing.assert_close(block(inputs), baseline(inputs))


def test_gates_of_0_blend_half_and_half():
    inputs = random_frames()
    for name in ("gate-att", "gate-op"):
        block = random_block(name, Toeplitz(5))
        with torch.no_grad():
            for key, parameter in block.named_parameters():
                if key.startswith("gate"):
                    parameter.zero_()
        trace = block.trace(inputs)
        assert (trace.gates["global"] == 0.5).all()
        if name == "gate-att":
            mean = (trace.weights["global"] + trace.weights["local"]) / 2
            torch.testing.assert_close(trace.weights["combined"], mean)
        else:
            mean = (trace.branch_outputs["global"] + trace.branch_outputs["local"]) / 2 + block.output_bias
            torch.testing.assert_close(trace.output, mean)
        torch.testing.assert_close(block(inputs), trace.output)


def test_gates_begin_near_a_half():
    torch.manual_seed(0)
    inputs = torch.randn(2, 97, 64)
    for block in (GateAtt(64, 4, Toeplitz(7), 101), GateOp(64, 4, Toeplitz(7), 101)):
        assert (block.trace(inputs).gates["global"] - 0.5).abs().max() < 0.15


def test_gate_att_uses_the_corner_of_its_gate_weights():
    """Rows and columns beyond the clip's frames change nothing."""
    block, inputs = random_block("gate-att", Toeplitz(5)), random_frames()
    before = block(inputs)
    with torch.no_grad():
        for gate in (block.gate_global, block.gate_local):
            gate[FRAMES:], gate[:, FRAMES:] = 100.0, -100.0
    torch.testing.assert_close(block(inputs), before)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("name", "mask"), CASES)
def test_bfloat16(name, mask, padded):
    block, valid = random_block(name, mask, torch.float32), padding() if padded else None
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.mul_(0.3)
    inputs = random_frames(torch.float32)
    expected = block(inputs, valid)
    found = block.to(torch.bfloat16)(inputs.bfloat16(), valid)
    real = padding()[:, :, None] if padded else torch.ones(1)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float() * real, expected * real, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(("name", "mask"), CASES)
def test_autocast_trains(name, mask):
    """Mixed precision: bfloat16 products of float32 weights, float32 gradients."""
    block, inputs = random_block(name, mask, torch.float32), random_frames(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        output = block(inputs, padding())
    output.float().square().mean().backward()
    for key, parameter in block.named_parameters():
        assert parameter.grad.dtype == torch.float32, key
        assert parameter.grad.isfinite().all(), key


def test_baseline_does_not_care_for_order():
    block, inputs = random_block("baseline", None), random_frames()
    order = torch.randperm(FRAMES, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(block(inputs[:, order]), block(inputs)[:, order])


def test_local_weights_reach_no_further():
    """In ShareAtt, a frame outside N_i moves query i's local context not at all."""
    block, inputs = random_block("share-att", Toeplitz(5)), random_frames()
    moved = inputs.clone()
    moved[:, 9] += 1
    before, after = (block.trace(each).contexts["local"] for each in (inputs, moved))
    changed = (before != after).any(-1).any(1).any(0)
    assert changed.nonzero().flatten().tolist() == [7, 8, 9, 10, 11]


def test_attention_weights_by_hand():
    query = torch.tensor([[[[2.0], [0.0]]]])
    key = torch.tensor([[[[0.0], [float(np.log(3)) / 2]]]])
    expected = torch.tensor([[[[0.25, 0.75], [0.5, 0.5]]]])
    torch.testing.assert_close(attention_weights(query, key, None, None), expected)


def test_errors():
    with pytest.raises(ArgumentError, match="3 heads do not divide a width of 10"):
        Baseline(10, 3, None, 17)
    with pytest.raises(ArgumentError, match="3 is odd"):
        ShareAtt(12, 3, Toeplitz(5), 17)
    for block in (ShareAtt, GateAtt, GateOp):
        with pytest.raises(ArgumentError, match=f"{block.__name__} has a local branch and needs a neighbourhood"):
            block(12, 4, None, 17)
    with pytest.raises(ArgumentError, match="takes no neighbourhood"):
        Baseline(12, 4, Toeplitz(5), 17)
