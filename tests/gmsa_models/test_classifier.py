"""The classifier: its config, its sizes, padding, what `trace` returns, and every batch that it refuses."""

import dataclasses
import json

import pytest
import torch

from gmsa_models.attention import ATTENTION
from gmsa_models.classifier import GMSAClassifier, mean_over_valid, parameter_mib
from gmsa_models.config import ModelConfig
from gmsa_models.data.batch import Batch
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.errors import ArgumentError, ConfigError
from gmsa_models.masks import BlockDiagonal, Scales, Toeplitz, ToeplitzDilated

KINDS = tuple(ATTENTION)
INPUTS = {"visual": 11, "audio": 7}
SCALES = Scales((Toeplitz(3), BlockDiagonal(4), ToeplitzDilated(9, 2)))


def config(kind="gate-op", **changes):
    """Widths 12 and 8 from inputs of 11 and 7, 4 heads, 5 classes, at most 17 frames."""
    local = ATTENTION[kind] is not None and ATTENTION[kind].local
    values = {
        "attention": kind,
        "modalities": dict(INPUTS),
        "widths": {"visual": 12, "audio": 8},
        "classes": 5,
        "neighbourhood": SCALES if kind == "gate-op-scales" else Toeplitz(5) if local else None,
        "heads": 4,
        "max_frames": 17,
    }
    return ModelConfig(**(values | changes))


def model(kind="gate-op", dtype=torch.float64, seed=0, **changes):
    """A model whose weights are large enough for every part to matter."""
    torch.manual_seed(seed)
    made = GMSAClassifier(config(kind, **changes)).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval()


def batch(lengths=(13, 7, 1), dtype=torch.float64, seed=1, inputs=None):
    """Random frames, zeros where padded."""
    generator = torch.Generator().manual_seed(seed)
    valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    features = {
        name: torch.randn(*valid.shape, width, generator=generator, dtype=torch.float64).to(dtype) * valid[:, :, None]
        for name, width in (inputs or INPUTS).items()
    }
    return Batch(features, valid)


def alone(together, row):
    """One clip of a batch, without its padding."""
    length = int(together.valid[row].sum())
    features = {name: values[row : row + 1, :length] for name, values in together.features.items()}
    return Batch(features, together.valid[row : row + 1, :length])


