"""Texts as figures and tables can hold them: on one line, literal in each format, and no wider than there is room.

Texts are measured by the font alone, so that neither a window nor a drawn figure is needed.
"""

from __future__ import annotations

import unicodedata

import matplotlib as mpl
from matplotlib.cbook import is_math_text
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from figures.glyphs import font_for, without_glyph_warnings

__all__ = [
    "brief",
    "fit",
    "fit_name",
    "in_formula",
    "latex_text",
    "markdown_text",
    "plain",
    "short_number",
    "shorten",
    "table_text",
    "text_points",
    "wrap",
]

ELLIPSIS = "…"
LONG_NUMBER = 1e6
BRIEF = 30  # letters
REPLACED = "\N{REPLACEMENT CHARACTER}"
# Marks that turn the direction of what follows, beyond the end of the text that they stand in; and that of the order
# of bytes, which no PDF of matplotlib can hold.
_LEFT_OUT = "\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_MARKDOWN = r"\`*_|<>&$[]~#"
_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "×": r"$\times$", "–": "--", "−": "$-$",
} | {letter: f"\\{letter}" for letter in "&%$#_{}"}  # fmt: skip


def plain(text: object) -> str:
    """A text from a file as one line that every picture format can hold.

    Line ends, tabs and control characters become spaces; halves of surrogate pairs and non-characters, which no SVG or
    PDF can hold, a replacement character; marks of direction, and of the order of bytes, go.
    """
    return " ".join("".join(map(_plain_letter, str(text))).split())


def _plain_letter(letter: str) -> str:
    code = ord(letter)
    if letter in _LEFT_OUT:
        return ""
    if code & 0xFFFE == 0xFFFE or 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF:
        return REPLACED
    return " " if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter


def brief(text: object) -> str:
    """A word or two from a file, in a label that has no room for more."""
    return shorten(plain(text), BRIEF)


def in_formula(text: object) -> str:
    """`brief`, beside a formula, in a label that is drawn with `parse_math=True`: its dollars are dollars."""
    return brief(text).replace("$", r"\$")


def markdown_text(text: object) -> str:
    """A text from a file in a cell of a Markdown table: every letter stands for itself."""
    return "".join(f"\\{letter}" if letter in _MARKDOWN else letter for letter in plain(text))


def table_text(text: object) -> str:
    """A sentence of ours with names from files in it, in a Markdown table: it keeps its cell and starts no HTML."""
    return plain(text).replace("\\", r"\\").replace("|", r"\|").replace("<", "&lt;").replace("$", r"\$")


def latex_text(text: object) -> str:
    """A text as LaTeX sets it: every letter stands for itself."""
    return "".join(_LATEX.get(letter, letter) for letter in plain(text))


def short_number(value: float, digits: int = 2) -> str:
    """A number with so many decimals; one that would be long with an exponent, so that no label is without end."""
    return f"{value:.{digits}f}" if abs(value) < LONG_NUMBER or value != value else f"{value:.{digits}g}"


def text_points(text: str, size: float | str | None = None) -> float:
    """Width of one line in points, in the font of the style that is on.

    Args:
        text: may hold mathematics between dollars.
        size: in points or a word of matplotlib's; None: that of panel titles.
    """
    font = font_for(text, FontProperties(size=mpl.rcParams["axes.titlesize"] if size is None else size))
    mathematics = mpl.rcParams["text.parse_math"] and is_math_text(text)
    with without_glyph_warnings():
        return float(text_to_path.get_text_width_height_descent(text, font, mathematics)[0])


def shorten(text: str, longest: int) -> str:
    """At most `longest` characters, the last one an ellipsis where something was cut."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + ELLIPSIS


def fit(text: str, points: float, size: float | str | None = None) -> str:
    """A text no wider than `points`: where something is cut, an ellipsis stands in its place."""
    if text_points(text, size) <= points:
        return text
    low, high = 0, len(text)  # characters that fit, and that do not
    while high - low > 1:
        middle = (low + high) // 2
        fits = text_points(text[:middle].rstrip() + ELLIPSIS, size) <= points
        low, high = (middle, high) if fits else (low, middle)
    return text[:low].rstrip() + ELLIPSIS


def fit_name(name: str, points: float, size: float | str | None = None) -> str:
    """A name no wider than `points`, cut in its middle: names of one series differ at the end."""
    if text_points(name, size) <= points:
        return name
    low, high = 0, len(name)  # letters kept that fit, and that do not
    while high - low > 1:
        kept = (low + high) // 2
        fits = text_points(_cut_middle(name, kept), size) <= points
        low, high = (kept, high) if fits else (low, kept)
    return _cut_middle(name, low)


def _cut_middle(name: str, kept: int) -> str:
    tail = kept // 2
    return name[: kept - tail].rstrip() + ELLIPSIS + (name[-tail:].lstrip() if tail else "")


def wrap(text: str, points: float, size: float | str | None = None) -> list[str]:
    """Lines no wider than `points`, broken at spaces; a word that is wider stands alone."""
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_points(longer, size) <= points:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
