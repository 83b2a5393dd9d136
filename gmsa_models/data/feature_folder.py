"""A folder of features: a TFRecord a video, and the table of the classes that their labels count."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path

from gmsa_models.data.atomic import write_text
from gmsa_models.data.errors import brief
from gmsa_models.data.file_names import file_name
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.errors import ArgumentError

__all__ = [
    "CLASSES",
    "DIGITS",
    "MARK",
    "PROXY",
    "SHARD",
    "THUMBNAILS",
    "clip_file",
    "content_of",
    "folder_classes",
    "folder_files",
    "write_classes",
]

CLASSES = "classes.csv"  # the table's name; columns `index`, `display_name`
SHARD = ".tfrecord"  # how the files of clips end
# How files of the pictures of the frames end, and of small copies that play; else they are called as the clip's file.
THUMBNAILS, PROXY = ".webp", ".webm"
MARK, DIGITS = "@", 12  # before the digits of the hash of a video's content that stand in the names of its files
_CONTENT = re.compile(rf"{MARK}([0-9a-f]{{{DIGITS}}}){re.escape(SHARD)}$")


def clip_file(folder: str | Path, identity: str, digest: str) -> Path:
    """The file of a clip: it is named by the clip's id and by the SHA-256 of its video."""
    return Path(folder) / f"{file_name(identity)}{MARK}{digest[:DIGITS]}{SHARD}"


def content_of(path: str | Path) -> str:
    """The digits by which a file's name says of what video its features are; "" where it says none.

    Files of the same digits are of copies of one video, byte for byte.
    """
    match = _CONTENT.search(Path(path).name)
    return match[1] if match else ""


def folder_files(folder: str | Path) -> list[Path]:
    """Files of clips in a folder, sorted by name; none where it is no folder of features."""
    return sorted(path for path in Path(folder).glob(f"*{SHARD}") if path.is_file() and path.name[0] != ".")


def folder_classes(folder: str | Path) -> tuple[str, ...]:
    """Names of the classes, in the order of the labels; none where the folder has no table.

    Raises:
        ArgumentError: a table that is none, or whose indices do not count from 0.
    """
    path = Path(folder) / CLASSES
    if not path.is_file():
        return ()
    vocabulary = Vocabulary.read_csv(path)
    if vocabulary.indices != tuple(range(len(vocabulary))):
        raise ArgumentError(f"{path}: indices {brief(vocabulary.indices)}; expected 0, 1, 2 ... in this order")
    return vocabulary.names


def write_classes(folder: str | Path, names: Iterable[str]) -> tuple[str, ...]:
    """Add names to the table; those that are there keep their place, so that labels keep their meaning.

    Args:
        folder: of features.
        names: of classes, in any order.

    Returns:
        All names, in the order of the labels.
    """
    known = folder_classes(folder)
    names = (*known, *sorted(set(names) - set(known)))
    if names != known:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["index", "display_name"])
        table.writerows(enumerate(names))
        write_text(Path(folder) / CLASSES, text.getvalue())
    return names
