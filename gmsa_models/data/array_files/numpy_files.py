"""`.npy` (one stream of one clip) and `.npz` (the streams of one clip, or of many one after another)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gmsa_models.data.array_files.clips import ArrayClips
from gmsa_models.data.array_files.layout import DEFAULT_STREAM, NAMES, check_stream, is_stated
from gmsa_models.data.arrays import read_arrays, read_header
from gmsa_models.data.errors import ClipFileError, brief
from gmsa_models.errors import ContentError, DamagedError

__all__ = ["NpyClip", "NpzClips"]

# Of an .npz of many clips: their ids, and how many frames each has. Other values are one for all clips or one a clip.
IDS, LENGTHS = "ids", "lengths"
_ALLOWANCE = 1 << 26  # bytes that an .npz may unpack to beyond its own


class NpyClip(ArrayClips):
    """An open `.npy`: one clip of one stream, called "visual"; its id is the file's name."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        try:
            with self.path.open("rb") as file:
                self._shape, dtype = read_header(self.path, file, self.size, self.path.name)
            check_stream(DEFAULT_STREAM, self._shape, dtype)
        except DamagedError as error:
            raise _array_file_error(self.path, error) from None
        except ContentError as error:
            raise ClipFileError(
                self.path, f"{error}; several clips or streams go into an .npz", kind="layout"
            ) from None

    def _count(self) -> int:
        return 1

    def _values(self, number: int) -> Mapping[str, Any]:
        return {}

    def _shapes(self, number: int) -> Mapping[str, tuple[int, int]]:
        return {DEFAULT_STREAM: (self._shape[0], self._shape[1])}

    def _streams(self, number: int) -> Mapping[str, np.ndarray]:
        try:
            return {DEFAULT_STREAM: np.load(self.path, allow_pickle=False)}
        except (OSError, ValueError, EOFError) as error:
            raise ClipFileError(self.path, f"damaged: {brief(str(error))}; write it again") from None


class NpzClips(ArrayClips):
    """An open `.npz`, all of which is in memory: zipped arrays have no other way to one clip of many."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        try:
            arrays = read_arrays(self.path, bytes_a_byte=1, allowance=_ALLOWANCE)
        except DamagedError as error:
            raise _array_file_error(self.path, error) from None
        self._names = [name for name, values in arrays.items() if values.ndim == 2 and name not in NAMES]
        self._arrays = arrays
        self.memory = sum(values.nbytes for values in arrays.values())
        try:
            self._check_names()
            self._starts = self._boundaries() if IDS in arrays else None
        except ContentError as error:
            raise ClipFileError(self.path, str(error), kind="layout") from None

    def _check_names(self) -> None:
        streams, many = {name: self._arrays[name] for name in self._names}, IDS in self._arrays
        if not streams:
            raise ContentError(f"no stream: expected an array (frames, width) among {brief(sorted(self._arrays))}")
        for name, values in streams.items():
            check_stream(name, values.shape, values.dtype)
        for name, values in self._arrays.items():
            if name not in streams and not is_stated(name, streams) and not (many and name == LENGTHS) and name != IDS:
                raise ContentError(
                    f"{brief(name)} of shape {brief(values.shape)} is neither a stream (frames, width) nor one of "
                    f"{', '.join(NAMES)}, STREAM_space, {IDS}, {LENGTHS}"
                )

    def _boundaries(self) -> np.ndarray:
        """(clips + 1,) first frame of each clip, and the end of the last."""
        ids, lengths = self._arrays[IDS], self._arrays.get(LENGTHS, np.zeros(0))
        if ids.ndim != 1 or ids.dtype.kind not in "USiu" or not len(ids):
            raise ContentError(f"{IDS!r} is {ids.dtype!s:.60} of shape {brief(ids.shape)}; expected texts in a row")
        if lengths.shape != ids.shape or lengths.dtype.kind not in "iu" or lengths.min() < 1:
            raise ContentError(f"{LENGTHS!r} of {len(ids)} {IDS}: expected as many whole numbers of at least 1")
        if lengths.max() > max(len(self._arrays[name]) for name in self._names):  # the sum of such does not overflow
            raise ContentError(f"{LENGTHS!r} has {lengths.max()} frames, more than any stream")
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        for name in self._names:
            if len(self._arrays[name]) != starts[-1]:
                raise ContentError(f"{name!r} has {len(self._arrays[name])} frames; the {LENGTHS} sum to {starts[-1]}")
        for name, values in self._arrays.items():
            if name in NAMES and values.ndim and len(values) != len(ids):
                raise ContentError(
                    f"{name!r} has {len(values)} values of {len(ids)} clips; expected one, or one a clip"
                )
        return starts

    def _count(self) -> int:
        return 1 if self._starts is None else len(self._starts) - 1

    def _values(self, number: int) -> Mapping[str, Any]:
        metadata = {name: self._arrays[name] for name in self._arrays if is_stated(name, dict.fromkeys(self._names))}
        if self._starts is None:
            return metadata
        metadata = {name: values[number] if values.ndim else values for name, values in metadata.items()}
        identity = self._arrays[IDS][number]
        return metadata | {"id": identity if self._arrays[IDS].dtype.kind in "US" else str(identity)}

    def _rows(self, number: int) -> slice:
        return slice(None) if self._starts is None else slice(int(self._starts[number]), int(self._starts[number + 1]))

    def _shapes(self, number: int) -> Mapping[str, tuple[int, int]]:
        return {name: self._arrays[name][self._rows(number)].shape for name in self._names}

    def _streams(self, number: int) -> Mapping[str, np.ndarray]:
        if self._count() == 1:
            return {name: self._arrays[name] for name in self._names}
        return {name: self._arrays[name][self._rows(number)].copy() for name in self._names}  # lets go of the others

    def close(self) -> None:
        """Let go of the arrays."""
        self._arrays, self.memory = {}, 0


def _array_file_error(path: Path, error: DamagedError) -> ClipFileError:
    return ClipFileError(path, str(error).removeprefix(f"{path}: "))
