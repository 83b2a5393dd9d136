"""Figure 3: what each frame of one video receives, in a video where Baseline is wrong and a GateOp right."""

from __future__ import annotations

from dataclasses import replace

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator

from figures.panels.common import TITLE_POINTS, TITLE_SHARE, WIDE, fitted_legend, letter, videos
from figures.panels.maps import time_edges
from figures.panels.predictions import draw_predictions, labels_text, shown_rows
from figures.panels.time import PlacedLabel, draw_segments, place_labels
from figures.style import (
    EVENT,
    EVENT_ALPHA,
    PAGE_WIDTH,
    REFERENCE,
    LineStyle,
    branch_style,
    model_style,
    on_ground,
    use_style,
)
from figures.styled_figure import StyledFigure
from figures.texts import brief, fit, fit_name, plain, wrap

__all__ = ["draw", "note_lines"]

# Inches.
PROFILE, STRIP, LANE, LEGEND, NOTE, TITLE = 1.15, 0.2, 0.13, 0.7, 0.13, 0.2
ABOVE = 0.2  # from a panel to the legend above its title
PREDICTION, PREDICTION_EXTRA = 0.145, 0.45  # a row, and title and axis of a panel of them
TIME_SHARE = 0.66  # of the width, where the predictions stand beside the profiles
TOP = 5
NOTE_POINTS, LETTER_POINTS = 6.5, 15.0
TIED = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
LEGEND_COLUMNS = {True: 3, False: 2}  # wide or not


def draw(baseline: xr.Dataset, other: xr.Dataset, contrasts: xr.Dataset, width: float = PAGE_WIDTH) -> Figure:
    """Draw the figure.

    Visual signs. Curves: attention received by a frame, averaged over heads; 1 (grey line) = what uniform attention
    over the branch's own mask gives. Sand: events that are known, named in the strip beneath. Bars: the most probable
    classes; green with a check mark = a label of the video. The note beneath says by which rule the video was found
    and how many such videos there are against the opposite case.

    Args:
        baseline, other: records of one clip, with `profile`, `score` and `label`.
        contrasts: `wins`, `losses`, `videos`, `p_value` (model); attributes `rule`, `chosen`, `found`.
        width: in inches; from `WIDE` on the predictions stand beside the profiles, below it beneath them.

    Returns:
        A figure of that width.
    """
    modalities = [str(name) for name in other["modality"].values]
    wide = width >= WIDE
    with use_style():
        notes = note_lines(contrasts, width)
        labels = place_labels(other, width * (TIME_SHARE if wide else 1.0) - 0.75)
        lanes = 1 + max((label.lane for label in labels), default=-1)
        strip = STRIP + LANE * lanes if "segment" in other.dims else 0.0
        heights = [PROFILE] * len(modalities) + ([strip] if strip else [])
        above, bars = sum(heights) + LEGEND + (0 if wide else LANE), sum(_prediction_heights(baseline, other))
        content = max(above, bars) if wide else above + bars
        figure = StyledFigure(figsize=(width, content + TITLE + NOTE * len(notes)), layout="constrained")
        shares = {"width_ratios": [TIME_SHARE, 1 - TIME_SHARE]} if wide else {"height_ratios": [above, bars]}
        grid = figure.add_gridspec(1 if wide else 2, 2 if wide else 1, **shares)
        room = width * (TIME_SHARE if wide else 1.0) - 0.5
        _draw_profiles(figure, grid[0], (baseline, other), heights, labels, wide, room)
        room = width * (1 - TIME_SHARE if wide else 1.0) - 0.3
        _draw_predictions(figure, grid[1], (baseline, other), len(modalities) + bool(strip), room)
        figure.suptitle(_title(other, width), x=0.01, ha="left", fontsize=TITLE_POINTS)
        figure.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=NOTE_POINTS)
    return figure


def note_lines(contrasts: xr.Dataset, width: float) -> list[str]:
    """Counts of videos that only one of two models gets right at first guess, and the rule, in lines that fit."""
    chosen = str(contrasts.attrs["chosen"])
    sentences = []
    if not contrasts.attrs["found"]:
        sentences.append("In no video is Baseline's first guess wrong and a GateOp's right; this is the first video.")
    for name in contrasts["model"].values:
        one = contrasts.sel(model=name)
        mark = " (shown)" if str(name) == chosen else ""
        sample, p_value = videos(int(one["videos"]), contrasts), float(one["p_value"])
        sentences.append(
            f"{model_style(str(name)).label}{mark} alone right in {int(one['wins'])}, Baseline alone in "
            f"{int(one['losses'])} of {sample} (sign test p = {p_value:.2g})."
        )
    if contrasts.attrs["found"]:
        sentences.append(f"Shown: {plain(contrasts.attrs['rule'])}.")
    # "p = 0.1" is not broken.
    lines = wrap(" ".join(sentences).replace(" = ", TIED), 72 * width * TITLE_SHARE, NOTE_POINTS)
    return [line.replace(TIED, " = ") for line in lines]


