"""Names of the branches of attention blocks. Without torch."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["COMBINED", "GLOBAL", "in_order"]

# The names of branches that blocks share. Any other branch is local: it attends to a neighbourhood only.
GLOBAL, COMBINED = "global", "combined"


def in_order(branches: Iterable[str]) -> tuple[str, ...]:
    """Names of branches without repeats: "global" first, then the local ones as they come, "combined" last."""
    return tuple(sorted(dict.fromkeys(branches), key=lambda name: (name == COMBINED) - (name == GLOBAL)))