# --- the model


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind, norm):
    """A clip's logits are the same alone, beside longer clips, and in any order."""
    made, clips = model(kind, layers=2, norm=norm), batch()
    together = made(clips)
    assert together.shape == (3, 5)
    for row in range(3):
        torch.testing.assert_close(made(alone(clips, row))[0], together[row], rtol=0, atol=1e-12)
    order = torch.tensor([2, 0, 1])
    turned = Batch({name: values[order] for name, values in clips.features.items()}, clips.valid[order])
    torch.testing.assert_close(made(turned), together[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("lengths", [(13, 7, 1), (13, 13)])
@pytest.mark.parametrize("kind", KINDS)
def test_trace_has_the_logits_of_forward(kind, lengths, dtype, tolerance):
    made, clips = model(kind, dtype, layers=2), batch(lengths, dtype)
    trace = made.trace(clips)
    torch.testing.assert_close(trace.logits, made(clips), rtol=tolerance, atol=tolerance)
    assert trace.valid is clips.valid
    assert not trace.logits.requires_grad
    assert not trace.layer("visual").output.requires_grad


def test_trace_fits_together():
    """Pooled vectors, residuals and norms are what the config says, worked out again from the trace."""
    made, clips = model(layers=2), batch()
    trace = made.trace(clips)
    encoder, layers = made.encoders["visual"], trace.layers["visual"]
    hidden = encoder.project(clips.features["visual"])
    for part, layer in zip(encoder.layers, layers, strict=True):
        torch.testing.assert_close(layer.input, part.norm_attention(hidden))
        torch.testing.assert_close(layer.output, part.attention.trace(layer.input, clips.valid).output)
        hidden = hidden + layer.output
        hidden = hidden + part.feed_forward(part.norm_feed_forward(hidden))
        torch.testing.assert_close(layer.encoded, hidden)
    for row, length in enumerate((13, 7, 1)):
        mean = encoder.norm(hidden)[row, :length].mean(0)
        torch.testing.assert_close(trace.pooled["visual"][row], mean)
    joined = torch.cat([trace.pooled["visual"], trace.pooled["audio"]], -1)
    torch.testing.assert_close(trace.logits, made.classifier(joined))
    assert trace.layer("visual", 1) is layers[1]


def test_post_norm_fits_together():
    made, clips = model("baseline", norm="post"), batch()
    layer, part = made.trace(clips).layer("audio"), made.encoders["audio"].layers[0]
    torch.testing.assert_close(layer.input, made.encoders["audio"].project(clips.features["audio"]))
    hidden = part.norm_attention(layer.input + layer.output)
    torch.testing.assert_close(layer.encoded, part.norm_feed_forward(hidden + part.feed_forward(hidden)))


@pytest.mark.parametrize("kind", KINDS)
def test_trace_with_grad_can_be_differentiated_by_anything(kind):
    """By X, by the maps, by features and by parameters; and forward's gradient is the same."""
    made, clips = model(kind), batch()
    for values in clips.features.values():
        values.requires_grad_()
    trace = made.trace(clips, grad=True)
    layer = trace.layer("visual")
    wanted = [layer.input, *layer.weights.values(), *layer.gates.values(), clips.features["visual"], *made.parameters()]
    target = trace.logits[:, 2].sum()
    grads = torch.autograd.grad(target, wanted, retain_graph=True, allow_unused=True)
    assert all(grad is not None and grad.isfinite().all() for grad in grads[-len(list(made.parameters())) :])
    assert grads[0].abs().sum() > 0
    if "combined" in layer.weights:
        combined = torch.autograd.grad(target, layer.weights["combined"], retain_graph=True)[0]
        assert combined.abs().sum() > 0
    expected = torch.autograd.grad(made(clips)[:, 2].sum(), clips.features["visual"])[0]
    found = torch.autograd.grad(target, clips.features["visual"])[0]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_model_can_be_differentiated_by_its_input(kind):
    narrow = {"visual": 4, "audio": 2}
    made, clips = model(kind, widths=None, heads=2, modalities=narrow), batch(inputs=narrow)
    made.requires_grad_(False)
    with torch.no_grad():
        trace = made.trace(clips, grad=True)
    inputs = trace.layer("visual").input
    assert torch.autograd.grad(trace.logits.sum(), inputs)[0].abs().sum() > 0
    assert not clips.features["visual"].requires_grad, "the caller's tensors are left as they were"


def test_trace_layer_names_what_there_is():
    trace = model().trace(batch())
    with pytest.raises(KeyError, match=r"no modality 'text'.*visual, audio"):
        trace.layer("text")
    with pytest.raises(IndexError, match="no layer 1 of 'audio'; it has 1"):
        trace.layer("audio", 1)


def test_one_modality_alone_and_any_name():
    made = model(modalities={"sound": 7}, widths={"sound": 8})
    assert made(batch(inputs={"sound": 7})).shape == (3, 5)
    assert made.classifier.in_features == 8


def test_baseline_does_not_care_for_the_order_of_frames():
    made, clips = model("baseline"), batch((13, 13))
    order = torch.randperm(13, generator=torch.Generator().manual_seed(0))
    shuffled = Batch({name: values[:, order] for name, values in clips.features.items()}, clips.valid)
    torch.testing.assert_close(made(shuffled), made(clips))


def test_control_looks_at_each_frame_alone():
    """Without attention the encoder is a function of the frame; the trace says that the block adds nothing."""
    made, clips = model("none"), batch((13, 13))
    before = made.trace(clips).layer("visual")
    assert before.weights == {}
    assert (before.output == 0).all()
    clips.features["visual"][:, 4] += 1
    changed = (made.trace(clips).layer("visual").encoded != before.encoded).any(-1).any(0)
    assert changed.nonzero().flatten().tolist() == [4]
    assert made.encoders["visual"].layers[0].attention is None


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16(kind):
    made, clips = model(kind, torch.float32), batch(dtype=torch.float32)
    expected = made(clips)
    halves = made.to(torch.bfloat16)
    found = halves(clips.to(dtype=torch.bfloat16))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.1)
    torch.testing.assert_close(
        halves.trace(clips.to(dtype=torch.bfloat16)).logits.float(), found.float(), rtol=0.1, atol=0.1
    )


def test_dropout_only_in_training():
    made, clips = model(dropout=0.5), batch()
    assert made(clips).equal(made(clips))
    made.train()
    assert not made(clips).equal(made(clips))


def test_mean_over_valid_by_hand():
    frames = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [float("nan"), 9.0]], [[5.0, 5.0], [7.0, 1.0], [0.0, 0.0]]])
    valid = torch.tensor([[True, True, False], [True, True, True]])
    assert mean_over_valid(frames, valid).tolist() == [[2.0, 4.0], [4.0, 2.0]]
    assert mean_over_valid(frames[1:], None).tolist() == [[4.0, 2.0]]


