"""The axes of a map in front of its tokens: which are clips, which heads, and which rows divided attention folds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from analysis.capture.errors import LayoutError

__all__ = ["Axes", "find_axes", "parse_axes"]

_ORDER = ("clip", "fold", "head")


@dataclass(frozen=True)
class Axes:
    """Names and sizes of the axes in front of a map's tokens, as they lie in memory.

    Attributes:
        names: "clip", "fold" or "head"; one may be there several times, outermost first.
        sizes: of each.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def size(self, name: str) -> int:
        """Of all axes of a name."""
        return math.prod(size for each, size in zip(self.names, self.sizes, strict=True) if each == name)

    @property
    def plain(self) -> bool:
        """Whether they are in the order (clip, fold, head) already."""
        numbers = [_ORDER.index(each) for each, size in zip(self.names, self.sizes, strict=True) if size > 1]
        return numbers == sorted(numbers)

    def usual(self, shape: tuple[int, ...]) -> bool:
        """Whether a map of this shape, (batch, heads, ...) if its last axis in front is the heads, is arranged so."""
        return self.plain and shape[1] == self.size("head")

    def arranged(self, weights: Float[Tensor, "*lead rows key"]) -> Float[Tensor, "batch heads rows key"]:
        """The same with the batch (clip, fold) first, then the heads."""
        batch, heads, (rows, keys) = self.size("clip") * self.size("fold"), self.size("head"), weights.shape[-2:]
        if self.plain:
            return weights.reshape(batch, heads, rows, keys)
        order = [place for name in _ORDER for place, each in enumerate(self.names) if each == name]
        split = weights.reshape(*self.sizes, rows, keys).permute(*order, -2, -1)
        return split.reshape(batch, heads, rows, keys)


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


def find_axes(
    lead: tuple[int, ...],
    fold: int,
    clips: int | None,
    groups: tuple[tuple[str, ...], ...] | None,
    where: str,
    folded: str = "fold",
) -> Axes:
    """What the axes in front of a map's tokens are: given, or told by their sizes.

    Args:
        lead: their sizes.
        fold: rows of the batch of one clip.
        clips: how many the module was given; None: not known.
        groups: their names, an axis each, or all in one.
        where: which call, for the message.
        folded: what the layout calls its folded axis, for the message.

    Raises:
        LayoutError: sizes that do not fit, or that leave open which axis is which.
    """
    if groups is not None:
        return _given_axes(lead, fold, clips, groups, where)
    if len(lead) == 1 and clips is not None and lead[0] > clips * fold and lead[0] % (clips * fold) == 0:
        heads = lead[0] // (clips * fold)
        if clips * fold == 1:
            return Axes(("head",), lead)
        of_clip = (f"clip {folded} head", f"clip head {folded}")
        orders = of_clip if fold > 1 else ("clip head", "head clip")
        raise _open(where, lead, f"hold {heads} heads of {clips} clip(s) x {fold} in an order", orders)
    if len(lead) == 3 and fold == 1 and clips == lead[0]:
        return Axes(("clip", "head", "head"), lead)
    if len(lead) == 3 and fold > 1 and lead[2] == fold:
        if lead[1] == fold:
            orders = (f"clip {folded} head", f"clip head {folded}")
            raise _open(where, lead, f"hold as many heads as {folded} rows, in an order", orders)
        return Axes(("clip", "head", "fold"), lead)
    *batch, heads = lead if len(lead) > 1 else (*lead, 1)
    total = math.prod(batch)
    if total % fold:
        return Axes(("clip", "head"), (total, heads))  # an error of the layout, told with its tokens
    return Axes(("clip", "fold", "head"), (total // fold, fold, heads))


def _given_axes(
    lead: tuple[int, ...], fold: int, clips: int | None, groups: tuple[tuple[str, ...], ...], where: str
) -> Axes:
    names = tuple(name for group in groups for name in group)
    groups = (names,) if len(lead) == 1 else groups
    known = {"fold": fold} | ({} if clips is None else {"clip": clips})
    if len(groups) == len(lead):
        for group, size in zip(groups, lead, strict=True):
            if len(group) == 1:
                known[group[0]] = size
    missing = [name for name in names if name not in known]
    if len(missing) == 1:
        known[missing[0]] = math.prod(lead) // math.prod(known[name] for name in names if name in known)
    sizes = tuple(known.get(name, 1) for name in names)
    split = [math.prod(known.get(name, 1) for name in group) for group in groups]
    if split != list(lead) or known["fold"] != fold:
        shown = " ".join(f"{name} {known.get(name, '?')}" for name in names)
        raise LayoutError(f"{where} has the axes {lead} in front of its tokens; axes of the layout give {shown}")
    return Axes(names, sizes)


def _open(where: str, lead: tuple[int, ...], what: str, orders: tuple[str, ...]) -> LayoutError:
    choices = " or ".join(f"axes={each!r}" for each in orders)
    return LayoutError(
        f"{where} has a map whose axes in front of the tokens, of sizes {lead}, {what} that the sizes do not tell. Say "
        f"it in the layout of this call: TokenLayout(..., {choices})"
    )
