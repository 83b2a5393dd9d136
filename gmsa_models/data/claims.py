"""How much a file of arrays may hold and take, whatever it says of itself. Imports the standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

__all__ = [
    "ALLOWANCE",
    "BYTES_A_BYTE",
    "DECODED",
    "LONGEST_METADATA",
    "MOST_ATTRIBUTES",
    "MOST_VARIABLES",
    "Claims",
    "claimed",
    "width",
]

# How much a file's bytes may become in memory. Attention that is mostly NaN packs well; nothing honest packs like this.
BYTES_A_BYTE, ALLOWANCE = 64, 1 << 25
MOST_VARIABLES, MOST_ATTRIBUTES, MOST_CHUNKS, MOST_DIMENSIONS = 1000, 100, 1 << 14, 16
LONGEST_METADATA = 1 << 20  # bytes of attributes: those of a variable in NetCDF, of all variables in Zarr
TEXT = 64  # bytes that an empty text takes in an array: a pointer and an object
WIDEST = 8  # bytes a value of a whole number may take once it is decoded
# Attributes by which readers make other values, and other types, of those in the file; records have none of them.
DECODED = frozenset({"scale_factor", "add_offset", "_Unsigned", "missing_value", "_Encoding"})


def width(kind: str, itemsize: int) -> int:
    """Bytes that a value of a type takes once it is read.

    Args:
        kind: as of `numpy.dtype.kind`; "O" is text of any length, whose characters are counted besides.
        itemsize: bytes of a value in the file.
    """
    return TEXT if kind == "O" else itemsize if kind == "f" else max(itemsize, WIDEST)


def claimed(itemsize: int, shape: Iterable[int], chunks: Iterable[int]) -> int:
    """Bytes that an array, or one chunk of it, becomes in memory.

    Raises:
        ValueError: too many dimensions, or more chunks than are read.
    """
    shape, chunks = tuple(shape), tuple(chunks)
    if len(shape) > MOST_DIMENSIONS or (chunks and len(chunks) != len(shape)) or min((*shape, *chunks), default=0) < 0:
        raise ValueError(f"shape {shape!r:.100} in chunks {chunks!r:.100}")
    if any(size and not chunk for size, chunk in zip(shape, chunks, strict=False)):
        raise ValueError(f"empty chunks {chunks!r:.100}")
    pieces = prod(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=False) if size)
    if pieces > MOST_CHUNKS:
        raise ValueError(f"{pieces} chunks; at most {MOST_CHUNKS} are read")
    return itemsize * max(prod(shape), prod(chunks))


class Claims:
    """What the variables of one file take together, counted as they are seen.

    Args:
        size: bytes of the file.
        bytes_a_byte, allowance: the most bytes of values, of each of the file's and of any file.
        most: variables.

    Attributes:
        limit: the most bytes.
        variables: how many were seen.
        bytes: what they take, at least.
    """

    def __init__(
        self, size: int, bytes_a_byte: int = BYTES_A_BYTE, allowance: int = ALLOWANCE, most: int = MOST_VARIABLES
    ) -> None:
        self.size, self.limit, self.most = size, bytes_a_byte * size + allowance, most
        self.variables = self.bytes = 0

    def add(self, taken: int, variables: int = 1) -> None:
        """Count a variable.

        Raises:
            ValueError: they are too many, or too large for the file.
        """
        self.variables += variables
        self.bytes += taken
        if self.variables > self.most or self.bytes > self.limit:
            raise ValueError(
                f"{self.size} bytes that claim {self.variables} variables of {self.bytes} bytes or more; at most "
                f"{self.most} and {self.limit} are read"
            )
