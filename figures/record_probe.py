"""Read a NetCDF-4 file in a process of its own: what is damaged can make the HDF5 library crash or loop for ever.

Run as a program by `figures.record_file`, with the file and the seconds of processor time it may take. It ends well
when everything in the file was read, with an error that does not matter here when something was refused, and by a
signal when the library crashed or went on for too long.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SECONDS, _BYTES_A_SECOND, _LONGEST_WAIT = 5, 1 << 24, 300  # processor time, and by the clock
_MOST_BYTES = 1 << 30  # of one variable; what claims more is refused later, by what it claims


def survives(path: Path) -> bool:
    """Whether a process that reads the file lives, in reasonable time."""
    seconds = _SECONDS + path.stat().st_size // _BYTES_A_SECOND
    command = [sys.executable, "-P", __file__, str(path), str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_LONGEST_WAIT)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode >= 0  # below 0: ended by a signal


def read_all(path: str) -> None:
    """Every attribute, dimension and value of a file, as far as it can be read."""
    import h5py

    with h5py.File(path) as file:
        for attribute in file.attrs:
            file.attrs[attribute]
        for name in file:
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                continue
            variable = file[name]
            for attribute in variable.attrs:
                variable.attrs[attribute]
            for dimension in variable.dims:
                len(dimension)
            if variable.nbytes <= _MOST_BYTES and not variable.external and not variable.is_virtual:
                variable[()]


def _limit(seconds: int) -> None:
    try:
        import resource
    except ImportError:  # not on this system; the clock alone limits there
        return
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _limit(int(sys.argv[2]))
    read_all(sys.argv[1])
