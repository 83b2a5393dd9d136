"""Mutated TFRecords and checkpoints: real ones, written by this project, and what chance makes of them.

Half of the mutants are raw: bytes of the file are changed, so that checksums and lengths no longer fit. The other half
are repaired: what is inside is changed and framed again with right lengths and checksums, so that the layers that come
after those checks are reached.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gmsa_models import Clip, Segment, build, read_clips, save, write_clips
from gmsa_models.checkpoints.header import METADATA_KEY
from gmsa_models.data.montage.make import demo_vocabulary
from gmsa_models.data.tfrecord.framing import frame_record, masked_checksum
from gmsa_models.data.tfrecord.schema import Feature, SequenceExample

Random = np.random.Generator
EXTREME_NUMBERS = (0, 1, 127, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
EXTREME_VALUES = (
    None, True, False, -1, 0, 1, 2, 10**3, 10**6, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", "x", "../../x", "x" * 10_000, "\ud800", "\x1b[31m", [], [1] * 1000, [[]], {}, {"a": 1}, {"kind": "toeplitz"},
)  # fmt: skip
EXTREME_FLOATS = (0.0, 1.0, -1.0, 1e-45, 3e38, -3e38, float("nan"), float("inf"), float("-inf"))
NAMES = (
    "id", "video_id", "labels", "rgb", "audio", "audio_embedding", "gmsa_clip", "start_time_seconds", "mean_rgb",
    "segment_labels", "segment_scores", "segment_start_times", "segment_end_times", "", "../x", "x" * 10_000,
)  # fmt: skip


def flip(data: bytes, random: Random) -> bytes:
    """One to four bits turned over."""
    changed = bytearray(data)
    for position in random.integers(0, len(data), random.integers(1, 5)):
        changed[position] ^= 1 << random.integers(8)
    return bytes(changed)


def cut(data: bytes, random: Random) -> bytes:
    """The end lost."""
    return data[: random.integers(len(data))]


def insert(data: bytes, random: Random) -> bytes:
    """Up to 64 random bytes put in somewhere."""
    place = int(random.integers(len(data) + 1))
    return data[:place] + random.bytes(int(random.integers(1, 65))) + data[place:]


def delete(data: bytes, random: Random) -> bytes:
    """A block left out."""
    start, stop = _block(data, random)
    return data[:start] + data[stop:]


def double(data: bytes, random: Random) -> bytes:
    """A block twice to a hundred times over."""
    start, stop = _block(data, random)
    times = int(random.integers(2, 100 if stop - start < 1000 else 4))
    return data[:start] + data[start:stop] * times + data[stop:]


def overwrite(data: bytes, random: Random) -> bytes:
    """An extreme number of 4 or 8 bytes written over others, or 0x00 or 0xff over a block."""
    start, stop = _block(data, random)
    if random.random() < 0.3:
        return data[:start] + bytes([int(random.choice([0, 255]))]) * (stop - start) + data[stop:]
    width = int(random.choice([4, 8]))
    number = _one_of(EXTREME_NUMBERS, random) % 256**width
    return data[:start] + number.to_bytes(width, "little") + data[start + width :]


BYTES: dict[str, Callable[[bytes, Random], bytes]] = {
    "flip": flip, "cut": cut, "insert": insert, "delete": delete, "double": double, "overwrite": overwrite,
}  # fmt: skip


def any_of(data: bytes, random: Random) -> bytes:
    """One to three of `BYTES`, one after another."""
    names = list(BYTES)
    for _ in range(random.integers(1, 4)):
        if data:
            data = BYTES[names[random.integers(len(names))]](data, random)
    return data


# TFRecords


def mutated_records(data: bytes, random: Random) -> bytes:
    """A TFRecord file with something wrong."""
    if random.random() < 0.5:
        return _extreme_length(data, random) if random.random() < 0.2 else any_of(data, random)
    records = split_records(data)
    chosen = int(random.integers(len(records)))
    kind = random.random()
    if kind < 0.4:
        records[chosen] = any_of(records[chosen], random)
    elif kind < 0.8:
        records[chosen] = restructured(records[chosen], random)
    elif kind < 0.9:
        records[chosen] = records[int(random.integers(len(records)))]
    else:
        del records[chosen]
    return b"".join(frame_record(record) for record in records)


def restructured(record: bytes, random: Random) -> bytes:
    """A SequenceExample that parses, with one to three of its features or frames made something else."""
    message = SequenceExample.FromString(record)
    context, lists = message.context.feature, message.feature_lists.feature_list
    for _ in range(random.integers(1, 4)):
        kind = random.random()
        if kind < 0.4 and context:
            name = _one_of(sorted(context), random)
            (_make_feature if kind < 0.3 else _rename)(context, name, random)
        elif lists:
            name = _one_of(sorted(lists), random)
            (_change_frames if kind < 0.9 else _rename)(lists, name, random)
    return message.SerializeToString()


def _make_feature(context: Any, name: str, random: Random) -> None:
    context[name].CopyFrom(_feature(random))


def _rename(features: Any, name: str, random: Random) -> None:
    """Another name, or none: the feature or list is gone."""
    kept = type(features[name])()
    kept.CopyFrom(features[name])
    del features[name]
    if random.random() < 0.7:
        features[_one_of(NAMES, random)].CopyFrom(kept)


def _change_frames(lists: Any, name: str, random: Random) -> None:
    frames = lists[name].feature
    kind, place = random.random(), int(random.integers(len(frames) + 1))
    if kind < 0.3 and frames:
        del frames[place:]
    elif kind < 0.6 and place < len(frames):
        frames[place].CopyFrom(_feature(random))
    else:
        frames.extend([_feature(random)] * int(random.integers(1, 2000)))


def _feature(random: Random) -> Any:
    """A feature of any kind with odd values, or none."""
    feature, kind, count = Feature(), random.random(), int(2 ** random.uniform(0, 12))
    if kind < 0.4:
        feature.bytes_list.value.extend([random.bytes(count)] * int(random.integers(3)))
    elif kind < 0.7:
        feature.float_list.value.extend([_one_of(EXTREME_FLOATS, random) for _ in range(count)])
    elif kind < 0.95:
        numbers = [_one_of(EXTREME_NUMBERS, random) % 2**64 for _ in range(count)]
        feature.int64_list.value.extend([number - 2**64 if number >= 2**63 else number for number in numbers])
    return feature


def _one_of(choices: Sequence[Any], random: Random) -> Any:
    return choices[int(random.integers(len(choices)))]


def split_records(data: bytes) -> list[bytes]:
    """Data of each record of a good file."""
    records, place = [], 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        records.append(data[place + 12 : place + 12 + length])
        place += length + 16
    return records


def _extreme_length(data: bytes, random: Random) -> bytes:
    """The length of one record set to an extreme number, with the checksum of that half of the time."""
    records = split_records(data)
    place = sum(len(record) + 16 for record in records[: random.integers(len(records))])
    header = struct.pack("<Q", _one_of(EXTREME_NUMBERS, random))
    if random.random() < 0.5:
        header += struct.pack("<I", masked_checksum(header))
    return data[:place] + header + data[place + len(header) :]


# Checkpoints


def mutated_checkpoint(data: bytes, random: Random) -> bytes:
    """A checkpoint file with something wrong."""
    if random.random() < 0.5:
        return _extreme_header(data, random) if random.random() < 0.2 else any_of(data, random)
    length = int.from_bytes(data[:8], "little")
    header, weights = data[8 : 8 + length], data[8 + length :]
    kind = random.random()
    if kind < 0.2:
        return framed(any_of(header, random), weights)
    tree = json.loads(header)
    contents = json.loads(tree["__metadata__"][METADATA_KEY])
    if random.random() < 0.9:
        contents.pop("checksum", None)  # as in a file from before there was one
    if kind < 0.7:
        _change(contents, random)
    elif kind < 0.9:
        _change(tree, random)
    else:
        weights = any_of(weights, random)
    if isinstance(tree.get("__metadata__"), dict):
        tree["__metadata__"][METADATA_KEY] = json.dumps(contents)
    return framed(json.dumps(tree).encode(), weights)


def framed(header: bytes, weights: bytes) -> bytes:
    """A safetensors file with the right length of its header."""
    return struct.pack("<Q", len(header)) + header + weights


def _extreme_header(data: bytes, random: Random) -> bytes:
    return struct.pack("<Q", _one_of(EXTREME_NUMBERS, random)) + data[8:]


def _change(tree: dict | list, random: Random) -> None:
    """An extreme value, a renamed or a lost entry, somewhere in JSON."""
    places = list(_places(tree))
    for _ in range(random.integers(1, 3)):
        holder, key = places[random.integers(len(places))]
        kind = random.random()
        if kind < 0.7:
            holder[key] = _one_of(EXTREME_VALUES, random)
        elif isinstance(holder, dict) and key in holder:
            value = holder.pop(key)
            if kind < 0.85:
                holder[f"{key}{random.choice(['x', '/../x', '.0', ' '])}"] = value


def _places(tree: dict | list) -> list[tuple[dict | list, str | int]]:
    """Every place of a value in JSON."""
    found: list[tuple[dict | list, str | int]] = []
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        found.append((tree, key))
        if isinstance(value, dict | list):
            found += _places(value)
    return found


def _block(data: bytes, random: Random) -> tuple[int, int]:
    start = int(random.integers(len(data) + 1))
    return start, min(len(data), start + int(2 ** random.uniform(0, 12)))


# Real ones


def real_records(folder: Path) -> list[bytes]:
    """TFRecord files that `write_clips` makes: demo videos, floats, several modalities, ratings, events, times."""
    random, demo = np.random.default_rng(0), list(read_clips("demo:0-3"))
    small = [
        Clip(f"s{frames}", {"visual": random.integers(0, 256, (frames, 12), np.uint8)}, (frames, 3862), 0.96, 30.0)
        for frames in (1, 5, 13)
    ]
    floats = Clip("f", {"audio": random.normal(size=(7, 5)).astype(np.float32), "motion": random.random((7, 3))}, (1,))
    ratings = (Segment(0.0, 5.0, (3,), (1.0,), "rated"), Segment(5.0, 10.0, (4,), (0.0,), "rated"))
    rated = replace(small[1], segments=ratings)
    files = [small, [floats, rated], [demo[0].cut(20), small[2]], [clip.cut(9) for clip in demo]]
    return [_bytes_of(folder / "real.tfrecord", lambda path, clips=clips: write_clips(path, clips)) for clips in files]


def real_checkpoints(folder: Path) -> list[bytes]:
    """Checkpoints that `save` makes: small models of every block."""
    vocabulary = demo_vocabulary()
    kept = vocabulary.keep(vocabulary.indices[:7])
    found = []
    for name in ("baseline", "share-att-td", "gate-att-tp10", "gate-op-bd20", "control"):
        model = build(name, "demo", vocabulary=kept, modalities=("audio",), max_frames=11)
        found.append(_bytes_of(folder / "real.safetensors", lambda path, model=model: save(model, path)))
    return found


def _bytes_of(path: Path, write: Callable[[Path], object]) -> bytes:
    write(path)
    return path.read_bytes()
