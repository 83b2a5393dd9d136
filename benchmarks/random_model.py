"""A transformers model with random weights in a folder, as `save_pretrained` writes one; nothing is downloaded.

Its configuration says `weights: "random"`, which stands wherever the model's name is shown. Small by default; `--base`
takes the sizes of the published base models.

    python benchmarks/random_model.py videomae FOLDER [--base] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import transformers

CLASSES = ("Bicycle", "Car", "Dog", "House", "Person", "Sign language", "Street")
_SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
_PICTURES = {**_SMALL, "image_size": 64, "patch_size": 16}
_TABLE = {
    "videomae": (
        "VideoMAEConfig", "VideoMAEForVideoClassification", {**_PICTURES, "num_frames": 16, "tubelet_size": 2},
    ),
    "vivit": (
        "VivitConfig", "VivitForVideoClassification",
        {**_SMALL, "image_size": 64, "num_frames": 16, "tubelet_size": [2, 16, 16]},
    ),
    "timesformer": ("TimesformerConfig", "TimesformerForVideoClassification", {**_PICTURES, "num_frames": 8}),
    "vjepa2": (
        "VJEPA2Config", "VJEPA2ForVideoClassification",
        {
            "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "patch_size": 16, "crop_size": 64,
            "frames_per_clip": 16, "pred_hidden_size": 48, "pred_num_attention_heads": 4, "pred_num_hidden_layers": 1,
            "num_pooler_layers": 1,
        },
    ),
    "ast": ("ASTConfig", "ASTForAudioClassification", {**_SMALL, "max_length": 1024}),
    "whisper": (
        "WhisperConfig", "WhisperModel",
        {
            "d_model": 48, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 96,
            "decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 96,
        },
    ),
    "wav2vec2": (
        "Wav2Vec2Config", "Wav2Vec2ForSequenceClassification", {**_SMALL, "num_conv_pos_embedding_groups": 4},
    ),
    "vit": ("ViTConfig", "ViTForImageClassification", _PICTURES),
    "dinov2": ("Dinov2Config", "Dinov2ForImageClassification", _PICTURES),
    "clip": ("CLIPVisionConfig", "CLIPVisionModel", _PICTURES),
    "swin": (
        "SwinConfig", "SwinForImageClassification",
        {"image_size": 56, "patch_size": 2, "embed_dim": 12, "depths": [2, 2], "num_heads": [2, 4]},
    ),
}  # fmt: skip
KINDS = tuple(_TABLE)
BASE = {"vivit": {"num_frames": 32}}
EXTRACTORS = {
    "ast": "ASTFeatureExtractor",
    "whisper": "WhisperFeatureExtractor",
    "wav2vec2": "Wav2Vec2FeatureExtractor",
}


def write_model(kind: str, folder: str | Path, seed: int = 0, base: bool = False, **sizes: Any) -> Path:
    """Write a model and the configuration of its processor.

    Args:
        kind: of `KINDS`.
        folder: made if it is absent.
        seed: of the weights; those of queries and keys are so large that attention is far from uniform.
        base: sizes of the published base model, as its configuration has them by default.
        sizes: others in their place.

    Returns:
        The folder.
    """
    config_name, model_name, small = _TABLE[kind]
    folder = Path(folder)
    torch.manual_seed(seed)
    chosen = {**(BASE.get(kind, {}) if base else small), **sizes, "weights": "random"}
    if kind not in ("whisper", "clip"):
        chosen["id2label"] = dict(enumerate(CLASSES))
    config = getattr(transformers, config_name)(**chosen)
    model = getattr(transformers, model_name)(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and any(word in name for word in ("query", "key", "q_proj", "k_proj", "qkv")):
                parameter.normal_(std=2.0 / parameter.shape[1] ** 0.5)
    model.save_pretrained(folder)
    if kind in EXTRACTORS:
        getattr(transformers, EXTRACTORS[kind])().save_pretrained(folder)
    else:
        _write_pictures(folder, config)
    return folder


def _write_pictures(folder: Path, config: Any) -> None:
    side = getattr(config, "image_size", getattr(config, "crop_size", None))
    values = {
        "do_resize": True, "size": {"shortest_edge": side}, "resample": 2, "do_center_crop": True,
        "crop_size": {"height": side, "width": side}, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Write the model that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", action="store_true", help="the sizes of the published base model")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(f"wrote {write_model(arguments.kind, arguments.folder, arguments.seed, arguments.base)}")


if __name__ == "__main__":
    main()
