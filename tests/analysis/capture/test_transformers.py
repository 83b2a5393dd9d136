"""capture on transformers models: maps as their eager code returns them, layouts as their configuration says."""

import pytest
import torch
from foreign_models import FOREIGN, main_input, run
from torch import nn

from analysis.capture import capture

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.mark.parametrize("name", FOREIGN)
def test_maps_are_those_of_the_eager_code_and_outputs_the_same_to_the_bit(name):
    foreign = FOREIGN[name]
    model, eager = foreign.build(), foreign.build("eager")
    values = foreign.example()
    with torch.no_grad():
        expected = run(model, values)[0]
        with capture(model) as result:
            output = run(model, values)[0]
        returned = run(eager, values, output_attentions=True).attentions
        with capture(eager, layers=[foreign.returned]) as written_out:
            run(eager, values)
    assert torch.equal(output, expected)
    assert len(result) == foreign.calls
    assert len(returned) == len(written_out)
    if not foreign.eager_only:
        assert {call.kind for call in result} == {"scaled_dot_product_attention"}
        fused = [result[call.name] for call in written_out]
        assert all(torch.allclose(call.weights, each, atol=1e-6) for call, each in zip(fused, returned, strict=True))
    assert all(torch.equal(call.weights, each) for call, each in zip(written_out, returned, strict=True))


@pytest.mark.parametrize("name", FOREIGN)
def test_layouts_are_recognised(name):
    foreign = FOREIGN[name]
    model = foreign.build()
    with torch.no_grad(), capture(model, reduce="frames") as result:
        run(model, foreign.example(3))
    assert len(result) == foreign.calls
    for call in result:
        frames = call.frames
        assert frames.weights.shape == (3, call.shape[1], foreign.frames, foreign.frames)
        assert torch.allclose(frames.weights.sum(-1) + frames.outside, torch.ones(()))
        assert (frames.outside > 0).any() == any((table.frame < 0).any() for table in call.tables)


@pytest.mark.parametrize("name", ["VideoMAE", "ViViT", "V-JEPA 2", "AST", "Whisper encoder", "wav2vec2"])
def test_tokens_of_a_frame_are_those_that_its_input_changes(name):
    """Change the input of one time step: of the keys of the first layer, only those of its tokens may change."""
    foreign = FOREIGN[name]
    model = foreign.build()
    keys = []
    layer = next(each for path, each in model.named_modules() if path.endswith(("key", "k_proj")))
    layer.register_forward_hook(lambda module, inputs, output: keys.append(output))
    values = foreign.example(1)
    changed = values.clone()
    axis, first, length = changed_step(name)
    changed.narrow(axis, first, length).add_(3.0)
    with torch.no_grad(), capture(model, layers=[0]) as result:
        run(model, values)
        run(model, changed)
    frame = result.calls[0].tables[1].frame[0, 0]
    moved = (keys[0] - keys[1]).abs().amax(-1)[0] > 1e-5
    assert set(frame[moved].tolist()) <= set(allowed_steps(name))
    assert 4 in frame[moved]
    if name in ("VideoMAE", "ViViT", "V-JEPA 2"):
        assert (frame[moved] == 4).all()
        assert moved.sum() == 9


def changed_step(name):
    """Axis, first index and length of what belongs to time step 4 alone, where there is such a thing."""
    return {"AST": (1, 13, 2), "Whisper encoder": (2, 8, 1), "wav2vec2": (1, 48, 1)}.get(name, (1, 8, 2))


def allowed_steps(name):
    """Steps that those inputs may be part of: windows overlap, convolutions reach over."""
    return {"AST": [4], "Whisper encoder": [3, 4, 5], "wav2vec2": range(13)}.get(name, [4])


def test_timesformer_gives_its_temporal_maps():
    foreign = FOREIGN["TimeSformer"]
    model = foreign.build()
    values = foreign.example()
    with torch.no_grad(), capture(model, layers=["*.temporal_attention.*"]) as result:
        returned = run(model, values, output_attentions=True).attentions
    assert [call.shape for call in result] == [(2 * 9, 2, 7, 7)] * 2
    assert all(each.shape[-1] == 10 for each in returned)  # what transformers returns are the spatial ones
    for call in result:
        by_patch = call.weights.unflatten(0, (2, 9))
        assert torch.allclose(call.frames.weights, by_patch.mean(1), atol=1e-6)
        assert torch.allclose(call.spatial_map(3).sum(-1), by_patch.mean(1)[:, :, 3], atol=1e-6)


