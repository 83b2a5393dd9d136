"""AxisFinder: which of the possible axes those in front of a call's tokens are, without a guess."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from analysis.capture.axes import Axes, clip_counts, given_axes, parse_axes, possible_axes
from analysis.capture.channels import refuse_channels
from analysis.capture.errors import LayoutError, module_place
from analysis.capture.layout import CrossLayout, Layout, TokenLayout, TokenTable, check_tokens
from analysis.capture.maps import TokenMaps, four_axes
from analysis.capture.probing import ReachedMaps, first_tensor, reached_maps
from analysis.capture.running import ModuleStack, RunningModule

__all__ = ["AxisFinder"]

# What makes a map of (batch, heads) itself; others take whatever axes they are given.
HEADS_LAST = ("multi_head_attention_forward", "flex_attention")


@dataclass(frozen=True)
class _Question:
    """What is known of a call whose axes are to be found.

    Attributes:
        name: for messages.
        call: path of the module, and number of the call.
        lead: sizes of the axes.
        tokens: how many queries and keys the map has.
        side: layout of its queries.
        clips: how many there may be, the likeliest first; none: not known.
        shape: of what the outermost module was given.
        heads: how many the module says that it has.
        heads_last: what computed it has the heads on the last axis.
    """

    name: str
    call: tuple[str, int]
    lead: tuple[int, ...]
    tokens: tuple[int, int]
    side: TokenLayout | TokenTable
    clips: tuple[int, ...]
    shape: tuple[int, ...]
    heads: int | None
    heads_last: bool

    @property
    def folded(self) -> str:
        """What the layout calls its folded axis."""
        return (self.side.folded if isinstance(self.side, TokenLayout) else None) or "fold"

    @property
    def given_apart(self) -> bool:
        """Whether what the outermost module was given has these axes itself, as queries have."""
        return len(self.shape) == len(self.lead) + 2 and len(self.lead) > 1 and self.shape[:-2] == self.lead


class AxisFinder:
    """Finds the axes of calls.

    In this order: what the layout says; what the sizes tell alone, the clips being the first axis of the input, or the
    second of one whose first may be time; the number of heads that the module says that it has; and passes of the
    module with parts of its input replaced (`reached_maps`): a part of one clip reaches maps of that clip only, and no
    part reaches some heads only. Where axes of the map or of the input have one size, these passes decide alone.

    Args:
        modules: the running ones.
        known: name of a call -> its axes, of another pass.
    """

    def __init__(self, modules: ModuleStack, known: Mapping[str, Axes]) -> None:
        self._modules = modules
        self._known = known
        self._outermost: tuple[RunningModule, dict[tuple[str, int], list[ReachedMaps]]] | None = None

    def find(self, layout: Layout, maps: TokenMaps, where: str, index: int, kind: str) -> Axes:
        """The axes of a call that is being made.

        Args:
            layout: of it.
            maps: its own.
            where, index, kind: see `AttentionCall`.

        Raises:
            LayoutError: tokens or sizes that do not fit; or axes that nothing tells apart, with what they can be.
        """
        known = self._known.get(f"{where}#{index}" if index else where)
        if known is not None and known.lead == maps.lead:
            return known
        question = self._question(layout, maps, where, index, kind)
        if question.side.axes is None:
            refuse_channels(self._modules, maps, where, question.name)
        readings = _by_layout(question) if question.side.axes is not None else _by_sizes(question)
        if len(readings) == 1 and (question.side.axes is not None or _certain(readings[0], question)):
            return readings[0]
        left = self._probe(readings, question) if readings else []
        if len(left) != 1:
            raise LayoutError(_message(question, left or readings, none=not left))
        return left[0]

    def _question(self, layout: Layout, maps: TokenMaps, where: str, index: int, kind: str) -> _Question:
        name = f"call {index} of {module_place(where)} ({kind})"
        batch, _, *tokens = four_axes((*maps.lead, *maps.shape[2:]))
        check_tokens(layout, name, batch, (tokens[0], tokens[1]))
        side = layout.queries if isinstance(layout, CrossLayout) else layout
        outermost = self._modules.running[0]
        values = first_tensor(outermost)
        lengths = side.lengths if isinstance(side, TokenLayout) else None
        clips: tuple[int, ...] = ()
        if lengths is not None:
            clips = (len(lengths),)
        elif isinstance(side, TokenTable) and len(side.frame) > 1:
            clips = (len(side.frame),)
        elif values is not None:
            clips = clip_counts(values.shape, side.frames, side.fold, side.tokens)
        shape = () if values is None else tuple(values.shape)
        call = where, outermost.calls[where]
        last = kind in HEADS_LAST
        heads = maps.lead[-1] if last else self._modules.known_heads
        return _Question(name, call, maps.lead, (tokens[0], tokens[1]), side, clips, shape, heads, last)

    def _probe(self, readings: list[Axes], question: _Question) -> list[Axes]:
        """Those that fit what parts of the input reach, of the outermost module and then of those inside it."""
        outermost = self._modules.running[0]
        if self._outermost is None or self._outermost[0] is not outermost:
            self._outermost = outermost, reached_maps(self._modules, 0)
        seen = self._outermost[1].get(question.call, [])
        readings = [each for each in readings if _fits(each, seen, question)]
        for count in range(len(self._modules.running) - 1, 0, -1):
            if len(readings) < 2:
                break
            fitting = [each for each in readings if _apart(each, self._reached(count, question))]
            readings = fitting or readings  # what is given heads apart, as queries are, tells nothing
        return [each for each in readings if self._heads_are_no_tokens(each, question)]

    def _reached(self, count: int, question: _Question) -> list[ReachedMaps]:
        where = question.call[0]
        call = where, self._modules.running[count].calls[where]
        return reached_maps(self._modules, count).get(call, [])

    def _heads_are_no_tokens(self, axes: Axes, question: _Question) -> bool:
        """Whether a token reaches all heads, where there are as many of both, of the innermost module given tokens."""
        if axes.size("head") not in question.tokens:
            return True
        for count in range(len(self._modules.running) - 1, 0, -1):
            values = first_tensor(self._modules.running[count])
            if values is not None and values.ndim == 3 and values.shape[1] in question.tokens:
                return _apart(axes, [each for each in self._reached(count, question) if each.axis == 1])
        return True


def _by_layout(question: _Question) -> list[Axes]:
    """What the names that the layout gives can be.

    Raises:
        LayoutError: nothing.
    """
    side = question.side
    assert side.axes is not None
    groups = parse_axes(side.axes, side.folded if isinstance(side, TokenLayout) else "fold")
    each = [given_axes(question.lead, side.fold, clips, groups) for clips in question.clips]
    each = each if any(each) else [given_axes(question.lead, side.fold, None, groups)]
    result = {(axes.names, axes.sizes): axes for axes in each if axes is not None}
    if not result:
        raise LayoutError(
            f"{question.name} has the axes {question.lead} in front of its tokens; the layout says {side.axes!r}, of "
            f"which {question.folded} is {side.fold} and clip {' or '.join(map(str, question.clips)) or '?'}"
        )
    return list(result.values())


def _by_sizes(question: _Question) -> list[Axes]:
    """What the axes can be, with the number of heads that the module says if it is possible."""
    lead, fold, total = question.lead, question.side.fold, math.prod(question.lead)
    counts = list(question.clips)
    if question.heads is not None and total % (fold * question.heads) == 0:
        clips = total // (fold * question.heads)
        if clips <= max(question.clips, default=clips):  # else windows or views of them
            counts.append(clips)
    if not counts:  # torch's own order
        heads = lead[-1] if len(lead) > 1 else 1
        counts = [total // heads // fold]
    result = {
        (axes.names, axes.sizes): axes for clips in dict.fromkeys(counts) for axes in possible_axes(lead, fold, clips)
    }
    readings = list(result.values())
    if question.heads_last:
        readings = [each for each in readings if each.heads_last]
    elif not question.clips:
        readings = [each for each in readings if each.usual] or readings
    elif fold == 1 and question.given_apart:
        readings = [each for each in readings if each.usual and each.size("clip") == lead[0]] or readings
    return [each for each in readings if each.size("head") == question.heads] or readings


def _certain(axes: Axes, question: _Question) -> bool:
    """Whether the only axes that the sizes allow can be nothing else, such as views of a clip taken for heads."""
    heads, clips = axes.size("head"), axes.size("clip")
    if not question.clips or question.given_apart:
        return True
    if any(size > 1 and size in question.tokens for size in (heads, clips)):
        return False  # these may be the tokens, and the tokens heads or clips
    if clips not in (1, question.shape[0]):
        return False
    if heads in (1, question.heads):
        return clips == 1 or heads == question.heads  # else the heads of one clip, in a loop over clips
    others = list(question.shape[1:-1])
    for size in (next((each for each in others if each % question.side.frames == 0), None), question.side.fold):
        if size in others:
            others.remove(size)
    return axes.usual and heads not in others


def _arranged(axes: Axes, values: Tensor) -> Tensor:
    """(clips, fold, heads) of one value a map."""
    arranged = axes.arranged(values[..., None, None].float())[..., 0, 0] > 0
    return arranged.unflatten(0, (axes.size("clip"), -1))


def _apart(axes: Axes, seen: Sequence[ReachedMaps]) -> bool:
    """Whether no part of the input reached one head, and another of the same tokens not at all."""
    pairs = [(_arranged(axes, each.reached), _arranged(axes, each.same)) for each in seen]
    return not any(bool((reached.any(-1) & same.any(-1)).any()) for reached, same in pairs)


def _fits(axes: Axes, seen: Sequence[ReachedMaps], question: _Question) -> bool:
    """The same, and each part of a clip that clip only, on one axis of the input that may be the clips'."""
    if not _apart(axes, seen):
        return False
    clips, shape = axes.size("clip"), question.shape
    # The second axis is of clips only where the first may be time; of two of one size the first is.
    second = question.side.frames > 1 and shape[:1] and shape[0] % question.side.frames == 0
    second = second and shape[0] != shape[1]
    places = [
        axis
        for axis, size in enumerate(shape[:-1][: 2 if second else 1])
        if size % clips == 0 and axis <= (size == clips)
    ]
    if clips == 1 or not seen or not places:
        return True
    return any(all(_of_one_clip(axes, each) for each in seen if each.axis == place) for place in places)


