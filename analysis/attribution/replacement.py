"""Replacing frames one after another: the logit after every step, without a forward pass a step.

With t frames in the order in which they are replaced, step s has the first s replaced. A query sees, of each frame, one
of two keys: the clip's or the baseline's. Its context at every step is a quotient of running sums,

    o(s) = [sum_{r >= s} e_r v_r + sum_{r < s} e'_r v'_r] / [sum_{r >= s} e_r + sum_{r < s} e'_r],

where e = exp(logit) of the clip's keys, e' of the baseline's; sums only, so nothing cancels. So attention costs as much
for all steps as for a few. What follows attention is done once for every step and frame that differ: replaced frames
whose baseline and neighbourhood are the same are one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

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
QUERIES = 32
# Frames at some step that go through the rest of the layer together, for the same reason.
TOKENS = 4096
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
        there = torch.arange(rows.stop, device=hidden.device)[:, None] <= ranks
        curve[steps] += (shares * there).sum(1)
    first, members = _alike(frames)
    for rows in _runs(range(len(first))):
        steps = slice(int(first[rows.start]) + 1, count + 1)
        shares = _shares(stream, frames, count + first[rows], steps)
        if shares is None:
            return None
        curve[steps] += (shares * members[steps, rows]).sum(1)
    return curve / count


@dataclass(frozen=True)
class _Frames:
    """Every frame twice, the clip's own and then the baseline's, each in the order of replacement.

    Attributes:
        layer: the encoder layer.
        hidden: what the layer was given.
        query, key, value: of its attention block, head by head; a column of ones is behind `value`.
        near: N of the frames in this order; None without a local branch.
        alike: whether all of the baseline's frames are one and the same, as with a mean frame.
    """

    layer: EncoderLayer
    hidden: Float[Tensor, "twice dim"]
    query: HeadRows
    key: HeadRows
    value: HeadRows
    near: Bool[Tensor, "query key"] | None
    alike: bool

    @classmethod
    def of(cls, layer: EncoderLayer, hidden: Float[Tensor, "twice dim"], order: Int[Tensor, " frames"]) -> _Frames:
        block = layer.attention
        query, key, value = (each[0] for each in block.project(layer.attention_input(hidden[None])))
        value = torch.cat([value, torch.ones_like(value[..., :1])], -1)
        near = None
        if block.local:
            near = neighbourhood_mask(block.neighbourhood, len(order), hidden.device)[order][:, order]
        alike = bool((hidden[len(order) :] == hidden[len(order)]).all())
        return cls(layer, hidden, query * query.shape[-1] ** -0.5, key, value, near, alike)


def _runs(rows: range, size: int = QUERIES) -> Iterator[slice]:
    return (slice(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size))


def _alike(frames: _Frames) -> tuple[Int[Tensor, " groups"], Float[Tensor, "steps groups"]]:
    """Replaced frames that compute the same: the first of each group, and how many are replaced at each step."""
    count = len(frames.hidden) // 2
    rows = [b""] * count if frames.near is None else [row.tobytes() for row in frames.near.cpu().numpy()]
    groups: dict[object, int] = {}
    places = [groups.setdefault(row if frames.alike else (row, i), len(groups)) for i, row in enumerate(rows)]
    place = torch.tensor(places, device=frames.hidden.device)
    replaced = functional.one_hot(place, len(groups)).cumsum(0).to(frames.hidden)
    first = (replaced > 0).to(torch.int8).argmax(0)
    return first, functional.pad(replaced, (0, 0, 1, 0))


def _shares(
    stream: Stream, frames: _Frames, rows: Int[Tensor, " rows"], steps: slice
) -> Float[Tensor, "steps rows"] | None:
    """What some frames add to the sum of logits at some steps."""
    heads, block = len(frames.key), frames.layer.attention
    shared = heads // 2 if isinstance(block, ShareAtt) else heads
    everywhere = _contexts_everywhere(frames, slice(0, shared), rows, steps)
    near = None if frames.near is None else _contexts_near(frames, slice(heads - shared, heads), rows, steps)
    if everywhere is None or (near is None and frames.near is not None):
        return None
    if near is not None:
        near = (_local_parts(block, near[0]), near[1])
    shares = everywhere.new_empty(everywhere.shape[:2])
    for part in _runs(range(len(shares)), max(1, TOKENS // len(rows))):
        if near is None:
            output = block.output(everywhere[part])
        else:
            output = _output(block, everywhere[part], near[0], near[1][part])
        hidden = frames.hidden[rows].expand(output.shape)
        torch.matmul(stream.encoder.norm(frames.layer.finish(hidden, output)), stream.weights, out=shares[part])
    return shares


def _local_parts(block: ShareAtt | GateOp, near: Float[Tensor, "states rows wide"]) -> list[Float[Tensor, "places _"]]:
    """What is linear in the local contexts, done once a state, not once a step."""
    near = near.flatten(0, 1)
    if isinstance(block, ShareAtt):
        return [functional.linear(near, block.output.weight[:, near.shape[-1] :])]
    return [block.gate_local(near), block.output_local(near)]


def _output(
    block: ShareAtt | GateOp,
    everywhere: Float[Tensor, "steps rows wide"],
    local_parts: list[Float[Tensor, "places _"]],
    state: Int[Tensor, "steps rows"],
) -> Float[Tensor, "steps rows dim"]:
    """Y of the block; `local_parts` are of every state."""
    place = (state * state.shape[1] + torch.arange(state.shape[1], device=state.device)).flatten()
    parts = [each.index_select(0, place).unflatten(0, state.shape) for each in local_parts]
    if isinstance(block, ShareAtt):
        half = everywhere.shape[-1]
        return functional.linear(everywhere, block.output.weight[:, :half], block.output.bias).add_(parts[0])
    gate = block.gate_global(everywhere).sub_(parts[0]).sigmoid_()
    output = torch.addcmul(parts[1], gate, block.output_global(everywhere).sub_(parts[1]))
    return output if block.output_bias is None else output.add_(block.output_bias)


def _contexts_everywhere(
    frames: _Frames, heads: slice, rows: Int[Tensor, " rows"], steps: slice
) -> Float[Tensor, "steps rows wide"] | None:
    """o(s) of the global branch for some queries at some steps, its heads joined."""
    count = len(frames.hidden) // 2
    keys = count + 1 if frames.alike else 2 * count
    value = frames.value[heads, :keys]
    weights = _weights(frames.query[heads, rows] @ frames.key[heads, :keys].transpose(1, 2))
    own, other = weights[..., :count], weights[..., count:].expand(-1, -1, count)
    # At the steps asked for, frames before the first are replaced and frames from the last on are the clip's own.
    first, last = steps.start, steps.stop - 1
    if frames.alike:
        fixed = (first * other[..., :1]) * value[:, count:]
    else:
        fixed = other[..., :first] @ value[:, count : count + first]
    fixed = fixed + own[..., last:] @ value[:, last:count]
    replaced = slice(count, count + 1) if frames.alike else slice(count + first, count + last)
    values = (value[:, None, places].permute(2, 1, 0, 3) for places in (slice(first, last), replaced))
    return _quotients(fixed, own[..., first:last], other[..., first:last], *values)


def _contexts_near(
    frames: _Frames, heads: slice, rows: Int[Tensor, " rows"], steps: slice
) -> tuple[Float[Tensor, "states rows wide"], Int[Tensor, "steps rows"]] | None:
    """o of the local branch by how many of the query's neighbours are replaced, and how many are at each step."""
    count = len(frames.near)
    allowed = frames.near[rows % count]
    replaced = functional.pad(allowed.long().cumsum(1), (1, 0))
    # Neighbours in the order in which they are replaced; where a query has fewer than another, keys of no weight.
    there, keys = allowed.to(torch.int8).sort(dim=1, descending=True, stable=True)
    most = int(replaced[:, -1].max())
    there, keys = there[:, :most] > 0, keys[:, :most]
    others = keys[:, :1] * 0 + count if frames.alike else keys + count
    key, value = frames.key[heads], frames.value[heads]
    query = frames.query[heads, rows].unsqueeze(2)
    own, other = ((query @ key[:, each].transpose(2, 3)).squeeze(2) for each in (keys, others))
    weights = _weights(torch.cat([own, other.expand_as(own)], -1).masked_fill(~there.repeat(1, 2), -torch.inf))
    own, other = weights.chunk(2, -1)
    own_value, other_value = (value[:, each].permute(2, 1, 0, 3) for each in (keys, others))
    found = _quotients(torch.zeros_like(value[:, keys[:, 0]]), own, other, own_value, other_value)
    return None if found is None else (found, replaced[:, steps].T)


