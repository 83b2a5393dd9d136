"""Frame Jacobian norms against derivatives taken one at a time, by hand, and under changes with a known effect."""

import math

import numpy as np
import pytest
import references.sensitivity as slow
import torch

import gmsa_models
from analysis.sensitivity.closed_form import constants, gate_op, gate_op_query, plain
from analysis.sensitivity.closed_form import forms as closed_form
from analysis.sensitivity.norms import frame_gradient_norms, local_sensitivity
from gmsa_models.attention import Baseline
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.config import ModelConfig
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Clip
from gmsa_models.masks import BlockDiagonal, Scales, Toeplitz, ToeplitzDilated, neighbourhood_mask

KINDS = ("baseline", "share-att", "gate-att", "gate-op")
LOCAL_KINDS = KINDS[1:]
MASKS = (BlockDiagonal(3), Toeplitz(5), ToeplitzDilated(7, dilation=3))
# Frames, head width, heads; primes where heads need not be even. Local branches have fewer keys than the head is wide
# in the second, more in the first.
SIZES = ((11, 3, 4), (7, 11, 2), (5, 7, 6))
CASES = [(kind, mask, size) for kind in LOCAL_KINDS for mask in MASKS for size in SIZES]
CASES += [(kind, mask, size) for kind in ("local", "gate-op-scales") for mask in MASKS for size in SIZES[:2]]
CASES += [("baseline", None, size) for size in (*SIZES, (13, 5, 3))]


def make_model(kind, mask=None, size=(7, 5, 2), seed=0, scale=0.7, **changes) -> GMSAClassifier:
    """A float64 model on one modality of width heads * head width, every weight and bias drawn at random."""
    frames, head_dim, heads = size
    dim = heads * head_dim
    values = {"attention": kind, "modalities": {"visual": dim}, "classes": 2, "heads": heads, "max_frames": frames + 2}
    values["neighbourhood"] = Scales((mask, Toeplitz(3), BlockDiagonal(4))) if kind == "gate-op-scales" else mask
    if kind in ("baseline", "none"):
        values["neighbourhood"] = None
    model = GMSAClassifier(ModelConfig(**values | changes)).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = scale if "attention.gate" in name and kind == "gate-att" else scale / parameter.shape[-1] ** 0.5
            parameter.normal_(0.0, max(spread, 0.3), generator=generator)
    return model


def make_batch(model, lengths, seed=1) -> Batch:
    """Clips of these lengths, padded to the longest."""
    generator = torch.Generator().manual_seed(seed)
    valid = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    features = {
        name: torch.randn(*valid.shape, width, dtype=torch.float64, generator=generator) * valid[:, :, None]
        for name, width in model.config.modalities.items()
    }
    return Batch(features, valid)


def make_clip(width, frames, seed=2) -> Clip:
    return Clip("one", {"visual": np.random.default_rng(seed).normal(size=(frames, width)).astype(np.float32)})


def slow_norms(model, batch, row=0, layer=0) -> torch.Tensor:
    """The definition: d trace.output / d trace.input, clip by clip, in what the model itself computes."""
    trace = model.trace(batch, grad=True).layer("visual", layer)
    frames = int(batch.valid[row].sum())
    given = trace.input
    norms = slow.frame_gradient_norms(trace.output[row, :frames], given)
    # The graph holds every clip of the batch; only a clip's own frames can have a gradient.
    return norms if given.shape[0] == 1 else norms[:, :frames]


