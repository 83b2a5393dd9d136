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
from analysis.capture.probing import ReachedMaps, given_tensors, reached_by_clips, reached_maps
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
        shapes: of the tensors that the outermost module was given which may hold the frames, the likeliest first.
        heads: how many the module says that it has.
        hinted: the same, or how many one around it says, which may be of others.
        heads_last: what computed it has the heads on the last axis.
    """

    name: str
    call: tuple[str, int]
    lead: tuple[int, ...]
    tokens: tuple[int, int]
    side: TokenLayout | TokenTable
    clips: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    heads: int | None
    hinted: int | None
    heads_last: bool

    @property
    def folded(self) -> str:
        """What the layout calls its folded axis."""
        return (self.side.folded if isinstance(self.side, TokenLayout) else None) or "fold"

    @property
    def likeliest(self) -> tuple[int, ...]:
        """Of the likeliest."""
        return self.shapes[0] if self.shapes else ()

    @property
    def agreed(self) -> bool:
        """Whether all that may hold the frames are of as many clips."""
        return len({shape[0] for shape in self.shapes}) < 2

    @property
    def given_apart(self) -> bool:
        """Whether what the outermost module was given has these axes itself, as queries have."""
        return len(self.likeliest) == len(self.lead) + 2 and len(self.lead) > 1 and self.likeliest[:-2] == self.lead


class AxisFinder:
    """Finds the axes of calls.

    In this order: what the layout says; what the sizes tell alone, the clips being the first axis of the input, or the
    second of one whose first may be time; the number of heads that the module says that it has; and passes of the
    module with parts of its input replaced (`reached_maps`): a part of one clip reaches maps of that clip only, and no
    part reaches some heads only. Where axes of the map or of the input have one size, these passes decide alone. Of
    several tensors the input is the one that may hold the frames (`frame_tensors`); where several may, and are of other
    numbers of clips, the passes decide, with parts of each. Where a function ran that may put clips in another order,
    each map must be of its own clip (`reached_by_clips`).

    Args:
        modules: the running ones.
        known: name of a call -> its axes, of another pass.
    """

    def __init__(self, modules: ModuleStack, known: Mapping[str, Axes]) -> None:
        self._modules = modules
        self._known = known
        self._outermost: RunningModule | None = None
        self._reached_maps: dict[tuple[int, ...], dict[tuple[str, int], list[ReachedMaps]]] = {}
        self._reached_by_clips: dict[tuple[int, int], dict[tuple[str, int], list[tuple[list[int], Tensor]]]] = {}

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
        if self._outermost is not self._modules.running[0]:
            self._outermost = self._modules.running[0]
            self._reached_maps, self._reached_by_clips = {}, {}
        question = self._question(layout, maps, where, index, kind)
        axes = self._decided(question, maps, where)
        unsaid = question.side.axes is None and axes.size("head") not in (question.heads, question.hinted)
        if unsaid and axes.heads_apart and not question.given_apart:
            raise LayoutError(_too_many_heads(axes, question))
        self._check_own_clips(axes, question)
        return axes

    def _decided(self, question: _Question, maps: TokenMaps, where: str) -> Axes:
        if question.side.axes is None:
            refuse_channels(self._modules, maps, where, question.name)
        readings = _by_layout(question) if question.side.axes is not None else _by_sizes(question)
        if len(readings) == 1 and (question.side.axes is not None or _certain(readings[0], question)):
            return readings[0]
        left = self._probe(readings, question) if readings else []
        left = [each for each in left if each.size("head") == question.hinted] or left  # of what the passes leave
        if len(left) != 1:
            raise LayoutError(_message(question, left or readings, none=not left))
        return left[0]

    def _question(self, layout: Layout, maps: TokenMaps, where: str, index: int, kind: str) -> _Question:
        name = f"call {index} of {module_place(where)} ({kind})"
        batch, _, *tokens = four_axes((*maps.lead, *maps.shape[2:]))
        check_tokens(layout, name, batch, (tokens[0], tokens[1]))
        side = layout.queries if isinstance(layout, CrossLayout) else layout
        outermost = self._modules.running[0]
        shapes = tuple(tuple(each.shape) for each in given_tensors(outermost, side.frames))
        lengths = side.lengths if isinstance(side, TokenLayout) else None
        clips: tuple[int, ...] = ()
        if lengths is not None:
            clips = (len(lengths),)
        elif isinstance(side, TokenTable) and len(side.frame) > 1:
            clips = (len(side.frame),)
        else:
            counts = [clip_counts(shape, side.frames, side.fold, side.tokens) for shape in shapes]
            clips = tuple(dict.fromkeys(each for of_one in counts for each in of_one))
        call = where, outermost.calls[where]
        last = kind in HEADS_LAST
        heads = maps.lead[-1] if last else self._modules.known_heads
        hinted = heads if last else self._modules.hinted_heads
        return _Question(name, call, maps.lead, (tokens[0], tokens[1]), side, clips, shapes, heads, hinted, last)

    def _probe(self, readings: list[Axes], question: _Question) -> list[Axes]:
        """Those that fit what parts of the input reach, of the outermost module and then of those inside it."""
        tensors = self._tensors(0, question)
        key = tuple(map(id, tensors))
        if key not in self._reached_maps:
            self._reached_maps[key] = reached_maps(self._modules, 0, tensors)
        seen = self._reached_maps[key].get(question.call, [])
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
        return reached_maps(self._modules, count, self._tensors(count, question)[:1]).get(call, [])

    def _tensors(self, count: int, question: _Question) -> list[Tensor]:
        return given_tensors(self._modules.running[count], question.side.frames)

    def _check_own_clips(self, axes: Axes, question: _Question) -> None:
        """Refuse maps that are of other clips than those at their places, as where a module sorts its clips.

        Raises:
            LayoutError: there is one.
        """
        clips = axes.size("clip")
        if clips < 2 or not self._modules.reordered:
            return
        wrong = [self._other_clip(axes, question, axis) for axis in (0, 1)]
        known = [each for each in wrong if each is not None]
        if known and all(known):  # on each axis of the input that may be the clips'
            raise LayoutError(
                f"{question.name}: where {known[0]}. The module has its clips in another order there, as where it "
                "sorts them by length, or mixes them: give them in that order, or one by one"
            )

    def _other_clip(self, axes: Axes, question: _Question, axis: int) -> str | None:
        """Which maps moved with other clips of an axis of the input; empty: none; None: no tensor has the axis."""
        clips = axes.size("clip")
        tensors = self._tensors(0, question)
        tensors = [each for each in tensors if each.ndim > 2 - (axis == 0) and each.shape[axis] == clips]
        if not tensors:
            return None
        if (axis, clips) not in self._reached_by_clips:
            self._reached_by_clips[axis, clips] = reached_by_clips(self._modules, tensors, axis, clips)
        for chosen, reached in self._reached_by_clips[axis, clips].get(question.call, []):
            wrong = _arranged(axes, reached).flatten(1).any(1)
            wrong[chosen] = False
            if bool(wrong.any()):
                numbers = ", ".join(map(str, chosen))
                place = int(wrong.nonzero()[0])
                return f"clips {numbers} of the input are others, maps at the place of clip {place} are others too"
        return ""

    def _heads_are_no_tokens(self, axes: Axes, question: _Question) -> bool:
        """Whether a token reaches all heads, where there are as many of both, of the innermost module given tokens."""
        if axes.size("head") not in question.tokens:
            return True
        for count in range(len(self._modules.running) - 1, 0, -1):
            tensors = self._tensors(count, question)
            if tensors and tensors[0].ndim == 3 and tensors[0].shape[1] in question.tokens:
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
    for heads in dict.fromkeys((question.heads, question.hinted)):
        if heads is not None and total % (fold * heads) == 0:
            clips = total // (fold * heads)
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
    return _of_known_heads(readings, question)


def _of_known_heads(readings: list[Axes], question: _Question) -> list[Axes]:
    """Those of as many heads as the module says; else of fewer, as where a call is of some of them.

    Raises:
        LayoutError: all are of more, so that the rest are no heads, but windows, views or streams in one batch.
    """
    heads = question.heads
    if heads is None:
        stated = [each for each in readings if each.heads_last and each.size("head") == question.hinted]
        if stated and len(question.lead) > 1:
            return stated
        return readings
    fitting = [each for each in readings if each.size("head") == heads]
    if not any(each.size("clip") in question.clips for each in fitting):  # of one clip of several, or some of the heads
        fitting += [each for each in readings if each.size("head") < heads]
    if readings and not fitting:
        raise LayoutError(_too_many_heads(readings[0], question))
    return fitting


def _certain(axes: Axes, question: _Question) -> bool:
    """Whether the only axes that the sizes allow can be nothing else, such as views of a clip taken for heads."""
    heads, clips = axes.size("head"), axes.size("clip")
    if not question.clips or question.given_apart:
        return True
    if not question.agreed or (len(question.shapes) > 1 and heads not in (1, question.heads)):
        return False  # as many clips as another tensor has; or parts of several tensors
    if question.heads is not None and 1 < heads < question.heads:
        return False  # some of the heads, or windows of one
    if any(size > 1 and size in question.tokens for size in (heads, clips)):
        return False  # these may be the tokens, and the tokens heads or clips
    if clips not in (1, question.likeliest[0]):
        return False
    if heads in (1, question.heads):
        return clips == 1 or heads == question.heads  # else the heads of one clip, in a loop over clips
    others = list(question.likeliest[1:-1])
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
    if axes.size("clip") == 1 or not seen:
        return True
    verdicts = [
        _of_own_clips(axes, shape, [each for each in seen if each.number == number], question)
        for number, shape in enumerate(question.shapes)
    ]
    if not question.agreed:  # of which tensor the clips are is told by one whose parts reach them
        return True in verdicts
    return set(verdicts) == {None} or any(verdicts)


def _of_own_clips(axes: Axes, shape: tuple[int, ...], seen: Sequence[ReachedMaps], question: _Question) -> bool | None:
    """Whether each part of a clip of one tensor reached that clip only; None: nothing tells."""
    clips = axes.size("clip")
    # The second axis is of clips only where the first may be time; of two of one size the first is.
    second = question.side.frames > 1 and shape[:1] and shape[0] % question.side.frames == 0
    second = second and shape[0] != shape[1]
    places = [
        axis
        for axis, size in enumerate(shape[:-1][: 2 if second else 1])
        if size % clips == 0 and axis <= (size == clips)
    ]
    of_places = [[each for each in seen if each.axis == place] for place in places]
    if not any(bool(each.reached.any()) for of_one in of_places for each in of_one):
        return None
    return any(all(_of_one_clip(axes, each) for each in of_one) for of_one in of_places)


def _of_one_clip(axes: Axes, evidence: ReachedMaps) -> bool:
    reached = _arranged(axes, evidence.reached)
    return not bool((reached[:-1] if evidence.last else reached[1:]).any())


def _too_many_heads(axes: Axes, question: _Question) -> str:
    """Why the axes of a call are no heads, and how to say what they are."""
    clips, heads = axes.size("clip"), axes.size("head")
    known = f"{clips} clip(s)" + (f" x {question.side.fold} folded rows" if question.side.fold > 1 else "")
    stated = (
        f"where the module says that it has {question.heads}"
        if question.heads is not None
        else "on its first axis and on others, of a module that says no number of them (num_heads)"
    )
    names = "clip head" if question.side.fold == 1 else f"(clip {question.folded}) head"
    return (
        f"{question.name} has a map whose axes in front of the tokens, of sizes {question.lead}, hold {known} by the "
        f"input, which leaves {heads} heads, {stated}: these are windows, views, repetitions or several streams of a "
        "clip in one batch. Say that each is a clip: TokenLayout(..., lengths=...), one a clip; or what the axes are: "
        f"TokenLayout(..., axes={names!r}), or axes='head' where all are heads"
    )


def _message(question: _Question, readings: list[Axes], none: bool) -> str:
    """What a call's axes can be, and how to say it."""
    start = f"{question.name} has a map whose axes in front of the tokens, of sizes {question.lead},"
    clips = " or ".join(map(str, question.clips)) or "an unknown number of"
    known = f"{clips} clip(s) x {question.side.fold} folded rows"
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
