"""Formats of files of clips, by how a file's name ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from gmsa_models.data.clip import Clip
from gmsa_models.data.errors import ClipFileError, OnSkip
from gmsa_models.data.reader import ClipFile, once_an_id, read_each

__all__ = ["FORMATS", "is_catalog", "open_clips", "read_file"]


def _open_tfrecord(path: str | Path, verify: bool) -> ClipFile:
    from gmsa_models.data.tfrecord.files import ClipRecords

    return ClipRecords(path, verify)


def _open_npy(path: str | Path, verify: bool) -> ClipFile:
    from gmsa_models.data.array_files.numpy_files import NpyClip

    return NpyClip(path)


def _open_npz(path: str | Path, verify: bool) -> ClipFile:
    from gmsa_models.data.array_files.numpy_files import NpzClips

    return NpzClips(path)


def _open_hdf5(path: str | Path, verify: bool) -> ClipFile:
    from gmsa_models.data.array_files.hdf5 import Hdf5Clips

    return Hdf5Clips(path)


def _open_parquet(path: str | Path, verify: bool) -> ClipFile:
    from gmsa_models.data.array_files.parquet import ParquetClips

    return ParquetClips(path)


# How a file's name ends -> what opens it: (path, whether to check checksums) -> the open file.
FORMATS: dict[str, Callable[[str | Path, bool], ClipFile]] = {
    ".tfrecord": _open_tfrecord,
    ".npy": _open_npy,
    ".npz": _open_npz,
    ".h5": _open_hdf5,
    ".hdf5": _open_hdf5,
    ".parquet": _open_parquet,
}
DEFAULT = ".tfrecord"  # of any other name: YouTube-8M's shards have had several
_RECORD = "is a saved record of one clip by one model: `gmsa inspect` shows it"
# How the name of a file ends that is taken for one of clips -> what it is, and what takes it.
OTHERS = {".nc": _RECORD, ".zarr": _RECORD, ".safetensors": "is a model: `--model` takes it"}
VIDEO = "is a video: `gmsa inspect` shows it, and `gmsa features` makes the features that other commands take"


def open_clips(path: str | Path, verify: bool = True) -> ClipFile:
    """Open a file of clips, whatever its format.

    Args:
        path: an ordinary file.
        verify: check the checksums of its clips where the format has some.

    Raises:
        ClipFileError: not a file of that format, or one that the system does not give.
        FileNotFoundError: no such file.
    """
    if other := _other(Path(path)):
        raise ClipFileError(path, f"{other}; expected a file of clips: {', '.join(FORMATS)}", kind="no file of clips")
    return FORMATS.get(Path(path).suffix.lower(), FORMATS[DEFAULT])(path, verify)


def _other(path: Path) -> str:
    """What a path is that holds no clips, by its name; an empty text if nothing is known."""
    from gmsa_models.data.video.decode import is_video

    if is_video(path):
        return VIDEO
    return OTHERS.get(path.suffix.lower(), "") if os.path.exists(path) else ""  # False for what no file can be named


def read_file(path: str | Path, on_skip: OnSkip | None = None, verify: bool = True) -> Iterator[Clip]:
    """Every clip of one file, in order.

    Args:
        path: the file, of any format.
        on_skip: called with each reason not to read a clip, instead of raising it; see `read_each`.
        verify: check the checksums.

    Raises:
        ClipFileError: what cannot be read, unless `on_skip` takes it.
        FileNotFoundError: no such file.
    """
    return read_each(
        path, partial(open_clips, verify=verify), once_an_id(lambda file, place: file.clip(place)), on_skip
    )


def is_catalog(path: str | Path) -> bool:
    """Whether a file is a catalogue of clips rather than a file of clips: a `.parquet` without columns of features."""
    if Path(path).suffix != ".parquet":
        return False
    from gmsa_models.data.array_files.parquet import has_streams

    return not has_streams(path)
