"""Replacing frames one after another: the logit after every step, without a forward pass a step.

Attention is done for all steps at once (`running_contexts`). What follows it is done once for every step and frame that
differ: replaced frames whose baseline and neighbourhood are the same are one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from analysis.explanations.incremental.after_attention import TOKENS, AfterAttention
from analysis.explanations.incremental.as_written import is_as_written
from analysis.explanations.incremental.kept_scores import kept_scores
from analysis.explanations.incremental.running_contexts import RunningContexts, SmallWeightsError
from analysis.explanations.stream import WIDTH, Stream
from gmsa_models.attention import AttentionBlock
from gmsa_models.branches import GLOBAL

__all__ = ["replacement_curve"]

Frames = Float[Tensor, "frames width"]
Hidden = Float[Tensor, "twice dim"]
Steps = Float[Tensor, " steps"]
Rows = Int[Tensor, " rows"]
Order = Int[Tensor, " frames"]
Counts = Int[Tensor, " steps"]

# Queries of width 128 together, and fewer wider ones, but some: enough that few operations do, not so many that their
# running sums fill the memory (`benchmarks/paper_size.py`).
QUERIES, FEWEST = 64, 16


def replacement_curve(
    stream: Stream, inputs: Frames, baseline: Frames, order: Order, counts: Counts | None = None
) -> Steps:
    """The stream's logit with no frame replaced, with the first of `order`, with the first two, ... with all.

    Args:
        stream: of one modality, in evaluation mode.
        inputs: the clip's frames.
        baseline: what replaces them, frame by frame.
        order: each frame once.
        counts: how many frames are replaced at each step, rising, from none to all. None: 0, 1, ... every number.

    Returns:
        A logit a step.
    """
    layers = stream.encoder.layers
    order = order.to(inputs.device)
    counts = torch.arange(len(order) + 1, device=inputs.device) if counts is None else counts.to(inputs.device)
    if len(layers) == 1 and is_as_written(stream) and _contexts_are_quotients(layers[0].attention):
        try:
            with torch.no_grad():
                return _running_curve(stream, inputs, baseline, order, counts)
        except SmallWeightsError:
            pass
    return _curve_by_passes(stream, inputs, baseline, order, counts)


def _contexts_are_quotients(block: AttentionBlock | None) -> bool:
    """Whether contexts are quotients of sums over keys, of a global and at most one local branch.

    Gated maps are nonlinear functions of whole rows.
    """
    return block is None or (block.gated != "maps" and GLOBAL in block.branches and len(block.local_branches) <= 1)


def _curve_by_passes(stream: Stream, inputs: Frames, baseline: Frames, order: Order, counts: Counts) -> Steps:
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    return kept_scores(stream, inputs, baseline, rank >= counts[:, None])


def _running_curve(stream: Stream, inputs: Frames, baseline: Frames, order: Order, counts: Counts) -> Steps:
    layer, count = stream.encoder.layers[0], len(order)
    hidden = stream.encoder.embed(torch.cat([inputs[order], baseline[order]])[None])[0]
    if layer.attention is None:
        shares = stream.encoder.norm(layer(hidden[None]))[0] @ stream.weights
        kept = functional.pad(shares[:count].flip(0).cumsum(0).flip(0), (0, 1))
        return ((kept + functional.pad(shares[count:].cumsum(0), (1, 0))) / count)[counts]
    alike = bool((hidden[count:] == hidden[count]).all())
    contexts = RunningContexts.of(layer.attention, layer.attention_input(hidden[None])[0], order, alike)
    curve = hidden.new_zeros(len(counts))
    together = max(FEWEST, QUERIES * WIDTH // max(WIDTH, hidden.shape[1]))
    for rows in _runs(range(count), together):
        # A frame is the clip's own up to the step of its rank.
        ranks = torch.arange(rows.start, rows.stop, device=hidden.device)
        steps = counts[counts < rows.stop]
        present = steps[:, None] <= ranks
        curve[: len(steps)] += _added(stream, contexts, hidden, ranks, steps, present.to(hidden))
    first, members = _alike(contexts, hidden)
    for rows in _runs(range(len(first)), together):
        steps = counts[counts > first[rows.start]]
        curve[-len(steps) :] += _added(stream, contexts, hidden, count + first[rows], steps, members[steps, rows])
    return curve / count


def _runs(rows: range, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size))


def _alike(contexts: RunningContexts, hidden: Hidden) -> tuple[Int[Tensor, " groups"], Float[Tensor, "steps groups"]]:
    """Replaced frames that compute the same: the first of each group, and how many are replaced at each step."""
    count, near = len(hidden) // 2, contexts.neighbours
    rows = [b""] * count if near is None else [row.tobytes() for row in near.mask.cpu().numpy()]
    groups: dict[object, int] = {}
    places = [groups.setdefault(row if contexts.alike else (row, i), len(groups)) for i, row in enumerate(rows)]
    place = torch.tensor(places, device=hidden.device)
    replaced = functional.one_hot(place, len(groups)).cumsum(0).to(hidden)
    first = (replaced > 0).to(torch.int8).argmax(0)
    return first, functional.pad(replaced, (0, 0, 1, 0))


def _added(
    stream: Stream,
    contexts: RunningContexts,
    hidden: Hidden,
    rows: Rows,
    steps: Counts,
    times: Float[Tensor, "steps _"],
) -> Steps:
    """What some frames add to the sum of logits at some steps, each so many times."""
    same = contexts.alike and int(rows[0]) >= len(hidden) // 2
    everywhere = contexts.everywhere(rows[:1] if same else rows, steps)
    near = None if contexts.neighbours is None else contexts.near(rows, steps)
    sums = _Sums.of(stream.encoder.layers[0].block, hidden[rows], near, len(times))
    after, shares = AfterAttention(stream), torch.zeros_like(times)
    for part in _runs(range(len(times)), max(1, TOKENS // len(rows))):
        positions = times[part].flatten().nonzero()[:, 0]
        shares[part].view(-1)[positions] = after(sums.at(everywhere[part], part, positions))
    return (shares * times).sum(1)


@dataclass(frozen=True)
class _Sums:
    """What some frames have after attention and its residual, from the contexts of the global branch.

    All else is done once a state of the local branch, not once a step: a place is a state and a row.

    Attributes:
        base: the layer's input, output bias and, in full or but for the gate, what the local branch adds.
        place: where each step and row stands in `base`.
        weight: of the global contexts; of GateOp that of the gate and that of the output below it.
        local: of GateOp, what is added to their product with `weight`.
    """

    base: Float[Tensor, "places dim"]
    place: Int[Tensor, "steps rows"]
    weight: Float[Tensor, "_ wide"]
    local: Float[Tensor, "places _"] | None = None

    @classmethod
    def of(
        cls, block: AttentionBlock, hidden: Float[Tensor, "rows dim"], near: tuple[Tensor, Tensor] | None, steps: int
    ) -> _Sums:
        """`near`: see `RunningContexts.near`; None without a local branch."""
        bias, outputs, gates = block.bias(), block.output_weights(), block.gate_weights()
        base = hidden if bias is None else hidden + bias
        row = torch.arange(len(hidden), device=hidden.device)
        if near is None:
            return cls(base, row.expand(steps, -1), outputs["global"])
        # Of all states and rows those that some step has.
        used, place = (near[1] * len(row) + row).unique(return_inverse=True)
        states, base = near[0].flatten(0, 1).index_select(0, used), base.index_select(0, used % len(row))
        if not gates:
            return cls(base.addmm_(states, outputs["local"].T), place, outputs["global"])
        local = states @ torch.cat([gates["local"], outputs["local"]]).T
        base += local[:, base.shape[1] :]
        return cls(base, place, torch.cat([gates["global"], outputs["global"]]), local.neg_())

    def at(
        self, everywhere: Float[Tensor, "steps _ wide"], steps: slice, some: Int[Tensor, " places"]
    ) -> Float[Tensor, "places dim"]:
        """The sums of some of the frames at some steps; `everywhere` has one row where all have the same."""
        rows = self.place.shape[1]
        place = self.place[steps].flatten().index_select(0, some)
        sums = self.base.index_select(0, place)
        linear = sums if self.local is None else self.local.index_select(0, place)
        if everywhere.shape[1] < rows:
            linear += (everywhere[:, 0] @ self.weight.T).index_select(0, some // rows)
        else:
            contexts = everywhere.flatten(0, 1)
            linear.addmm_(contexts if len(some) == len(contexts) else contexts.index_select(0, some), self.weight.T)
        if self.local is None:
            return sums
        gate, difference = linear.chunk(2, 1)
        return sums.addcmul_(gate.sigmoid_(), difference)
