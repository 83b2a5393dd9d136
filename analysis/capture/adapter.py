"""Adapter: two methods by which a module whose attention `capture` does not see says itself what it attended to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from analysis.capture.call import Options, make_call
from analysis.capture.capture import Captured
from analysis.capture.errors import CaptureError
from analysis.capture.layout import Layout, layout_of
from analysis.capture.maps import GivenMaps

__all__ = ["Adapter", "GivenAttention", "Inputs", "capture_adapted"]

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class GivenAttention:
    """One attention call as an adapter gives it.

    Attributes:
        module: what the call is named by, such as the path of its module.
        weights: the map: what the values were multiplied with; rows need not sum to 1.
        value: of each head.
        output: what the module computed from them, before heads are joined.
    """

    module: str
    weights: Float[Tensor, "batch heads query key"]
    value: Float[Tensor, "batch heads _ value_dim"]
    output: Float[Tensor, "batch heads query value_dim"]


@runtime_checkable
class Adapter(Protocol):
    """What a module is asked for where its attention is not seen, say an external kernel's or a linear one's.

    The values and outputs are asked for because a map that does not explain its output is refused, here too.
    """

    def attention(self, module: nn.Module, inputs: Inputs) -> Iterable[GivenAttention]:
        """The attention calls of one pass, in their order; made one at a time, so that one map is held at once."""

    def logits(self, module: nn.Module, inputs: Inputs) -> Float[Tensor, "clips classes"]:
        """What the module says of the classes, before a sigmoid or softmax."""


def capture_adapted(
    module: nn.Module,
    inputs: Inputs,
    adapter: Adapter,
    *,
    reduce: str | None = None,
    layers: Sequence[str | int] | None = None,
    heads: Sequence[int] | None = None,
    queries: Sequence[int] | None = None,
    layout: Layout | Mapping[str, Layout | None] | None = None,
    max_bytes: int = Options.max_bytes,
) -> Captured:
    """Record what an adapter gives as `capture` records what it sees: verified, reduced, chosen in the same way.

    Args:
        module, inputs: handed to the adapter.
        adapter: see `Adapter`.
        reduce, layers, heads, queries, layout, max_bytes: see `capture`; no layout is recognised.

    Raises:
        CaptureError: a map that does not explain its output, arrays that do not fit together, no call at all.
        LayoutError: a layout that does not fit a call; none where maps are to be reduced.
    """
    options = Options.of(reduce, layers, heads, queries, layout, max_bytes)
    if reduce is not None and layout is None:
        raise CaptureError("maps between frames need a layout: give layout=TokenLayout(frames=..., patches=...)")
    calls, skipped, seen = [], Counter[str](), Counter[str]()
    with torch.no_grad():
        for attention in adapter.attention(module, inputs):
            sites = list(dict.fromkeys([*seen, attention.module]))
            index = seen[attention.module]
            seen[attention.module] += 1
            left_out = reduce is not None and layout_of(layout, attention.module) is None
            if left_out or not options.wants(attention.module, sites.index(attention.module)):
                skipped[attention.module] += 1
                continue
            calls.append(make_call(_maps(attention), attention.module, index, "adapter", options))
    if not calls:
        raise CaptureError(f"{type(adapter).__name__} gave no attention call of {type(module).__name__} to keep")
    return Captured(calls, skipped)


def _maps(attention: GivenAttention) -> GivenMaps:
    weights, value, output = attention.weights, attention.value, attention.output
    sizes = [tuple(each.shape) for each in (weights, value, output)]
    *lead, queries, keys = sizes[0]
    if sizes[1][:-1] != (*lead, keys) or sizes[2] != (*lead, queries, sizes[1][-1]):
        raise CaptureError(
            f"attention of {attention.module!r}: weights, value and output have shapes {sizes[0]}, {sizes[1]} and "
            f"{sizes[2]}; expected (batch, heads, query, key), (batch, heads, key, dim) and (batch, heads, query, dim)"
        )
    return GivenMaps(weights, weights, value, output)
