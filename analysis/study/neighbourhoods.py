"""Neighbourhoods in the paper's words: BD20, TP30, TD60x4."""

from __future__ import annotations

import re

from gmsa_models.masks import BlockDiagonal, Neighbourhood, NeighbourhoodError, Toeplitz, ToeplitzDilated

__all__ = ["neighbourhood_from_text", "neighbourhood_text"]

WRITTEN = re.compile(r"(BD|TP|TD)(\d+)(?:[x×](\d+))?", re.IGNORECASE)


def neighbourhood_from_text(text: str) -> Neighbourhood:
    """BDn, TPn or TDnxd.

    Raises:
        NeighbourhoodError: anything else, or a size below 1.
    """
    match = WRITTEN.fullmatch(text.strip())
    if match is None or bool(match[3]) != (match[1].upper() == "TD"):
        raise NeighbourhoodError(f"neighbourhood {text!r}; expected BDn, TPn or TDnxd, for example BD20, TP30, TD60x4")
    kind, size = match[1].upper(), int(match[2])
    if kind == "TD":
        return ToeplitzDilated(size, int(match[3]))
    return BlockDiagonal(size) if kind == "BD" else Toeplitz(size)


def neighbourhood_text(neighbourhood: Neighbourhood) -> str:
    """The reverse, with a multiplication sign, as figures show it."""
    match neighbourhood:
        case BlockDiagonal(size):
            return f"BD{size}"
        case Toeplitz(size):
            return f"TP{size}"
        case ToeplitzDilated(size, dilation):
            return f"TD{size}×{dilation}"
    raise NeighbourhoodError(f"{neighbourhood!r} is no neighbourhood")
