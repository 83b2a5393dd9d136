"""A footer that lies is one error; pyarrow would end the process."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gmsa_models import GMSAError, read_clips
from gmsa_models.data.parquet_pages import read_footer
from gmsa_models.data.thrift import read_struct
from gmsa_models.errors import DamagedError

CHANGED = """
import sys
from gmsa_models import GMSAError, read_clips
path, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
data = bytearray(open(path, "rb").read())
read = refused = 0
for place in range(first, last):
    kept = data[place]
    for changed in sorted({kept ^ 1, kept ^ 2, kept ^ 16, (kept - 1) % 256, 0, 25} - {kept}):
        data[place] = changed
        open(path + ".changed.parquet", "wb").write(data)
        try:
            list(read_clips(path + ".changed.parquet"))
            read += 1
        except GMSAError:
            refused += 1
    data[place] = kept
print(read, refused)
"""


@pytest.fixture
def path(tmp_path):
    """A small file of frames of one's own."""
    frames = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    pq.write_table(pa.table({"id": ["a"] * 4 + ["b"] * 3, "visual": list(frames)}), tmp_path / "frames.parquet")
    return tmp_path / "frames.parquet"


def test_no_changed_byte_of_a_footer_ends_the_process(path):
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    # Behind the columns' chunks stands the schema again, as text; a part of it will do.
    places = str(footer), str(footer + 300)
    program = [sys.executable, "-c", CHANGED, str(path), *places]
    answer = subprocess.run(program, capture_output=True, text=True, timeout=600, check=False)
    assert answer.returncode == 0, answer.stderr
    read, refused = map(int, answer.stdout.split())
    assert read > 100
    assert refused > 500


def test_sizes_of_text_that_a_column_does_not_have(path):
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    # The type of the first column in the schema: text (6) becomes a truth value (0).
    data[footer + 18] = 0
    path.write_bytes(data)
    with path.open("rb") as file, pytest.raises(DamagedError, match=r"'id': says how many bytes its texts take"):
        read_footer(file)
    with pytest.raises(GMSAError, match=r"frames\.parquet"):
        list(read_clips(path))


def test_no_rows_in_any_group(tmp_path, path):
    schema = pq.read_schema(path)
    with pq.ParquetWriter(tmp_path / "none.parquet", schema) as writer:
        writer.write_table(schema.empty_table())
    with pytest.raises(GMSAError, match=r"none\.parquet"):
        list(read_clips(tmp_path / "none.parquet"))


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (b"\x15\x06\x00", {1: 3}),
        (b"\x11\x12\x00", {1: True, 2: False}),
        (b"\x18\x02ab\x00", {1: b"ab"}),
        (b"\x19\x25\x02\x03\x00", {1: [1, -2]}),
        (b"\x19\x1c\x15\x02\x00\x00", {1: [{1: 1}]}),
        (b"\x05\x2a\x02\x00", {21: 1}),
    ],
)
def test_structs_of_thrift(data, fields):
    assert read_struct(data, 0) == (fields, len(data))


@pytest.mark.parametrize("data", [b"\x1b\x00", b"\x1c" * 20, b"\x16" + b"\xff" * 12, b"\x19" * 20])
def test_damaged_structs_of_thrift(data):
    with pytest.raises((DamagedError, IndexError)):
        read_struct(data, 0)
