import gzip
import os
import pickle
import resource
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from references.reading import record

from gmsa_models.data.formats import read_file
from gmsa_models.data.reader import Place
from gmsa_models.data.tfrecord.errors import TFRecordError
from gmsa_models.data.tfrecord.files import write_clips
from gmsa_models.data.tfrecord.framing import LONGEST_RECORD, RecordFile, frame_record, masked_checksum
from tests.gmsa_models.data.test_clip import clip


def write(tmp_path, data, name="x.tfrecord"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


@given(st.binary(max_size=300))
def test_framing_is_the_slow_definition(data):
    assert frame_record(data) == record(data)


def test_checksum_by_hand():
    # RFC 3720, B.4: 32 bytes of zeros; unmasked 0x8A9136AA.
    rotated = (0x8A9136AA >> 15 | 0x8A9136AA << 17) & 0xFFFFFFFF
    assert masked_checksum(bytes(32)) == (rotated + 0xA282EAD8) % 2**32


def test_spans_are_where_records_lie(tmp_path):
    path = write(tmp_path, record(b"abc") + record(b"") + record(b"defgh"))
    with RecordFile(path) as file:
        spans = list(file.places())
        assert spans == [Place(0, 0, 3), Place(1, 19, 0), Place(2, 35, 5)]
        assert [file.data(span) for span in reversed(spans)] == [b"defgh", b"", b"abc"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three records of about 100 bytes, and where each starts."""
    path = tmp_path_factory.mktemp("small") / "small.tfrecord"
    write_clips(path, [clip(name, frames, (1, 2)) for name, frames in (("a", 2), ("b", 3), ("c", 5))])
    with RecordFile(path) as file:
        return path.read_bytes(), [span.offset for span in file.places()]


def test_truncation_anywhere_is_an_error_and_keeps_what_came_before(small, tmp_path):
    whole, starts = small
    for length in range(1, len(whole)):
        if length in starts:
            continue  # ends between two records: TFRecord has no way to tell
        errors = []
        clips = list(read_file(write(tmp_path, whole[:length]), errors.append))
        assert [one.id for one in clips] == ["a", "b", "c"][: len(clips)]
        assert len(errors) == 1
        assert errors[0].record in (len(clips), None)
        assert errors[0].offset in (starts[len(clips)], None)
        with pytest.raises(TFRecordError, match="left"), RecordFile(tmp_path / "x.tfrecord") as file:
            list(file.places())  # headers alone tell, so an index of a cut file is not made


def test_a_flipped_bit_in_any_byte_is_detected(small, tmp_path):
    whole, starts = small
    random = np.random.default_rng(1)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << random.integers(8)
        errors = []
        clips = list(read_file(write(tmp_path, bytes(damaged)), errors.append))
        assert len(errors) == 1
        at = max(number for number, start in enumerate(starts) if start <= position)
        assert "abc"[at] not in {one.id for one in clips}
        in_header = position - starts[at] < 12
        assert [one.id for one in clips] == list("abc"[:at] if in_header else "abc".replace("abc"[at], ""))


def test_errors_name_file_record_and_offset(small, tmp_path):
    whole, starts = small
    damaged = bytearray(whole)
    damaged[starts[1] + 20] ^= 1
    path = write(tmp_path, bytes(damaged))
    with pytest.raises(TFRecordError, match=rf"x\.tfrecord, record 1 at byte {starts[1]}: .*checksum.*again") as caught:
        list(read_file(path))
    assert (caught.value.path, caught.value.record, caught.value.offset) == (path, 1, starts[1])
    assert next(read_file(path, verify=False)).id == "a"


@pytest.mark.parametrize("length", [2**63, 2**40, 10**9, 200])
@pytest.mark.parametrize("believable", [True, False])
def test_a_hostile_length_allocates_nothing(tmp_path, length, believable):
    header = struct.pack("<Q", length)
    checksum = masked_checksum(header) if believable else 7
    path = write(tmp_path, header + struct.pack("<I", checksum) + bytes(100))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TFRecordError, match="truncated or damaged" if believable else "not a TFRecord"):
        list(read_file(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_record_of_absurd_size_is_refused(tmp_path):
    path, header = tmp_path / "sparse.tfrecord", struct.pack("<Q", LONGEST_RECORD + 1)
    with path.open("wb") as file:
        file.write(header + struct.pack("<I", masked_checksum(header)))
        file.truncate(LONGEST_RECORD + 100)
    with pytest.raises(TFRecordError, match="are read as one record"):
        list(read_file(path))


def test_a_span_outside_the_file_is_refused(small, tmp_path):
    with RecordFile(write(tmp_path, small[0])) as file:
        for span in (Place(0, 0, 10**12), Place(0, -5, 3), Place(0, 10**6, 3), Place(0, 0, -1)):
            with pytest.raises(TFRecordError, match="does not fit"):
                file.data(span)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "is empty"),
        (b"abc", "3 bytes are left"),
        (gzip.compress(record(b"abc"), mtime=0), "gzip file; unpack"),
        (b"PK\x03\x04" + bytes(99), "zip file; unpack"),
        (b"<html><body>404</body></html>", "web page"),
        (b"PAR1" + bytes(99), "Parquet"),
        (b"hello world, this is text", "not a TFRecord.*b'hello wo'"),
    ],
)
def test_files_that_are_something_else(tmp_path, data, part):
    with pytest.raises(TFRecordError, match=rf"x\.tfrecord.*{part}"):
        list(read_file(write(tmp_path, data)))


def test_directory_pipe_and_absence(tmp_path):
    with pytest.raises(TFRecordError, match=r"is a directory.*/\*\.tfrecord"):
        list(read_file(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TFRecordError, match="pipe or device"):
        list(read_file(tmp_path / "pipe"))
    with pytest.raises(FileNotFoundError):
        list(read_file(tmp_path / "absent"))


def test_errors_survive_pickling():
    error = TFRecordError("x", "reason", 3, 40)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.record, again.offset) == (str(error), 3, 40)
