"""Layer-wise relevance propagation (LRP) through the two-stream, gated, masked model, branch by branch.

How: docs/concepts/explanations.md.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from analysis.explanations.stream import Stream, check_layers
from gmsa_models.attention import AttentionBlock
from gmsa_models.classifier import EncoderLayer
from gmsa_models.trace import LayerTrace

__all__ = ["FrozenNonlinearities", "propagated_relevance"]

Frames = Float[Tensor, "1 frames dim"]
FrameParts = dict[str, Float[Tensor, " frames"]]


class FrozenNonlinearities:
    """Numbers that a first pass computes and every later pass takes in the same order."""

    def __init__(self) -> None:
        self._values: list[Tensor] = []
        self._place: int | None = None

    def replay(self) -> None:
        """From here on, or once more, give what was kept, from the first."""
        self._place = 0

    def __call__(self, compute: Callable[[], Tensor]) -> Tensor:
        """A number of the first pass."""
        if self._place is None:
            self._values.append(compute().detach())
            return self._values[-1]
        self._place += 1
        return self._values[self._place - 1]


def propagated_relevance(stream: Stream, inputs: Float[Tensor, "frames width"]) -> tuple[FrameParts, float]:
    """Relevance of each frame for the stream's logit, by way through the first layer, and what does not add up.

    Returns:
        One a branch and "residual", in units of the logit; and the stream's logit less all relevance and less
        what the biases give (the function at frames of zeros, everything else held): rounding.

    Source:
        Ali et al., "XAI for Transformers: Better Explanations through Conservative Propagation", 2022; Bach et al., "On
        Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation", 2015.
    """
    check_layers(stream.encoder)
    with torch.no_grad():
        _, traces = stream.trace(inputs)
    ways = _ways(stream.encoder.layers[0])
    frozen = FrozenNonlinearities()
    leaves = {way: inputs[None].clone().requires_grad_() for way in ways}
    with torch.enable_grad():
        logit = _affine(stream, leaves, traces, frozen)[0]
        gradients = torch.autograd.grad(logit, list(leaves.values()))
    parts = {way: (inputs * each[0]).sum(-1) for way, each in zip(ways, gradients, strict=True)}
    frozen.replay()
    with torch.no_grad():
        constant = _affine(stream, {way: torch.zeros_like(inputs[None]) for way in ways}, traces, frozen)[0]
    return parts, float(logit.detach() - sum(each.sum() for each in parts.values()) - constant)


def _ways(layer: EncoderLayer) -> tuple[str, ...]:
    """The ways through a layer: past the attention block, and by each of its branches."""
    return ("residual", *(() if layer.attention is None else layer.attention.branches))


def _affine(
    stream: Stream,
    frames: dict[str, Float[Tensor, "1 frames width"]],
    traces: tuple[LayerTrace, ...],
    frozen: FrozenNonlinearities,
) -> Float[Tensor, " batch"]:
    """The stream with its non-linear parts held; the first layer takes each way's copy of the frames by its way."""
    hidden = {way: stream.encoder.embed(each) for way, each in frames.items()}
    after = hidden["residual"]
    for layer, trace in zip(stream.encoder.layers, traces, strict=True):
        after = _affine_layer(layer, hidden or dict.fromkeys(_ways(layer), after), trace, frozen)
        hidden = {}
    pooled = _affine_norm(stream.encoder.norm, after, frozen).mean(1)
    return pooled @ stream.weights


def _affine_layer(
    layer: EncoderLayer, hidden: dict[str, Frames], trace: LayerTrace, frozen: FrozenNonlinearities
) -> Frames:
    after = hidden["residual"]
    if layer.attention is not None:
        branches = {name: each for name, each in hidden.items() if name != "residual"}
        if layer.norm_first:
            branches = {name: _affine_norm(layer.norm_attention, each, frozen) for name, each in branches.items()}
        after = after + _affine_attention(layer.attention, branches, trace)
        if not layer.norm_first:
            after = _affine_norm(layer.norm_attention, after, frozen)
    if layer.norm_first:
        return after + _affine_feed_forward(layer, _affine_norm(layer.norm_feed_forward, after, frozen), frozen)
    return _affine_norm(layer.norm_feed_forward, after + _affine_feed_forward(layer, after, frozen), frozen)


def _affine_attention(block: AttentionBlock, inputs: dict[str, Frames], trace: LayerTrace) -> Frames:
    maps = block.context_maps(trace)
    contexts = {
        branch: maps[branch] @ block.values(frames)[:, block.heads_of(branch)] for branch, frames in inputs.items()
    }
    return block.output_from(contexts, trace.gates if block.gated == "outputs" else None)


def _affine_norm(norm: nn.Module, hidden: Frames, frozen: FrozenNonlinearities) -> Frames:
    """Layer norm whose deviation is held; the mean is linear and stays."""
    if not isinstance(norm, nn.LayerNorm):
        return hidden
    centred = hidden - hidden.mean(-1, keepdim=True)
    deviation = frozen(lambda: (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt())
    return centred / deviation * norm.weight + norm.bias


def _affine_feed_forward(layer: EncoderLayer, hidden: Frames, frozen: FrozenNonlinearities) -> Frames:
    first, activation, second = layer.feed_forward
    before = first(hidden)
    ratio = frozen(lambda: torch.where(before == 0, 0.5, activation(before) / torch.where(before == 0, 1.0, before)))
    return second(before * ratio)
