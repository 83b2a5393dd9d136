"""HDF5: datasets of one clip at the root, or a group a clip; what is said stands in attributes, or in datasets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gmsa_models.data.array_files.clips import ArrayClips
from gmsa_models.data.array_files.layout import NAMES, check_stream, is_stated
from gmsa_models.data.errors import ClipFileError, brief
from gmsa_models.data.hdf5_probe import CLIPS
from gmsa_models.data.hdf5_probes import refusal
from gmsa_models.errors import ContentError

__all__ = ["Hdf5Clips"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_REMEDY = "write it again, without compression if that saves much"


class Hdf5Clips(ArrayClips):
    """An open HDF5 file. Attributes of the file hold for the clips of all its groups that do not say otherwise."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        with self.path.open("rb") as file:
            start = file.read(len(_SIGNATURE))
        if start != _SIGNATURE:
            raise ClipFileError(self.path, f"is not HDF5 (it begins with {start!r}); write it again")
        about = self.path.stat()
        if wrong := _probed(self.path, about.st_mtime_ns, about.st_size):
            raise ClipFileError(self.path, f"{wrong}; {_REMEDY}")
        self._file = h5py.File(self.path, "r")
        groups = [name for name in self._file if isinstance(self._file[name], h5py.Group)]
        if groups and len(groups) < len(self._file):
            self.close()
            raise ClipFileError(self.path, "has groups and datasets at its root; expected either", kind="layout")
        self._groups: list[str] = groups or ["/"]

    def _count(self) -> int:
        return len(self._groups)

    def _default_id(self, number: int) -> str:
        return self.path.stem if self._groups == ["/"] else self._groups[number]

    def _datasets(self, number: int) -> dict[str, h5py.Dataset]:
        """Streams of a clip.

        Raises:
            ContentError: none, or a dataset that is no stream and nothing that the layout knows.
        """
        group = self._file[self._groups[number]]
        streams = {name: each for name, each in group.items() if each.ndim == 2 and name not in NAMES}
        if not streams:
            raise ContentError(f"no stream: expected a dataset (frames, width) among {brief(sorted(group))}")
        for name, each in group.items():
            if name in streams:
                check_stream(name, each.shape, each.dtype)
            elif not is_stated(name, streams):
                raise ContentError(
                    f"{brief(name)} of shape {brief(each.shape)} is neither a stream (frames, width) nor one of "
                    f"{', '.join(NAMES)}, STREAM_space"
                )
        return streams

    def _values(self, number: int) -> Mapping[str, Any]:
        group, streams = self._file[self._groups[number]], self._datasets(number)
        own = {name: each[()] for name, each in group.items() if name not in streams}
        metadata = {**self._file.attrs, **group.attrs, **own}
        return {name: value for name, value in metadata.items() if is_stated(name, streams)}

    def _shapes(self, number: int) -> Mapping[str, tuple[int, int]]:
        return {name: each.shape for name, each in self._datasets(number).items()}

    def _streams(self, number: int) -> Mapping[str, np.ndarray]:
        return {name: each[()] for name, each in self._datasets(number).items()}

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()


@lru_cache(maxsize=65536)
def _probed(path: Path, modified: int, size: int) -> str:
    """What is wrong with a file; once for each state of it, since another process reads all of it."""
    return refusal(path, CLIPS)
