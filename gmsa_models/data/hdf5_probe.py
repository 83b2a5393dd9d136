"""Read an HDF5 file in a process of its own: what is damaged can make the HDF5 library crash or loop for ever.

Run as a program by `gmsa_models.data.hdf5_probes`, it waits for questions on stdin: each is a line with a file, the
seconds of processor time that it may take, and the kind of file it should be, a record (NetCDF-4) or clips. For each it
forks: importing h5py takes many times as long as reading a record. The answer says how the forked process ended: with 0
when everything in the file is of a kind that such files have and was read, with `REFUSED` and what is wrong when not; a
signal ends it when the library crashed or went on for too long. The program ends when nobody has asked for a while, and
when its stdin is closed. Where a system cannot fork, it is given one question as its arguments.
"""

from __future__ import annotations

import json
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from gmsa_models.data.claims import (
    ALLOWANCE,
    BYTES_A_BYTE,
    DECODED,
    LONGEST_METADATA,
    MOST_ATTRIBUTES,
    MOST_VARIABLES,
    Claims,
    claimed,
    width,
)
from gmsa_models.errors import ContentError
from gmsa_models.limits import limit_process

if TYPE_CHECKING:
    import h5py
    import numpy as np

__all__ = ["CLIPS", "RECORD", "REFUSED", "probe"]

REFUSED = 3
_WORKING_BYTES = 1 << 26  # beside the values: what the library and its filters take to read them
# HDF5's numbers of the filters that records are packed by: deflate, shuffle, Fletcher's checksum.
_FILTERS = frozenset({1, 2, 3})
_IDLE_SECONDS = 60
# Kind of file -> what its values may take (see `Claims`), and whether it may have groups of variables.
RECORD, CLIPS = "record", "clips"
_KINDS = {RECORD: (BYTES_A_BYTE, ALLOWANCE, MOST_VARIABLES, False), CLIPS: (1, 1 << 26, 200_000, True)}


def read_all(path: str, kind: str = RECORD) -> None:
    """Read every attribute, dimension and value of a file, each after what it claims has been checked.

    Raises:
        ContentError: something that no file of the kind has.
        ValueError: more than the file's bytes can hold.
    """
    import h5py

    *limits, groups = _KINDS[kind]
    claims = Claims(Path(path).stat().st_size, *limits)
    with h5py.File(path) as file:
        _read_group(file, "the file", claims, groups)


def _read_group(group: h5py.Group, place: str, claims: Claims, groups: bool) -> None:
    """All variables of a group, and of the groups in it where it may have some: those have none."""
    import h5py

    _read_attributes(group, place, claims)
    for name in group:
        if groups and _is(h5py.Group, group, name):
            claims.add(0)
            _read_group(group[name], f"group {name!r:.100}", claims, groups=False)
            continue
        variable = _variable(group, name, "groups in groups, or links" if place != "the file" else "a group or a link")
        claims.add(_claimed(variable, name))
        _read_attributes(variable, f"variable {name!r:.100}", claims)
        for dimension in variable.dims:
            len(dimension)
        _read_values(variable, claims)


def _is(kind: type, group: h5py.Group, name: str) -> bool:
    """Whether a name stands for something of that kind in this file, and is no link to elsewhere."""
    import h5py

    return isinstance(group.get(name, getlink=True), h5py.HardLink) and group.get(name, getclass=True) is kind


def _variable(group: h5py.Group, name: str, other: str) -> h5py.Dataset:
    """A variable whose values lie in this file, packed as records are."""
    import h5py

    if not _is(h5py.Dataset, group, name):
        raise ContentError(f"{name!r:.100} is {other} to elsewhere; expected variables only")
    variable = group[name]
    if variable.external or variable.is_virtual:
        raise ContentError(f"variable {name!r:.100} lies in another file; expected all in one")
    made = variable.id.get_create_plist()
    filters = [made.get_filter(number)[0] for number in range(made.get_nfilters())]
    if not _FILTERS.issuperset(filters) or len(set(filters)) < len(filters):
        raise ContentError(f"variable {name!r:.100} is packed by HDF5 filters {filters!r:.100}; known: 1, 2, 3")
    return variable


