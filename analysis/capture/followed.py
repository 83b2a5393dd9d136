"""What is known of a tensor that came from a softmax, and of tensors while they live."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from torch import Tensor

__all__ = ["FollowedMap", "SeenSoftmax", "TensorTable", "Use", "joined", "merged", "share_softmaxes", "tensors_of"]

Known = TypeVar("Known")


@dataclass(eq=False)
class Use:
    """A function that a map went into together with other numbers, and which is no product that is understood.

    Attributes:
        function: its name.
        module: path of the module that called it.
        through: the functions that the map went through before.
        excused: what came of it is a number or one number a query, as of a loss: no values.
    """

    function: str
    module: str
    through: tuple[str, ...] = ()
    excused: bool = False


@dataclass(eq=False)
class SeenSoftmax:
    """One softmax, and what became of it.

    Attributes:
        module: path of the module that ran.
        shape: of its result.
        recorded: what was made of it was multiplied with values, in a product that is understood.
        uses: the others.
        products: names of all products of matrices, einsums and sums that what was made of it went into.
        written: address of a storage -> the function that wrote into it in place.
        logarithm: its result is the logarithm of a map.
    """

    module: str
    shape: tuple[int, ...]
    recorded: bool = False
    uses: list[Use] = field(default_factory=list)
    products: list[str] = field(default_factory=list)
    written: dict[int, str] = field(default_factory=dict)
    logarithm: bool = False


@dataclass(frozen=True, eq=False)
class FollowedMap:
    """What is known of a tensor that came from a softmax.

    Attributes:
        softmaxes: which ones it was made of.
        key: axis of the keys, from behind; None: where they are is not known.
        before: the map before a dropout or a cast; None: the tensor itself.
        scores: what the softmax was taken of, with the axes of the tensor; None: not known.
        dropout: p of a dropout that was on.
        kept: by what the tensor is multiplied to be `before` again, where nothing was dropped.
        between: the functions since the softmax that made another map of it.
        uses: those of the functions in `between` that had other numbers too.
        logarithm: it is the logarithm of a map.
        raised: it has an axis of 1 behind.
        weighted: it was multiplied element by element with other numbers; a sum over it may be a product with values.
        reordered: the functions in `between` that may have put its heads, queries or keys in other places.
        piece: it is of some of the softmax's keys.
        stored: it is known by the storage that a map was written into.
    """

    softmaxes: tuple[SeenSoftmax, ...]
    key: int | None
    before: Tensor | None = None
    scores: Tensor | None = None
    dropout: float = 0.0
    kept: float = 1.0
    between: tuple[str, ...] = ()
    uses: tuple[Use, ...] = ()
    logarithm: bool = False
    raised: bool = False
    weighted: bool = False
    reordered: tuple[str, ...] = ()
    piece: bool = False
    stored: bool = False

    def use(self, function: str, module: str) -> tuple[Use, ...]:
        """Note a function that is no product that is understood, of all its softmaxes."""
        use = Use(function, module, tuple(name for name in self.between if name != function))
        for softmax in self.softmaxes:
            softmax.uses.append(use)
        return (*self.uses, use)

    def turned(self, change: Callable[[Tensor], Tensor]) -> FollowedMap:
        """The same of a map whose axes were changed, but for the axis of its keys."""
        before, scores = (None if each is None else change(each) for each in (self.before, self.scores))
        return replace(self, before=before, scores=scores)

    def excuse(self) -> None:
        """What was made of it has no values."""
        for use in self.uses:
            use.excused = True


class TensorTable(Generic[Known]):
    """What is known of tensors, by which tensor it is; forgotten when the tensor is."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Tensor], Known]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, tensor: object) -> bool:
        return id(tensor) in self._entries

    def items(self) -> list[tuple[Tensor, Known]]:
        """All that live."""
        entries = [(reference(), known) for reference, known in list(self._entries.values())]
        return [(tensor, known) for tensor, known in entries if tensor is not None]

    def __getitem__(self, tensor: Tensor) -> Known:
        return self._entries[id(tensor)][1]

    def __setitem__(self, tensor: Tensor, known: Known) -> None:
        number, entries = id(tensor), self._entries
        entries[number] = (weakref.ref(tensor, lambda _: entries.pop(number, None)), known)

    def get(self, tensor: object) -> Known | None:
        """None: nothing is known."""
        entry = self._entries.get(id(tensor))
        return None if entry is None else entry[1]


def merged(groups: Any) -> tuple[Any, ...]:
    """All of several groups, each once."""
    return tuple(dict.fromkeys(one for group in groups for one in group))


def joined(maps: Sequence[FollowedMap], name: str | None) -> FollowedMap:
    """What is known of a tensor that a function of this name made of some maps; nothing of its axes."""
    return FollowedMap(
        merged(each.softmaxes for each in maps),
        None,
        dropout=max(each.dropout for each in maps),
        between=merged((*(each.between for each in maps), () if name is None else (name,))),
        uses=merged(each.uses for each in maps),
        reordered=merged(each.reordered for each in maps),
        piece=any(each.piece for each in maps),
    )


def share_softmaxes(maps: Sequence[FollowedMap]) -> bool:
    """Whether two operands are made of one softmax, so that neither is the other's values."""
    return len(maps) > 1 and len({id(one) for known in maps for one in known.softmaxes}) < sum(
        len(known.softmaxes) for known in maps
    )


def tensors_of(values: Any) -> Iterator[Tensor]:
    """The tensors among arguments or results, also those in a list or tuple of them."""
    for each in values if isinstance(values, tuple | list) else (values,):
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, tuple | list):
            yield from (one for one in each if isinstance(one, Tensor))
