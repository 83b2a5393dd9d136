"""Thrift's compact protocol, read: structs as dictionaries of field number -> value.

Source: the protocol's description, `doc/specs/thrift-compact-protocol.md` of Apache Thrift.
"""

from __future__ import annotations

from typing import Any

from gmsa_models.errors import DamagedError

__all__ = ["read_struct"]

DEEPEST = 8  # structs and lists inside one another
_LONG_LIST = 15  # the length stands behind the list's head


def read_struct(data: bytes, at: int, depth: int = DEEPEST) -> tuple[dict[int, Any], int]:
    """A struct, and where it ends.

    Args:
        data: bytes that hold it.
        at: where it starts.
        depth: how many structs and lists may stand inside one another.

    Raises:
        DamagedError: it nests too deeply, has a map, or a number of over 64 bits.
        IndexError: it goes on beyond the bytes.
    """
    if depth == 0:
        raise DamagedError("a struct of Thrift nests too deeply")
    fields: dict[int, Any] = {}
    field = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            field += head >> 4
        else:
            field, at = _whole(data, at)
        kind = head & 15
        # Of a field, the type itself is the value of a boolean.
        fields[field], at = (kind == 1, at) if kind in (1, 2) else _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    match kind:
        case 1 | 2 | 3:
            return data[at], at + 1
        case 4 | 5 | 6:
            return _whole(data, at)
        case 7:
            return None, at + 8
        case 8:
            length, at = _varint(data, at)
            return data[at : at + length], at + length
        case 9 | 10:
            return _list(data, at, depth - 1)
        case 12:
            return read_struct(data, at, depth - 1)
    raise DamagedError("a struct of Thrift has a map, or a type that does not exist")


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    if depth <= 0:
        raise DamagedError("a struct of Thrift nests too deeply")
    head, at = data[at], at + 1
    length, kind = head >> 4, head & 15
    if length == _LONG_LIST:
        length, at = _varint(data, at)
    values = []
    for _ in range(length):
        value, at = _value(data, at, kind, depth)
        if at > len(data):
            raise IndexError("the list goes on beyond the bytes")
        values.append(value)
    return values, at


def _whole(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise DamagedError("a struct of Thrift has a number of over 64 bits")