def _claimed(variable: h5py.Dataset, name: str) -> int:
    import h5py

    kind = variable.dtype.kind
    if kind not in "biufSO" or (kind == "O" and h5py.check_string_dtype(variable.dtype) is None):
        raise ContentError(f"variable {name!r:.100} has values of type {variable.dtype!s:.100}")
    try:
        return claimed(width(kind, variable.dtype.itemsize), variable.shape or (), variable.chunks or ())
    except ValueError as error:
        raise ValueError(f"variable {name!r:.100} has {error}") from None


def _read_attributes(owner: h5py.HLObject, place: str, claims: Claims) -> None:
    """Read each attribute once: `owner.attrs` would open it by name three times, which takes longer than all else."""
    from h5py import h5a

    count = h5a.get_num_attrs(owner.id)
    if count > MOST_ATTRIBUTES:
        raise ValueError(f"{place} has {count} attributes; at most {MOST_ATTRIBUTES} are read")
    total = 0
    for number in range(count):
        about = h5a.open(owner.id, index=number)
        name = about.name.decode(errors="surrogateescape")
        if name in DECODED:
            raise ContentError(f"{place} has the attribute {name!r:.100}; values are not packed that way here")
        kind = about.dtype
        total += kind.itemsize * (about.get_space().get_simple_extent_npoints())
        if total > LONGEST_METADATA:
            break
        value = _attribute(about, kind) if kind.subdtype is None else owner.attrs[name]
        total += len(value) if isinstance(value, str | bytes) else 0
    if total > LONGEST_METADATA:
        raise ValueError(f"{place} has attributes of {total} bytes or more; at most {LONGEST_METADATA} are read")
    claims.add(total, variables=0)


def _attribute(about: h5py.h5a.AttrID, kind: np.dtype) -> object:
    """The value of an attribute; None where it has none."""
    import numpy as np

    shape = about.shape
    if shape is None:
        return None
    values = np.zeros(shape, kind)
    about.read(values)
    return values.item() if values.ndim == 0 else values


def _read_values(variable: h5py.Dataset, claims: Claims) -> None:
    values = variable[()]
    if variable.dtype.kind == "O":
        texts = [values] if isinstance(values, bytes) else values.flat
        claims.add(sum(len(text) for text in texts if isinstance(text, bytes | str)), variables=0)


def probe(path: str, seconds: int, kind: str = RECORD) -> str:
    """What is wrong with a file; "" for nothing.

    Limits this process to what such a file of that size may take, for good.
    """
    limit_process(seconds, Claims(Path(path).stat().st_size, *_KINDS[kind][:3]).limit + _WORKING_BYTES)
    try:
        read_all(path, kind)
    except ContentError as error:
        return str(error)
    except MemoryError:
        return "damaged: its values take more memory than its bytes can hold"
    except Exception as error:  # what h5py makes of damage is no closed list
        reason = (str(error).splitlines() or [""])[0]
        return reason if type(error) is ValueError else f"damaged ({type(error).__name__}: {reason:.200})"
    return ""


def _in_a_fork(path: str, seconds: int, kind: str) -> tuple[int, str]:
    """How a forked process ended that read a file, and its reason to refuse it."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        code = 1
        try:
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):  # what the library prints is no answer
                os.dup2(nothing, stream)
            wrong = probe(path, seconds, kind)
            os.write(writer, wrong.encode())
            code = REFUSED if wrong else 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as answer:
        reason = answer.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), reason


def _serve() -> None:
    while select.select([sys.stdin], [], [], _IDLE_SECONDS)[0] and (line := sys.stdin.readline()):
        path, seconds, kind = json.loads(line)
        print(json.dumps(_in_a_fork(path, seconds, kind)), flush=True)


def main() -> None:
    """The program."""
    import h5py  # before the limits, as what it takes is not the file's  # noqa: F401

    if len(sys.argv) == 1:
        _serve()
        return
    wrong = probe(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    print(wrong, end="")
    sys.exit(REFUSED if wrong else 0)


if __name__ == "__main__":
    main()
