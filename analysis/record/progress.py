"""How far a record has come, in steps that take about as long as each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from analysis.advance import watched
from analysis.view import TraceView

__all__ = ["STEPS", "RecordProgress"]

STEPS = 100  # of a record
# What the parts of a layer take that take long: patterns of maps, gradient norms of a plain block, and of any other
# (`benchmarks/paper_size.py`).
PATTERNS, PLAIN_NORMS, OTHER_NORMS = 1.0, 0.6, 15.0


class RecordProgress:
    """Tells how many of a record's `STEPS` are done, as its parts are made."""

    def __init__(self, view: TraceView, parts: Sequence[str], layers: int, report: Callable[[int, int], None]) -> None:
        """Begin with none.

        Args:
            view: that the record is of.
            parts: of the record.
            layers: how many of them it has.
            report: called with the steps done and their number, rising.
        """
        weights = {"pattern": PATTERNS, "sensitivity": PLAIN_NORMS if _is_plain(view) else OTHER_NORMS}
        self._weights = {name: weight for name, weight in weights.items() if name in parts}
        self._total, self._report = layers * sum(self._weights.values()), report
        # Gradient norms are made one modality after another; a product of matrices goes by the square of their width.
        widths = [_width(view, modality) ** 2 for modality in view.modalities]
        self._modalities = [width / sum(widths) for width in widths]
        self._done, self._reported = 0.0, -1
        self._tell(0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """In the block, one part is made of one layer."""
        weight, shares = self._weights.get(name, 0.0), 0.0

        def watch(share: float) -> None:
            nonlocal shares
            shares += share
            self._tell(weight * self._of_norms(shares))

        with watched(watch):
            yield
        self._done += weight
        self._tell(0.0)

    def finish(self) -> None:
        """The record is made."""
        self._report(STEPS, STEPS)

    def _of_norms(self, shares: float) -> float:
        """What share of a layer's gradient norms is done, when they sum to so much over the modalities."""
        return sum(size * min(max(shares - place, 0.0), 1.0) for place, size in enumerate(self._modalities))

    def _tell(self, more: float) -> None:
        steps = int((STEPS - 1) * (self._done + more) / self._total) if self._total else 0
        if steps > self._reported:
            self._reported = steps
            self._report(steps, STEPS)


def _is_plain(view: TraceView) -> bool:
    """Whether gradient norms follow from the maps: a GMSA model, which can tell its contributions, without gates."""
    gated = any(layer.gates for layers in view.layers.values() for layer in layers)
    return view.capabilities.contributions is not None and not gated


def _width(view: TraceView, modality: str) -> int:
    inputs = view.layers[modality][0].input
    return 1 if inputs is None else inputs.shape[-1]
