"""GateAtt's attention with its gradient by hand; `GateAtt.trace` is the plain form of it.

The global map and the gates are frames x frames by definition (equations 3 and 4). The local map is not: it lives in
tiles, takes its logits from the global ones, and meets only those rows of W_g^l that its keys need. Clips go through
a few at a time on a CPU, so that their maps stay in the cache from one step to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from gmsa_models.attention.kernels.local_attention import softmax_backward
from gmsa_models.attention.kernels.second_derivative import refuse_second_derivative
from gmsa_models.attention.kernels.segments import segment_gated_attention, spans_of_clips
from gmsa_models.attention.kernels.tiling import Tiling, tile_frames, tile_mask, tiles
from gmsa_models.masks import BatchNeighbourhood, masked_softmax

__all__ = ["GatedAttention", "gated_attention"]

# Numbers in the maps of the clips that go through together on a CPU: 1 MiB in float32; at least one clip does.
PART_NUMBERS = 2**18

Heads = Float[Tensor, "batch heads frames head_dim"]
Gate = Float[Tensor, "frames frames"]
Maps = Float[Tensor, "maps query key"]
TileMaps = Float[Tensor, "maps tiles chunk keys"]


def gated_attention(
    query: Heads,
    key: Heads,
    value: Heads,
    gate_global: Gate,
    gate_local: Gate,
    neighbourhood: BatchNeighbourhood,
    valid: Bool[Tensor, "batch frames"] | None = None,
) -> Heads:
    """(R_g * A_g + R_l * A_l) V, head by head.

    Args:
        query: one a frame and head.
        key: likewise.
        value: likewise.
        gate_global: W_g^g, cut to the clip's frames.
        gate_local: W_g^l, likewise.
        neighbourhood: N_i of A_l, of all clips or of each.
        valid: True where a frame is real; None: all are. Padded keys are never attended to.

    Returns:
        One context a frame and head; padded frames hold something finite that means nothing. It can be
        differentiated once; for more, and for torch.func, take `GateAtt.trace`.

    Source:
        Equations 3 and 4.
    """
    spans = spans_of_clips(neighbourhood, len(query))
    gates = gate_global.to(query.dtype), gate_local.to(query.dtype)
    with torch.autocast(query.device.type, enabled=False):
        if spans is not None:
            return segment_gated_attention(query, key, value, *gates, spans, valid)
        tiling = tiles(neighbourhood, query.shape[2])
        return GatedAttention.apply(query, key, value, *gates, tiling, valid)


class GatedAttention(torch.autograd.Function):
    """As many clips at a time as `PART_NUMBERS` allows. "maps": one a clip and head."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Heads,
        key: Heads,
        value: Heads,
        gate_g: Gate,
        gate_l: Gate,
        tiling: Tiling,
        valid: Bool[Tensor, "batch frames"] | None,
    ) -> Heads:
        """Contexts; what the gradient needs is kept only if there will be one."""
        gates = _gates(tiling, gate_g, gate_l)
        output, maps, keep = torch.empty_like(value), [], any(ctx.needs_input_grad)
        for part in _parts(query):
            query_part, key_part, value_part = (each[part].flatten(0, 1) for each in (query, key, value))
            logits = (query_part * query.shape[-1] ** -0.5) @ key_part.mT
            blend = gates.blend(logits, None if valid is None else valid[part], keep)
            output[part] = (blend.combined @ value_part).view(output[part].shape)
            if keep:
                maps += [blend.weights_g, blend.weights_l, blend.gate, blend.combined]
        ctx.tiling = tiling
        ctx.save_for_backward(query, key, value, gate_g, gate_l, *maps)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Heads) -> tuple[Tensor | None, ...]:
        """Through the product with V, the blend, and the product of Q and K; frozen gates have none."""
        refuse_second_derivative()
        query, key, value, gate_g, gate_l, *maps = ctx.saved_tensors
        gates = _gates(ctx.tiling, gate_g, gate_l)
        grad_query, grad_key, grad_value = (torch.empty_like(each) for each in (query, key, value))
        grad_gates = gates.zeros() if any(ctx.needs_input_grad[3:5]) else None
        for index, part in enumerate(_parts(query)):
            blend = _Blend(*maps[4 * index : 4 * index + 4])
            query_part, key_part, value_part, grad_part = (
                each[part].flatten(0, 1) for each in (query, key, value, grad)
            )
            grad_value[part] = (blend.combined.mT @ grad_part).view(value[part].shape)
            grad_logits = gates.blend_backward(grad_part @ value_part.mT, blend, grad_gates)
            grad_logits *= query.shape[-1] ** -0.5
            grad_query[part] = (grad_logits @ key_part).view(query[part].shape)
            grad_key[part] = (grad_logits.mT @ query_part).view(key[part].shape)
        of_gates = (None, None) if grad_gates is None else (grad_gates.gate_g, _untiled(grad_gates))
        return grad_query, grad_key, grad_value, *of_gates, None, None


