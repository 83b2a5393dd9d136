"""The axes of a map in front of its tokens: which are clips, which heads, and which rows divided attention folds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

from jaxtyping import Float
from torch import Tensor

from analysis.capture.errors import LayoutError

__all__ = ["Axes", "clip_counts", "given_axes", "parse_axes", "possible_axes"]

_ORDER = ("clip", "fold", "head")


@dataclass(frozen=True)
class Axes:
    """Names and sizes of the axes in front of a map's tokens, as they lie in memory.

    Attributes:
        names: "clip", "fold" or "head"; one may be there several times, outermost first.
        sizes: of each; axes of 1 may be left out.
        lead: the axes of the map itself, of which one may hold several of these.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    lead: tuple[int, ...]

    def size(self, name: str) -> int:
        """Of all axes of a name."""
        return math.prod(size for each, size in zip(self.names, self.sizes, strict=True) if each == name)

    @property
    def batch(self) -> int:
        """Clips times folded rows."""
        return self.size("clip") * self.size("fold")

    @property
    def plain(self) -> bool:
        """Whether they are in the order (clip, fold, head) already."""
        numbers = [_ORDER.index(each) for each, size in zip(self.names, self.sizes, strict=True) if size > 1]
        return numbers == sorted(numbers)

    @property
    def usual(self) -> bool:
        """Whether they are as torch arranges them: batch first, and the heads, if any, on axes of their own."""
        lengths = [math.prod(self.lead[:count]) for count in range(1, len(self.lead) + 1)]
        return self.plain and (self.batch in lengths or not self.lead)

    @property
    def heads_last(self) -> bool:
        """Whether the last axis is the heads, and no other has any."""
        return self.batch == math.prod(self.lead[:-1]) and (self.names[-1:] == ("head",) or self.lead[-1:] == (1,))

    @property
    def heads_apart(self) -> bool:
        """Whether several axes have heads, and the first of more than one is among them: no groups of heads."""
        of_axes = ["head" in group for group in self._by_axis() if group]
        return sum(of_axes) > 1 and of_axes[0]

    def _by_axis(self) -> list[list[str]]:
        """Names of what each axis of the map holds, of more than one each."""
        waiting = [(name, size) for name, size in zip(self.names, self.sizes, strict=True) if size > 1]
        groups: list[list[str]] = []
        for length in self.lead:
            group, left = [], length
            while waiting and left > 1:
                left //= waiting[0][1]
                group.append(waiting.pop(0)[0])
            groups.append(group)
        return groups

    def arranged(self, weights: Float[Tensor, "*lead rows key"]) -> Float[Tensor, "batch heads rows key"]:
        """The same with the batch (clip, fold) first, then the heads."""
        batch, heads, (rows, keys) = self.batch, self.size("head"), weights.shape[-2:]
        if self.plain:
            return weights.reshape(batch, heads, rows, keys)
        order = [place for name in _ORDER for place, each in enumerate(self.names) if each == name]
        split = weights.reshape(*self.sizes, rows, keys).permute(*order, -2, -1)
        return split.reshape(batch, heads, rows, keys)

    def text(self, folded: str) -> str | None:
        """As `TokenLayout.axes` takes it, such as "(clip patch) head"; None: it cannot be written so."""
        if self.names.count("head") > 1:
            return None
        names = [name for name, size in zip(self.names, self.sizes, strict=True) if size > 1]
        spare = [name for name in _ORDER if name not in names and name != "fold"]
        groups: list[list[str]] = []
        for group in self._by_axis():
            groups.append(group or spare[:1])
            spare = spare if group else spare[1:]
        if "head" in spare:
            groups[-1].append("head")
        names = [" ".join(folded if name == "fold" else name for name in group) for group in groups]
        shown = [f"({each})" if " " in each and len(names) > 1 else each for each in names]
        return None if "" in names else " ".join(shown)


