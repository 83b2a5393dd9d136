"""FlatBuffers, read field by field and never run: as much as the weights of a TFLite file need.

Source: the format's own description, https://flatbuffers.dev/internals (tables, vtables, vectors).
"""

from __future__ import annotations

import struct

import numpy as np

from gmsa_models.errors import ContentError

__all__ = ["Table", "root_table"]

_NUMBERS = {"uint8": "<B", "int8": "<b", "int32": "<i", "uint32": "<I"}


class Table:
    """One table of a file.

    Args:
        data: of the whole file.
        position: of the table.

    Raises:
        ContentError: in all that reads: a place outside the file.
    """

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position
        self._fields = position - _number(data, position, "<i")  # the vtable
        self._size = _number(data, self._fields, "<H")

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """A whole number.

        Args:
            field: its place in the schema, from 0.
            kind: a key of `_NUMBERS`.
            default: where the table leaves the field out.
        """
        place = self._place(field)
        return default if place is None else _number(self._data, place, _NUMBERS[kind])

    def table(self, field: int) -> Table | None:
        """A table; None where it is left out."""
        place = self._place(field)
        return None if place is None else Table(self._data, _followed(self._data, place))

    def tables(self, field: int) -> list[Table]:
        """A vector of tables; empty where it is left out."""
        return [Table(self._data, _followed(self._data, each)) for each in self._vector(field, 4)]

    def array(self, field: int, dtype: str) -> np.ndarray:
        """A vector of numbers of a numpy type, which shares the file's memory; empty where it is left out."""
        kind = np.dtype(dtype)
        places = self._vector(field, kind.itemsize)
        return np.frombuffer(self._data, kind, len(places), places.start) if places else np.zeros(0, kind)

    def text(self, field: int) -> str:
        """A text; "" where it is left out."""
        return self.array(field, "u1").tobytes().decode("utf-8", "replace")

    def _place(self, field: int) -> int | None:
        """Where a field's value lies; None where it is left out."""
        entry = 4 + 2 * field
        offset = _number(self._data, self._fields + entry, "<H") if entry + 2 <= self._size else 0
        return self._position + offset if offset else None

    def _vector(self, field: int, width: int) -> range:
        """Places of the entries of a vector."""
        place = self._place(field)
        if place is None:
            return range(0)
        start = _followed(self._data, place)
        count = _number(self._data, start, "<I")
        end = start + 4 + count * width
        if end > len(self._data):
            raise ContentError(f"a vector of {count} entries ends {end - len(self._data)} bytes after the file does")
        return range(start + 4, end, width)


def root_table(data: bytes, identifier: bytes) -> Table:
    """The first table of a file.

    Args:
        data: of the whole file.
        identifier: four bytes that name what the file holds.

    Raises:
        ContentError: another file.
    """
    if data[4:8] != identifier:
        raise ContentError(f"bytes 4 to 8 are {data[4:8]!r}; expected {identifier!r}")
    return Table(data, _followed(data, 0))


def _followed(data: bytes, place: int) -> int:
    """Where the offset at a place leads to."""
    return place + _number(data, place, "<I")


def _number(data: bytes, place: int, form: str) -> int:
    if not 0 <= place <= len(data) - struct.calcsize(form):
        raise ContentError(f"byte {place} is meant, of a file of {len(data)} bytes")
    return int(struct.unpack_from(form, data, place)[0])
