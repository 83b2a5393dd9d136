"""Replacing frames one after another: the logit after every step, without a forward pass a step.

With t frames in the order in which they are replaced, step s has the first s replaced. A query sees, of each frame, one
of two keys: the clip's or the baseline's. Its context at every step is a quotient of running sums,

    o(s) = [sum_{r >= s} e_r v_r + sum_{r < s} e'_r v'_r] / [sum_{r >= s} e_r + sum_{r < s} e'_r],

where e = exp(logit) of the clip's keys, e' of the baseline's; sums only, so nothing cancels. So attention costs as much
for all steps as for a few. What follows attention is done once for every step and frame that differ: replaced frames
whose baseline and neighbourhood are the same are one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from analysis.attribution.perturbations import kept_scores
from analysis.attribution.stream import Stream
from gmsa_models.attention import Baseline, GateOp, ShareAtt
from gmsa_models.classifier import EncoderLayer
from gmsa_models.masks import neighbourhood_mask

Frames = Float[Tensor, "frames width"]
Steps = Float[Tensor, " steps"]
HeadRows = Float[Tensor, "heads rows _"]

# Blocks whose contexts are quotients of sums. GateAtt's gate is a nonlinear function of whole rows: a pass a step.
RUNNING = (Baseline, ShareAtt, GateOp)
# Queries together: their running sums stay in the cache.
QUERIES = 16
# Where all keys that are left weigh less than this share of the largest, quotients lose their figures.
SMALLEST = 1e-25


def replacement_curve(stream: Stream, inputs: Frames, baseline: Frames, order: Int[Tensor, " frames"]) -> Steps:
    """The stream's logit with no frame replaced, with the first of `order`, with the first two, ... with all.

    Args:
        stream: of one modality, in evaluation mode.
        inputs: the clip's frames.
        baseline: what replaces them, frame by frame.
        order: each frame once.

    Returns:
        frames + 1 logits.
    """
    layers = stream.encoder.layers
    order = order.to(inputs.device)
    running = len(layers) == 1 and isinstance(layers[0].attention, (*RUNNING, type(None)))
    with torch.no_grad():
        curve = _running_curve(stream, inputs, baseline, order) if running else None
    return _curve_by_passes(stream, inputs, baseline, order) if curve is None else curve


def _curve_by_passes(stream: Stream, inputs: Frames, baseline: Frames, order: Int[Tensor, " frames"]) -> Steps:
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    steps = torch.arange(len(order) + 1, device=order.device)[:, None]
    return kept_scores(stream, inputs, baseline, rank >= steps)


def _running_curve(stream: Stream, inputs: Frames, baseline: Frames, order: Int[Tensor, " frames"]) -> Steps | None:
    """None where weights are too small to divide by."""
    layer, count = stream.encoder.layers[0], len(order)
    hidden = stream.encoder.embed(torch.cat([inputs[order], baseline[order]])[None])[0]
    if layer.attention is None:
        shares = stream.encoder.norm(layer(hidden[None]))[0] @ stream.weights
        kept = functional.pad(shares[:count].flip(0).cumsum(0).flip(0), (0, 1))
        return (kept + functional.pad(shares[count:].cumsum(0), (1, 0))) / count
    frames = _Frames.of(layer, hidden, order)
    curve = hidden.new_zeros(count + 1)
    for rows in _runs(range(count)):
        # A frame is the clip's own up to the step of its rank.
        steps = slice(0, rows.stop)
        ranks = torch.arange(rows.start, rows.stop, device=hidden.device)
        shares = _shares(stream, frames, ranks, steps)
        if shares is None:
            return None
        there = torch.arange(rows.stop, device=hidden.device) <= ranks[:, None]
        curve[steps] += (shares * there).sum(0)
    first, members = _alike(baseline[order], frames.near)
    for rows in _runs(range(len(first))):
        steps = slice(int(first[rows.start]) + 1, count + 1)
        shares = _shares(stream, frames, count + first[rows], steps)
        if shares is None:
            return None
        curve[steps] += (shares * members[rows, steps]).sum(0)
    return curve / count


@dataclass(frozen=True)
class _Frames:
    """Every frame twice, the clip's own and then the baseline's, each in the order of replacement.

    Attributes:
        layer: the encoder layer.
        hidden: what the layer was given.
        query, key, value: of its attention block, head by head; a column of ones is behind `value`.
        near: N of the frames in this order; None without a local branch.
    """

    layer: EncoderLayer
    hidden: Float[Tensor, "twice dim"]
    query: HeadRows
    key: HeadRows
    value: HeadRows
    near: Bool[Tensor, "query key"] | None

    @classmethod
    def of(cls, layer: EncoderLayer, hidden: Float[Tensor, "twice dim"], order: Int[Tensor, " frames"]) -> _Frames:
        block = layer.attention
        query, key, value = (each[0] for each in block.project(layer.attention_input(hidden[None])))
        value = torch.cat([value, torch.ones_like(value[..., :1])], -1)
        near = None
        if block.local:
            near = neighbourhood_mask(block.neighbourhood, len(order), hidden.device)[order][:, order]
        return cls(layer, hidden, query * query.shape[-1] ** -0.5, key, value, near)


def _runs(rows: range) -> Iterator[slice]:
    return (slice(start, min(start + QUERIES, rows.stop)) for start in range(rows.start, rows.stop, QUERIES))


def _alike(
    baseline: Frames, near: Bool[Tensor, "query key"] | None
) -> tuple[Int[Tensor, " groups"], Float[Tensor, "groups steps"]]:
    """Replaced frames that compute the same: the first of each group, and how many are replaced at each step."""
    same = bool((baseline == baseline[0]).all())
    rows = [b"" for _ in baseline] if near is None else [row.tobytes() for row in near.cpu().numpy()]
    groups: dict[object, int] = {}
    places = [groups.setdefault(row if same else (row, i), len(groups)) for i, row in enumerate(rows)]
    place = torch.tensor(places, device=baseline.device)
    replaced = functional.one_hot(place, len(groups)).cumsum(0).T.to(baseline)
    first = (replaced > 0).to(torch.int8).argmax(1)
    return first, functional.pad(replaced, (1, 0))


def _shares(
    stream: Stream, frames: _Frames, rows: Int[Tensor, " rows"], steps: slice
) -> Float[Tensor, "rows steps"] | None:
    """What some frames add to the sum of logits at some steps."""
    heads, block = len(frames.key), frames.layer.attention
    shared = heads // 2 if isinstance(block, ShareAtt) else heads
    everywhere = _contexts_everywhere(frames, slice(0, shared), rows, steps)
    if everywhere is None:
        return None
    if frames.near is None:
        output = block.output(everywhere)
    else:
        found = _contexts_near(frames, slice(heads - shared, heads), rows, steps)
        if found is None:
            return None
        output = _output(block, everywhere, *found)
    hidden = frames.hidden[rows, None].expand(output.shape)
    return stream.encoder.norm(frames.layer.finish(hidden, output)) @ stream.weights


def _output(
    block: ShareAtt | GateOp,
    everywhere: Float[Tensor, "rows steps wide"],
    near: Float[Tensor, "rows states wide"],
    state: Int[Tensor, "rows steps"],
) -> Float[Tensor, "rows steps dim"]:
    """Y of the block; what is linear in the local contexts is done once a state, not once a step."""
    place = (torch.arange(len(near), device=near.device)[:, None] * near.shape[1] + state).flatten()
    expand = lambda rows: rows.flatten(0, 1).index_select(0, place).unflatten(0, state.shape)  # noqa: E731
    if isinstance(block, ShareAtt):
        half = near.shape[-1]
        local = functional.linear(near, block.output.weight[:, half:])
        return functional.linear(everywhere, block.output.weight[:, :half], block.output.bias).add_(expand(local))
    gate = block.gate_global(everywhere).sub_(expand(block.gate_local(near))).sigmoid_()
    local = expand(block.output_local(near))
    output = torch.addcmul(local, gate, block.output_global(everywhere).sub_(local))
    return output if block.output_bias is None else output.add_(block.output_bias)


def _contexts_everywhere(
    frames: _Frames, heads: slice, rows: Int[Tensor, " rows"], steps: slice
) -> Float[Tensor, "rows steps wide"] | None:
    """o(s) of the global branch for some queries at some steps, its heads joined."""
    count, value = frames.key.shape[1] // 2, frames.value[heads]
    weights = _weights(frames.query[heads, rows] @ frames.key[heads].transpose(1, 2))
    # At the steps asked for, frames before the first are replaced and frames from the last on are the clip's own.
    first, last = steps.start, steps.stop - 1
    fixed = weights[..., count : count + first] @ value[:, count : count + first]
    fixed = fixed + weights[..., last:count] @ value[:, last:count]
    own, other = slice(first, last), slice(count + first, count + last)
    return _quotients(fixed, weights[..., own], value[:, None, own], weights[..., other], value[:, None, other])


def _contexts_near(
    frames: _Frames, heads: slice, rows: Int[Tensor, " rows"], steps: slice
) -> tuple[Float[Tensor, "rows states wide"], Int[Tensor, "rows steps"]] | None:
    """o of the local branch by how many of the query's neighbours are replaced, and how many are at each step."""
    count = len(frames.near)
    allowed = frames.near[rows % count]
    replaced = functional.pad(allowed.long().cumsum(1), (1, 0))
    # Neighbours in the order in which they are replaced; where a query has fewer than another, keys of no weight.
    there, keys = allowed.to(torch.int8).sort(dim=1, descending=True, stable=True)
    most = int(replaced[:, -1].max())
    there, keys = there[:, :most] > 0, keys[:, :most]
    key, value = frames.key[heads], frames.value[heads]
    query = frames.query[heads, rows].unsqueeze(2)
    own, other = ((query @ key[:, each].transpose(2, 3)).squeeze(2) for each in (keys, count + keys))
    weights = _weights(torch.cat([own, other], -1).masked_fill(~torch.cat([there, there], 1), -torch.inf))
    own, other = weights.chunk(2, -1)
    fixed = torch.zeros_like(value[:, keys[:, 0]])
    found = _quotients(fixed, own, value[:, keys], other, value[:, count + keys])
    return None if found is None else (found, replaced[:, steps])