def parse_axes(text: str, folded: str | None) -> tuple[tuple[str, ...], ...]:
    """Names of the axes that a layout gives; those in parentheses are one axis of the map.

    Args:
        text: such as "clip head patch" or "(clip patch) head".
        folded: what the layout calls its folded axis, if it has one.

    Raises:
        LayoutError: other names, or one twice.
    """
    groups = tuple(tuple(part.strip("()").split()) for part in re.findall(r"\([^()]*\)|[^\s()]+", text))
    names = [name for group in groups for name in group]
    known = {"clip", "head"} | ({folded} if folded else set())
    if not set(names) <= known or len(set(names)) < len(names) or "head" not in names:
        raise LayoutError(
            f"axes is {text!r}; expected {', '.join(map(repr, sorted(known)))}, each once, in their order"
        )
    return tuple(tuple("fold" if name == folded else name for name in group) for group in groups)


def clip_counts(shape: Sequence[int], frames: int, fold: int, tokens: int) -> tuple[int, ...]:
    """How many clips a tensor of this shape may hold, the likeliest first: its first axis, unless that may be time.

    Args:
        shape: of what the outermost module was given.
        frames, fold, tokens: of the layout.
    """
    first = shape[0]
    counts = [first]
    if frames > 1 and first % frames == 0:  # time first, with one clip, or clips second, or folded in
        counts += [first // frames, *shape[1:-1][:1], 1]
    if fold > 1 and first % fold == 0 and len(shape) > 1 and shape[1] == tokens:  # the rows of a call already
        counts.append(first // fold)
    return tuple(dict.fromkeys(counts))


def possible_axes(lead: tuple[int, ...], fold: int, clips: int) -> list[Axes]:
    """All that the axes in front of a map's tokens can be by their sizes; what clips and fold leave is heads.

    Args:
        lead: their sizes.
        fold: rows of the batch of one clip.
        clips: how many there are.
    """
    blocks = [(name, size) for name, size in (("clip", clips), ("fold", fold)) if size > 1]
    result: dict[tuple[tuple[str, int], ...], Axes] = {}
    for places in product(range(len(lead)), repeat=len(blocks)):
        of_axis = [
            [block for block, place in zip(blocks, places, strict=True) if place == axis] for axis in range(len(lead))
        ]
        for groups in product(*(list(_orders(each, length)) for each, length in zip(of_axis, lead, strict=True))):
            parts = tuple(part for group in groups for part in group)
            names, sizes = (tuple(each) for each in zip(*parts, strict=True)) if parts else ((), ())
            result[parts] = Axes(names, sizes, lead)
    return list(result.values())


def _orders(blocks: list[tuple[str, int]], length: int) -> Iterator[tuple[tuple[str, int], ...]]:
    """What one axis can be that holds some blocks; what they leave of its length is heads."""
    size = math.prod(each for _, each in blocks)
    if length % size:
        return
    heads = length // size
    for order in permutations(blocks):
        if heads == 1:
            yield order
            continue
        for place in range(len(order) + 1):
            yield (*order[:place], ("head", heads), *order[place:])


def given_axes(lead: tuple[int, ...], fold: int, clips: int | None, groups: tuple[tuple[str, ...], ...]) -> Axes | None:
    """What the axes in front of a map's tokens are by the names that a layout gives; None: they do not fit.

    Args:
        lead: their sizes.
        fold: rows of the batch of one clip.
        clips: how many the module was given; None: not known.
        groups: their names, an axis each, or all in one; axes that are all of one name are as one.
    """
    names = tuple(name for group in groups for name in group)
    whole, lead = lead, lead if len(names) > 1 else (math.prod(lead),)
    groups = (names,) if len(lead) == 1 else groups
    known = {"fold": fold} | ({} if clips is None else {"clip": clips})
    if len(groups) == len(lead):
        for group, size in zip(groups, lead, strict=True):
            if len(group) == 1:
                known[group[0]] = size
    missing = [name for name in names if name not in known]
    if len(missing) == 1:
        known[missing[0]] = math.prod(lead) // math.prod(known[name] for name in names if name in known)
    split = [math.prod(known.get(name, 1) for name in group) for group in groups]
    if split != list(lead) or known["fold"] != fold:
        return None
    return Axes(names, tuple(known.get(name, 1) for name in names), whole)
