"""`.npz` files of plain arrays, checked before anything is allocated for them; no pickles."""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections.abc import Collection, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import IO

import numpy as np

from gmsa_models.data.errors import brief
from gmsa_models.errors import DamagedError

__all__ = ["arrays_digest", "read_arrays", "read_header"]

MOST_ARRAYS = 10_000
_LONGEST_HEADER = 10_000  # bytes; what numpy itself takes
# How much a file's bytes may become in memory: vectors and labels pack by up to six; small files may pack better.
_BYTES_A_BYTE, _ALLOWANCE = 16, 1 << 26


def arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of arrays: their names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        digest.update(repr((name, values.dtype.str, values.shape)).encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def read_arrays(
    path: str | Path,
    names: Collection[str] | None = None,
    *,
    bytes_a_byte: int = _BYTES_A_BYTE,
    allowance: int = _ALLOWANCE,
) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`, by name.

    Args:
        path: of the file.
        names: which are read, of those that are there; default: all. The others are not unpacked.
        bytes_a_byte, allowance: the most that is unpacked, for each byte of the file and for any file.

    Raises:
        DamagedError: not an ordinary file, not an `.npz`, damaged, or an array that is pickled or of another size than
            it says.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would wait for a writer
        raise DamagedError(f"{path}: is not an ordinary file; expected an .npz")
    try:
        with zipfile.ZipFile(path) as file:
            members = {member.filename.removesuffix(".npy"): member for member in _members(path, file)}
            wanted = {name: member for name, member in members.items() if names is None or name in names}
            _check_claims(path, list(wanted.values()), bytes_a_byte * path.stat().st_size + allowance)
            return {name: _read(path, file, member) for name, member in wanted.items()}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OverflowError) as error:
        # RuntimeError: of an encrypted one, or one packed in a way that zipfile does not know
        raise DamagedError(f"{path}: damaged, or not an .npz: {error}; write or fetch it again") from None


def _members(path: Path, file: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = file.infolist()
    if len(members) > MOST_ARRAYS or len({member.filename for member in members}) < len(members):
        raise DamagedError(f"{path}: {len(members)} arrays, of which two have one name, or more than {MOST_ARRAYS}")
    return members


def _check_claims(path: Path, members: list[zipfile.ZipInfo], limit: int) -> None:
    claimed = sum(member.file_size for member in members)
    if claimed > limit:
        raise DamagedError(
            f"{path}: claims {claimed} bytes of arrays; at most {limit} are read of a file of its size; write it "
            "again, with numpy.savez if they are packed so well"
        )


def _read(path: Path, file: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with file.open(member) as stream:
        read_header(path, stream, member.file_size, member.filename)
    with file.open(member) as stream:
        values = np.lib.format.read_array(stream, allow_pickle=False, max_header_size=_LONGEST_HEADER)
    if values.dtype.kind == "U" and values.size and values.dtype.itemsize:
        try:
            values.ravel().tolist()  # numpy takes any number for a letter until it makes text of it
        except (SystemError, ValueError) as error:
            raise DamagedError(f"{path}: array {brief(member.filename)} is no text: {brief(str(error))}") from None
    return values


def read_header(
    path: Path, stream: IO[bytes] | BufferedIOBase, size: int, name: str
) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array in numpy's format, whose bytes are as many as they say.

    Args:
        path: of the file, for errors.
        stream: at its beginning; is left after the header.
        size: bytes of header and values.
        name: of the array, for errors.

    Raises:
        DamagedError: not an array, pickled, or of another size than it says.
    """
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(stream)
        shape, _, dtype = readers[version](stream, max_header_size=_LONGEST_HEADER)
    except Exception as error:  # what numpy makes of a damaged header is no closed list
        raise DamagedError(f"{path}: {brief(name)} is not an array: {brief(str(error))}") from None
    if dtype.hasobject:
        raise DamagedError(f"{path}: array {brief(name)} is pickled, which can run any code; not read")
    left = size - stream.tell()
    if math.prod(shape) * dtype.itemsize != left or min(shape, default=0) < 0:
        raise DamagedError(
            f"{path}: array {brief(name)} is said to be {dtype} of shape {brief(shape)}, but has {left} bytes"
        )
    return shape, dtype
