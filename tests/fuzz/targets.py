"""What is fuzzed: readers of files, each given any bytes; whatever one raises that it does not promise is a find."""

from __future__ import annotations

import contextlib
import json
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import RecordError
from analysis.record.files import open_record, save_record
from gmsa_models import Clip, ModelConfig, load, read_clips, save, write_clips
from gmsa_models.checkpoints.header import METADATA_KEY, CheckpointError
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.tfrecord.examples import encode_clip
from gmsa_models.data.tfrecord.framing import frame_record


@dataclass(frozen=True)
class Target:
    """A reader to fuzz.

    Attributes:
        suffix: of the file it is given.
        build: bytes of the file, from the fuzzer's. Its first byte says whether the rest is the file as it stands, or
            what is inside, to be framed with right lengths and checksums so that deeper layers are reached.
        read: the reader; takes the file, raises only what it does not promise.
        seeds: inputs to start from.
        slowest: seconds of one input after which it is a find.
    """

    suffix: str
    build: Callable[[bytes], bytes]
    read: Callable[[Path], None]
    seeds: Callable[[], list[bytes]]
    slowest: int = 2

    def __call__(self, data: bytes) -> None:
        """Read one input."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"input{self.suffix}"
            path.write_bytes(self.build(data))
            self.read(path)


def _framed_record(data: bytes) -> bytes:
    return frame_record(data[1:]) if data[:1] == b"r" else data[1:]


def _read_clips(path: Path) -> None:
    for clip in read_clips(path, on_error="skip", on_skip=lambda error: None):
        clip.seconds.sum()


def _clips() -> list[Clip]:
    import numpy as np

    frames = np.arange(12, dtype=np.uint8).reshape(3, 4)
    floats = (frames / 7).astype(np.float32)
    return [Clip("a", {"visual": frames, "audio": frames[:, :2]}, (3,)), Clip("b", {"motion": floats}, (1,), 0.5, 9.0)]


def _record_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder) / "x.tfrecord", _clips())
        whole = (Path(folder) / "x.tfrecord").read_bytes()
    return [b"f" + whole, *(b"r" + encode_clip(clip) for clip in _clips())]


def _framed_header(data: bytes) -> bytes:
    """A checkpoint of a header's text, and of as many zero bytes of weights as a small model has."""
    return struct.pack("<Q", len(data) - 1) + data[1:] + bytes(_WEIGHTS) if data[:1] == b"r" else data[1:]


_CONFIG = ModelConfig("none", {"a": 1}, classes=1, heads=1, feed_forward=1)
_WEIGHTS = sum(4 * value.numel() for value in GMSAClassifier(_CONFIG).state_dict().values())


def _load(path: Path) -> None:
    with contextlib.suppress(CheckpointError):
        load(path)


def _checkpoint_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        whole = save(GMSAClassifier(_CONFIG), Path(folder) / "x.safetensors").read_bytes()
    entries = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    contents = json.loads(entries["__metadata__"][METADATA_KEY])
    contents.pop("checksum")  # of other weights than the zeros that such a header is given
    entries["__metadata__"][METADATA_KEY] = json.dumps(contents)
    return [b"f" + whole, b"r" + json.dumps(entries).encode()]


def _open_record(path: Path) -> None:
    with contextlib.suppress(RecordError):
        open_record(path)


def _dataset_seeds() -> list[bytes]:
    """A small record, without the checksum that would keep every mutant out, and with it."""
    import xarray as xr

    text = {"clip": "a", "source": "c", "features_sha256": "b", "labels": "[3]", "label_names": '["Food"]'}
    record = xr.Dataset(
        {"score": ("class", [0.5, 0.25])},
        {
            "class": [3, 4],
            "class_name": ("class", ["Food", "Car"]),
            "model": "m",
            "modality": ("modality", ["audio"]),
            "frame": ("frame", [0.0, 1.0]),
        },
        {"record_version": 1, "frame_seconds": 1.0, "clip_frames": 2} | text,
    )
    with tempfile.TemporaryDirectory() as folder:
        record.to_netcdf(Path(folder) / "plain.nc", engine="h5netcdf")
        plain, saved = Path(folder) / "plain.nc", save_record(record, Path(folder) / "saved.nc")
        return [b"f" + plain.read_bytes(), b"f" + saved.read_bytes()]


TARGETS = {
    "tfrecord": Target(".tfrecord", _framed_record, _read_clips, _record_seeds),
    "checkpoint": Target(".safetensors", _framed_header, _load, _checkpoint_seeds),
    "record": Target(".nc", lambda data: data[1:], _open_record, _dataset_seeds, slowest=60),
}
