"""Relevance as explanations: each method on every stream, with its ways through the first layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from operator import add

import torch

from analysis.explanations.explanation import Explanation
from analysis.explanations.relevance.attention_flow import FrameParts, attention_rollout, gradient_weighted_attention
from analysis.explanations.relevance.propagation import propagated_relevance
from analysis.explanations.stream import stream_inputs, streams
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.evaluating import evaluating

__all__ = ["flow_explanation", "propagation_explanation"]

FLOWS: dict[str, Callable[..., FrameParts]] = {
    "rollout": attention_rollout,
    "gradient-weighted-attention": gradient_weighted_attention,
}


def flow_explanation(model: GMSAClassifier, clip: Clip, target: int, *, method: str) -> Explanation:
    """Rollout or gradient-weighted attention; of a model with attention.

    Args:
        model: on any device; left as it was.
        clip: cut to the model's longest.
        target: position of the class among the model's outputs.
        method: a key of `FLOWS`.
    """
    with evaluating(model, widen=True) as model:
        inputs = stream_inputs(model, clip)
        by_stream = {name: FLOWS[method](stream, inputs[name]) for name, stream in streams(model, target, clip).items()}
    return Explanation(method, target, *_together(by_stream), branches=_branches(by_stream))


def propagation_explanation(model: GMSAClassifier, clip: Clip, target: int) -> Explanation:
    """Layer-wise relevance propagation; values are shares of the logit, and biases have the rest.

    Args:
        model, clip, target: see `flow_explanation`.
    """
    with evaluating(model, widen=True) as model:
        inputs = stream_inputs(model, clip)
        by_stream = {
            name: propagated_relevance(stream, inputs[name]) for name, stream in streams(model, target, clip).items()
        }
    parts, delta = (
        {name: each for name, (each, _) in by_stream.items()},
        sum(missing for _, missing in by_stream.values()),
    )
    values, modalities = _together(parts)
    return Explanation(
        "relevance-propagation", target, values, modalities, "logit", _branches(parts), convergence_delta=delta
    )


def _together(by_stream: Mapping[str, FrameParts]) -> tuple[torch.Tensor, tuple[str, ...]]:
    return torch.stack([reduce(add, parts.values()).cpu() for parts in by_stream.values()]), tuple(by_stream)


def _branches(by_stream: Mapping[str, FrameParts]) -> dict[str, torch.Tensor]:
    ways = next(iter(by_stream.values()))
    return {way: torch.stack([parts[way].cpu() for parts in by_stream.values()]) for way in ways}
