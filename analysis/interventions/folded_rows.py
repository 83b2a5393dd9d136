"""What follows a block when its heads hand on other contexts: a frame's share of a class's logit, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from analysis.explanations.stream import Stream
from gmsa_models.attention import AttentionBlock

__all__ = ["FoldedRows", "PreparedRows"]


HeadMaps = Float[Tensor, "heads head_dim _"]


@dataclass(frozen=True)
class PreparedRows:
    """h + Y of some frames, centred, and the feed-forward's first product of it before the norm's division.

    Each in an array of its own: what follows goes over whole arrays, and over a part of a wider one half as fast.

    Attributes:
        sums: h + Y, centred.
        first: the product.
    """

    sums: Float[Tensor, "*rows dim"]
    first: Float[Tensor, "*rows hidden"]

    def at(self, rows: Int[Tensor, " rows"], units: int) -> PreparedRows:
        """Copies of those of some frames, which are the second axis; of each of so many units."""
        sums, first = (each.expand(units, -1, -1).index_select(1, rows) for each in (self.sums, self.first))
        return PreparedRows(sums, first)

    def clone(self) -> PreparedRows:
        """Copies of both."""
        return PreparedRows(self.sums.clone(), self.first.clone())


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
        self._block, self._activation = block, layer.feed_forward[1]
        self._eps = [wide.weight.new_tensor(each.eps) for each in (norm, last)]
        self._first = _centred(wide.weight * norm.weight).mT.contiguous()
        self._shift = wide.bias + wide.weight @ norm.bias
        self._narrow, self._bias = _centred(narrow.weight.mT), _centred(narrow.bias)
        self._weights, self._constant = _centred(last.weight * stream.weights), last.bias @ stream.weights

    @cached_property
    def of_heads(self) -> dict[str, tuple[HeadMaps, HeadMaps]]:
        """Branch -> what a head's contexts are multiplied by to give its part of `sums`, and of `first`."""
        maps = {}
        for branch, weight in self._block.output_weights().items():
            heads = self._block.heads_of(branch)
            output = _centred(weight.mT).reshape(heads.stop - heads.start, -1, len(weight))
            maps[branch] = output, output @ self._first
        return maps

    def prepare(self, sums: Float[Tensor, "*rows dim"]) -> PreparedRows:
        """Those of h + Y."""
        centred = _centred(sums)
        return PreparedRows(centred, centred @ self._first)

    def moved(
        self, prepared: PreparedRows, rows: Int[Tensor, " rows"], steps: dict[str, Float[Tensor, "heads rows head_dim"]]
    ) -> PreparedRows:
        """Some rows after steps of all heads' contexts at once, then after those of each head alone.

        Args:
            prepared: of each of these units, or one for all.
            rows: which frames; any may be among them several times.
            steps: of branches that have as many heads each.
        """
        heads = len(next(iter(steps.values())))
        moved = prepared.at(rows, heads + 1)
        for branch, step in steps.items():
            whole = step.transpose(0, 1).flatten(1)
            for values, maps in zip((moved.sums, moved.first), self.of_heads[branch], strict=True):
                values[0].addmm_(whole, maps.flatten(0, 1))
                values[1:].baddbmm_(step, maps)
        return moved

    def shares(self, prepared: PreparedRows) -> Float[Tensor, "units rows"]:
        """The shares; the argument is overwritten."""
        sums, first = (each.flatten(0, 1) for each in (prepared.sums, prepared.first))
        wide = self._activated(torch.addcmul(self._shift, first, _scale(sums, self._eps[0])[:, None], out=first))
        hidden = sums.add_(self._bias).addmm_(wide, self._narrow)
        shares = (self._weights[None] @ hidden.mT)[0]  # half the time of the product the other way round
        return shares.mul_(_scale(hidden, self._eps[1])).add_(self._constant).unflatten(0, prepared.sums.shape[:2])

    def _activated(self, values: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows hidden"]:
        """The activation, in place where it is GELU: a second large array costs as much as the function."""
        if isinstance(self._activation, nn.GELU):
            return torch.ops.aten.gelu_(values, approximate=self._activation.approximate)
        return self._activation(values)


def _centred(values: Float[Tensor, "*any width"]) -> Float[Tensor, "*any width"]:
    return values - values.mean(-1, keepdim=True)


def _scale(frames: Float[Tensor, "rows dim"], eps: Float[Tensor, ""]) -> Float[Tensor, " rows"]:
    """What a layer norm multiplies centred frames by."""
    norms = torch.linalg.vector_norm(frames, dim=1)
    return torch.addcmul(eps, norms, norms, value=1 / frames.shape[1]).rsqrt_()
