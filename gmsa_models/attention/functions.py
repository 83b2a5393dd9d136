"""What the attention blocks are made of: attention weights, joining of heads, and how weights begin."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from gmsa_models.masks import masked_softmax

__all__ = [
    "Frames",
    "Heads",
    "Valid",
    "attention_logits",
    "attention_weights",
    "gate_linear",
    "global_attention",
    "join_heads",
    "logits_to_weights",
    "near_zero",
    "xavier_linear",
]

# Gates begin near 1/2: a branch is neither shut nor favoured before there is evidence for it.
GATE_DEVIATION = 0.02

Heads = Float[Tensor, "batch heads frames head_dim"]
Frames = Float[Tensor, "batch frames dim"]
Valid = Bool[Tensor, "batch frames"]


def attention_weights(
    query: Heads,
    key: Heads,
    mask: Bool[Tensor, "query key"] | Bool[Tensor, "_ _ query key"] | None,
    valid: Valid | None,
) -> Float[Tensor, "batch heads query key"]:
    """softmax(Q K^T / sqrt(d)) over the keys that may be attended to, as a full map.

    Args:
        query: one a frame and head.
        key: likewise.
        mask: True = may attend; None: every pair.
        valid: True where a frame is real; None: all are.

    Returns:
        See `logits_to_weights`.

    Source:
        Equations 1 and 2.
    """
    return logits_to_weights(attention_logits(query, key), mask, valid)


def attention_logits(query: Heads, key: Heads) -> Float[Tensor, "batch heads query key"]:
    """Q K^T / sqrt(d)."""
    return (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)


def logits_to_weights(
    logits: Float[Tensor, "batch heads query key"],
    mask: Bool[Tensor, "query key"] | Bool[Tensor, "_ _ query key"] | None,
    valid: Valid | None,
) -> Float[Tensor, "batch heads query key"]:
    """Attention weights from attention logits.

    Args:
        logits: before the softmax.
        mask: True = may attend; None: every pair. One of each clip and head may leave queries that attend to nothing.
        valid: True where a frame is real; None: all are.

    Returns:
        Weights in [0, 1]; a valid row sums to 1. Exactly 0 outside the mask, on padded keys, in the rows of padded
        queries and in those that attend to nothing.
    """
    # Both ways: also a padded query attends to nothing.
    pairs = None if valid is None else valid[:, None, :, None] & valid[:, None, None, :]
    allowed = mask if pairs is None else pairs if mask is None else pairs & mask
    weights = masked_softmax(logits, allowed)
    attends = allowed if mask is not None and mask.ndim == 4 else pairs
    return weights if attends is None else weights * attends


def global_attention(query: Heads, key: Heads, value: Heads, valid: Valid | None) -> Heads:
    """softmax(Q K^T / sqrt(d)) V over every valid frame, by torch's fused kernel."""
    mask = None if valid is None else valid[:, None, None, :]
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def join_heads(contexts: Heads) -> Frames:
    """concat over heads: (batch, heads, frames, d) to (batch, frames, D)."""
    return contexts.transpose(1, 2).flatten(2)


def xavier_linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A `Linear` with Xavier uniform weights and zero bias."""
    linear = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def gate_linear(dim: int) -> nn.Linear:
    """W_g: D x D without bias, small, so that a gate begins near 1/2."""
    linear = nn.Linear(dim, dim, bias=False)
    near_zero(linear.weight.data)
    return linear


def near_zero(weights: Tensor) -> Tensor:
    """Gate weights as they begin, in place; meta tensors hold none, and drawing them would load torch's compiler."""
    return weights if weights.is_meta else weights.normal_(std=GATE_DEVIATION)