class TestClosedForm:
    @pytest.mark.parametrize(("kind", "mask", "size"), CASES, ids=lambda value: str(value).replace(" ", ""))
    def test_equals_derivatives_taken_one_at_a_time(self, kind, mask, size):
        model = make_model(kind, mask, size)
        batch = make_batch(model, [size[0]])
        torch.testing.assert_close(
            frame_gradient_norms(model, batch, "visual")[0], slow_norms(model, batch), rtol=1e-9, atol=0.0
        )

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("mask", MASKS, ids=str)
    def test_padding_is_nan_and_changes_no_valid_frame(self, kind, mask):
        model = make_model(kind, mask, (7, 5, 2))
        batch = make_batch(model, [4, 7])
        norms = frame_gradient_norms(model, batch, "visual")
        alone = Batch({"visual": batch.features["visual"][:1, :4]}, batch.valid[:1, :4])
        trace = model.trace(batch, grad=True).layer("visual")
        expected = torch.zeros(4, 4, dtype=torch.float64)
        for i in range(4):
            for a in range(10):
                (gradient,) = torch.autograd.grad(trace.output[0, i, a], trace.input, retain_graph=True)
                assert (gradient[1] == 0).all()
                assert (gradient[0, 4:] == 0).all()
                expected[i] += gradient[0, :4].square().sum(-1)
        torch.testing.assert_close(norms[0, :4, :4], expected.sqrt(), rtol=1e-9, atol=0.0)
        torch.testing.assert_close(frame_gradient_norms(model, alone, "visual")[0], norms[0, :4, :4], rtol=0, atol=0)
        assert norms[0, 4:].isnan().all()
        assert norms[0, :, 4:].isnan().all()
        assert norms[1].isfinite().all()
        assert norms.shape == (2, 7, 7)

    def test_by_hand_uniform_attention(self):
        """Without queries every frame has 1 / 5 of the attention, and J is W_O W_V / 5: root(3^2 + 4^2) / 5 = 1."""
        model = make_model("baseline", size=(5, 1, 2))
        block = model.encoders["visual"].layers[0].attention
        with torch.no_grad():
            block.query.weight.zero_()
            block.query.bias.zero_()
            block.value.weight.copy_(torch.diag(torch.tensor([3.0, 4.0])))
            block.output.weight.copy_(torch.eye(2))
        norms = frame_gradient_norms(model, make_batch(model, [5]), "visual")[0]
        torch.testing.assert_close(norms, torch.ones(5, 5, dtype=torch.float64))

    def test_by_hand_one_number_a_frame(self):
        """x = (0, 1), weights 1, logits x_i x_j: the first frame attends half and half, the second to itself with p.

        d y_0 / d x_0 = 1/2 + 1/2 (1 - 1/2) 1 as query; d y_1 / d x_0 = (1 - p)(1 - p), as value and as key.
        """
        block = Baseline(1, 1, None, 2).double()
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.fill_(1.0 if parameter.ndim == 2 else 0.0)
        norms = closed_form.closed_form_norms(block, torch.tensor([[0.0], [1.0]], dtype=torch.float64), 1)
        p = math.e / (1 + math.e)
        expected = torch.tensor([[0.75, 0.5], [(1 - p) ** 2, p * (1 + 2 * (1 - p))]], dtype=torch.float64)
        torch.testing.assert_close(norms, expected)

    @pytest.mark.parametrize("kind", KINDS)
    def test_one_frame_answers_by_its_value_alone(self, kind):
        """One frame has all attention whatever its logit: |W_O W_V|, and in GateOp the gates' path beside it."""
        model = make_model(kind, Toeplitz(3), (3, 5, 2))
        batch = make_batch(model, [1])
        norms = frame_gradient_norms(model, batch, "visual")[0]
        torch.testing.assert_close(norms, slow_norms(model, batch), rtol=1e-9, atol=0.0)
        if kind in ("baseline", "share-att"):
            block = model.encoders["visual"].layers[0].attention
            torch.testing.assert_close(norms[0, 0], (block.output.weight @ block.value.weight).norm())

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("norm", ["pre", "post"])
    def test_deeper_layers_and_both_norms_at_that_layers_own_input(self, kind, norm):
        model = make_model(kind, Toeplitz(3), (5, 3, 2), layers=2, norm=norm)
        batch = make_batch(model, [5])
        for layer in (0, 1, -1):
            trace = model.trace(batch, grad=True).layer("visual", layer)
            expected = slow.frame_gradient_norms(trace.output[0], trace.input)
            actual = frame_gradient_norms(model, batch, "visual", layer=layer)[0]
            torch.testing.assert_close(actual, expected, rtol=1e-9, atol=0.0)

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_bound_on_memory_changes_nothing(self, kind):
        model = make_model(kind, Toeplitz(5), (11, 3, 4))
        batch = make_batch(model, [11])
        expected = frame_gradient_norms(model, batch, "visual")
        for max_bytes in (1, 5_000, 40_000):
            actual = frame_gradient_norms(model, batch, "visual", max_bytes=max_bytes)
            torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0.0)

    def test_gate_op_in_one_tile_or_many(self, monkeypatch):
        model = make_model("gate-op", ToeplitzDilated(7, dilation=3), (11, 3, 4))
        batch = make_batch(model, [11])
        expected = frame_gradient_norms(model, batch, "visual")
        monkeypatch.setattr(gate_op, "TILE", 2)
        torch.testing.assert_close(frame_gradient_norms(model, batch, "visual"), expected, rtol=1e-12, atol=0.0)

    @pytest.mark.parametrize("name", ["CACHE_BYTES", "COLUMNS"])
    @pytest.mark.parametrize("size", [(11, 3, 4), (11, 7, 2)], ids=["more-keys-than-wide", "fewer-keys-than-wide"])
    def test_gate_op_in_parts_of_one(self, name, size, monkeypatch):
        """Frame by frame the keys of a dilated mask have gaps; column by column the triangle is in many blocks."""
        model = make_model("gate-op", ToeplitzDilated(7, dilation=3), size)
        batch = make_batch(model, [11])
        expected = frame_gradient_norms(model, batch, "visual")
        monkeypatch.setattr(gate_op_query, name, 1)
        torch.testing.assert_close(frame_gradient_norms(model, batch, "visual"), expected, rtol=1e-12, atol=0.0)

    @pytest.mark.parametrize(
        ("kind", "size", "factor"), [("baseline", (11, 11, 1), 8.0), ("share-att", (13, 7, 2), 12.0)]
    )
    def test_rows_where_one_frame_has_all_the_attention(self, kind, size, factor, monkeypatch):
        """There a covariance of nearly nothing is left of large inner products; those rows are taken again."""
        model = make_model(kind, Toeplitz(5), size)
        block = model.encoders["visual"].layers[0].attention
        with torch.no_grad():
            block.query.weight.mul_(factor)
            block.key.weight.mul_(factor)
        batch = make_batch(model, [size[0]])
        norms, expected = frame_gradient_norms(model, batch, "visual")[0], slow_norms(model, batch)
        floor = 1e-12 * float(expected.max())
        torch.testing.assert_close(norms, expected, rtol=1e-9, atol=floor)
        monkeypatch.setattr(plain, "CANCELLED", 0.0)
        monkeypatch.setattr(plain, "LOST_DIGITS", 0)
        without = frame_gradient_norms(model, batch, "visual")[0]
        assert not torch.allclose(without, expected, rtol=1e-9, atol=floor)

    @pytest.mark.parametrize("kind", KINDS)
    def test_float32_is_close_to_float64(self, kind):
        model = make_model(kind, Toeplitz(5), (13, 8, 4))
        batch = make_batch(model, [13])
        expected = frame_gradient_norms(model, batch, "visual")
        actual = frame_gradient_norms(model.float(), batch, "visual")
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.max()))

    def test_half_precision_is_widened(self):
        model = make_model("gate-op", Toeplitz(5))
        batch = make_batch(model, [7])
        expected = frame_gradient_norms(model, batch, "visual")
        actual = frame_gradient_norms(model.bfloat16(), batch, "visual")
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual.double(), expected, rtol=0.2, atol=0.05 * float(expected.max()))

    def test_other_blocks_are_refused_by_name(self):
        class Own(Baseline):
            pass

        with pytest.raises(closed_form.ArgumentError, match=r"Own has no closed form; those of Baseline, ShareAtt"):
            closed_form.closed_form_norms(Own(4, 2, None, 3), torch.zeros(3, 4), 1)


