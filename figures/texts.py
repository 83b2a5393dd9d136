"""Texts that must fit: measured by the font alone, so that neither a window nor a drawn figure is needed."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.cbook import is_math_text
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

ELLIPSIS = "…"


def text_points(text: str, size: float | str | None = None) -> float:
    """Width of one line in points, in the font of the style that is on.

    Args:
        text: may hold mathematics between dollars.
        size: in points or a word of matplotlib's; None: that of panel titles.
    """
    font = FontProperties(size=mpl.rcParams["axes.titlesize"] if size is None else size)
    mathematics = mpl.rcParams["text.parse_math"] and is_math_text(text)
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
