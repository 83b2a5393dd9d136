"""What edits do to one captured attention call of a module: to its edges, values and contexts, and so to its output.

The edits of a plan are of time steps; a call has tokens. Tokens of no time step (class token, registers) count as one
step more, which edits of all frames hold and edits of seconds do not. Values and contexts at a site are those of all
tokens of a time step in one row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.capture import AttentionCall
from analysis.capture.axes import Axes
from analysis.capture.call import BOUNDS
from analysis.capture.layout import TokenTable
from analysis.capture.maps import TINY, GivenMaps, ScoredMaps, TokenMaps, masked_scores, masked_softmax
from analysis.interventions.edits import EditError, Patch, ScaleHead, Seconds
from analysis.interventions.plan import Clock, EditPlan
from gmsa_models.trace import Stage

__all__ = ["CallEdit", "TokenClock"]

ByHead = Float[Tensor, "batch heads tokens _"]
Edges = Float[Tensor, "batch heads query key"] | Bool[Tensor, "batch heads query key"]


@dataclass(frozen=True)
class TokenClock(Clock):
    """Time steps of a module's calls."""

    def span(self, seconds: Seconds | None) -> slice:
        """The time steps that start in some seconds; None: all, and the step of tokens of none behind them."""
        return slice(0, self.frames + 1) if seconds is None else super().span(seconds)


