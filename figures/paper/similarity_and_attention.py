"""Figure 1: how alike the frames of a video are, beside what three heads of Baseline attend to."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from figures.panels.common import TITLE_POINTS, TITLE_SHARE, WIDE, letter
from figures.panels.maps import HeadMap, choose_heads, draw_attention, draw_similarity
from figures.style import PAGE_WIDTH, model_style, on_ground, use_style
from figures.styled_figure import StyledFigure
from figures.texts import brief, fit, plain

__all__ = ["draw"]

PANEL_EXTRA = 1.02  # inches of a panel's height that are title, axis and colour bar
TITLE, SPACE = 0.25, 0.07
TITLE_PAD = 8.0  # points, so that the events' bars fit beneath
HEADS = 3
EVENT_MARK = "#d9b34a"  # sand, darker: the bars are thin


def draw(record: xr.Dataset, width: float = PAGE_WIDTH) -> Figure:
    """Draw the figure.

    Visual signs. The query is the row, the key the column, both in seconds. Similarity: light = alike. Attention: dark
    = much weight; a colour bar that ends in a point is exceeded by 1 pair in 200. Sand-coloured bars above the maps:
    the events that are known. The heads shown are those whose attention is spread most unevenly over the keys; their
    titles say how much of the map vertical lines explain.

    Args:
        record: of a Baseline, with `similarity`, `attention` and `head_profile`; `verticality` (modality, head) and
            segments if there are any.
        width: in inches; from `WIDE` on a modality is a row, below it a column.

    Returns:
        A figure of that width.
    """
    modalities = [str(name) for name in record["modality"].values]
    wide = width >= WIDE
    rows, columns = (len(modalities), HEADS + 1) if wide else (HEADS + 1, len(modalities))
    with use_style():
        height = TITLE + rows * (width / columns - 0.35 + PANEL_EXTRA)
        layout = ConstrainedLayoutEngine(h_pad=SPACE, compress=True)
        figure = StyledFigure(figsize=(width, height), layout=layout)
        panels = figure.subplots(rows, columns, squeeze=False)
        for place, modality in enumerate(modalities):
            draw_row(panels[place] if wide else panels[:, place], record, modality, place * (HEADS + 1))
        figure.suptitle(_title(record, width), x=0.01, ha="left", fontsize=TITLE_POINTS)
    return figure


def draw_row(panels: Sequence[Axes] | np.ndarray, record: xr.Dataset, modality: str, first: int) -> None:
    """One modality: similarity and its heads; panels without a head are removed. Letters count from `first`."""
    draw_similarity(panels[0], record, modality)
    letter(panels[0], first, f"{brief(modality)},\nsimilarity of frames", TITLE_PAD)
    heads = sorted(choose_heads(record, modality), key=lambda shown: shown.head)
    for place, (axes, shown) in enumerate(zip(panels[1:], heads, strict=False), start=1):
        draw_attention(axes, record, modality, shown)
        axes.set_title("")
        letter(axes, first + place, _head_title(record, modality, shown), TITLE_PAD)
    for axes in panels[: len(heads) + 1]:
        axes.title.set_text("")
        mark_events(axes, record)
    for axes in panels[len(heads) + 1 :]:
        axes.remove()


def mark_events(axes: Axes, record: xr.Dataset) -> None:
    """Bars above a map over the key frames of known events."""
    if "segment" not in record.dims:
        return
    for row in range(record.sizes["segment"]):
        one = record.isel(segment=row)
        if str(one["segment_kind"].item()) == "background":
            continue
        start, end = float(one["segment_start"]), float(one["segment_end"])
        place = axes.get_xaxis_transform()
        bar = Rectangle(
            (start, 1.015), end - start, 0.03, transform=place, color=on_ground(EVENT_MARK), clip_on=False, gid="event"
        )
        axes.add_patch(bar)


def _head_title(record: xr.Dataset, modality: str, shown: HeadMap) -> str:
    title = f"{brief(modality)}, head {shown.head}"  # as in records
    if "verticality" not in record:
        return title
    share = float(record["verticality"].sel(modality=modality, head=shown.head))
    return f"{title}\n{100 * share:.0f} % vertical lines"


def _title(record: xr.Dataset, width: float) -> str:
    model, labels = model_style(str(record["model"].item())).label, json.loads(record.attrs["label_names"])
    text = f"{record.attrs['clip']} as {model} sees it; labels: {'; '.join(labels) or 'none'}"
    return fit(plain(text), 72 * width * TITLE_SHARE, TITLE_POINTS)
