"""AttentionCall: one recorded and verified attention call; how one is made from its maps in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.capture.axes import Axes
from analysis.capture.errors import CaptureError, LayoutError, module_place
from analysis.capture.frame_maps import FrameMap, FrameSums, spatial_map, tokens_of_frames
from analysis.capture.layout import Layout, TokenTable, fit, layout_of
from analysis.capture.maps import Rows, ScoredMaps, Shape, TokenMaps

__all__ = ["BOUNDS", "AttentionCall", "Options", "make_call"]

# How far P V may be from the output, in units of the largest value (at least 1). Half precision rounds the scores, the
# weights or the output once more than the recomputation does, each by at most half an epsilon.
BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
REDUCTIONS = (None, "frames")


@dataclass(frozen=True)
class Options:
    """What is kept of every call; see `capture`."""

    reduce: str | None = None
    layers: tuple[str | int, ...] | None = None
    heads: tuple[int, ...] | None = None
    queries: tuple[int, ...] | None = None
    layout: Layout | Mapping[str, Layout | None] | None = None
    max_bytes: int = 1 << 23

    @classmethod
    def of(
        cls,
        reduce: str | None,
        layers: Sequence[str | int] | None,
        heads: Sequence[int] | None,
        queries: Sequence[int] | None,
        layout: Layout | Mapping[str, Layout | None] | None,
        max_bytes: int,
    ) -> Options:
        """From any sequences.

        Raises:
            CaptureError: something else.
        """
        numbers, rows = (
            _listed(name, each, (SupportsIndex,)) for name, each in (("heads", heads), ("queries", queries))
        )
        names = _listed("layers", layers, (SupportsIndex, str))
        for each in layout.values() if isinstance(layout, Mapping) else (layout,):
            if each is not None and not isinstance(each, Layout):
                raise LayoutError(
                    f"layout is {each!r:.60}; expected TokenLayout(frames=..., patches=...), a TokenTable, a "
                    "CrossLayout, or a dictionary of patterns of module paths -> one of them or None"
                )
        return cls(reduce, names, numbers, rows, layout, max_bytes)

    def wants(self, module: str, number: int) -> bool:
        """Whether `layers` has a module; `number`: which of the attention modules it is."""
        return self.layers is None or any(
            number == each if isinstance(each, int) else fnmatchcase(module, each) for each in self.layers
        )

    def __post_init__(self) -> None:
        if self.reduce not in REDUCTIONS:
            raise CaptureError(f"reduce is {self.reduce!r}; expected None or 'frames'")
        if self.max_bytes < 1:
            raise CaptureError(f"max_bytes is {self.max_bytes}; expected at least 1")


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """One attention call.

    Attributes:
        module: path of the innermost module that was running; "" is the captured module itself.
        index: how many calls the same module made before.
        kind: what computed it: "scaled_dot_product_attention", "multi_head_attention_forward", "softmax" (followed by a
            product with values) or "flex_attention".
        shape: of the whole map: batch, heads, query tokens, key tokens.
        difference: max |P V - out| over the rows that were computed; the output here is without dropout.
        bound: the most that it may be.
        dropout: p of a dropout that was on in the module; the map is the one before it. Of a mask of random numbers by
            which the map was multiplied, without a scale, the share of zeros.
        between: names of the functions by which the module made another map of the softmax's before the product (gates,
            say, or a clamp), so that its rows need not sum to 1; it is the one that was multiplied with the values. A
            dropout that is named here is in the map.
        heads: numbers of the heads that were kept.
        rows: positions of the query tokens that were kept.
        weights: their maps; None where they were reduced to frames.
        frames: the map between frames; None without a layout.
        tables: of the query tokens and of the key tokens; None without a layout.
        axes: what the axes of the map in front of its tokens are; None without a layout: (batch, heads).
        runs: path of each module that was running, outermost first -> how often it had run before.
    """

    module: str
    index: int
    kind: str
    shape: Shape
    difference: float
    bound: float
    dropout: float
    between: tuple[str, ...]
    heads: tuple[int, ...]
    rows: tuple[int, ...]
    weights: Float[Tensor, "batch heads query key"] | None = None
    frames: FrameMap | None = None
    tables: tuple[TokenTable, TokenTable] | None = None
    axes: Axes | None = None
    runs: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Path of the module, with the number of the call if it is not the first."""
        return f"{self.module}#{self.index}" if self.index else self.module

    @property
    def changed(self) -> bool:
        """Whether the map is another than the softmax gave; see `between`."""
        return bool(self.between)

    @property
    def frame_map(self) -> FrameMap:
        """The map between frames.

        Raises:
            CaptureError: a call without a layout.
        """
        if self.frames is None:
            raise CaptureError(f"{self.name}: a map between frames needs a layout")
        return self.frames

    def spatial_map(self, frame: int) -> Float[Tensor, "clips heads key_frame patch"]:
        """Where one query frame attends: mean weight of its tokens on every patch of every frame.

        Raises:
            CaptureError: a call without its map over tokens, or without a layout.
            LayoutError: a frame that the layout lacks, or whose tokens were not recorded.
        """
        if self.weights is None or self.tables is None:
            needed = "the map over tokens: capture(..., reduce=None, queries=[frame])" if self.tables else "a layout"
            raise CaptureError(f"{self.name}: a spatial map needs {needed}")
        return spatial_map(self.weights, torch.tensor(self.rows), *self.tables, frame)


