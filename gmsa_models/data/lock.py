"""One job at a time in a folder: a lock that the operating system takes back when its holder ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from gmsa_models.data.atomic import cannot_write
from gmsa_models.errors import OutputError

__all__ = ["LOCK", "locked"]

LOCK = ".lock"  # the file in the folder; it is there while a job runs, or after one was killed
_TAKEN = {errno.EAGAIN, errno.EACCES}  # what a system says of a lock that another holds


@contextmanager
def locked(folder: str | Path, job: str) -> Iterator[None]:
    """Keep other jobs out of a folder for as long as the block runs.

    The lock belongs to the open file, so it ends with its process, even one that is killed: a lock file that is left
    behind stops nobody. Of a job in several processes, one takes the lock. It holds between machines where the file
    system's locks do (NFS does).

    Args:
        folder: made if it is absent.
        job: what is done there, in a word or two ("training"), for the message of whoever comes second.

    Raises:
        OutputError: another process, or another block of this one, holds the folder.
        OSError: the folder cannot be written, or its file system has no locks.
    """
    path = Path(folder) / LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path)
    except OutputError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        holder = {"job": job, "process": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%F %T}"}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held, so that it is nobody else's
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough where a forked child has the file too
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """The open lock file, held."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                # A holder removes the file before it lets go: what was locked may not be the folder's any more.
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except OSError as error:
            message = _in_use(path, descriptor)
            os.close(descriptor)
            if error.errno in _TAKEN:
                raise OutputError(message) from None
            raise
        os.close(descriptor)


def _in_use(path: Path, descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        who = "{job} (process {process} on {host}, since {since})".format(**holder)
    except (ValueError, KeyError, TypeError, OSError):  # it has taken the lock, and not written yet who it is
        who = "another process"
    return f"{path.parent}: in use by {who}; wait for it to end, stop it, or choose another folder"
