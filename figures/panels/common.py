"""What panels of several figures share: letters, bands, the mark of even, legends of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D

from figures.style import REFERENCE, model_style, on_ground
from figures.texts import brief, fit_name, plain, text_points

__all__ = [
    "TITLE_POINTS",
    "TITLE_SHARE",
    "WIDE",
    "draw_model_curve",
    "fitted_legend",
    "letter",
    "model_legend",
    "videos",
]

BAND = 0.16  # opacity of an interval
TITLE_POINTS, TITLE_SHARE = 7.5, 0.93  # of a figure's title: its size, and how much of the width it may take
WIDE = 5.0  # inches: from here on panels stand side by side


def letter(axes: Axes, place: int, title: str = "", pad: float | None = None, formula: bool = False) -> None:
    """`(a)` and the title, flush left above a panel, `pad` points away; `place` counts from 0.

    A title with a `formula` holds one between dollars; what comes from files then went through `in_formula`.
    """
    axes.set_title(f"({chr(ord('a') + place)}) {title}".rstrip(), loc="left", pad=pad, parse_math=formula)


def videos(count: int, table: xr.Dataset) -> str:
    """`1 video`, `24 demo videos`: as a table's attribute `of` says, so that the demo is called the demo."""
    kind = f"{brief(table.attrs['of'])} " if table.attrs.get("of") else ""
    return f"{count} {kind}video{'' if count == 1 else 's'}"


def draw_model_curve(
    axes: Axes, name: str, x: np.ndarray, y: np.ndarray, low: np.ndarray | None = None, high: np.ndarray | None = None
) -> None:
    """One model's curve in its style, with its interval as a band where there is one; its `gid` is the model's name."""
    style = model_style(name)
    axes.plot(x, y, color=style.colour, linestyle=style.line, label=style.label, gid=plain(name))
    if low is not None and high is not None and not np.isnan(low).all():
        axes.fill_between(x, low, high, color=style.colour, alpha=BAND, linewidth=0, gid=f"{plain(name)} interval")


def model_legend(
    figure: Figure, names: Sequence[str], columns: int, lines: bool = True, markers: bool = False, reference: str = ""
) -> None:
    """One legend of models beneath all panels; `reference` names the grey line, where there is one."""
    handles = [_handle(name, lines, markers) for name in names]
    if reference:
        handles.append(Line2D([], [], color=on_ground(REFERENCE), linewidth=0.8, label=reference))
    fitted_legend(
        figure, handles, columns, figure.get_figwidth(), loc="outside lower center", columnspacing=1.2,
        handlelength=2.4, borderaxespad=0.2,
    )  # fmt: skip


def fitted_legend(
    place: Axes | Figure,
    handles: Sequence[Artist],
    columns: int,
    inches: float,
    columnspacing: float = 1.2,
    handlelength: float = 2.0,
    **where: Any,
) -> None:
    """A legend no wider than `inches`: where its labels are, the widest are cut in the middle.

    Args:
        place: a panel or the figure.
        handles: artists with labels; they fill column after column.
        columns: how many; where they are not all full, the first ones are.
        inches: room.
        columnspacing, handlelength: in font sizes, as matplotlib's.
        where: `loc` and so on, as matplotlib's.
    """
    size = FontProperties(size=mpl.rcParams["legend.fontsize"]).get_size_in_points()
    labels = [str(handle.get_label()) for handle in handles]
    beside = (handlelength + mpl.rcParams["legend.handletextpad"]) * size
    room = 72 * inches - 2 * mpl.rcParams["legend.borderpad"] * size - (columns - 1) * columnspacing * size
    widths = np.array_split([text_points(label, size) for label in labels], columns)
    if sum(max(column, default=0.0) + beside for column in widths) > room:
        labels = [fit_name(label, max(room / columns - beside, size), size) for label in labels]
    place.legend(
        handles, labels, ncols=columns, columnspacing=columnspacing, handlelength=handlelength, **where
    )  # fmt: skip


def _handle(name: str, lines: bool, markers: bool) -> Line2D:
    style = model_style(name)
    return Line2D(
        [],
        [],
        color=style.colour,
        linestyle=style.line if lines else "none",
        marker=style.marker if markers else "none",
        markersize=4.5,
        label=style.label,
    )
