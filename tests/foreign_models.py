"""Small transformers models with random weights, whose sizes are distinct primes where the model allows; no network."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Foreign:
    """A transformers model.

    Attributes:
        model: class name.
        config: class name of its configuration.
        sizes: arguments of that.
        inputs: shape of its main input.
        calls: attention calls of a pass.
        frames: time steps that its layout has.
        returned: pattern of the calls whose maps are in the `attentions` of its output.
        eager_only: whether it knows no SDPA.
    """

    model: str
    config: str
    sizes: dict
    inputs: tuple[int, ...]
    calls: int
    frames: int
    returned: str = "*"
    eager_only: bool = False

    def build(self, implementation: str = "sdpa") -> nn.Module:
        """The model in evaluation mode; the same weights whatever the implementation of its attention is."""
        import transformers  # takes seconds: here, and not where tests are collected
        from transformers.models.whisper.modeling_whisper import WhisperEncoder  # which it does not export

        torch.manual_seed(5)
        config = getattr(transformers, self.config)(**self.sizes)
        config._attn_implementation = "eager" if self.eager_only else implementation
        kind = WhisperEncoder if self.model == "WhisperEncoder" else getattr(transformers, self.model)
        return kind(config).eval()

    def example(self, batch: int = 2) -> Tensor:
        """A random input."""
        return torch.randn(batch, *self.inputs, generator=torch.Generator().manual_seed(7))


_SMALL = {"hidden_size": 22, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 26}
_VIDEO = {**_SMALL, "image_size": 15, "patch_size": 5}

FOREIGN = {
    "VideoMAE": Foreign(
        "VideoMAEModel", "VideoMAEConfig", {**_VIDEO, "num_frames": 14, "tubelet_size": 2}, (14, 3, 15, 15), 2, 7,
    ),
    "ViViT": Foreign(
        "VivitModel", "VivitConfig", {**_SMALL, "image_size": 15, "num_frames": 14, "tubelet_size": [2, 5, 5]},
        (14, 3, 15, 15), 2, 7,
    ),
    "TimeSformer": Foreign(
        "TimesformerModel", "TimesformerConfig", {**_VIDEO, "num_frames": 7}, (7, 3, 15, 15), 4, 7,
        "*layer.?.attention.*", True,
    ),
    "V-JEPA 2": Foreign(
        "VJEPA2Model", "VJEPA2Config",
        {
            "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "crop_size": 15, "patch_size": 5,
            "frames_per_clip": 14, "tubelet_size": 2, "pred_hidden_size": 24, "pred_num_hidden_layers": 1,
            "pred_num_attention_heads": 2,
        },
        (14, 3, 15, 15), 2, 7,
    ),
    "AST": Foreign(
        "ASTModel", "ASTConfig",
        {**_SMALL, "patch_size": 4, "frequency_stride": 3, "time_stride": 3, "max_length": 22, "num_mel_bins": 16},
        (22, 16), 2, 7,
    ),
    "Whisper encoder": Foreign(
        "WhisperEncoder", "WhisperConfig",
        {
            "d_model": 22, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 26,
            "num_mel_bins": 5, "max_source_positions": 13,
        },
        (5, 26), 2, 13,
    ),
    "wav2vec2": Foreign(
        "Wav2Vec2Model", "Wav2Vec2Config",
        {
            **_SMALL, "conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2,
            "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
        },
        (145,), 2, 13,
    ),
    "ViT": Foreign("ViTModel", "ViTConfig", _VIDEO, (3, 15, 15), 2, 1),
    "DINOv2": Foreign("Dinov2Model", "Dinov2Config", _VIDEO, (3, 15, 15), 2, 1),
    "DINOv2 with registers": Foreign(
        "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", {**_VIDEO, "num_register_tokens": 3}, (3, 15, 15), 2,
        1,
    ),
    "CLIP vision": Foreign("CLIPVisionModel", "CLIPVisionConfig", _VIDEO, (3, 15, 15), 2, 1),
    "Swin": Foreign(
        "SwinModel", "SwinConfig",
        {"image_size": 28, "patch_size": 2, "embed_dim": 6, "depths": [2, 2], "num_heads": [1, 3], "window_size": 7},
        (3, 28, 28), 4, 1, "*.blocks.1.*",
    ),
}  # fmt: skip


def main_input(model: nn.Module) -> str:
    """Name of the argument that takes the frames."""
    return model.main_input_name


def run(model: nn.Module, values: Tensor, **others: object) -> object:
    """The model's output."""
    if "skip_predictor" in inspect.signature(model.forward).parameters:
        others["skip_predictor"] = True
    return model(**{main_input(model): values}, **others)
