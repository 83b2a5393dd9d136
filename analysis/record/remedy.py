"""What messages about the file of a record end with. Without torch."""

from __future__ import annotations

__all__ = ["AGAIN", "quoted"]

AGAIN = "write the record again (gmsa inspect, analysis.inspect_clip)"


def quoted(value: object) -> str:
    """`repr` of what a file says of itself, cut to 100 characters: it may be megabytes long."""
    return f"{value!r:.100}"
