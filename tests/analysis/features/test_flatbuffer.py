"""A FlatBuffer written by hand, byte by byte, as the format's description has it."""

import struct

import numpy as np
import pytest

from analysis.features.flatbuffer import root_table
from gmsa_models.errors import ContentError


def made():
    """A root table of field 0: int32 -7; 1: left out; 2: a vector of int16; 3: a text; 4: a vector of one table."""
    vtable = struct.pack("<HHHHHHH", 14, 20, 4, 0, 8, 12, 16)
    start = 8 + len(vtable) + 2  # the table is aligned to 4 bytes
    data = bytearray(struct.pack("<I4s", start, b"MADE") + vtable + bytes(2))
    data += struct.pack("<iiIII", start - 8, -7, 0, 0, 0)
    places = {}
    for field, content in ((8, struct.pack("<Ihhhh", 4, 1, -2, 3, 4)), (12, struct.pack("<I4s", 3, b"abc"))):
        places[field] = len(data)
        data += content
    places[16] = len(data)
    data += struct.pack("<II", 1, 4)  # one table, right behind
    inner = len(data)
    data += struct.pack("<iB3x", inner - len(data) - 8, 200)  # its vtable follows
    data += struct.pack("<HHH", 6, 8, 4)
    for field, place in places.items():
        struct.pack_into("<I", data, start + field, place - start - field)
    return bytes(data)


def test_fields_are_read():
    table = root_table(made(), b"MADE")
    assert table.number(0, "int32") == -7
    assert [table.number(1, "int32", 5), table.number(9, "int32")] == [5, 0]
    np.testing.assert_array_equal(table.array(2, "<i2"), [1, -2, 3, 4])
    assert (table.text(3), table.text(1), table.table(1), table.tables(1)) == ("abc", "", None, [])
    (inner,) = table.tables(4)
    assert inner.number(0, "uint8") == 200


def test_another_file_is_refused():
    with pytest.raises(ContentError, match=r"bytes 4 to 8 are b'MADE'; expected b'TFL3'"):
        root_table(made(), b"TFL3")


def read_all(data):
    table = root_table(data, b"MADE")
    table.number(0, "int32")
    table.array(2, "<i2")
    table.text(3)
    for each in table.tables(4):
        each.number(0, "uint8")


def test_whatever_is_damaged_is_one_error_or_none():
    random, data, refused = np.random.default_rng(0), made(), 0
    for _ in range(2000):
        damaged = bytearray(data)
        damaged[random.integers(len(data))] = random.integers(256)
        damaged = damaged[: random.integers(8, len(data) + 1)]
        try:
            read_all(bytes(damaged))
        except ContentError:
            refused += 1
    assert refused > 500