def _of_one_clip(axes: Axes, evidence: ReachedMaps) -> bool:
    reached = _arranged(axes, evidence.reached)
    return not bool((reached[:-1] if evidence.last else reached[1:]).any())


def _message(question: _Question, readings: list[Axes], none: bool) -> str:
    """What a call's axes can be, and how to say it."""
    start = f"{question.name} has a map whose axes in front of the tokens, of sizes {question.lead},"
    known = (
        f"{' or '.join(map(str, question.clips)) or 'an unknown number of'} clip(s) x {question.side.fold} folded rows"
    )
    shown = [each.text(question.folded) for each in readings]
    choices = " or ".join(f"axes={each!r}" for each in dict.fromkeys(each for each in shown if each))
    apart = (
        "Where they are windows or views, say that each is a clip: TokenLayout(..., lengths=...), one a clip; where a "
        "call is of some of the clips, as in a loop over them, give the lengths of these"
    )
    if not readings:
        return f"{start} cannot hold {known}. {apart}"
    if none:
        return (
            f"{start} would by their sizes hold {known}, the rest being heads, but parts of the input reach them in "
            f"another way. {apart}; where sizes are right all the same, TokenLayout(..., {choices})"
        )
    return (
        f"{start} hold {known} in an order that neither sizes, nor the module's number of heads, nor other inputs "
        f"tell. Say it in the layout of this call: TokenLayout(..., {choices})"
    )
