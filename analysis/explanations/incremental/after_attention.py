"""What follows the attention of a layer that is its encoder's last, for many frames and without gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from analysis.explanations.stream import Stream

__all__ = ["TOKENS", "AfterAttention"]

# Frames that go through together: what they need on the way stays in the cache.
TOKENS = 2048


class AfterAttention:
    """A frame's share of the sum of logits from h + Y, its layer's input plus what attention returned.

    It equals `EncoderLayer.finish`, the encoder's last norm and the product with the class's weights, in place where it
    can be.

    Args:
        stream: in evaluation mode.
    """

    def __init__(self, stream: Stream) -> None:
        layer, last = stream.encoder.layers[-1], stream.encoder.norm
        self._before = nn.Identity() if layer.norm_first else layer.norm_attention
        self._inside = layer.norm_feed_forward if layer.norm_first else nn.Identity()
        self._after = last if layer.norm_first else layer.norm_feed_forward
        self._widen, self._narrow = layer.feed_forward[:2], layer.feed_forward[2]
        self._weights = stream.weights

    def __call__(self, sums: Float[Tensor, "frames dim"]) -> Float[Tensor, " frames"]:
        """The shares; `sums` is overwritten."""
        shares = sums.new_empty(len(sums))
        for some, out in zip(sums.split(TOKENS), shares.split(TOKENS), strict=True):
            hidden = self._before(some)
            wide = self._widen(self._inside(hidden))
            hidden = hidden.add_(self._narrow.bias).addmm_(wide, self._narrow.weight.T)
            torch.mv(self._after(hidden), self._weights, out=out)
        return shares