@dataclass(frozen=True, eq=False)
class CallEdit:
    """The edits of one call.

    Attributes:
        plan: of the pass; holds what is watched afterwards.
        stream, layer: which call it is.
        call: as it was captured, with a layout.
        maps: of it.
        axes: in front of its tokens.
        heads: those of the layer; more than the call has where the layer's heads are modules of their own.
        first: which of them the call's first is.
        products: those that its map goes into, where these are several.
    """

    plan: EditPlan
    stream: str
    layer: int
    call: AttentionCall
    maps: TokenMaps
    axes: Axes
    heads: int
    first: int = 0
    products: tuple[str, ...] = ()

    def write(self, result: Tensor) -> None:
        """Change what the call returned to what it returns after the edits; to the bit the same where there are none.

        Raises:
            EditError: an edit that cannot be made here.
        """
        stages = [self._stage(quantity) for quantity in ("mask", "weights", "values", "contexts")]
        touched = any(stage in self.plan.actions or stage in self.plan.watch for stage in stages)
        if not touched and self.stream not in self.plan.dropped:
            return
        if self.call.dropout:
            raise EditError(f"{self.call.name}: a dropout is on; edits are of passes without")
        self._check_map()
        output = self.maps.output
        if output.untyped_storage().data_ptr() != result.untyped_storage().data_ptr():
            raise EditError(f"{self.call.name}: what it returns ({self.call.kind}) cannot be changed")
        before, after = self._contexts()
        change = self._returned(after) - self._returned(before)
        output.copy_(output.to(change.dtype) + change)

    def _check_map(self) -> None:
        """Refuse edits that would reach a part of what the module makes of the map, or other frames than they name.

        Raises:
            EditError: they would.
        """
        name = self.call.name or "the module"
        if self.products:
            raise EditError(
                f"{name}: its map goes into several products ({', '.join(self.products)}), of which an edit of this "
                "call would change one alone, so that none is made"
            )
        if isinstance(self.maps, GivenMaps) and self.maps.reordered:
            raise EditError(
                f"{name}: behind its softmax the map's heads, queries or keys may have been put in another order "
                f"({', '.join(self.maps.reordered)}), so that which frames and heads an edit would reach is not known; "
                "none is made"
            )

    def _stage(self, quantity: str) -> Stage:
        return Stage(self.stream, self.layer, "global", quantity)

    def _contexts(self) -> tuple[ByHead, ByHead]:
        """Contexts before and after the edits."""
        values = self._by_head(self.maps.value.to(self.maps.dtype).to(self.maps.wide))
        weights, edited = self._weights()
        kept = self._edges("weights")
        edited = edited if kept is None else edited * kept
        changed = self._patched("values", 1, values)
        contexts = self._patched("contexts", 0, edited @ changed) * self._factors()
        for quantity, side, value in (("values", 1, changed), ("contexts", 0, contexts)):
            if (stage := self._stage(quantity)) in self.plan.watch:
                known = [self.plan.watched[stage]] if self.first else []  # of the layer's heads before
                self.plan.watched[stage] = torch.cat([*known, self._by_step(side, value)], 1)
        return weights @ values, contexts

    def _weights(self) -> tuple[Edges, Edges]:
        """Weights before and after edges are taken out before the softmax."""
        mask = self._mask()
        if isinstance(self.maps, ScoredMaps):
            weights = self._by_head(masked_softmax(self.maps.scores(slice(None), None))[0])
        else:
            weights = self._by_head(self.maps.operand.to(self.maps.wide))
        if mask is None:
            return weights, weights
        if self.call.between:
            raise EditError(
                f"{self.call.name}: the map is changed between its softmax and the values "
                f"({', '.join(self.call.between)}), so that edges cannot be taken out before the softmax; give "
                "renormalise=False"
            )
        touched = (~mask).any(-1, keepdim=True)
        scores = self._scores()
        if scores is None:
            return weights, torch.where(touched, self._renormalised(weights, mask, touched), weights)
        edited, _ = masked_softmax(scores.masked_fill(~mask, -torch.inf))
        return weights, torch.where(touched, edited, weights)

    def _scores(self) -> Float[Tensor, "batch heads query key"] | None:
        """What the softmax is taken of, -inf at what the module masks; None: not known.

        A mask may be of large negative numbers: a query that has nothing else left must not attend to them.
        """
        if isinstance(self.maps, GivenMaps):
            if self.maps.scores is None:
                return None
            scores = self._by_head(self.maps.scores.to(self.maps.wide))
            return scores.masked_fill(masked_scores(scores), -torch.inf)
        plain = replace(self.maps, bias=None, causal=False, modify=None)
        scores, before = (self._by_head(each.scores(slice(None), None)) for each in (self.maps, plain))
        return scores.masked_fill(masked_scores(scores - before), -torch.inf)

    def _renormalised(
        self,
        weights: Float[Tensor, "batch heads query key"],
        mask: Bool[Tensor, "batch _ query key"],
        touched: Bool[Tensor, "batch _ query 1"],
    ) -> Float[Tensor, "batch heads query key"]:
        """The weights that are left, divided by their sum.

        Raises:
            EditError: so little is left that rounding, or what became 0, would be most of it.
        """
        left = weights * mask
        total = left.sum(-1, keepdim=True)
        numbers = torch.finfo(self.maps.dtype)
        rounding = numbers.smallest_normal if self.maps.dtype.itemsize > 2 else numbers.smallest_normal * numbers.eps
        least = weights.shape[-1] * rounding / BOUNDS[self.maps.dtype]
        if bool(((total < least) & touched & mask.any(-1, keepdim=True)).any()):
            raise EditError(
                f"{self.call.name}: what an edit takes out has so much of a query's weight that what is left "
                f"(less than {least:.1g} of it) cannot be divided by its sum in {str(self.maps.dtype)[6:]}, and the "
                "scores before the softmax are not known; give renormalise=False"
            )
        return left / total.masked_fill(total < TINY, torch.inf)

    def _mask(self) -> Bool[Tensor, "batch _ query key"] | None:
        """True = may still attend; None: nothing is taken out."""
        mask = self._edges("mask")
        if self.stream not in self.plan.dropped:
            return None if mask is None else mask.bool()
        kept = torch.ones(self.frames + 1, dtype=torch.bool, device=self.maps.device)
        for span in self.plan.dropped[self.stream]:
            kept[span] = False
        dropped = kept[self._steps(1)][:, None, None, :]
        return dropped.expand(-1, -1, self.call.shape[2], -1) if mask is None else mask.bool() & dropped

    def _edges(self, quantity: str) -> Float[Tensor, "batch heads query key"] | None:
        """1 where an edge stays, 0 where it is taken out, token by token; None: none is."""
        if (stage := self._stage(quantity)) not in self.plan.actions:
            return None
        size = self.frames + 1
        steps = torch.ones(1, self.heads, size, size, dtype=self.maps.wide, device=self.maps.device)
        steps = self.plan(stage, steps)[0, self._own]
        return steps[:, self._steps(0)[:, :, None], self._steps(1)[:, None, :]].transpose(0, 1)

    def _factors(self) -> Float[Tensor, "batch heads tokens 1"] | float:
        """What contexts are multiplied by."""
        scaled = [
            each for each in self.plan.actions.get(self._stage("contexts"), ()) if isinstance(each.edit, ScaleHead)
        ]
        if not scaled:
            return 1.0
        factors = torch.ones(1, self.heads, self.frames + 1, 1, dtype=self.maps.wide, device=self.maps.device)
        for each in scaled:
            factors = each.change(factors, factors)
        return factors[0, self._own][:, self._steps(0)].transpose(0, 1)

    def _patched(self, quantity: str, side: int, values: ByHead) -> ByHead:
        actions = self.plan.actions.get(self._stage(quantity), ())
        patches = [each for each in actions if isinstance(each.edit, Patch)]
        if not patches:
            return values
        own = self._by_step(side, values)
        changed = own.new_zeros(1, self.heads, *own.shape[2:])
        changed[:, self._own] = own
        before = changed
        for each in patches:
            changed = each.change(changed, before)
        flat = values.transpose(0, 1).flatten(1, 2)
        rows = changed[0, self._own].reshape(len(flat), -1, values.shape[-1])
        flat = flat.index_copy(1, self._grid(side).flatten(), rows)
        return flat.unflatten(1, (len(values), -1)).transpose(0, 1)

    def _by_step(self, side: int, values: ByHead) -> Float[Tensor, "1 heads frames numbers"]:
        """The tokens of each time step in one row."""
        return values.transpose(0, 1).flatten(1, 2)[:, self._grid(side)].flatten(2)[None]

    @property
    def _own(self) -> slice:
        """The call's among the heads of the layer."""
        return slice(self.first, self.first + self.call.shape[1])

    @property
    def frames(self) -> int:
        """Time steps of the call."""
        return self._table(0).frames

    def _table(self, side: int) -> TokenTable:
        assert self.call.tables is not None
        return self.call.tables[side]

    def _steps(self, side: int) -> Int[Tensor, "batch tokens"]:
        """The time step of each query (0) or key (1) token; behind the last for tokens of none."""
        frame = self._table(side).frame[0].to(self.maps.device)
        return frame.masked_fill(frame < 0, self.frames)

    def _grid(self, side: int) -> Int[Tensor, "frames patches"]:
        """Where the tokens of each time step lie among all, row by row of the batch.

        Raises:
            EditError: time steps that do not have a token of each patch.
        """
        table = self._table(side)
        frame, patch = table.frame[0].flatten(), table.patch[0].flatten()
        numbers = (frame * table.patches + patch)[frame >= 0]
        if not torch.equal(numbers.sort().values, torch.arange(table.frames * table.patches, device=numbers.device)):
            raise EditError(
                f"{self.call.name}: not every time step has one token of each patch, so that there are no values or "
                "contexts of a time step to patch or to watch"
            )
        places = (frame >= 0).nonzero()[:, 0][numbers.argsort()]
        return places.reshape(table.frames, table.patches).to(self.maps.device)

    @cached_property
    def _positions(self) -> Int[Tensor, "batch heads"]:
        """Where each row of the batch and head lies among the axes in front, taken as one."""
        lead = self.maps.lead
        numbers = torch.arange(math.prod(lead), dtype=torch.float64, device=self.maps.device)
        return self.axes.arranged(numbers.reshape(*lead, 1, 1))[..., 0, 0].long()

    def _by_head(self, values: Float[Tensor, "*lead rows columns"]) -> Float[Tensor, "batch heads rows columns"]:
        flat = values.expand(*self.maps.lead, *values.shape[-2:]).reshape(-1, *values.shape[-2:])
        return flat[self._positions]

    def _returned(self, contexts: ByHead) -> Tensor:
        """What the call returns of contexts."""
        flat = torch.empty_like(contexts.flatten(0, 1))
        flat[self._positions.flatten()] = contexts.flatten(0, 1)
        contexts = flat.reshape(*self.maps.lead, *contexts.shape[-2:])
        project = self.maps.project if isinstance(self.maps, ScoredMaps) else None
        return contexts if project is None else project(contexts)