def test_mean_over_valid_in_half_precision():
    frames = torch.ones(1, 300, 1, dtype=torch.bfloat16)
    assert mean_over_valid(frames, torch.ones(1, 300, dtype=torch.bool)).item() == 1.0


# --- sizes


def parameters(kind, neighbourhood, **changes):
    """Parameters at paper size, and MiB; nothing is allocated."""
    with torch.device("meta"):
        made = GMSAClassifier(ModelConfig(kind, {"visual": 1024, "audio": 128}, 3862, neighbourhood, **changes))
    return sum(parameter.numel() for parameter in made.parameters()), parameter_mib(made)


@pytest.mark.parametrize("bias", [True, False])
def test_steps_over_baseline_at_paper_size(bias):
    """Exactly what PAPER.md reads from the disk sizes, biases counted."""
    baseline, baseline_mib = parameters("baseline", None, bias=bias)
    for neighbourhood in (BlockDiagonal(20), Toeplitz(30), ToeplitzDilated(60, 4)):
        assert parameters("share-att", neighbourhood, bias=bias)[0] - baseline == 0
        gated, gated_mib = parameters("gate-op", neighbourhood, bias=bias)
        assert gated - baseline == 3 * (1024**2 + 128**2)
        assert gated_mib - baseline_mib == pytest.approx(12.19, abs=0.005)
    for neighbourhood in (BlockDiagonal(10), Toeplitz(10), ToeplitzDilated(80)):
        gated, gated_mib = parameters("gate-att", neighbourhood, bias=bias)
        assert gated - baseline == 2 * 2 * 300**2
        assert (gated_mib - baseline_mib) / 2 == pytest.approx(0.687, abs=0.001), "a modality"


def test_baseline_parameters_by_hand():
    attention = sum(4 * (d * d + d) for d in (1024, 128))
    feed_forward = sum(2 * (2 * d * d) + 2 * d + d for d in (1024, 128))
    norms = sum(3 * 2 * d for d in (1024, 128))
    classifier = 1152 * 3862 + 3862
    count, mib = parameters("baseline", None)
    assert count == attention + feed_forward + norms + classifier
    assert mib == pytest.approx(count * 4 / 2**20)
    assert round(mib, 1) == 49.5


def test_mib_of_half_precision_is_half():
    made = model(dtype=torch.float32)
    assert parameter_mib(made.to(torch.bfloat16)) == parameter_mib(model(dtype=torch.float32)) / 2


# --- the config


