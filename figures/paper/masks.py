"""Figure 2: the three neighbourhoods, and N_i of one frame in each."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from figures.panels.common import letter
from figures.style import COLUMN_WIDTH, use_style
from figures.styled_figure import StyledFigure
from figures.texts import brief, wrap

__all__ = ["CHOSEN", "INSIDE", "OUTSIDE", "describe", "draw"]

OUTSIDE, INSIDE, CHOSEN = "#f0f0f0", "#a3b3d0", "#d55e00"  # told apart in grey, too
PANEL_EXTRA, GAP = 0.95, 0.25  # inches: of a panel's height and width that are text and space


def draw(masks: xr.Dataset, width: float = COLUMN_WIDTH) -> Figure:
    """Draw the patterns side by side.

    Visual signs. Query = row, key = column, in frames. Grey-blue: the query may attend to the key; pale: it may not.
    The framed row is one frame i, its N_i in orange and counted beneath.

    Args:
        masks: `mask` (pattern, query, key), True = may attend; the pattern's name up to a comma is its title, the rest
            stands below it. Attribute `frame`: i.
        width: in inches.

    Returns:
        A figure of that width.
    """
    table = masks["mask"].transpose("pattern", "query", "key")
    count = table.sizes["pattern"]
    with use_style():
        figure = StyledFigure(figsize=(width, width / count + PANEL_EXTRA), layout="constrained")
        for place, axes in enumerate(figure.subplots(1, count, sharey=True, squeeze=False)[0]):
            _draw_pattern(axes, table.isel(pattern=place).values, int(masks.attrs["frame"]))
            letter(axes, place, _title(brief(table["pattern"].values[place]), width / count))
            axes.set_ylabel("query $i$ (frame)" if place == 0 else "", parse_math=True)
    return figure


def _title(pattern: str, width: float) -> str:
    """Name and size, in lines that fit above the panel; the first also holds the letter."""
    name, _, size = pattern.partition(", ")
    lines = wrap(f"(a) {name}", 72 * (width - GAP))
    return "\n".join([*lines, size] if size else lines).removeprefix("(a) ")


def _draw_pattern(axes: Axes, mask: np.ndarray, frame: int) -> None:
    values = mask.astype(np.int8)
    values[frame] *= 2
    axes.imshow(
        values, ListedColormap([OUTSIDE, INSIDE, CHOSEN]), vmin=0, vmax=2, interpolation="nearest", origin="upper"
    )
    axes.add_patch(Rectangle((-0.5, frame - 0.5), mask.shape[1], 1, fill=False, edgecolor=CHOSEN, linewidth=0.5))
    axes.plot(-0.5, frame, ">", color=CHOSEN, markersize=3.5, clip_on=False, gid="frame i")
    keys = np.flatnonzero(mask[frame])
    axes.set_xlabel(f"key $j$ (frame)\n$|N_{{{frame}}}|$ = {len(keys)}:\n{describe(keys)}", parse_math=True)
    axes.spines[:].set_visible(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(3, integer=True))


def describe(keys: np.ndarray) -> str:
    """Frames in words: `20–39`, or with even steps `1, 5, …, 53`."""
    if len(keys) < 3:
        return ", ".join(map(str, keys))
    steps = set(np.diff(keys).tolist())
    if steps == {1}:
        return f"{keys[0]}–{keys[-1]}"
    return f"{keys[0]}, {keys[1]}, …, {keys[-1]}" if len(steps) == 1 else f"{keys[0]}, …, {keys[-1]}"
