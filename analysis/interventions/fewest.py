"""The smallest set of pieces whose removal brings a number below 0: exact while that is cheap, then best found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb

import numpy as np
from jaxtyping import Float

__all__ = ["FewestSet", "fewest_set"]

Pieces = tuple[int, ...]
Margins = Callable[[Sequence[Pieces]], Float[np.ndarray, " sets"]]

AT_ONCE = 256  # sets whose margins are asked for together
MOST_GREEDY = 40  # pieces up to which they are also added one by one


@dataclass(frozen=True)
class FewestSet:
    """What was found.

    Attributes:
        pieces: the set; None: none was found.
        margin: of it, below 0; of all pieces where none was found.
        proven: no set of so many pieces or fewer does it; every one was tried.
        tried: how many sets were tried.
    """

    pieces: Pieces | None
    margin: float
    proven: int
    tried: int

    @property
    def minimal(self) -> bool:
        """Whether no smaller set does it."""
        return self.pieces is not None and self.proven >= len(self.pieces) - 1


def fewest_set(count: int, margins: Margins, budget: int = 2000) -> FewestSet:
    """Search for the smallest set of pieces with a margin below 0.

    All sets of 1 piece are tried, all of 2, and so on as long as the budget holds. Then pieces are added in the order
    of what each does alone until that is enough, and those that are not needed are put back; of few pieces also one by
    one, each the best of all that are left, and the smaller of the two sets is taken.

    Args:
        count: how many pieces there are.
        margins: of some sets; asked for at most `AT_ONCE` at a time.
        budget: how many sets all sizes that are tried out may take together.
    """
    search = _Search(margins)
    ranking = np.zeros(count)
    proven, margin = 0, float("inf")
    for size in range(1, count + 1):
        if search.tried + comb(count, size) > budget:
            break
        best, margin, result = search.best_of(combinations(range(count), size))
        if size == 1:
            ranking = result
        if margin < 0:
            return FewestSet(best, margin, size - 1, search.tried)
        proven = size
    if proven == count or not count:
        return FewestSet(None, margin, proven, search.tried)
    if proven == 0:  # each alone is needed for the ranking, whatever the budget
        best, margin, ranking = search.best_of((piece,) for piece in range(count))
        if margin < 0:
            return FewestSet(best, margin, 0, search.tried)
        proven = 1
    order = [int(piece) for piece in np.argsort(ranking, kind="stable")]
    sets = [_ranked(search, order), *([_greedy(search, count)] if count <= MOST_GREEDY else [])]
    done = [each for each in sets if each[1] < 0]
    if not done:
        return FewestSet(None, sets[0][1], proven, search.tried)
    pieces, margin = min((_pruned(search, *each) for each in done), key=lambda each: (len(each[0]), each[1]))
    return FewestSet(pieces, margin, proven, search.tried)


@dataclass
class _Search:
    margins: Margins
    tried: int = 0

    def of(self, sets: Sequence[Pieces]) -> Float[np.ndarray, " sets"]:
        self.tried += len(sets)
        return np.asarray(self.margins(sets), dtype=np.float64)

    def best_of(self, sets: Iterable[Pieces]) -> tuple[Pieces, float, Float[np.ndarray, " sets"]]:
        """The set of the lowest margin, the first of equals, and all margins."""
        waiting, lowest = iter(sets), float("inf")
        kept: Pieces | None = None
        result: list[Float[np.ndarray, " sets"]] = []
        while some := list(islice(waiting, AT_ONCE)):
            values = self.of(some)
            result.append(values)
            if kept is None or values.min() < lowest:
                kept, lowest = some[int(values.argmin())], float(values.min())
        assert kept is not None
        return kept, lowest, np.concatenate(result)


def _ranked(search: _Search, order: Sequence[int]) -> tuple[Pieces, float]:
    """The first pieces of an order that are enough: by doubling, then by bisection; all where none are."""
    few, many, margin = 1, 1, float("inf")
    while margin >= 0 and many < len(order):
        few, many = many, min(2 * many, len(order) - 1) if many < len(order) - 1 else len(order)
        margin = float(search.of([tuple(sorted(order[:many]))])[0])
    while margin < 0 and many - few > 1:
        middle = (few + many) // 2
        result = float(search.of([tuple(sorted(order[:middle]))])[0])
        few, many, margin = (few, middle, result) if result < 0 else (middle, many, margin)
    return tuple(sorted(order[:many])), margin


def _greedy(search: _Search, count: int) -> tuple[Pieces, float]:
    """Pieces added one by one, each the best, until the margin is below 0 or all are in."""
    pieces: Pieces = ()
    margin = float("inf")
    while margin >= 0 and len(pieces) < count:
        left = [piece for piece in range(count) if piece not in pieces]
        pieces, margin, _ = search.best_of(tuple(sorted((*pieces, piece))) for piece in left)
    return pieces, margin


def _pruned(search: _Search, pieces: Pieces, margin: float) -> tuple[Pieces, float]:
    """The set without pieces that it does not need, each tried once."""
    for piece in pieces:
        less = tuple(each for each in pieces if each != piece)
        if less and (result := float(search.of([less])[0])) < 0:
            pieces, margin = less, result
    return pieces, margin
