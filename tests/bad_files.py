"""Files that are wrong, made on the spot: one a fault, with the error that must come and words of its message."""

from __future__ import annotations

import gzip
import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from references.reading import (
    bytes_feature,
    example,
    field,
    float_feature,
    int_feature,
    record,
    sequence_example,
    varint,
)
from small_models import small_clip

from gmsa_models.data.clip import LARGEST_LABEL
from gmsa_models.data.errors import UnfitClipError
from gmsa_models.data.tfrecord.errors import TFRecordError
from gmsa_models.data.tfrecord.examples import encode_clip
from gmsa_models.data.tfrecord.framing import masked_checksum


@dataclass(frozen=True)
class Fault:
    """A file with one thing wrong.

    Attributes:
        make: writes it at a path.
        error: class that reading it must raise.
        said: pattern in the message, which must also name the path.
        kept: ids of the clips that are read all the same when what is wrong is skipped.
    """

    make: Callable[[Path], object]
    error: type[Exception]
    said: str
    kept: tuple[str, ...] = ()


FIRST, LAST = (record(encode_clip(small_clip(5, seed, segments=()))) for seed in (1, 2))
FRAMES = {"rgb": [bytes_feature(bytes(12))] * 5, "audio": [bytes_feature(bytes(8))] * 5}
CONTEXT = {"id": bytes_feature(b"bad"), "labels": int_feature(11)}


def contents(context: dict | None = None, **lists: list[bytes] | None) -> bytes:
    """A good record's data with some features changed, or left out where None is given."""
    named = CONTEXT | (context or {})
    frames = FRAMES | lists
    return sequence_example(
        {name: value for name, value in named.items() if value is not None},
        {name: value for name, value in frames.items() if value is not None},
    )