def _weights(logits: Float[Tensor, "heads rows keys"]) -> Float[Tensor, "heads rows keys"]:
    return (logits - logits.amax(-1, keepdim=True)).exp_()


def _quotients(
    fixed: Float[Tensor, "heads rows wider"],
    own: Float[Tensor, "heads rows keys"],
    own_value: Float[Tensor, "heads _ keys wider"],
    other: Float[Tensor, "heads rows keys"],
    other_value: Float[Tensor, "heads _ keys wider"],
) -> Float[Tensor, "rows states wide"] | None:
    """Contexts with the first 0, 1, ... of some keys replaced: sums of `fixed`, the keys left, and those replaced.

    The last column of the sums is the sum of the weights, as the last of each value is 1.
    """
    heads, rows, keys = own.shape
    sums = fixed.new_empty(heads, rows, keys + 1, fixed.shape[-1])
    sums[:, :, 0] = fixed
    torch.mul(other.unsqueeze(-1), other_value, out=sums[:, :, 1:])
    sums = sums.cumsum(2)
    left = (own.unsqueeze(-1) * own_value).flip(2).cumsum(2)
    sums[:, :, :-1] += left.flip(2)
    if bool((sums[..., -1] < SMALLEST).any()):
        return None
    joined = fixed.new_empty(rows, keys + 1, heads, fixed.shape[-1] - 1)
    torch.div(sums[..., :-1], sums[..., -1:], out=joined.permute(2, 0, 1, 3))
    return joined.flatten(2)
