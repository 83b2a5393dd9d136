"""What follows a block when its heads hand on other contexts: a frame's share of a class's logit, row by row."""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from analysis.explanations.stream import Stream
from gmsa_models.attention import AttentionBlock

__all__ = ["FoldedRows"]


class FoldedRows:
    """A frame's share of the sum of logits after changes of its joined contexts, for layers with norms first.

    What a head changes goes linearly through W_O and the first feed-forward layer, up to the norm between them, which
    divides by one number a frame: W_O and that layer become one product for each head, of the width of a head. Both
    norms take the mean away from a frame, so all is of centred frames. `AfterAttention` of h + Y is the plain form.

    Args:
        stream: in evaluation mode; its last layer has norms first.
        block: that layer's, whose output is linear in its contexts.
    """

    def __init__(self, stream: Stream, block: AttentionBlock) -> None:
        layer, last = stream.encoder.layers[-1], stream.encoder.norm
        norm, wide, narrow = layer.norm_feed_forward, layer.feed_forward[0], layer.feed_forward[2]
        assert isinstance(wide, nn.Linear)
        assert isinstance(narrow, nn.Linear)
        assert isinstance(norm, nn.LayerNorm)
        assert isinstance(last, nn.LayerNorm)
        self._block, self._activation, self._eps = block, layer.feed_forward[1], (norm.eps, last.eps)
        self._first = _centred(wide.weight * norm.weight).mT.contiguous()
        self._shift = wide.bias + wide.weight @ norm.bias
        self._narrow, self._bias = _centred(narrow.weight.mT), _centred(narrow.bias)
        self._weights, self._constant = _centred(last.weight * stream.weights), last.bias @ stream.weights

    @cached_property
    def of_heads(self) -> dict[str, Float[Tensor, "heads head_dim width"]]:
        """Branch -> what a head's context is multiplied by, as of `prepare`: width is dim + hidden."""
        rows = {}
        for branch, weight in self._block.output_weights().items():
            heads = self._block.heads_of(branch)
            output = _centred(weight.mT).reshape(heads.stop - heads.start, -1, len(weight))
            rows[branch] = torch.cat([output, output @ self._first], -1)
        return rows

    def prepare(self, sums: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows width"]:
        """h + Y centred, and beside it the feed-forward's first product of it before the norm's division."""
        centred = _centred(sums)
        return torch.cat([centred, centred @ self._first], -1)

    def shares(self, prepared: Float[Tensor, "rows width"]) -> Float[Tensor, " rows"]:
        """The shares; the argument, of `prepare`, is overwritten."""
        sums, first = prepared.split(self._first.shape, -1)
        wide = self._activated(torch.addcmul(self._shift, first, _scale(sums, self._eps[0])[:, None], out=first))
        hidden = sums.add_(self._bias).addmm_(wide, self._narrow)
        return (hidden @ self._weights).mul_(_scale(hidden, self._eps[1])).add_(self._constant)

    def _activated(self, values: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows hidden"]:
        """The activation, in place where it is GELU: a second large array costs as much as the function."""
        if isinstance(self._activation, nn.GELU):
            return torch.ops.aten.gelu_(values, approximate=self._activation.approximate)
        return self._activation(values)


def _centred(values: Float[Tensor, "*any width"]) -> Float[Tensor, "*any width"]:
    return values - values.mean(-1, keepdim=True)


def _scale(frames: Float[Tensor, "rows dim"], eps: float) -> Float[Tensor, " rows"]:
    """What a layer norm multiplies centred frames by."""
    return torch.linalg.vector_norm(frames, dim=1).square_().div_(frames.shape[1]).add_(eps).rsqrt_()