def written(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def between(data: bytes) -> Callable[[Path], object]:
    """A record with right checksums between two good ones."""
    return written(FIRST + record(data) + LAST)


def flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 4
    return bytes(changed)


def claiming(length: int) -> bytes:
    """A record whose header says so many bytes, with a right checksum; 50 follow."""
    header = struct.pack("<Q", length)
    return header + struct.pack("<I", masked_checksum(header)) + bytes(50)


def _rated(**changes: bytes) -> dict[str, bytes]:
    """Context features of one rated segment."""
    names = {"labels": int_feature(11), "start_times": int_feature(0), "end_times": int_feature(5)}
    rated = names | {"scores": float_feature(1.0)} | changes
    return {f"segment_{name}": value for name, value in rated.items()}


NEGATIVE = field(3, field(1, varint(2**64 - 5)))
GOOD = record(contents())
BOTH = ("clip1", "clip2")

# What is inside one record; the checksums are right.
RECORDS = {
    "no id": (contents({"id": None}), r"neither 'id' nor 'video_id'"),
    "an id that is a number": (contents({"id": int_feature(3)}), "'id' holds int; expected bytes"),
    "two ids": (contents({"id": bytes_feature(b"a", b"b")}), "'id' has 2 values; expected one"),
    "an id that is not text": (contents({"id": bytes_feature(b"\xff\xfe")}), "expected UTF-8 text"),
    "an empty id": (contents({"id": bytes_feature(b"")}), "'id' is ''; expected 1 to 1000 characters"),
    "an id that a terminal obeys": (contents({"id": bytes_feature(b"a\x1b[31m")}), "none a control one"),
    "an id of a megabyte": (contents({"id": bytes_feature(b"a" * 2**20)}), "expected 1 to 1000 characters"),
    "labels that are text": (contents({"labels": bytes_feature(b"a")}), "'labels' holds bytes; expected int"),
    "a label below 0": (contents({"labels": NEGATIVE}), "'labels' has -5; a label is 0 or more"),
    "a label no table has": (
        contents({"labels": int_feature(3, LARGEST_LABEL + 1)}),
        f"'labels' has {LARGEST_LABEL + 1}; .* at most",
    ),
    "no frame lists": (contents(rgb=None, audio=None), "no frame lists; expected 'rgb' and 'audio'"),
    "a video-level record": (
        example(id=bytes_feature(b"x"), mean_rgb=float_feature(1.0)),
        "it is a video-level record: use read_video_level",
    ),
    "0 frames": (contents(rgb=[], audio=[]), "list 'rgb' has 0 frames"),
    "empty frames": (contents(rgb=[bytes_feature(b"")] * 5), "'rgb', frame 0: holds an empty string"),
    "frames of two widths": (
        contents(rgb=[*FRAMES["rgb"][:4], bytes_feature(b"abc")]),
        "'rgb', frame 4: 3 uint8 values; frame 0 has 12",
    ),
    "frames of two kinds": (
        contents(audio=[*FRAMES["audio"][:4], float_feature(*[0.0] * 8)]),
        "frame 4: 8 float32 values; frame 0 has 8 ui",
    ),
    "unequal modalities": (contents(audio=FRAMES["audio"][:4]), r"differ in frames: \{'visual': 5, 'audio': 4\}"),
    "an extra list of another length": (contents(motion=[bytes_feature(b"a")] * 3), "differ in frames: .*'motion': 3"),
    "two lists of one modality": (contents(audio_embedding=FRAMES["audio"]), "two lists hold modality 'audio'"),
    "NaN in a frame": (contents(rgb=[float_feature(*[0.0] * 11, math.nan)] * 5), "frame 0: value 11 is nan"),
    "inf in a frame": (contents(audio=[float_feature(*[math.inf] * 8)] * 5), "frame 0: value 0 is inf"),
    "a start that is NaN": (contents({"start_time_seconds": float_feature(math.nan)}), "'start_time_seconds' is nan"),
    "a start beyond all time": (contents({"start_time_seconds": float_feature(3e38)}), "expected a start within 1e"),
    "a rating that is NaN": (contents(_rated(scores=float_feature(math.nan))), r"'segment_scores' is \[nan\]"),
    "ratings of two lengths": (contents(_rated(scores=float_feature(1.0, 0.0))), "segment features differ in length"),
    "a segment that ends first": (contents(_rated(end_times=int_feature(0), start_times=int_feature(5))), "5.0 to 0.0"),
    "no message": (b"hello there, this is no message", "is not a SequenceExample"),
    "nothing": (b"", "in its context, which has nothing"),
    "a message cut short": (contents()[:-3], "not a (SequenceExample|FeatureList)"),
    "JSON that nests 100,000 deep": (contents({"gmsa_clip": bytes_feature(b"[" * 100_000)}), "'gmsa_clip' is not JSON"),
    "a clip extension of a later version": (
        contents({"gmsa_clip": bytes_feature(b'{"version": 2}')}),
        "'gmsa_clip' has version 2; this software reads 1",
    ),
}

FILES = {name: Fault(between(data), TFRecordError, said, BOTH) for name, (data, said) in RECORDS.items()} | {
    "an id that comes twice": Fault(
        written(FIRST + GOOD + FIRST + LAST),
        TFRecordError,
        "record 2 at byte .*has the id 'clip1', as record 0 has; give each its own",
        ("clip1", "bad", "clip2"),
    ),
    "cut in the data": Fault(written(FIRST + GOOD[:-30]), TFRecordError, "record 1 .*truncated", ("clip1",)),
    "cut in a header": Fault(written(FIRST + GOOD[:7]), TFRecordError, "7 bytes are left", ("clip1",)),
    "a flipped bit in the data": Fault(
        written(FIRST + flipped(GOOD, 40) + LAST), TFRecordError, "record 1 .*do not match their checksum", BOTH
    ),
    "a flipped bit in the data's checksum": Fault(
        written(FIRST + flipped(GOOD, len(GOOD) - 2) + LAST), TFRecordError, "do not match their checksum", BOTH
    ),
    "a flipped bit in a length": Fault(
        written(FIRST + flipped(GOOD, 2) + LAST), TFRecordError, "what follows cannot be found", ("clip1",)
    ),
    "a length of a terabyte": Fault(
        written(FIRST + claiming(2**40)), TFRecordError, "says 1099511627776 bytes of data, 46 are", ("clip1",)
    ),
    "a first length of 2^62": Fault(written(claiming(2**62)), TFRecordError, "record 0 at byte 0"),
    "a gzip": Fault(written(gzip.compress(FIRST, mtime=0)), TFRecordError, "a gzip file; unpack it first"),
    "a zip": Fault(written(b"PK\x03\x04" + bytes(50)), TFRecordError, "a zip file; unpack it first"),
    "a web page": Fault(written(b"<!doctype html><html>"), TFRecordError, "perhaps a web page"),
    "a picture": Fault(written(b"\x89PNG\r\n\x1a\n" + bytes(50)), TFRecordError, "it begins with b'.x89PNG"),
    "text": Fault(written(b"hello, this is a letter"), TFRecordError, "is not a TFRecord"),
    "an empty file": Fault(written(b""), TFRecordError, r"is empty \(0 bytes\)"),
    "a directory": Fault(Path.mkdir, TFRecordError, r"is a directory.*give its files"),
    "a pipe": Fault(os.mkfifo, TFRecordError, "is a pipe or device.*save it to a file first"),
}

# Clips that came through whole, and that a model of widths 12 and 8 cannot take.
UNFIT = {
    "a missing modality": Fault(between(contents(audio=None)), UnfitClipError, "no modality 'audio'", BOTH),
    "another width": Fault(
        between(contents(rgb=[bytes_feature(bytes(13))] * 5)), UnfitClipError, "13 wide; the model takes 12", BOTH
    ),
    "absurd values": Fault(
        between(contents(audio=[float_feature(*[-3e38] * 8)] * 5)), UnfitClipError, "values as large as 3e.38", BOTH
    ),
}

# What looks odd and is read.
HARMLESS = {
    "a feature nobody asked for": contents({"other": float_feature(math.nan)}),
    "a modality nobody asked for": contents(motion=[bytes_feature(b"a")] * 5),
    "no labels": contents({"labels": None}),
    "a label the model lacks": contents({"labels": int_feature(LARGEST_LABEL)}),
    "5,000 frames": contents(rgb=FRAMES["rgb"] * 1000, audio=FRAMES["audio"] * 1000),
    "1 frame": contents(rgb=FRAMES["rgb"][:1], audio=FRAMES["audio"][:1]),
}
