"""A block run again on disturbed input, and what that shows of its maps: the evidence behind certificates.

What a disturbance shows, and why: docs/concepts/certificates.md.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.attention.maps import layer_maps
from gmsa_models.attention import AttentionBlock, BlockTrace
from gmsa_models.branches import COMBINED
from gmsa_models.trace import LayerTrace

__all__ = ["ODDS_TOLERANCE", "DisturbedPasses", "OddsChange", "Orientation", "epsilon", "gather"]

# Nats. Float32 logits of size l carry an error of a few l * 1e-7: below 1e-4 for any that a softmax can use.
ODDS_TOLERANCE = 1e-3
# Nats. What the counter-test asks for: ten times what the test allows.
ODDS_POWER = 1e-2
# How far frames are moved, in root mean squares of X, one try after another until the counter-test has its answer in
# every head. Signs differ, since queries that are alike raise, or lower, the weight of a moved key together.
TRIES = (4.0, -8.0, 16.0, -32.0, 64.0, -128.0)
# Weights below this are rounded too coarsely (or to 0) for their logarithm to say anything.
SMALLEST = 1e-30
MOVED_FRAMES = 3
FLOAT32_EPSILON = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class OddsChange:
    """What the disturbance does to the odds in undisturbed rows, in nats; one value a clip and head.

    Attributes:
        kept: the largest change of log odds between two undisturbed columns; 0 in an attention map.
        reaction: the change of log odds between a moved column and the others, in the row where it is largest; of the
            moved column where that is smallest.
    """

    kept: Float[Tensor, "batch heads"]
    reaction: Float[Tensor, "batch heads"]

    def larger(self, other: OddsChange) -> OddsChange:
        """The larger of each; a nan stays one."""
        return OddsChange(torch.maximum(self.kept, other.kept), torch.maximum(self.reaction, other.reaction))

    @property
    def is_attention(self) -> bool:
        """Whether every clip and head behaves as an attention map does."""
        return bool((self.kept <= ODDS_TOLERANCE).all() and (self.reaction >= ODDS_POWER).all())

    @property
    def is_none(self) -> bool:
        """Whether none does, by a margin."""
        return bool(((self.kept >= ODDS_POWER) | (self.reaction <= ODDS_TOLERANCE)).all())


@dataclass(frozen=True)
class Orientation:
    """The test on a map and on the same map transposed."""

    map: OddsChange
    transposed: OddsChange

    def larger(self, other: Orientation) -> Orientation:
        """The larger of each."""
        return Orientation(self.map.larger(other.map), self.transposed.larger(other.transposed))

    @property
    def decided(self) -> bool:
        """Whether one of the two behaves as attention does, and the other does not."""
        return (self.map.is_attention and self.transposed.is_none) or (
            self.transposed.is_attention and self.map.is_none
        )


@dataclass(frozen=True)
class DisturbedPasses:
    """One modality's layer as recorded, and its block run again on disturbed input.

    Attributes:
        block: the block, in float32 if the model is in half precision.
        recorded: the trace that is certified.
        base: what the disturbed maps are held against: the recorded ones, or in half precision, whose logarithms say
            little, those of the float32 block on the same X.
        valid: True where a frame is real.
        moved: (batch, count): which frames were moved.
        hidden: True where a real frame was declared padding.
        again: one trace a try.
        orientations: of each branch that the block has: the largest changes over the tries; no entry for a
            branch in which no query shows one (undisturbed, sees a moved key and two undisturbed ones).
    """

    block: AttentionBlock
    recorded: LayerTrace
    base: LayerTrace | BlockTrace
    valid: Bool[Tensor, "batch frames"]
    moved: Int[Tensor, "batch count"]
    hidden: Bool[Tensor, "batch frames"]
    again: tuple[BlockTrace, ...]
    orientations: dict[str, Orientation]

    @property
    def half(self) -> bool:
        """Whether the recorded maps are in half precision."""
        return self.base is not self.recorded


def gather(
    block: AttentionBlock, recorded: LayerTrace, valid: Bool[Tensor, "batch frames"], seed: int
) -> DisturbedPasses:
    """Choose frames, move them, and run the block again until every head has shown its orientation.

    Args:
        block: the block that made the trace.
        recorded: the trace, with at least one map.
        valid: True where a frame is real.
        seed: of the frames that are moved and the directions they are moved in.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = recorded.recorded("input")
    base: LayerTrace | BlockTrace = recorded
    if epsilon(inputs) > FLOAT32_EPSILON:
        block, inputs = copy.deepcopy(block).float(), inputs.float()
        base = block.trace(inputs, valid)
    hidden = _hide(valid)
    moved = _choose(valid & ~hidden, generator)
    untouched = (valid & ~hidden).scatter(1, moved, False)
    directions = torch.randn(*moved.shape, inputs.shape[-1], generator=generator, dtype=torch.float32).to(inputs)
    size = inputs[valid].square().mean().sqrt()
    directions = directions * torch.where(size > 0, size, 1.0)
    index = moved[:, :, None].expand_as(directions)
    again: list[BlockTrace] = []
    orientations: dict[str, Orientation] = {}
    for distance in TRIES:
        again.append(block.trace(inputs.scatter_add(1, index, distance * directions), valid & ~hidden))
        latest = _orientations(base, again[-1], moved, untouched)
        orientations = {branch: latest[branch].larger(orientations.get(branch, latest[branch])) for branch in latest}
        if all(orientation.decided for orientation in orientations.values()):
            break
    return DisturbedPasses(block, recorded, base, valid, moved, hidden, tuple(again), orientations)


