"""The logit of a stream with some frames replaced, where each frame is projected once for all choices of them.

How: docs/concepts/explanations.md.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.explanations.incremental.after_attention import AfterAttention
from analysis.explanations.stream import Stream

__all__ = ["KeptProjections"]


class KeptProjections:
    """Logits of one choice of frames after another.

    Args:
        stream: one that it `serves`, in evaluation mode.
        both: embedded frames of the clip, and those that replace them.
    """

    def __init__(self, stream: Stream, both: Float[Tensor, "2 frames dim"]) -> None:
        self._stream, self._both = stream, both
        first = stream.encoder.layers[0]
        self._projected = first.block.project(first.attention_input(both))
        self._after = AfterAttention(stream)

    @staticmethod
    def serves(stream: Stream) -> bool:
        """Whether every layer has attention; of a stream that `is_as_written`."""
        return all(layer.attention is not None for layer in stream.encoder.layers)

    def __call__(self, kept: Bool[Tensor, "choices frames"]) -> Float[Tensor, " choices"]:
        """The logits with the frames where `kept` is False replaced."""
        first, *others = self._stream.encoder.layers
        of_heads = kept[:, None, :, None]
        output = first.block.attend(*(torch.where(of_heads, own, other) for own, other in self._projected))
        own, other = self._both
        hidden = torch.where(kept[:, :, None], own, other)
        for layer in others:
            hidden = first.finish(hidden, output)
            first, output = layer, layer.block(layer.attention_input(hidden))
        return self._after(hidden.add_(output).flatten(0, 1)).view(kept.shape).mean(1)
