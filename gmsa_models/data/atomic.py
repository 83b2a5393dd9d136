"""Write a file so that a reader sees the whole of it or nothing, whenever the writer is killed."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gmsa_models.errors import OutputError

__all__ = ["cannot_write", "check_folder", "remedy_for", "remove_leftovers", "replaced_when_done", "write_text"]

TEMPORARY = ".tmp"
_OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # never of reading
# What the system says when a file cannot be written -> what to do about it.
_REMEDIES = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room: this user's quota is used up",
    errno.EFBIG: "the file system or this user's limits do not allow a file so large; choose another folder",
    errno.EACCES: "this user may not write there: change its permissions, or choose another folder",
    errno.EPERM: "this user may not write there: change its permissions, or choose another folder",
    errno.EROFS: "its disk is mounted read-only; choose another folder",
    errno.ENOENT: "its folder is not there any more; make it, or choose another folder",
    errno.ENOTDIR: "what should be a folder is a file; choose another folder",
    errno.EEXIST: "what should be a folder is a file; choose another folder",
    errno.EISDIR: "a folder of that name is there; remove it, or choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOLCK: "its file system has no locks; choose a folder on another disk",
    errno.ENOSYS: "its file system has no locks; choose a folder on another disk",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine: close some",
}


def remedy_for(error: OSError) -> str:
    """What to do about an error of writing a file, in a few words."""
    return _REMEDIES.get(error.errno or 0, "check the folder and its disk")


def cannot_write(path: str | Path, error: OSError) -> OSError:
    """The same error with a message that says which file could not be written, why, and what to do."""
    if str(error).startswith("cannot write "):  # by a block within this one
        return error
    made = type(error)(f"cannot write {path}: {error.strerror or error}; {remedy_for(error)}")
    made.errno = error.errno
    return made


@contextmanager
def replaced_when_done(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it over `path` when the block ends, remove it when the block raises.

    The renamed file is flushed to disk first. A killed process leaves at most a hidden `.NAME.*.tmp` file behind.

    Raises:
        OSError: the file cannot be written; the message says why and what to do. Other errors of the block as they are.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in _OF_WRITING or error.filename in (temporary, str(temporary)):
            raise cannot_write(path, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | Path, *patterns: str) -> None:
    """Remove what killed writers left behind; for whoever holds the folder's lock, so that no writer is at work.

    Args:
        folder: where to look.
        patterns: globs of the files, from the folder, that `replaced_when_done` may have been writing.
    """
    for pattern in patterns:
        place = Path(pattern)
        for path in Path(folder).glob(f"{place.parent}/.{place.name}.*{TEMPORARY}"):
            if re.fullmatch(rf".+\.[0-9a-f]{{8}}{re.escape(TEMPORARY)}", path.name):
                path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a text file, whole; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_when_done(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def check_folder(path: Path, keep: bool = False) -> None:
    """Make sure, before any work, that files can be written to a folder.

    Args:
        path: made, with its parents, and removed again if it was not there.
        keep: do not remove it.

    Raises:
        OutputError: it cannot be made, or nothing can be written there.
    """
    made = [each for each in (path, *path.parents) if not os.path.lexists(each)]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OutputError(
            f"nothing can be written to folder {str(path)!r:.300}: {error.strerror}; give another"
        ) from None
    finally:
        for each in [] if keep else made:
            with suppress(OSError):
                each.rmdir()