def curves(baseline: xr.Dataset, other: xr.Dataset) -> list[tuple[xr.Dataset, str, LineStyle]]:
    """The three curves of a panel: record, branch, style. Baseline's is its only one, the other's are its two."""
    one, two = model_style(str(baseline["model"].item())), model_style(str(other["model"].item()))
    style = LineStyle(f"{one.label}, global", one.colour, (0, (3, 1)))
    both = [
        (other, name, replace(branch_style(name), label=f"{two.label}, {name}"))
        for name in ("global", "local")
        if name in other["branch"]
    ]
    return [(baseline, "global", style), *both]


def _draw_profiles(
    figure: Figure,
    place: SubplotSpec,
    records: tuple[xr.Dataset, xr.Dataset],
    heights: list[float],
    labels: list[PlacedLabel],
    wide: bool,
    room: float,
) -> None:
    modalities = [str(name) for name in records[1]["modality"].values]
    grid = place.subgridspec(len(heights), 1, height_ratios=heights)
    panels: list[Axes] = []
    for row in range(len(heights)):
        panels.append(figure.add_subplot(grid[row], sharex=panels[0] if panels else None))
    for row, modality in enumerate(modalities):
        _draw_profile(panels[row], records, modality)
        letter(panels[row], row, brief(modality))
    fitted_legend(
        panels[0], panels[0].get_legend_handles_labels()[0], LEGEND_COLUMNS[wide], room, loc="lower left",
        bbox_to_anchor=(0, 1 + ABOVE / PROFILE), borderaxespad=0, columnspacing=1.2, handlelength=1.8,
    )  # fmt: skip
    if len(panels) > len(modalities):
        draw_segments(panels[-1], records[1], labels)
        panels[-1].set_ylabel("")
        letter(panels[-1], len(modalities), "known segments")
    for axes in panels[:-1]:
        axes.tick_params(labelbottom=False)
    panels[-1].set_xlabel("time (s)", labelpad=1)


def _draw_profile(axes: Axes, records: tuple[xr.Dataset, xr.Dataset], modality: str) -> None:
    for row in range(records[1].sizes.get("segment", 0)):
        one = records[1].isel(segment=row)
        if str(one["segment_kind"].item()) != "background":
            axes.axvspan(
                float(one["segment_start"]),
                float(one["segment_end"]),
                facecolor=on_ground(EVENT),
                alpha=EVENT_ALPHA,
                linewidth=0,
            )
    axes.axhline(1.0, color=on_ground(REFERENCE), linewidth=0.6, zorder=1)
    for order, (record, branch, style) in enumerate(curves(*records)):
        values = record["profile"].sel(modality=modality, branch=branch).values
        axes.stairs(
            values, time_edges(record), baseline=None, color=style.colour, linestyle=style.line, label=style.label,
            linewidth=0.9, zorder=2 + order, gid=f"{plain(record['model'].item())} {branch}",
        )  # fmt: skip
    edges = time_edges(records[1])
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, None)
    axes.set_ylabel("attention received\n(1 = uniform)")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 3, 5, 6, 10]))


def _draw_predictions(
    figure: Figure, place: SubplotSpec, records: tuple[xr.Dataset, xr.Dataset], first: int, width: float
) -> None:
    grid = place.subgridspec(2, 1, height_ratios=_prediction_heights(*records))
    for row, record in enumerate(records):
        axes = figure.add_subplot(grid[row])
        draw_predictions(axes, record, TOP, "", width)
        name = model_style(str(record["model"].item())).label
        letter(axes, first + row, fit_name(f"predictions of {name}", 72 * width - LETTER_POINTS))
        axes.set_xlabel("probability" if row else "")


def _prediction_heights(*records: xr.Dataset) -> list[float]:
    """Inches of each panel of predictions, so that all their rows are of one height."""
    return [PREDICTION * (shown_rows(record, TOP) + 1) + PREDICTION_EXTRA for record in records]


def _title(record: xr.Dataset, width: float) -> str:
    text = f"{record.attrs['clip']}, labels: {labels_text(record)}"
    return fit(plain(text), 72 * width * TITLE_SHARE, TITLE_POINTS)
