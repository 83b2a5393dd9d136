"""The map of one call, some query rows at a time, and how far it is from explaining what the module computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from analysis.capture.followed import SeenSoftmax

__all__ = [
    "TINY",
    "GivenMaps",
    "Rows",
    "ScoredMaps",
    "Shape",
    "TokenMaps",
    "four_axes",
    "masked_scores",
    "masked_softmax",
]

Rows = slice | Tensor
MASKED = -1e3  # scores that no module computes of tokens
FAR = 60.0  # between scores: the lower one's weight is below 1e-26 of the other's
TINY = 1e-30  # a weight that adds nothing to an output within any of the bounds
Shape = tuple[int, int, int, int]


@dataclass
class ScoredMaps:
    """softmax(Q K^T scale + bias), of which the module returned P V.

    Attributes:
        query, key, value: as the module multiplied them, with the same leading axes.
        output: what it computed, likewise.
        factor: of the scores.
        bias: added to the scores, or, if boolean, True where the query may attend; broadcasts to them.
        causal: query i attends to the keys up to i.
        modify: changes scores further: takes scores, and the rows and heads they are of.
        project: makes of the contexts of all heads what `output` holds, where that is not the contexts themselves.
    """

    query: Float[Tensor, "*lead query dim"]
    key: Float[Tensor, "*lead key dim"]
    value: Float[Tensor, "*lead key value_dim"]
    output: Float[Tensor, ...]
    factor: float
    bias: Float[Tensor, ...] | Bool[Tensor, ...] | None = None
    causal: bool = False
    modify: Callable[[Tensor, Rows, list[int] | None], Tensor] | None = None
    project: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        self.dtype, self.device = self.output.dtype, self.output.device
        self.wide = wide(self.dtype)
        # Under autocast the kernel saw its arguments in the type of its output.
        self.query, self.key, self.value = (
            each.to(self.dtype).to(self.wide) for each in (self.query, self.key, self.value)
        )
        self.lead = tuple(self.query.shape[:-2])
        self.shape = four_axes((*self.query.shape[:-1], self.key.shape[-2]))
        self.scale = max(1.0, largest(self.value))

    def part(self, rows: Rows, heads: list[int] | None) -> tuple[Float[Tensor, "*lead rows key"], float]:
        """Weights of these rows and heads, and how far the output that they give is from the call's."""
        # An output behind a projection needs all heads.
        computed = heads if self.project is None else None
        weights, nothing = masked_softmax(self.scores(rows, computed))
        # A large negative number in place of -inf leaves subnormal weights, by which products take ten times as long.
        added = self.bias is not None and self.bias.dtype != torch.bool
        normal = F.threshold(weights, TINY, 0.0) if added else weights
        contexts = normal @ select_heads(self.value, computed)
        if self.project is None:
            gap = contexts.sub_(select_heads(self.output, computed)[..., rows, :])
        else:
            gap = self.project(contexts).sub_(self.output[..., rows, :])
        if nothing is not None:
            # A query that may attend to nothing has a map of zeros; what the module makes of it (0 or NaN) is its own.
            gap.masked_fill_(nothing if self.project is None else nothing.any(-3), 0.0)
        return weights if self.project is None else select_heads(weights, heads), largest(gap)

    def scores(self, rows: Rows, heads: list[int] | None) -> Float[Tensor, "*lead rows key"]:
        """What the softmax is taken of, of these rows and heads (None: all)."""
        query, key = (select_heads(each, heads) for each in (self.query, self.key))
        scores = (query[..., rows, :] * self.factor) @ key.mT
        if self.bias is not None:
            bias = select_heads(self.bias, heads)
            bias = bias[..., rows, :] if bias.ndim > 1 and bias.shape[-2] > 1 else bias
            scores = scores.masked_fill_(~bias, -torch.inf) if bias.dtype == torch.bool else scores.add_(bias)
        if self.causal:
            scores.masked_fill_(~self._past(rows), -torch.inf)
        if self.modify is not None:
            scores = self.modify(scores, rows, heads)
        return scores

    def _past(self, rows: Rows) -> Bool[Tensor, "rows key"]:
        position = torch.arange(self.query.shape[-2], device=self.device)[rows]
        return torch.arange(self.key.shape[-2], device=self.device) <= position[:, None]


