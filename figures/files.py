"""Files that appear whole or not at all; without torch."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import unicodedata
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HASHED = "~"  # stands before the hash in a file's name; no plain text has it
HASH_DIGITS = 10


class OutputFolderError(OSError):
    """A folder in which nothing can be written; the message names it and says why."""


def check_folder(path: Path, keep: bool = False) -> None:
    """Make sure, before any work, that files can be written to a folder.

    Args:
        path: made, with its parents, and removed again if it was not there.
        keep: do not remove it.

    Raises:
        OutputFolderError: it cannot be made, or nothing can be written there.
    """
    made = [each for each in (path, *path.parents) if not os.path.lexists(each)]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OutputFolderError(
            f"nothing can be written to folder {str(path)!r:.300}: {error.strerror}; give another"
        ) from None
    finally:
        for each in [] if keep else made:
            with suppress(OSError):
                each.rmdir()


def file_name(text: str, longest: int = 100) -> str:
    """A text as part of a file's name: different texts have different names, on every file system.

    Letters, digits, dots, underscores, hyphens and @ stay. A text with anything else, with a dot or hyphen at an end,
    one that ends in `.tfrecord`, and one that is too long, is shortened, with `~` and a hash of the text after it.
    Texts that differ in case only are told apart by who writes the files.

    Args:
        text: a clip's id, a model's name.
        longest: bytes of UTF-8, at least 20.
    """
    kept = "".join(letter if letter.isalnum() or letter in "._@" else "-" for letter in text)
    plain = kept.removesuffix(".tfrecord").strip("-.") == text == unicodedata.normalize("NFC", text)
    if plain and len(text.encode()) <= longest:
        return text
    short = kept.encode()[: longest - HASH_DIGITS - 1].decode(errors="ignore").strip("-.")
    return f"{short or 'clip'}{HASHED}{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:HASH_DIGITS]}"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and goes when it does not."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a text file, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: object) -> str:
    """SHA-256 of plain values (what JSON holds; anything else by its text), whatever the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def code_digest(rooms: Iterable[str]) -> str:
    """Digest of the Python code of some packages of this project: a changed line changes it."""
    root = Path(__file__).parent.parent
    found = hashlib.sha256()
    for room in rooms:
        for path in sorted((root / room).rglob("*.py")):
            found.update(path.relative_to(root).as_posix().encode())
            found.update(path.read_bytes())
    return found.hexdigest()
