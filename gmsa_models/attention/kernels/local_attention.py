"""Local attention at the cost of the neighbourhood, with its gradient by hand.

A span of tiles at a time is copied head by head into whole blocks of memory, multiplied, and put back. Small strided
products are slow, torch's fused kernel does not use a second core on them, and a span stays in the cache; so this is
faster than either, and needs memory for one span only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gmsa_models.attention.kernels.second_derivative import refuse_second_derivative
from gmsa_models.attention.kernels.segments import segment_attention, spans_of_clips
from gmsa_models.attention.kernels.tiling import Tiling, tile_mask, tiles
from gmsa_models.masks import BatchNeighbourhood, masked_softmax

__all__ = ["LocalAttention", "local_attention", "softmax_backward"]

# Numbers in one span's copy of the keys: 2 MiB in float32. Elsewhere than on a CPU, launches cost more than memory.
SPAN_NUMBERS, SPAN_NUMBERS_ELSEWHERE = 2**19, 2**28

Heads = Float[Tensor, "batch heads frames head_dim"]
Steps = Float[Tensor, "steps classes heads head_dim"]
Queries = Float[Tensor, "tiles classes heads chunk head_dim"]
Keys = Float[Tensor, "tiles classes heads keys head_dim"]
Weights = Float[Tensor, "tiles classes heads chunk keys"]
Mask = Bool[Tensor, "all_tiles #classes 1 chunk keys"]


def local_attention(
    query: Heads,
    key: Heads,
    value: Heads,
    neighbourhood: BatchNeighbourhood,
    valid: Bool[Tensor, "batch frames"] | None = None,
) -> Heads:
    """softmax(Q K^T / sqrt(d)) V over the neighbourhood only, without a frames x frames matrix.

    Args:
        query: one a frame and head.
        key: likewise.
        value: likewise.
        neighbourhood: N_i, of all clips or of each.
        valid: True where a frame is real; None: all are. Padded keys are never attended to.

    Returns:
        One context a frame and head. Padded frames hold something finite that means nothing.

    Raises:
        SecondDerivativeError: in the backward pass, if it is asked for a graph of its own.

    Source:
        Equations 1 and 2.
    """
    batch, _, frames, _ = query.shape
    if (spans := spans_of_clips(neighbourhood, batch)) is not None:
        return segment_attention(query, key, value, spans, valid)
    tiling = tiles(neighbourhood, frames)
    query, key, value = (tiling.steps(each.transpose(1, 2)) for each in (query, key, value))
    context = LocalAttention.apply(query, key, value, tiling, _forbidden(tiling, batch, valid, query.device))
    return tiling.frames_of(context, batch).transpose(1, 2)


class LocalAttention(torch.autograd.Function):
    """Contexts of a row of steps, span by span."""

    @staticmethod
    def forward(ctx: Any, query: Steps, key: Steps, value: Steps, tiling: Tiling, forbidden: Mask | None) -> Steps:
        """Keeps the weights, which are small, if there will be a gradient."""
        context, kept = query.new_empty(query.shape), []
        for span in _spans(tiling, query):
            logits = (span.queries(query) @ span.keys(key).mT).mul_(query.shape[-1] ** -0.5)
            if forbidden is not None:
                logits.masked_fill_(forbidden[span.slice], torch.finfo(logits.dtype).min)
            weights = masked_softmax(logits, None)
            span.put(context, weights @ span.keys(value))
            if any(ctx.needs_input_grad):
                kept.append(weights)
        ctx.tiling = tiling
        ctx.save_for_backward(query, key, value, *kept)
        return context

    @staticmethod
    def backward(ctx: Any, grad: Steps) -> tuple[Tensor | None, ...]:
        """The gradient of softmax attention; a key's is the sum over the tiles that it is in."""
        refuse_second_derivative()
        query, key, value, *kept = ctx.saved_tensors
        grad_query = query.new_empty(query.shape)
        grad_key, grad_value = ctx.tiling.with_halo(key), ctx.tiling.with_halo(value)
        for span, weights in zip(_spans(ctx.tiling, query), kept, strict=True):
            grad_tiles = span.queries(grad)
            span.add(grad_value, weights.mT @ grad_tiles)
            grad_logits = softmax_backward(grad_tiles @ span.keys(value).mT, weights).mul_(query.shape[-1] ** -0.5)
            span.put(grad_query, grad_logits @ span.keys(key))
            span.add(grad_key, grad_logits.mT @ span.queries(query))
        grad_key, grad_value = (ctx.tiling.without_halo(each, key) for each in (grad_key, grad_value))
        return grad_query, grad_key, grad_value, None, None