def epsilon(values: Tensor) -> float:
    """Distance from 1 to the next number in the type of `values`."""
    return torch.finfo(values.dtype).eps


def _hide(valid: Bool[Tensor, "batch frames"]) -> Bool[Tensor, "batch frames"]:
    """The last tenth of each clip's real frames, at least one; none of fewer than 4."""
    count = valid.sum(1, keepdim=True)
    hide = torch.where(count < 4, 0, (count // 10).clamp(min=1))
    return valid & (valid.cumsum(1) > count - hide)


def _choose(frames: Bool[Tensor, "batch frames"], generator: torch.Generator) -> Int[Tensor, "batch count"]:
    """A few of the frames of each clip, at random: at most an eighth of the shortest, so that odds are left."""
    count = min(MOVED_FRAMES, max(1, int(frames.sum(1).min()) // 8))
    order = (
        torch.rand(frames.shape, generator=generator, dtype=torch.float32).to(frames.device).masked_fill(~frames, -1.0)
    )
    return order.topk(count, 1).indices


def _orientations(
    base: LayerTrace | BlockTrace,
    again: BlockTrace,
    moved: Int[Tensor, "batch count"],
    untouched: Bool[Tensor, "batch frames"],
) -> dict[str, Orientation]:
    """One a branch that is a softmax and has odds to compare."""
    orientations: dict[str, Orientation] = {}
    for branch, parts in layer_maps(base).items():
        if branch == COMBINED:
            continue
        (part,) = parts
        attends = untouched[:, :, None].expand(-1, -1, untouched.shape[1])
        attends = attends if part.neighbourhood is None else attends & part.neighbourhood
        # (batch, query, moved frame): it sees that frame, and two whose odds can be compared.
        informative = (
            attends.take_along_dim(moved[:, None], 2) & ((attends & untouched[:, None]).sum(-1) >= 2)[:, :, None]
        )
        if bool(informative.any()):
            orientations[branch] = _orientation(part.weights, again.weights[branch], moved, untouched, informative)
    return orientations


def _orientation(
    before: Float[Tensor, "batch heads query key"],
    after: Float[Tensor, "batch heads query key"],
    moved: Int[Tensor, "batch count"],
    untouched: Bool[Tensor, "batch frames"],
    informative: Bool[Tensor, "batch query count"],
) -> Orientation:
    # Clamped below, so that a weight that vanishes counts as a large change; a nan stays one.
    shift = (after.clamp(min=SMALLEST) / before.clamp(min=SMALLEST)).log()
    pairs = (untouched[:, :, None] & untouched[:, None])[:, None] & ~(before <= SMALLEST) & ~(after <= SMALLEST)
    straight = _odds_change(shift, pairs, moved, informative)
    transposed = _odds_change(shift.mT, pairs.mT, moved, informative)
    # A clip that shows nothing neither fails the test nor passes it transposed.
    shows = informative.any(1).any(1)[:, None]
    return Orientation(
        OddsChange(straight.kept.where(shows, 0.0), straight.reaction),
        OddsChange(transposed.kept, transposed.reaction.where(shows, 0.0)),
    )


def _odds_change(
    shift: Float[Tensor, "batch heads row column"],
    pairs: Bool[Tensor, "batch heads row column"],
    moved: Int[Tensor, "batch count"],
    informative: Bool[Tensor, "batch row count"],
) -> OddsChange:
    highest = shift.masked_fill(~pairs, -math.inf).amax(-1, keepdim=True)
    lowest = shift.masked_fill(~pairs, math.inf).amin(-1, keepdim=True)
    kept = (highest - lowest).clamp(min=0.0).amax((-2, -1))
    index = moved[:, None, None, :].expand(*shift.shape[:3], -1)
    counted = informative[:, None] & pairs.any(-1, keepdim=True)
    reaction = torch.where(counted, (shift.gather(-1, index) - highest).abs(), 0.0).amax(-2)
    return OddsChange(kept, torch.where(informative.any(1)[:, None], reaction, math.inf).amin(-1))