@dataclass
class _Blend:
    """Equations 3 and 4 for some maps: A_g, A_l in tiles, R_g, and R_g * A_g + R_l * A_l."""

    weights_g: Maps
    weights_l: TileMaps
    gate: Maps
    combined: Maps


@dataclass
class _Gates:
    """W_g^g, and W_g^l as the rows that each tile's keys need."""

    tiling: Tiling
    gate_g: Gate
    tiles_l: Float[Tensor, "tiles keys frames"]

    def zeros(self) -> _Gates:
        """Where the gradients of both are summed."""
        return _Gates(self.tiling, torch.zeros_like(self.gate_g), self.tiles_l.new_zeros(self.tiles_l.shape))

    def blend(self, logits: Maps, valid: Bool[Tensor, "clips frames"] | None, keep: bool) -> _Blend:
        """With z = A_g W_g^g - A_l W_g^l the pair's softmax is R_g = sigmoid(z), R_l = 1 - R_g.

        Unless everything is to be kept for the gradient, A_g is overwritten.
        """
        weights_l = self._local_weights(logits, valid)
        weights_g = masked_softmax(logits, None if valid is None else _repeat(valid, logits)[:, None, :])
        # The same matrix for each map: as a batched product it stays in the cache, as one tall product it does not.
        gate = torch.bmm(weights_g, self.gate_g.expand_as(weights_g))
        self._subtract_rows(gate, self._rows(weights_l) @ self.tiles_l)
        gate.sigmoid_()
        combined = weights_g * gate if keep else weights_g.mul_(gate)
        self._scatter_add(combined, weights_l * (1 - self._gather(gate)))
        return _Blend(weights_g, weights_l, gate, combined)

    def blend_backward(self, grad_combined: Maps, blend: _Blend, grad_gates: _Gates | None) -> Maps:
        """Gradient by the logits; those by the gate weights are added to `grad_gates`, if wanted."""
        tile_grad, tile_gate = self._gather(grad_combined), self._gather(blend.gate)
        grad_l = tile_grad * (1 - tile_gate)
        grad_z = torch.ops.aten.sigmoid_backward(grad_combined * blend.weights_g, blend.gate)
        self._scatter_add(grad_z, -grad_l * blend.weights_l * tile_gate)
        grad_g = grad_combined.mul_(blend.gate)
        grad_g.baddbmm_(grad_z, self.gate_g.T.expand_as(grad_z))
        rows = self._to_rows(grad_z)
        if grad_gates is not None:
            grad_gates.gate_g.addmm_(blend.weights_g.flatten(0, 1).T, grad_z.flatten(0, 1))
            grad_gates.tiles_l.baddbmm_(self._rows(blend.weights_l).mT, rows, alpha=-1)
        grad_l -= self._from_tile_rows(rows @ self.tiles_l.mT, grad_l)
        grad_logits = softmax_backward(grad_g, blend.weights_g)
        self._scatter_add(grad_logits, softmax_backward(grad_l, blend.weights_l))
        return grad_logits

    def _local_weights(self, logits: Maps, valid: Bool[Tensor, "clips frames"] | None) -> TileMaps:
        allowed = _pair_mask(self.tiling, logits.device)
        if valid is not None:
            keys = (
                self.tiling.key_tiles(self.tiling.steps(valid))
                .unflatten(0, (valid.shape[0], -1))
                .movedim(-1, 1)
                .flatten(1, 2)
            )
            allowed = allowed & _repeat(keys, logits)[:, :, None, :]
        # A row without any key would be uniform; scattered, its entries would land on real pairs.
        return masked_softmax(self._gather(logits), allowed).masked_fill_(~allowed, 0.0)

    def _gather(self, maps: Maps) -> TileMaps:
        pairs = _pairs(self.tiling, maps.device)
        flat = maps.flatten(1).gather(1, pairs.flatten().expand(maps.shape[0], -1))
        return flat.view(-1, *pairs.shape)

    def _scatter_add(self, maps: Maps, tile_maps: TileMaps) -> None:
        pairs = _pairs(self.tiling, maps.device).flatten().expand(maps.shape[0], -1)
        maps.view(maps.shape[0], -1).scatter_add_(1, pairs, tile_maps.flatten(1))

    def _rows(self, tile_maps: TileMaps) -> Float[Tensor, "tiles rows keys"]:
        """Tile by tile, the rows of all maps under each other, so that a tile meets its rows of W_g^l once."""
        return tile_maps.permute(1, 2, 0, 3).flatten(1, 2)

    def _from_tile_rows(self, rows: Float[Tensor, "tiles rows keys"], like: TileMaps) -> TileMaps:
        return rows.unflatten(1, (self.tiling.chunk, -1)).permute(2, 0, 1, 3)

    def _to_rows(self, maps: Maps) -> Float[Tensor, "tiles rows key"]:
        return _by_class(self.tiling.query_tiles(self.tiling.steps(maps.transpose(0, 1)[None]))).flatten(1, 2)

    def _subtract_rows(self, maps: Maps, rows: Float[Tensor, "tiles rows key"]) -> None:
        """maps -= rows, each tile's rows where its queries lie."""
        tiling = self.tiling
        classes = rows.view(tiling.dilation, tiling.tiles * tiling.chunk, maps.shape[0], -1)
        for kind, steps in enumerate(classes):
            own = maps[:, kind :: tiling.dilation]
            own -= steps[: own.shape[1]].transpose(0, 1)


