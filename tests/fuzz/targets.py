"""What is fuzzed: readers of files, each given any bytes; whatever one raises that it does not promise is a find."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from fuzz_arrays import HDF5, NPY, NPZ, PARQUET, read_whole
from fuzz_records import ATTRIBUTES, RECORD, ZARR
from fuzz_tables import CATALOGUE, SWEEP
from fuzz_target import Target

from gmsa_models import Clip, ModelConfig, load, save, write_clips
from gmsa_models.checkpoints.header import METADATA_KEY, CheckpointError
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.tfrecord.examples import encode_clip
from gmsa_models.data.tfrecord.framing import frame_record


def _framed_record(data: bytes) -> bytes:
    return frame_record(data[1:]) if data[:1] == b"r" else data[1:]


def _framed(frame: Callable[[bytes], bytes]) -> Callable[[Path, bytes], object]:
    return lambda path, data: path.write_bytes(frame(data))


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


def _checkpoint_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        whole = save(GMSAClassifier(_CONFIG), Path(folder) / "x.safetensors").read_bytes()
    entries = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    contents = json.loads(entries["__metadata__"][METADATA_KEY])
    contents.pop("checksum")  # of other weights than the zeros that such a header is given
    entries["__metadata__"][METADATA_KEY] = json.dumps(contents)
    return [b"f" + whole, b"r" + json.dumps(entries).encode()]


TARGETS = {
    "tfrecord": Target(".tfrecord", _framed(_framed_record), read_whole, _record_seeds),
    "checkpoint": Target(".safetensors", _framed(_framed_header), load, _checkpoint_seeds, (CheckpointError,)),
    "record": RECORD,
    "attributes": ATTRIBUTES,
    "zarr": ZARR,
    "catalogue": CATALOGUE,
    "sweep": SWEEP,
    "npz": NPZ,
    "npy": NPY,
    "hdf5": HDF5,
    "parquet": PARQUET,
}