class TestInvariances:
    @pytest.mark.parametrize("kind", KINDS)
    def test_scaling_the_output_scales_the_norms_and_leaves_the_sensitivity(self, kind):
        model = make_model(kind, Toeplitz(3))
        batch = make_batch(model, [7])
        before = frame_gradient_norms(model, batch, "visual")
        block = model.encoders["visual"].layers[0].attention
        with torch.no_grad():
            for output in ("output", "output_global", "output_local"):
                if hasattr(block, output):
                    getattr(block, output).weight.mul_(3.0)
        after = frame_gradient_norms(model, batch, "visual")
        torch.testing.assert_close(after, 3.0 * before)
        torch.testing.assert_close(local_sensitivity(after, Toeplitz(3)), local_sensitivity(before, Toeplitz(3)))

    def test_permuting_frames_permutes_the_baseline(self):
        model = make_model("baseline", size=(11, 3, 3))
        batch = make_batch(model, [11])
        order = torch.randperm(11, generator=torch.Generator().manual_seed(3))
        permuted = Batch({"visual": batch.features["visual"][:, order]}, batch.valid)
        expected = frame_gradient_norms(model, batch, "visual")[0][order][:, order]
        torch.testing.assert_close(frame_gradient_norms(model, permuted, "visual")[0], expected)

    @pytest.mark.parametrize("kind", ["share-att", "gate-op"])
    @pytest.mark.parametrize("mask", MASKS, ids=str)
    def test_a_purely_local_block_reaches_no_further_and_is_wholly_local(self, kind, mask):
        model = make_model(kind, mask, (11, 3, 2))
        block = model.encoders["visual"].layers[0].attention
        with torch.no_grad():
            if kind == "share-att":
                block.output.weight[:, :3] = 0.0
            else:
                for weight in (block.output_global.weight, block.gate_global.weight):
                    weight.zero_()
        norms = frame_gradient_norms(model, make_batch(model, [11]), "visual")[0]
        inside = neighbourhood_mask(mask, 11)
        assert (norms[~inside] == 0).all()
        assert (norms[inside] > 0).all()
        torch.testing.assert_close(local_sensitivity(norms, mask), torch.ones(11, dtype=torch.float64))

    def test_a_block_whose_neighbourhood_is_everything_is_the_baseline(self):
        model = make_model("share-att", BlockDiagonal(99), (7, 3, 4))
        baseline = make_model("baseline", size=(7, 3, 4))
        baseline.load_state_dict(model.state_dict())
        batch = make_batch(model, [7])
        torch.testing.assert_close(
            frame_gradient_norms(model, batch, "visual"), frame_gradient_norms(baseline, batch, "visual")
        )