def _weights(logits: Float[Tensor, "heads rows keys"]) -> Float[Tensor, "heads rows keys"]:
    return (logits - logits.amax(-1, keepdim=True)).exp_()


def _quotients(
    fixed: Float[Tensor, "heads rows wider"],
    own: Float[Tensor, "heads rows keys"],
    other: Float[Tensor, "heads rows keys"],
    own_value: Float[Tensor, "keys _ heads wider"],
    other_value: Float[Tensor, "_ _ heads wider"],
) -> Float[Tensor, "states rows wide"] | None:
    """Contexts with the first 0, 1, ... of some keys replaced: sums of `fixed`, the keys left, and those replaced.

    The last column of the sums is the sum of the weights, as the last of each value is 1. Where all replaced keys are
    one and the same, `other_value` has one.
    """
    heads, rows, keys = own.shape
    own, other = (each.permute(2, 1, 0).unsqueeze(-1) for each in (own, other))
    sums = fixed.new_empty(keys + 1, rows, heads, fixed.shape[-1])
    torch.mul(own, own_value, out=sums[:-1])
    sums[-1] = fixed.transpose(0, 1)
    _accumulate(sums.unbind()[::-1])
    if len(other_value) == 1:
        sums[1:].addcmul_(other.cumsum(0), other_value)
    else:
        replaced = other * other_value
        _accumulate(replaced.unbind())
        sums[1:] += replaced
    if bool((sums[..., -1] < SMALLEST).any()):
        return None
    joined = fixed.new_empty(keys + 1, rows, heads, fixed.shape[-1] - 1)
    return torch.div(sums[..., :-1], sums[..., -1:], out=joined).flatten(2)


def _accumulate(parts: Sequence[Tensor]) -> None:
    """Add to each part all before it. `cumsum` over a dimension that is not the last takes several times as long."""
    for before, part in pairwise(parts):
        part.add_(before)
