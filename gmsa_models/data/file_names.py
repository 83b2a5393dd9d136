"""Names of files that are made of a text from elsewhere: an id, a path, a model's name."""

from __future__ import annotations

import hashlib
import unicodedata

__all__ = ["HASHED", "HASH_DIGITS", "file_name"]

HASHED = "~"  # stands before the hash in a file's name; no plain text has it
HASH_DIGITS = 10


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
