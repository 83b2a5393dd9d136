"""What a drawn figure's texts cover, so that tests can tell texts that touch, or that are cut off; no pixel is read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox

SLACK = 0.2  # pixels: what rounding may do
GAP = 2.0  # pixels: what is nearer, side by side, reads as one text


def contrast(one: str, other: str) -> float:
    """Contrast of two colours `#rrggbb` from 1 to 21, as WCAG 2 defines it."""
    low, high = sorted(_luminance(colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def laid_over(colour: str, below: str, alpha: float) -> str:
    """The colour that is seen where a colour is drawn over another with an opacity from 0 to 1."""
    return to_hex([alpha * one + (1 - alpha) * two for one, two in zip(to_rgb(colour), to_rgb(below), strict=True)])


def _luminance(colour: str) -> float:
    parts = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour))
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def collisions(figure: Figure) -> list[str]:
    """Pairs of texts that overlap, texts that leave the figure, and texts that lie on a bar; one line each."""
    figure.draw_without_rendering()
    found = list(extents(figure))
    boxes = [(_quoted(text), box) for text, box in found]
    pairs = itertools.combinations(found, 2)
    near = [(one, two) for (one, a), (two, b) in pairs if _overlap(a, b, _least(one, two))]
    lines = [f"{_quoted(one)} overlaps {_quoted(two)}" for one, two in near]
    page = figure.bbox
    lines += [f"{one} leaves the figure" for one, box in boxes if not _inside(box, page)]
    bars = [bar.get_window_extent() for axes in figure.axes for bar in bars_of(axes)]
    return lines + [f"{one} lies on a bar" for one, box in boxes if any(_overlap(box, bar) for bar in bars)]


def extents(figure: Figure) -> Iterator[tuple[Text, Bbox]]:
    """Every text that is seen, with what it covers, in pixels. The figure has been drawn."""
    unseen = {id(text) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for text in _unseen_labels(axis)}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and id(text) not in unseen:
            yield text, text.get_window_extent()


def bars_of(axes) -> list[Rectangle]:
    """Bars of probabilities and marks of events: what no text may lie on."""
    probabilities = [bar for container in axes.containers for bar in container if isinstance(bar, Rectangle)]
    return probabilities + [patch for patch in axes.patches if patch.get_gid() == "event"]


def _unseen_labels(axis: Axis) -> Iterator[Text]:
    """Labels of ticks outside the panel's limits: matplotlib keeps them and does not draw them."""
    low, high = sorted(axis.get_view_interval())
    margin = 1e-6 * (high - low)
    for tick in axis.get_major_ticks():
        if not (axis.get_visible() and low - margin <= tick.get_loc() <= high + margin):
            yield from (tick.label1, tick.label2)


def _least(one: Text, two: Text) -> float:
    """Texts written upright against level ones may stand close: they do not read as one."""
    return SLACK if one.get_rotation() or two.get_rotation() else -GAP


def _overlap(one: Bbox, two: Bbox, least: float = SLACK) -> bool:
    across = min(one.x1, two.x1) - max(one.x0, two.x0)
    return across > least and min(one.y1, two.y1) - max(one.y0, two.y0) > SLACK


def _inside(box: Bbox, page: Bbox) -> bool:
    return (
        box.x0 > page.x0 - SLACK and box.y0 > page.y0 - SLACK and box.x1 < page.x1 + SLACK and box.y1 < page.y1 + SLACK
    )


def _quoted(text: Text) -> str:
    return repr(text.get_text().replace("\n", " / "))