@dataclass
class GivenMaps:
    """Weights that the module itself multiplied with values.

    Attributes:
        weights: after the softmax, before a dropout.
        operand: what was multiplied with the values: the weights, or what a cast or a dropout made of them.
        value, output: as the module had them; leading axes broadcast to those of the weights.
        kept: by what `operand` is multiplied to be `weights` where nothing was dropped.
        dropped: whether a dropout is on.
        softmaxes: which ones the weights are of, where the module wrote them out.
        reordered: the functions behind the softmax that may have put heads, queries or keys in other places.
        scores: what the softmax was taken of; None: not kept.
    """

    weights: Float[Tensor, "*lead query key"]
    operand: Float[Tensor, "*lead query key"]
    value: Float[Tensor, "*other key value_dim"]
    output: Float[Tensor, "*lead query value_dim"]
    kept: float = 1.0
    dropped: bool = False
    softmaxes: tuple[SeenSoftmax, ...] = ()
    reordered: tuple[str, ...] = ()
    scores: Float[Tensor, "*lead query key"] | None = None

    def __post_init__(self) -> None:
        self.dtype, self.device = self.output.dtype, self.output.device
        self.wide = wide(self.dtype)
        self.lead = tuple(self.weights.shape[:-2])
        self.shape = four_axes(self.weights.shape)
        self.scale = max(1.0, largest(self.value))

    def part(self, rows: Rows, heads: list[int] | None) -> tuple[Float[Tensor, "*lead rows key"], float]:
        """Weights of these rows and heads, and how far the output that they give is from the call's."""
        weights = select_heads(self.weights, heads)[..., rows, :]
        operand = weights if self.operand is self.weights else select_heads(self.operand, heads)[..., rows, :]
        value, output = (select_heads(each, heads) for each in (self.value, self.output))
        contexts = operand.to(self.dtype).to(self.wide) @ value.to(self.dtype).to(self.wide)
        gap = largest(contexts.sub_(output[..., rows, :]))
        weights = weights.to(self.wide)
        if operand is not weights and self.operand is not self.weights:
            undone = operand.to(self.wide) * self.kept - weights
            gap = max(gap, largest(undone.masked_fill_(operand == 0, 0.0) if self.dropped else undone))
        return weights, gap


# The map of one call: `shape` (batch, heads, query and key tokens), `lead`, its axes in front of these, the `dtype`
# in which the module computed, `wide` in which the map is, its `device`, and `scale`, the largest magnitude among the
# values (at least 1), by which a difference is measured; and `part`: some rows of some heads' maps (None: all heads),
# with max |P V - out| over them.
TokenMaps = ScoredMaps | GivenMaps


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type in which a map is computed, for a module that computes in `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def select_heads(values: Tensor, heads: list[int] | None) -> Tensor:
    """Some heads of (..., heads, rows, columns); an axis of 1 stands for all heads."""
    return values if heads is None or values.ndim < 3 or values.shape[-3] == 1 else values[..., heads, :, :]


def largest(values: Tensor) -> float:
    """The largest magnitude; NaN if there is one; 0 of nothing."""
    if not values.numel():
        return 0.0
    # In one pass without a copy, in the order in which the numbers lie: values of heads are most often transposed.
    least, most = values.permute(sorted(range(values.ndim), key=values.stride, reverse=True)).aminmax()
    return float(torch.maximum(-least, most))


def masked_softmax(
    scores: Float[Tensor, "*lead rows key"],
) -> tuple[Float[Tensor, "*lead rows key"], Bool[Tensor, "*lead rows 1"] | None]:
    """Softmax over the keys, and which rows are -inf everywhere, which gives zeros; None: none is."""
    weights = torch.softmax(scores, -1)
    if not bool(weights[..., :1].isnan().any()):
        return weights, None
    nothing = scores.isneginf().all(-1, keepdim=True)
    return weights.masked_fill_(nothing, 0.0), nothing


def masked_scores(
    added: Float[Tensor, "*lead rows key"],
) -> Bool[Tensor, "*lead rows key"]:
    """Which keys are masked by what a module adds to its scores: -inf, or a large negative number in its place.

    Large is what is at most `MASKED`, or so far below everything else of its row that its weight would be 0: -100, as
    in shifted windows, and not a bias that falls step by step with the distance.

    Args:
        added: to the scores; or the scores themselves, where what was added to them is not known.
    """
    masked = added <= MASKED
    order, places = added.sort(-1, descending=True)
    gap = F.pad(order[..., :-1] - order[..., 1:] > FAR, (1, 0))
    behind = (gap & (order <= -FAR)).cumsum(-1) > 0
    return masked | torch.zeros_like(masked).scatter(-1, places, behind)


def four_axes(shape: tuple[int, ...]) -> Shape:
    """(batch, heads, query, key) of a call's map: the third axis from behind is the heads, what lies before is batch.

    A map of three axes has one head, and of two one row of a batch.
    """
    *lead, query, key = shape
    batch, heads = (lead[:-1], lead[-1]) if len(lead) > 1 else (lead, 1)
    return math.prod(batch), heads, query, key
