"""A figure that looks the same wherever it is shown or saved, and that a notebook shows."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from figures.glyphs import find_glyphs, without_glyph_warnings

__all__ = ["StyledFigure"]

SCREEN_DENSITY = 2  # pixels of a notebook's picture a pixel of the page: sharp on dense screens
# What matplotlib does not count as style: it stays the user's.
_NOT_STYLE = (
    "backend", "interactive", "toolbar", "timezone", "webagg.", "tk.", "savefig.directory", "figure.max_open_warning",
    "figure.raise_window", "docstring.", "date.epoch", "keymap.", "animation.",
)  # fmt: skip


class StyledFigure(Figure):
    """A figure that keeps the style which it was made in.

    matplotlib reads many settings only when a figure is drawn (ticks, fonts, simplified paths) or saved (density,
    ground, embedded fonts). These are here the settings of the moment when the figure was made, whatever is set when
    it is shown. The figure belongs to no pyplot; a notebook shows it as the value of a cell.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Args: as for `matplotlib.figure.Figure`."""
        # Not through `items()`: to read the backend would choose one.
        self._style = {name: mpl.rcParams[name] for name in mpl.rcParams if not name.startswith(_NOT_STYLE)}
        super().__init__(*arguments, **options)

    def draw(self, renderer: Any) -> None:
        """Draw on a renderer, in the figure's own style."""
        with self._as_made():
            find_glyphs(self)
            super().draw(renderer)

    def get_tightbbox(self, *arguments: Any, **options: Any) -> Bbox:
        """What is covered, in inches, in the figure's own style. Args: as for matplotlib's."""
        with self._as_made():
            return super().get_tightbbox(*arguments, **options)

    def savefig(self, *arguments: Any, **options: Any) -> None:
        """Write the figure, in its own style. Args: as for matplotlib's."""
        with self._as_made():
            super().savefig(*arguments, **options)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture that a notebook shows, with its size on the page."""
        file, size = io.BytesIO(), self.get_size_inches() * self.dpi
        self.savefig(file, format="png", dpi=SCREEN_DENSITY * self.dpi)
        return file.getvalue(), {"width": round(size[0]), "height": round(size[1])}

    @contextmanager
    def _as_made(self) -> Iterator[None]:
        with mpl.rc_context(self._style), without_glyph_warnings():
            yield
