"""`.npz` files of plain arrays, checked before anything is allocated for them; no pickles."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from gmsa_models.data.errors import brief

MOST_ARRAYS = 10_000
_LONGEST_HEADER = 10_000  # bytes; what numpy itself takes
# How much a file's bytes may become in memory: vectors and labels pack by up to six; small files may pack better.
_BYTES_A_BYTE, _ALLOWANCE = 16, 1 << 26


class ArraysError(ValueError):
    """A file that is not an `.npz` of plain arrays; the message names the file, the array, and what to do."""


def arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of arrays: their names, types, shapes and values."""
    found = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        found.update(repr((name, values.dtype.str, values.shape)).encode())
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def read_arrays(path: str | Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`, by name.

    Args:
        path: of the file.
        names: which are read, of those that are there; default: all. The others are not unpacked.

    Raises:
        ArraysError: not an ordinary file, not an `.npz`, damaged, or an array that is pickled or of another size than
            it says.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would wait for a writer
        raise ArraysError(f"{path}: is not an ordinary file; expected an .npz")
    try:
        with zipfile.ZipFile(path) as file:
            members = {member.filename.removesuffix(".npy"): member for member in _members(path, file)}
            wanted = {name: member for name, member in members.items() if names is None or name in names}
            _check_claims(path, list(wanted.values()))
            return {name: _read(path, file, member) for name, member in wanted.items()}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OverflowError) as error:
        # RuntimeError: of an encrypted one, or one packed in a way that zipfile does not know
        raise ArraysError(f"{path}: damaged, or not an .npz: {error}; write or fetch it again") from None


def _members(path: Path, file: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = file.infolist()
    if len(members) > MOST_ARRAYS or len({member.filename for member in members}) < len(members):
        raise ArraysError(f"{path}: {len(members)} arrays, of which two have one name, or more than {MOST_ARRAYS}")
    return members


def _check_claims(path: Path, members: list[zipfile.ZipInfo]) -> None:
    claimed, limit = sum(member.file_size for member in members), _BYTES_A_BYTE * path.stat().st_size + _ALLOWANCE
    if claimed > limit:
        raise ArraysError(
            f"{path}: claims {claimed} bytes of arrays; at most {limit} are read of a file of its size; write it again"
        )


def _read(path: Path, file: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with file.open(member) as stream:
        shape, dtype, left = _header(path, stream, member)
        if dtype.hasobject:
            raise ArraysError(f"{path}: array {brief(member.filename)} is pickled, which can run any code; not read")
        count = 1
        for size in shape:
            count *= size
        if count * dtype.itemsize != left or min(shape, default=0) < 0:
            raise ArraysError(
                f"{path}: array {brief(member.filename)} is said to be {dtype} of shape {brief(shape)}, but has {left} "
                "bytes"
            )
    with file.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False, max_header_size=_LONGEST_HEADER)


def _header(path: Path, stream: zipfile.ZipExtFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape and type of an array, and how many bytes follow."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(stream)
        shape, _, dtype = readers[version](stream, max_header_size=_LONGEST_HEADER)
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ArraysError(f"{path}: {brief(member.filename)} is not an array: {brief(str(error))}") from None
    return shape, dtype, member.file_size - stream.tell()
