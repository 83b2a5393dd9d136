"""What was left out because it cannot be read: how much of it, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gmsa_models.data.errors import UnreadableError

__all__ = ["Skipped"]


@dataclass
class Skipped:
    """An `on_skip` that counts errors by their kind and keeps the first of each.

    An error that comes again, as in every epoch of a training run, is counted once.

    Attributes:
        counts: kind of error -> how many.
        first: kind of error -> the message of the first.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set, repr=False)  # a number an error, not its message

    def __call__(self, error: UnreadableError) -> None:
        """Count one error; the same message counts once."""
        message = str(error)
        if hash(message) in self._seen:
            return
        self._seen.add(hash(message))
        self.counts[error.kind] += 1
        self.first.setdefault(error.kind, message)

    def __len__(self) -> int:
        """How many were left out."""
        return self.counts.total()

    def lines(self) -> list[str]:
        """How many were left out, then a line a kind with its first error, most frequent first; none when none was."""
        if not self.counts:
            return []
        kinds = [f"{count} x {kind}, the first: {self.first[kind]}" for kind, count in self.counts.most_common()]
        return [f"left out {len(self)} that cannot be read or used:", *kinds]