def _parts(query: Heads) -> list[slice]:
    clips, heads, frames, _ = query.shape
    step = max(1, PART_NUMBERS // (heads * frames**2)) if query.device.type == "cpu" else clips
    return [slice(start, min(start + step, clips)) for start in range(0, clips, step)]


def _by_class(tiles: Shaped[Tensor, "tiles chunk classes *rest"]) -> Shaped[Tensor, "class_tiles chunk *rest"]:
    """All tiles of the first class, then those of the next: here a class is not a head but rows of its own."""
    return tiles.movedim(2, 0).flatten(0, 1)


def _gates(tiling: Tiling, gate_g: Gate, gate_l: Gate) -> _Gates:
    return _Gates(tiling, gate_g, _by_class(tiling.key_tiles(tiling.steps(gate_l[None]))))


def _untiled(gates: _Gates) -> Gate:
    """Sum over the tiles that have a row of W_g^l: the adjoint of what `_gates` does to it."""
    tiling = gates.tiling
    tiles_l = gates.tiles_l.unflatten(0, (tiling.dilation, -1)).movedim(0, 2)
    steps = tiling.steps(gates.gate_g[None])
    halo = tiling.with_halo(steps)
    tiling.add_key_tiles(halo, tiles_l)
    return tiling.frames_of(tiling.without_halo(halo, steps), 1)[0]


def _repeat(per_clip: Bool[Tensor, "clips ..."], maps: Maps) -> Bool[Tensor, "maps ..."]:
    return per_clip.repeat_interleave(maps.shape[0] // per_clip.shape[0], 0)


@lru_cache(maxsize=128)
def _pair_mask(tiling: Tiling, device: torch.device) -> Bool[Tensor, "tiles chunk keys"]:
    """`tile_mask`, and False for queries that are no frame."""
    queries, _ = tile_frames(tiling, device)
    with torch.inference_mode(False):
        return (tile_mask(tiling, device) & (queries < tiling.frames)[..., None]).transpose(0, 1).flatten(0, 1)


@lru_cache(maxsize=128)
def _pairs(tiling: Tiling, device: torch.device) -> Int[Tensor, "tiles chunk keys"]:
    """Where each pair of a tile lies in a flat map; 0 for pairs that are not allowed, whose value is always 0."""
    queries, keys = tile_frames(tiling, device)
    with torch.inference_mode(False):
        pairs = (queries[..., None] * tiling.frames + keys[:, :, None]).transpose(0, 1).flatten(0, 1)
        return pairs.masked_fill(~_pair_mask(tiling, device), 0)
