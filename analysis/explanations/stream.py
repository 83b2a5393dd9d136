"""Stream: what one modality adds to the logit of one class, as a function of its frames.

How: docs/concepts/explanations.md.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gmsa_models.classifier import Encoder, GMSAClassifier, check_encoder, mean_over_valid
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError
from gmsa_models.hooks import check_hooks, is_changed, plain_weight
from gmsa_models.trace import LayerTrace

__all__ = ["WIDTH", "Stream", "check_layers", "clips_together", "stream_inputs", "streams"]

# Frames of width 128 that pass through an encoder together, and fewer wider ones: enough for matrix products, few
# enough that what is made of them on the way stays in memory (`benchmarks/paper_size.py`).
FRAMES_TOGETHER, WIDTH = 3000, 128

_WEIGHTS_ALONE = "this analysis takes its weights alone"


class Stream(nn.Module):
    """w_m . pooled_m of one modality and class, without the classifier's bias.

    Args:
        model: the classifier; its parameters are shared, not copied.
        modality: which stream.
        target: position of the class among the model's outputs.

    Raises:
        ArgumentError: a modality or a target that the model lacks; a classifier that computes something else than its
            weights say.
    """

    def __init__(self, model: GMSAClassifier, modality: str, target: int) -> None:
        super().__init__()
        if modality not in model.encoders:
            raise ArgumentError(f"no modality {modality!r} in this model; it has {', '.join(model.encoders)}")
        if not 0 <= target < model.config.classes:
            raise ArgumentError(f"target is {target}; the model has classes 0 to {model.config.classes - 1}")
        self.encoder = model.encoders[modality]
        names = list(model.encoders)
        start = sum(model.config.width(name) for name in names[: names.index(modality)])
        weight = plain_weight(model.classifier, "the classifier")
        self.weights = weight[target, start : start + model.config.width(modality)].detach()

    def forward(self, frames: Float[Tensor, "batch frames width"]) -> Float[Tensor, " batch"]:
        """One number a clip; every frame is real, and taken in the model's type (captum makes others)."""
        return self.resume(self.encoder.embed(frames.to(self.weights.dtype)))

    def trace(self, inputs: Float[Tensor, "frames width"], grad: bool = False) -> tuple[Tensor, tuple[LayerTrace, ...]]:
        """Encoded frames of one clip, and a trace of every layer.

        Raises:
            ArgumentError: a forward hook on the encoder, a layer or an attention block that changes the frames, as a
                trace does not pass through it.
        """
        check_encoder(self.encoder, inputs)
        return self.encoder.trace(inputs[None], None, grad)

    def resume(self, hidden: Float[Tensor, "batch frames dim"]) -> Float[Tensor, " batch"]:
        """The same from embedded frames."""
        return self.pool(self.encoder.resume(hidden))

    def pool(self, frames: Float[Tensor, "batch frames dim"]) -> Float[Tensor, " batch"]:
        """The same from what the encoder gives."""
        return mean_over_valid(frames, None) @ self.weights


def clips_together(frames: int, width: int = WIDTH) -> int:
    """How many clips of so many frames of some width are taken at once; at least one."""
    return max(1, FRAMES_TOGETHER * WIDTH // (max(WIDTH, width) * max(1, frames)))


def streams(model: GMSAClassifier, target: int, clip: Clip) -> dict[str, Stream]:
    """The stream of every modality, in the model's order; neighbourhoods that depend on the clip stay those of this.

    Raises:
        ArgumentError: a forward hook on the model, an encoder as a whole or the classifier that changes the logits:
            streams do not pass through it.
    """
    bound = model.bound_to(clip)
    made = {modality: Stream(bound, modality, target) for modality in bound.encoders}

    def whole(replica: GMSAClassifier) -> object:
        logits: object = replica(_batch(replica, clip))
        return logits[:, target].clone() if isinstance(logits, Tensor) and logits.ndim == 2 else logits

    def summed(replica: GMSAClassifier) -> Float[Tensor, " one"]:
        inputs = stream_inputs(replica, clip)
        logits = sum(Stream(replica, name, target)(inputs[name][None]) for name in made)
        return logits if replica.classifier.bias is None else logits + replica.classifier.bias[target]

    check_hooks(bound, [bound, *bound.encoders.values()], whole, summed)
    return made


def check_layers(encoder: Encoder) -> None:
    """Refuse an encoder whose norms or feed-forward layers do something else than their weights say.

    Raises:
        ArgumentError: a layer of another class, or with hooks.
    """
    for number, layer in enumerate(encoder.layers):
        for name in ("norm_attention", "norm_feed_forward"):
            _check_norm(getattr(layer, name), f"layers.{number}.{name}")
        parts = list(layer.feed_forward)
        if type(layer.feed_forward) is not nn.Sequential or any(map(is_changed, (layer.feed_forward, *parts[1::2]))):
            raise ArgumentError(f"layers.{number}.feed_forward is changed or has hooks; {_WEIGHTS_ALONE}")
        for place, each in enumerate(parts[::2]):
            plain_weight(each, f"layers.{number}.feed_forward.{2 * place}")
    _check_norm(encoder.norm, "the encoder's last norm")


def _check_norm(norm: nn.Module, name: str) -> None:
    if type(norm) not in (nn.LayerNorm, nn.Identity) or is_changed(norm):
        raise ArgumentError(f"{name} is a {type(norm).__name__} that is changed or has hooks; {_WEIGHTS_ALONE}")


def _batch(model: GMSAClassifier, clip: Clip) -> Batch:
    weight, short = next(model.parameters()), clip.cut(model.config.max_frames)
    return Batch.from_clips((short,), tuple(model.config.modalities)).to(weight.device, weight.dtype)


def stream_inputs(model: GMSAClassifier, clip: Clip) -> dict[str, Float[Tensor, "frames width"]]:
    """Frames of every modality as the model takes them: cut to its longest clip, in its type, on its device.

    Raises:
        KeyError: the clip lacks a modality.
    """
    weight, short = next(model.parameters()), clip.cut(model.config.max_frames)
    return {name: torch.from_numpy(short.floats(name)).to(weight) for name in model.encoders}