class TestTables:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("way", ["in place", "behind the version counter", "loaded", "other type"])
    def test_a_changed_weight_is_noticed(self, kind, way):
        model = make_model(kind, Toeplitz(3))
        batch = make_batch(model, [7])
        before = frame_gradient_norms(model, batch, "visual")
        block = model.encoders["visual"].layers[0].attention
        linear = block.output_local if kind == "gate-op" else block.output
        if way == "in place":
            with torch.no_grad():
                linear.weight[0, 0] += 1.0
        elif way == "behind the version counter":
            linear.weight.data[0, 0] += 1.0
        elif way == "loaded":
            model.load_state_dict(make_model(kind, Toeplitz(3), seed=9).state_dict())
        else:
            model.float()
        cached = frame_gradient_norms(model, batch, "visual")
        constants.clear_tables()
        assert torch.equal(cached, frame_gradient_norms(model, batch, "visual"))
        assert way == "other type" or not torch.allclose(cached, before)

    def test_tables_are_made_once_and_go_with_their_block(self, monkeypatch):
        model = make_model("baseline")
        batch = make_batch(model, [7])
        made = []
        original = constants._make_plain_tables
        monkeypatch.setattr(constants, "_make_plain_tables", lambda *weights: made.append(1) or original(*weights))
        for _ in range(3):
            frame_gradient_norms(model, batch, "visual")
        assert len(made) == 1
        block = model.encoders["visual"].layers[0].attention
        assert constants.table_bytes(block) > 0
        constants.clear_tables()
        assert constants.table_bytes(block) == 0

    @pytest.mark.parametrize("kind", KINDS)
    def test_tables_that_were_used_longest_ago_make_room(self, kind, monkeypatch):
        model = make_model(kind, Toeplitz(3), layers=3)
        batch = make_batch(model, [7])
        blocks = [layer.attention for layer in model.encoders["visual"].layers]

        def norms(layer):
            return frame_gradient_norms(model, batch, "visual", layer=layer)

        constants.clear_tables()
        before = [norms(layer) for layer in (0, 1, 2)]
        held = [constants.table_bytes(block) for block in blocks]
        assert min(held) > 0  # all have room
        monkeypatch.setattr(constants, "MAX_TABLE_BYTES", int(2.5 * held[0]))
        constants.clear_tables()
        for layer in (0, 1, 0, 2):
            assert torch.equal(norms(layer), before[layer])
        assert [constants.table_bytes(block) > 0 for block in blocks] == [True, False, True]
        monkeypatch.setattr(constants, "MAX_TABLE_BYTES", 1)  # those that are in use have room always
        assert torch.equal(norms(1), before[1])
        assert [constants.table_bytes(block) > 0 for block in blocks] == [False, True, False]


ZOO = sorted(gmsa_models.available())


@pytest.mark.skipif(not ZOO, reason="the zoo is empty: no trained models")
@pytest.mark.parametrize("name", ZOO)
def test_trained_models_equal_autograd(name):
    model = gmsa_models.load(name).eval().double()
    clip = next(iter(gmsa_models.read_clips("demo:1"))).cut(11)
    for modality in model.encoders:
        closed = frame_gradient_norms(model, clip, modality)
        exact = frame_gradient_norms(model, clip, modality, method="autograd")
        torch.testing.assert_close(closed, exact, rtol=1e-9, atol=1e-13 * float(exact.max()))
