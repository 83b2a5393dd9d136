"""The logit of a stream with some frames replaced by one and the same frame, where no branch is local.

How: docs/concepts/explanations.md.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from analysis.explanations.incremental.after_attention import AfterAttention
from analysis.explanations.stream import Stream
from gmsa_models.attention import Baseline, join_heads
from gmsa_models.attention.functions import Heads

__all__ = ["EqualFrames"]


class EqualFrames:
    """Logits of one choice of frames after another; replaced frames are equal in every layer, so one stands for all.

    Args:
        stream: one that it `serves`, in evaluation mode.
        both: embedded frames of the clip, and those that replace them.
    """

    def __init__(self, stream: Stream, both: Float[Tensor, "2 frames dim"]) -> None:
        self._layers, self._after = stream.encoder.layers, AfterAttention(stream)
        own, other = both
        # The frames of the clip, and behind them the one that replaces.
        self._frames, first = torch.cat([own, other[:1]]), self._layers[0]
        self._projected = tuple(each[0] for each in first.block.project(first.attention_input(self._frames[None])))

    @staticmethod
    def serves(stream: Stream, other: Float[Tensor, "frames dim"]) -> bool:
        """Whether every layer has global attention only, and the frames that replace are all the same.

        Args:
            stream: one that `is_as_written`.
            other: embedded frames that replace those of the clip.
        """
        return all(type(layer.attention) is Baseline for layer in stream.encoder.layers) and bool(
            (other == other[:1]).all()
        )

    def __call__(self, kept: Bool[Tensor, "choices frames"]) -> Float[Tensor, " choices"]:
        """The logits with the frames where `kept` is False replaced."""
        scores, counts = self._frames.new_empty(len(kept)), kept.sum(1)
        for count in counts.unique().tolist():
            some = (counts == count).nonzero()[:, 0]
            scores[some] = self._scores(kept[some].nonzero()[:, 1].view(len(some), count))
        return scores

    def _scores(self, places: Int[Tensor, "choices kept"]) -> Float[Tensor, " choices"]:
        """Logits of choices that keep equally many frames."""
        count = len(self._frames) - 1
        replaced = count - places.shape[1]
        if replaced:
            places = functional.pad(places, (0, 1), value=count)
        times = self._frames.new_ones(places.shape[1])
        times[-1] = max(replaced, 1)
        first, *others = self._layers
        query, key, value = (each[:, places].transpose(0, 1) for each in self._projected)
        output = first.block.output(join_heads(_attention(query, key, value, times)))
        hidden = self._frames[places]
        for layer in others:
            hidden = first.finish(hidden, output)
            first, inputs = layer, layer.attention_input(hidden)
            output = layer.block.output(join_heads(_attention(*layer.block.project(inputs), times)))
        shares = self._after(hidden.add_(output).flatten(0, 1)).view(places.shape)
        return shares @ times / count


def _attention(query: Heads, key: Heads, value: Heads, times: Float[Tensor, " keys"]) -> Heads:
    """softmax(Q K^T / sqrt(d)) V with each key so many times."""
    many = times.log()[None, None, None].expand(len(query), 1, query.shape[2], -1)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=many)
