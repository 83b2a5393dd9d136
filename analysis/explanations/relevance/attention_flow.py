"""Relevance by attention maps: rollout, and maps weighted by the gradient of the score.

Both follow a map of the frames a layer, made of parts that add up: one a branch, and "residual", the frame itself past
the attention block. Pooling is a mean, so what a frame receives is the mean of its column over the queries of
the last layer. The parts of the result are told apart in the first layer, the one that sees the frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.explanations.relevance.branch_maps import branch_maps, over_heads
from analysis.explanations.stream import Stream
from gmsa_models.attention import AttentionBlock
from gmsa_models.trace import LayerTrace

__all__ = ["FrameParts", "attention_rollout", "gradient_weighted_attention"]

FrameMap = Float[Tensor, "query key"]
Parts = dict[str, FrameMap]
FrameParts = dict[str, Float[Tensor, " frames"]]


def attention_rollout(stream: Stream, inputs: Float[Tensor, "frames width"]) -> FrameParts:
    """Attention followed through the layers, half of each layer being the frame itself.

    Maps are averaged over heads, and rows divided by their sum, which for gated maps is not 1. It does not know the
    class: it says what the model looks at.

    Returns:
        One a branch and "residual"; over the parts and frames it adds up to 1.

    Source:
        Abnar and Zuidema, "Quantifying Attention Flow in Transformers", 2020, A' = (A + I) / 2.
    """
    with torch.no_grad():
        _, layers = stream.trace(inputs)
    followed = []
    for layer, traced in zip(stream.encoder.layers, layers, strict=True):
        parts = over_heads(branch_maps(layer.block, traced), layer.block.heads)
        rows = reduce(add, parts.values()).sum(-1, keepdim=True)
        eye = torch.eye(len(inputs), dtype=inputs.dtype, device=inputs.device)
        followed.append({name: 0.5 * each / rows for name, each in parts.items()} | {"residual": 0.5 * eye})
    return _follow(followed)


def gradient_weighted_attention(stream: Stream, inputs: Float[Tensor, "frames width"]) -> FrameParts:
    """Attention maps times the positive part of the logit's gradient by them, averaged over heads, plus the residual.

    For GateAtt the gradient is by the combined map, whose parts are R_g * A_g and R_l * A_l; for GateOp, which has no
    combined map, by the maps of its branches.

    Returns:
        One a branch and "residual". The residual of a single layer is the same for every frame.

    Source:
        Chefer, Gur and Wolf, "Generic Attention-model Explainability", 2021, equations 5 and 6.
    """
    with torch.enable_grad():
        encoded, layers = stream.trace(inputs, grad=True)
        score = encoded.mean(1)[0] @ stream.weights
        gradients = torch.autograd.grad(score, [each for layer in layers for each in _maps(layer).values()])
    of_map, followed = iter(gradients), []
    for layer, traced in zip(stream.encoder.layers, layers, strict=True):
        kinds = {name: next(of_map)[0].clamp(min=0.0) for name in _maps(traced)}
        maps = traced.weights if "combined" not in kinds else branch_maps(layer.block, traced)
        parts = {
            name: _weighted(kinds, name, (each[0] if each.ndim == 4 else each).detach(), layer.block)
            for name, each in maps.items()
            if name != "combined"
        }
        eye = torch.eye(len(inputs), dtype=inputs.dtype, device=inputs.device)
        followed.append(parts | {"residual": eye})
    return _follow(followed)


def _maps(layer: LayerTrace) -> dict[str, Float[Tensor, "1 _ query key"]]:
    """The maps that the output was made of, all of which the graph holds."""
    return {name: each for name, each in layer.weights.items() if name == "combined"} or dict(layer.weights)


def _weighted(
    kinds: dict[str, Tensor], branch: str, maps: Float[Tensor, "_ query key"], block: AttentionBlock
) -> FrameMap:
    """Sum over a branch's heads of gradient times map, by the number of heads of the block."""
    gradient = kinds[branch] if branch in kinds else kinds["combined"][block.heads_of(branch)]
    return (gradient * maps).sum(0) / block.heads


def _follow(layers: Sequence[Parts]) -> FrameParts:
    """From the mean over the queries of the last layer down to the frames, the first layer's parts kept apart."""
    first, *later = layers
    some = next(iter(first.values()))
    reached = some.new_full((1, len(some)), 1.0 / len(some))
    for parts in reversed(later):
        reached = reached @ sum(parts.values())
    return {name: (reached @ each)[0] for name, each in first.items()}
