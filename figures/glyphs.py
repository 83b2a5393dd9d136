"""Letters that the style's font lacks: an installed font that has them takes over; what none has is told once."""

from __future__ import annotations

import logging
import unicodedata
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, FontProperties, findfont, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

__all__ = ["find_glyphs", "font_for", "without_glyph_warnings"]

_LOG = logging.getLogger(__name__)
# Fonts whose letters are not what their codes say, or which have a box for everything.
_NOT_TEXT = ("cm", "STIXNonUnicode", "STIXSize", "Last Resort", "Wingdings", "Webdings", "Symbol")
_REGULAR = ("normal", "regular", "book", 400)
# First word of a character's Unicode name -> font to install; any other script has a Noto Sans of its own name.
_CJK = "Noto Sans CJK (Debian, Ubuntu: fonts-noto-cjk)"
_INSTALL = dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC", "BOPOMOFO", "FULLWIDTH"), _CJK)
_reported: set[str] = set()


def font_for(text: str, font: FontProperties) -> FontProperties:
    """The font itself where it has all letters of a text, else a copy that goes on with installed fonts that have them.

    Letters that no installed font has stay boxes; a line in the log says, once a script, what to install.
    """
    if text.isascii() or font.get_file() is not None:
        return font
    missing = set(text) - _letters_of(tuple(font.get_family())) - {"\n"}
    if not missing:
        return font
    families = _families(frozenset(missing))
    complete = font.copy()
    complete.set_family([*font.get_family(), *families])
    return complete


def find_glyphs(figure: Figure) -> None:
    """Give every text of a figure a font that has its letters, as far as one is installed."""
    for text in figure.findobj(Text):
        font = text.get_fontproperties()
        if (complete := font_for(text.get_text(), font)) is not font:
            text.set_fontproperties(complete)


@contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """Keeps back matplotlib's own warning for each letter without a glyph: `font_for` has told what to do."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        warnings.filterwarnings("ignore", "Matplotlib currently does not support .* natively")
        yield


@lru_cache(maxsize=4096)
def _families(missing: frozenset[str]) -> tuple[str, ...]:
    """Names of installed fonts that have these letters between them, as far as there are any."""
    wanted = sorted(letter for letter in missing if unicodedata.category(letter) not in ("Cf", "Co", "Mn"))
    index = _index(0)
    if any(letter not in index for letter in wanted) and _add_new_fonts():
        index = _index(len(fontManager.ttflist))
    _warn([letter for letter in wanted if letter not in index])
    return tuple(dict.fromkeys(index[letter] for letter in wanted if letter in index))


def _add_new_fonts() -> bool:
    """Fonts installed since matplotlib made its list, which it keeps; True if there are any."""
    known = {Path(entry.fname) for entry in fontManager.ttflist}
    before = len(known)
    for path in _system_fonts():
        if path not in known:
            try:
                fontManager.addfont(path)
            except (OSError, RuntimeError):  # as of matplotlib: a font that it cannot use
                continue
    return len(fontManager.ttflist) > before


@cache
def _system_fonts() -> tuple[Path, ...]:
    return tuple(Path(path) for path in findSystemFonts())


@cache
def _index(fonts: int) -> dict[str, str]:
    """Letter -> name of the installed font to take it from. Made once, and again when there are more fonts."""
    index: dict[str, str] = {}
    for entry in sorted(filter(_is_of_text, fontManager.ttflist), key=_preference, reverse=True):
        index |= dict.fromkeys(_letters(entry.fname), entry.name)
    return index


def _is_of_text(entry: FontEntry) -> bool:
    return entry.style == "normal" and entry.weight in _REGULAR and not entry.name.startswith(_NOT_TEXT)


def _preference(entry: FontEntry) -> tuple[int, str]:
    """Sans-serif first, as the house's own font is; a font of bitmaps last."""
    name = entry.name
    if name.startswith("Noto Sans"):
        return 0, name
    if "Unifont" in name:
        return 3, name
    return (1 if "Sans" in name or "Gothic" in name else 2), name


@lru_cache(maxsize=64)
def _letters_of(families: tuple[str, ...]) -> frozenset[str]:
    return frozenset().union(*(_letters(findfont(FontProperties(family=[name]))) for name in families))


def _letters(path: str) -> frozenset[str]:
    """What a font file has a glyph for; nothing where it cannot be read."""
    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


def _warn(letters: Collection[str]) -> None:
    """One line for each script that no installed font has, the first time it is met."""
    for script, some in _by_script(letters).items():
        if script not in _reported:
            _reported.add(script)
            install = _INSTALL.get(script, f"Noto Sans {script.title()}")
            _LOG.warning(
                "no installed font has %s (%s): boxes stand for such letters; install one that has, for example %s",
                "".join(some)[:20], script, install,
            )  # fmt: skip


def _by_script(letters: Collection[str]) -> dict[str, list[str]]:
    scripts: dict[str, list[str]] = {}
    for letter in letters:
        scripts.setdefault(unicodedata.name(letter, "UNKNOWN").split(" ")[0], []).append(letter)
    return scripts