def _listed(name: str, values: Iterable[Any] | None, kinds: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The numbers or names of an argument.

    Raises:
        CaptureError: no list, or something else in it.
    """
    if values is None:
        return None
    listed = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str) else (None,)
    if any(isinstance(each, bool) or not isinstance(each, kinds) for each in listed):
        examples = {"heads": "heads=[2]", "queries": "queries=[3]", "layers": "layers=['encoder.*', 0]"}
        raise CaptureError(f"{name} is {values!r:.60}; expected a list, as in {examples[name]}")
    return listed


def make_call(
    maps: TokenMaps,
    module: str,
    index: int,
    kind: str,
    options: Options,
    dropout: float = 0.0,
    between: tuple[str, ...] = (),
    axes: Axes | None = None,
    runs: Mapping[str, int] | None = None,
) -> AttentionCall:
    """Compute a call's map chunk by chunk, keep what was asked for, and check that it explains the output.

    Args:
        maps: of the call.
        module, index, kind, dropout, between: see `AttentionCall`.
        options: what to keep.
        axes: in front of its tokens; None: (batch, heads).
        runs: see `AttentionCall`.

    Raises:
        CaptureError: P V is not the output, or a head or query that the call lacks.
        LayoutError: a layout that does not fit the call.
    """
    where = f"call {index} of {module_place(module)} ({kind})"
    batch, heads, queries, keys = maps.shape
    layout = layout_of(options.layout, module)
    if axes is not None:
        batch, heads = axes.batch, axes.size("head")
    shape = (batch, heads, queries, keys)
    tables = None if layout is None else fit(layout, where, shape)
    kept = _kept(options.heads, heads, f"{where}: head")
    rows = _rows(options, tables, queries, where)
    sums = None if tables is None else FrameSums(*tables, (batch, len(kept)), maps.device)
    weights = None
    if options.reduce is None:
        weights = torch.empty(batch, len(kept), len(rows), keys, dtype=maps.wide, device=maps.device)
    size = max(1, options.max_bytes // max(1, batch * len(kept) * keys * maps.wide.itemsize))
    parts = _parts(rows, size, maps.device)
    bound = BOUNDS[maps.dtype] * maps.scale
    chosen = None if kept == tuple(range(heads)) else list(kept)
    difference = _compute(maps, parts, chosen, axes, sums, weights)
    if not difference <= bound:
        raise CaptureError(_refusal(where, difference, bound, maps.dtype))
    return AttentionCall(
        module, index, kind, shape, difference, bound, dropout, between, kept, tuple(rows), weights,
        None if sums is None else sums.result(), tables, axes, runs or {},
    )  # fmt: skip


def _compute(
    maps: TokenMaps,
    parts: Iterator[Rows],
    heads: list[int] | None,
    axes: Axes | None,
    sums: FrameSums | None,
    weights: Float[Tensor, "batch heads rows key"] | None,
) -> float:
    """Fill `sums` and `weights` piece by piece; max |P V - out|, NaN if there is one."""
    differences, done = [0.0], 0
    for rows in parts:
        if axes is None or (maps.shape[:2] == (axes.batch, axes.size("head")) and axes.plain):
            lead, difference = maps.part(rows, heads)
            piece = lead.reshape(maps.shape[0], -1, *lead.shape[-2:])
        else:
            lead, difference = maps.part(rows, None)
            piece = axes.arranged(lead)
            piece = piece if heads is None else piece[:, heads]
        differences.append(difference)
        if sums is not None:
            sums.add(piece, rows, own=isinstance(maps, ScoredMaps) and weights is None)
        if weights is not None:
            weights[:, :, done : done + piece.shape[2]] = piece
        done += piece.shape[2]
    return math.nan if any(map(math.isnan, differences)) else max(differences)


def _kept(wanted: Sequence[int] | None, count: int, what: str) -> tuple[int, ...]:
    if wanted is None:
        return tuple(range(count))
    if missing := [number for number in wanted if not 0 <= number < count]:
        raise CaptureError(f"{what} {missing[0]} was asked for; it has 0 to {count - 1}")
    if count == 1 and len(wanted) > 1:
        raise CaptureError(f"{what} 0 was asked for {len(wanted)} times; it is the only one")
    return tuple(wanted)


def _rows(options: Options, tables: tuple[TokenTable, TokenTable] | None, queries: int, where: str) -> Sequence[int]:
    if options.queries is None:
        return range(queries)
    if tables is None:
        return _kept(options.queries, queries, f"{where}: query token")
    try:
        return tokens_of_frames(tables[0], options.queries)
    except LayoutError as error:
        raise LayoutError(f"{where}: {error}") from None


def _parts(rows: Sequence[int], size: int, device: torch.device) -> Iterator[Rows]:
    """Some rows at a time; a slice, which copies nothing, where all are wanted."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield slice(part.start, part.stop) if isinstance(part, range) else torch.tensor(part, device=device)


def _refusal(where: str, difference: float, bound: float, dtype: torch.dtype) -> str:
    if difference != difference:
        return f"{where}: the module's own output holds NaN, so its map cannot be verified"
    return (
        f"{where}: the recomputed map does not explain the output: max |P V - out| is {difference:.3g}, expected at "
        f"most {bound:.3g} in {str(dtype).removeprefix('torch.')}. The map is refused; if the module changes its "
        "weights in a way that capture does not see, give an Adapter"
    )