@pytest.mark.parametrize("kind", KINDS)
def test_config_round_trip_through_json(kind):
    narrow = {"widths": None, "heads": 2, "modalities": {"a": 4, "b": 2}}
    for changes in ({}, narrow, {"norm": "post", "layers": 3, "dropout": 0.1, "bias": False}):
        before = config(kind, **changes)
        assert ModelConfig.from_dict(json.loads(json.dumps(before.to_dict()))) == before


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().heads = 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"attention": "gate"},
            r"attention 'gate' is unknown; known: baseline, share-att, gate-att, gate-op, gate-op-scales, local",
        ),
        ({"norm": "batch"}, "norm 'batch' is unknown; known: pre, post"),
        ({"classes": -1}, "classes is -1"),
        ({"heads": 0}, "heads is 0"),
        ({"layers": -1}, "layers is -1"),
        ({"max_frames": 0}, "max_frames is 0"),
        ({"feed_forward": 0}, "feed_forward is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"modalities": {}}, "modalities has no entries"),
        ({"modalities": {"visual": 0, "audio": 7}}, r"modalities\['visual'\] is 0"),
        ({"modalities": {"a.b": 3}, "widths": None}, "without dots"),
        ({"widths": {"visual": 12}}, r"widths are for \['visual'\]; modalities are"),
        ({"widths": {"visual": 12, "audio": 9}}, "4 heads do not divide the width 9 of 'audio'"),
        ({"neighbourhood": None}, "'gate-op' has a local branch and needs a neighbourhood"),
        ({"attention": "baseline"}, "'baseline' takes no neighbourhood"),
        ({"attention": "none"}, "'none' takes no neighbourhood"),
        ({"attention": "share-att", "heads": 1}, "heads is 1, which is odd"),
        ({"neighbourhood": SCALES}, "'gate-op' takes one neighbourhood, got Scales"),
        ({"attention": "gate-op-scales"}, "'gate-op-scales' takes Scales, as TP5"),
    ],
)
def test_configs_that_cannot_be(changes, message):
    values = {"attention": "gate-op", "neighbourhood": Toeplitz(5)} | changes
    with pytest.raises(ConfigError, match=message):
        config(values.pop("attention") if values["attention"] in ATTENTION else "gate-op", **(values | changes))


def test_config_from_dict_names_fields():
    values = config().to_dict()
    with pytest.raises(ConfigError, match="no colour, shape; it has attention"):
        ModelConfig.from_dict(values | {"shape": 3, "colour": 1})
    with pytest.raises(ConfigError, match="needs modalities, classes; got attention"):
        ModelConfig.from_dict({"attention": "none"})
    with pytest.raises(ArgumentError, match="unknown"):
        ModelConfig.from_dict(values | {"neighbourhood": {"kind": "ring"}})


def test_vocabulary_must_fit():
    with pytest.raises(ConfigError, match="the vocabulary has 1 classes, the config 5"):
        GMSAClassifier(config(), Vocabulary("youtube-8m", (3,), ("Game",)))


# --- batches


def test_batches_that_do_not_fit():
    made = model()
    with pytest.raises(ArgumentError, match="a batch of 19 frames; the model takes at most 17"):
        made(batch((19,)))
    with pytest.raises(ArgumentError, match="no modality 'audio' in a batch of visual"):
        made(batch(inputs={"visual": 11}))
    with pytest.raises(ArgumentError, match=r"'audio' has shape \(3, 13, 5\); expected \(3, 13, 7\)"):
        made(batch(inputs={"visual": 11, "audio": 5}))
    with pytest.raises(ArgumentError, match="clip 1 of the batch has no valid frame"):
        made(batch((3, 0)))
    for refused in (batch((19,)), batch(inputs={"visual": 11})):
        with pytest.raises(ArgumentError):
            made.trace(refused)
    assert issubclass(ArgumentError, ValueError)


def test_modalities_that_the_model_lacks_are_left_alone():
    made, clips = model(), batch(inputs=INPUTS | {"text": 3})
    assert made(clips).equal(made(batch()))


def test_longest_clip_goes_through():
    for kind in KINDS:
        assert model(kind)(batch((17, 2))).isfinite().all()