def test_swin_windows_hold_the_patches_of_the_picture():
    foreign = FOREIGN["Swin"]
    model = foreign.build()
    picture = torch.arange(14.0 * 14).reshape(1, 1, 14, 14).repeat_interleave(2, 2).repeat_interleave(2, 3)
    inputs = []
    for block in model.encoder.layers[0].blocks:
        block.layernorm_before.register_forward_pre_hook(lambda module, args: inputs.append(args[0][0]))
        query = block.attention
        query.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    with torch.no_grad(), capture(model, layers=["*layers.0.*"]) as result:
        run(model, picture.expand(1, 3, -1, -1))
    for call, before, windows in zip(result, inputs[::2], inputs[1::2], strict=True):
        block = model.encoder.layers[0].blocks[list(result).index(call)]
        tokens = block.layernorm_before(before)[call.tables[1].patch[0]]
        assert torch.allclose(tokens, windows, atol=1e-6)


def test_padded_frames_of_wav2vec2_are_outside():
    foreign = FOREIGN["wav2vec2"]
    model = foreign.build()
    mask = torch.ones(2, 145, dtype=torch.int64)
    mask[1, 80:] = 0
    with torch.no_grad(), capture(model, reduce="frames") as result:
        run(model, foreign.example(), attention_mask=mask)
    frames = result.calls[0].frames
    assert (frames.weights[1, :, 7:] == 0).all()
    assert (frames.weights[1, :, :, 7:] == 0).all()
    assert torch.allclose(frames.weights[1, :, :7, :7].sum(-1), torch.ones(()), atol=1e-6)


class Classifier(nn.Module):
    """A transformers model inside a module of its own."""

    def __init__(self, model):
        super().__init__()
        self.backbone = model

    def forward(self, values):
        return run(self.backbone, values)[0].mean(1)


def test_a_model_inside_a_module_is_recognised():
    foreign = FOREIGN["TimeSformer"]
    module = Classifier(foreign.build())
    with torch.no_grad(), capture(module, reduce="frames") as result:
        module(foreign.example())
    assert result.names[0] == "backbone.encoder.layer.0.temporal_attention.attention"
    assert [call.shape[3] for call in result] == [7, 10, 7, 10]


def test_other_attention_of_a_recognised_model_is_left_out():
    foreign = FOREIGN["V-JEPA 2"]
    model = foreign.build()
    with torch.no_grad(), capture(model, reduce="frames") as result:
        model(**{main_input(model): foreign.example()})
    assert result.names == ("encoder.layer.0.attention", "encoder.layer.1.attention")
    assert list(result.skipped) == ["predictor.layer.0.attention"]


def test_tokens_that_were_masked_out_have_the_frames_that_they_are_of():
    """The encoder has the visible tokens, the decoder these and then the masked ones; others in each clip."""
    import transformers

    foreign = FOREIGN["VideoMAE"]
    config = transformers.VideoMAEConfig(**foreign.sizes, decoder_num_hidden_layers=1, decoder_num_attention_heads=2)
    torch.manual_seed(0)
    model = transformers.VideoMAEForPreTraining(config).eval()
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.1 * torch.randn(each.shape))
    mask = torch.stack([torch.randperm(63) < 30 for _ in range(2)])
    inputs = foreign.example(2)
    with torch.no_grad(), capture(model) as tokens:
        model(inputs, bool_masked_pos=mask)
    with torch.no_grad(), capture(model, reduce="frames") as result:
        model(inputs, bool_masked_pos=mask)
    assert [call.shape[-1] for call in result] == [33] * (len(result) - 1) + [63]
    for call, whole in zip(result, tokens, strict=True):
        for clip, hidden in enumerate(mask):
            order = (~hidden).nonzero()[:, 0]
            order = torch.cat([order, hidden.nonzero()[:, 0]]) if "decoder" in call.module else order
            frame = torch.nn.functional.one_hot(order // 9, 7).float()
            expected = (frame.T @ whole.weights[clip] @ frame) / frame.sum(0)[:, None]
            torch.testing.assert_close(call.frames.weights[clip], expected, atol=1e-5, rtol=0)