@dataclass(frozen=True)
class _Span:
    """Some tiles in a row, and their place in a row of steps."""

    tiling: Tiling
    first: int
    last: int

    @property
    def slice(self) -> slice:
        return slice(self.first, self.last)

    def queries(self, steps: Steps) -> Queries:
        return self.tiling.query_tiles(steps, self.first, self.last).movedim(1, 3).contiguous()

    def keys(self, steps: Steps) -> Keys:
        shape = (self.last - self.first, *steps.shape[1:3], self.tiling.keys, steps.shape[3])
        out = steps.new_empty(shape)
        # The ends of the row apart, since they are padded by copying.
        first, last = (min(max(tile, self.first), self.last) for tile in self.tiling.tiles_inside(steps))
        for start, stop in ((self.first, first), (first, last), (last, self.last)):
            if start < stop:
                tiles = self.tiling.key_tiles(steps, start, stop)
                out[start - self.first : stop - self.first] = tiles.movedim(1, 3)
        return out

    def put(self, steps: Steps, tiles: Queries) -> None:
        own, tiles = steps[self.first * self.tiling.chunk : self.last * self.tiling.chunk], tiles.movedim(3, 1)
        if len(own) == len(tiles) * self.tiling.chunk:
            self.tiling.query_tiles(own).copy_(tiles)
        else:
            own.copy_(tiles.flatten(0, 1)[: len(own)])

    def add(self, halo: Float[Tensor, "halo_steps classes heads head_dim"], tiles: Keys) -> None:
        self.tiling.add_key_tiles(halo, tiles.movedim(3, 1), self.first)


def _spans(tiling: Tiling, steps: Steps) -> Iterator[_Span]:
    numbers = SPAN_NUMBERS if steps.device.type == "cpu" else SPAN_NUMBERS_ELSEWHERE
    count = tiling.tiles_in(steps)
    # Spans of about the same length, so that the last is not a scrap.
    spans = min(count, -(-count * tiling.keys * steps[0].numel() // numbers))
    for span in range(spans):
        yield _Span(tiling, count * span // spans, count * (span + 1) // spans)


def softmax_backward(grad: Float[Tensor, "*rest keys"], weights: Float[Tensor, "*rest keys"]) -> Tensor:
    """Gradient by the logits, from the gradient by the weights and the weights."""
    return torch.ops.aten._softmax_backward_data(grad, weights, -1, weights.dtype)


def _forbidden(
    tiling: Tiling, batch: int, valid: Bool[Tensor, "batch frames"] | None, device: torch.device
) -> Mask | None:
    """True where a query may not attend; None if it may everywhere."""
    if valid is not None:
        real = tiling.key_tiles(tiling.steps(valid)).transpose(1, 2)[:, :, None, None, :]
        return ~(tile_mask(tiling, device)[:, :, None].repeat(batch, 1, 1, 1, 1) & real)
    forbidden = _always_forbidden(tiling, device)
    return None if forbidden is None else forbidden.repeat(batch, 1, 1, 1, 1)


@lru_cache(maxsize=128)
def _always_forbidden(tiling: Tiling, device: torch.device) -> Bool[Tensor, "tiles _ 1 chunk keys"] | None:
    """The inverse of `tile_mask`, once where all classes are alike; None if nothing is forbidden."""
    with torch.inference_mode(False):
        forbidden = ~tile_mask(tiling, device)[:, :, None]
        alike = bool((forbidden == forbidden[:, :1]).all())
        return None if not forbidden.any() else forbidden[:, :1].contiguous() if alike else forbidden
