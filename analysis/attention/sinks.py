"""Vertical lines of attention maps, key by key, and what they are: salient frames, or sinks of one of two kinds.

A line is a key that most queries attend to much more than to the median key. What makes it differs. A **no-op** sink
has a value near zero: attention is parked there. A **broadcast** sink has the same value in every video: it adds a
constant to all queries, whatever is shown. The value of a **salient** frame is as large as others, and is the video's
own. One clip cannot tell the last two apart, so verdicts are over videos: docs/concepts/sinks.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.attention.gates import local_gate
from analysis.attention.maps import attention_rows
from gmsa_models.trace import LayerTrace

__all__ = ["LineValues", "Lines", "find_lines", "gate_at_lines", "line_values"]

# A line receives at least so many times what the median key receives, and more than uniform from most queries.
LINE, MOST = 4.0, 0.5
SINK_WEIGHT = 0.3  # mean weight of a sink of Gu et al.

Maps = Float[Tensor, "batch heads query key"]
Values = Float[Tensor, "batch heads frames width"]


@dataclass(frozen=True)
class Lines:
    """The vertical lines of maps.

    Attributes:
        ratio: attention that each key receives by that of the median key; 1 = as the median. NaN at padding.
        reach: share of the queries that may attend to the key and give it more than uniform attention would.
        line: True where a key is a line.
        sink_rate: share of the keys whose mean weight, over the queries that may attend to them, is above 0.3.
    """

    ratio: Float[Tensor, "batch heads key"]
    reach: Float[Tensor, "batch heads key"]
    line: Bool[Tensor, "batch heads key"]
    sink_rate: Float[Tensor, "batch heads"]


def find_lines(
    weights: Maps,
    neighbourhood: Bool[Tensor, "*_"] | None = None,
    valid: Bool[Tensor, "batch frames"] | None = None,
) -> Lines:
    """Which keys are vertical lines.

    Args:
        weights: attention weights after the softmax; rows of gated maps are taken as shares of 1.
        neighbourhood: True where the query may attend to the key; None: everywhere.
        valid: True where a frame is real; None: everywhere.

    Raises:
        ArgumentError: weights that are no map; see `attention_rows`.

    Source:
        The vertical lines of Sahu and Goyal, ICASSP 2022; the sink rate of Gu et al., "When Attention Sink Emerges in
        Language Models", 2024, over the queries that the mask lets attend.
    """
    rows = attention_rows(weights, neighbourhood, valid)
    support = rows.support.unsqueeze(-3)
    queries = support.sum(-2)
    uniform = rows.uniform
    # A padded key has 0 / 0, which is the NaN that is wanted.
    received = rows.shares.sum(-2) / uniform.sum(-2)
    ratio = received / received.nanmedian(-1, keepdim=True).values
    # Uniform attention has no lines: what exceeds it by rounding alone does not count.
    above = (rows.shares > uniform * (1 + 1e-4)) & support
    reach = above.sum(-2).to(ratio) / queries
    mean_weight = rows.shares.sum(-2) / queries
    real = queries > 0
    sinks = ((mean_weight > SINK_WEIGHT) & real).sum(-1).to(ratio) / real.sum(-1)
    return Lines(ratio, reach, (ratio >= LINE) & (reach >= MOST), sinks)


@dataclass(frozen=True)
class LineValues:
    """The values V at the lines of each head; NaN where a head has no line.

    Attributes:
        lines: how many.
        norm_ratio: mean norm of the lines' values by the median norm of all frames' values.
        at_lines: their mean.
        elsewhere: mean value of the other frames.
        first_direction: share of the variance over queries of A V that lies along one direction; high where one value
            is all that the head hands on.
    """

    lines: Int[Tensor, "batch heads"]
    norm_ratio: Float[Tensor, "batch heads"]
    at_lines: Float[Tensor, "batch heads width"]
    elsewhere: Float[Tensor, "batch heads width"]
    first_direction: Float[Tensor, "batch heads"]


def line_values(
    lines: Lines, weights: Maps, values: Values, valid: Bool[Tensor, "batch frames"] | None = None
) -> LineValues:
    """What stands at the lines.

    Args:
        lines: of `find_lines` of these weights.
        weights: the maps.
        values: V of each head, in any unit.
        valid: as given to `find_lines`.
    """
    real = torch.ones_like(lines.line) if valid is None else valid[:, None].expand_as(lines.line)
    norms = values.norm(dim=-1)
    median = norms.masked_fill(~real, torch.nan).nanmedian(-1).values
    at, other = (_mean_where(values, mask) for mask in (lines.line, real & ~lines.line))
    ratio = _mean_where(norms.unsqueeze(-1), lines.line).squeeze(-1) / median
    queries = real.unsqueeze(-1)
    contexts = (weights.to(values) @ values) * queries
    centred = (contexts - contexts.sum(-2, keepdim=True) / queries.sum(-2, keepdim=True)) * queries
    squares = torch.linalg.svdvals(centred.float()).square()
    return LineValues(lines.line.sum(-1), ratio, at, other, squares[..., 0] / squares.sum(-1))


def gate_at_lines(lines: Lines, layer: LayerTrace, valid: Bool[Tensor, "batch frames"]) -> Float[Tensor, "batch heads"]:
    """Mean local gate at the lines of the global branch less that at other frames: do gates turn away from lines?

    Of gates over pairs of frames (GateAtt): R_l of the queries that may attend to the key, their mean, head by head.
    Of gates over frames and features (GateOp): R_l of the frame, mean over features. Of several local branches the sum.

    Args:
        lines: of the global branch of the layer.
        layer: with gates.
        valid: True where a frame is real.

    Returns:
        In (-1, 1); above 0: more local at the lines. NaN where a head has no line.

    Source:
        Gates: equations 3 and 8 of Sahu and Goyal, ICASSP 2022.
    """
    gate = local_gate(layer)
    real = valid[:, None].expand_as(lines.line)
    if gate.ndim == 4:
        inside = valid[:, None, :, None] & valid[:, None, None, :]
        if layer.neighbourhood is not None:
            inside = inside & layer.head_mask
        of_key = (gate * inside).sum(-2) / inside.sum(-2)
        of_key = of_key.masked_fill(~real, 0.0)
    else:
        of_key = gate.mean(-1)[:, None].expand_as(lines.ratio)
    at, other = (_mean_where(of_key.unsqueeze(-1), mask).squeeze(-1) for mask in (lines.line, real & ~lines.line))
    return at - other


def _mean_where(values: Values, mask: Bool[Tensor, "batch heads frames"]) -> Float[Tensor, "batch heads width"]:
    """NaN where no frame is chosen."""
    chosen = mask.unsqueeze(-1).to(values.dtype)
    return (values * chosen).sum(-2) / chosen.sum(-2)
