"""Panels of frame against frame: similarity of features, attention weights of one head."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from analysis.record.branches import branch_mask, local_branches
from figures.style import DIFFERENCE, EXCLUDED, SIMILARITY, WEIGHTS, model_style
from figures.texts import brief, fit_name, text_points
from gmsa_models.branches import COMBINED, GLOBAL

__all__ = ["QUANTILE", "HeadMap", "choose_heads", "draw_attention", "draw_difference", "draw_similarity", "time_edges"]

# A map's colours end where 1 pair in 200 lies above: single spikes would leave all else pale.
QUANTILE = 0.995
TITLE_POINTS = 104.0  # of the width of a map in the overview


@dataclass(frozen=True)
class HeadMap:
    """A head to show.

    Attributes:
        branch: of the attention block.
        head: from 0.
    """

    branch: str
    head: int


def choose_heads(record: xr.Dataset, modality: str) -> list[HeadMap]:
    """Up to three heads of a record, chosen by a rule: the most unevenly received attention first.

    For each place in `_shown_branches` the head of that branch whose profile varies most over the frames, among those
    not shown yet.

    Args:
        record: with `attention`; without `head_profile` the mean of each map's columns stands for it.
        modality: one of the record's.

    Returns:
        As many as there are heads, at most three, in order.
    """
    if "head_profile" in record:
        spread = record["head_profile"].sel(modality=modality).std("frame")
    else:
        spread = record["attention"].sel(modality=modality).mean("query").std("key")
    chosen: list[HeadMap] = []
    for branch in _shown_branches(record, spread):
        left = spread.sel(branch=branch).dropna("head").drop_sel(head=[each.head for each in chosen], errors="ignore")
        if left.size:
            chosen.append(HeadMap(branch, int(left["head"][int(left.argmax("head"))])))
    return chosen


def _shown_branches(record: xr.Dataset, spread: xr.DataArray) -> tuple[str, str, str]:
    """Which branch's maps stand for a block, three heads in all: those that its output is made of."""
    present = [str(name) for name in record["branch"].values if spread.sel(branch=name).notnull().any()]
    if COMBINED in present and bool(record["head_profile"].sel(branch=GLOBAL).notnull().any("frame").all()):
        return (COMBINED,) * 3  # every head blends its global map with its local one
    near = [name for name in local_branches(record) if name in present]
    if GLOBAL not in present:
        return (near[0],) * 3
    return (GLOBAL, near[0] if len(near) > 1 else GLOBAL, near[-1] if near else GLOBAL)


def draw_similarity(axes: Axes, record: xr.Dataset, modality: str) -> None:
    """Cosine similarity of every pair of frames, light = alike; the scale begins at 0 or at the least value."""
    values = _pairs(record["similarity"].sel(modality=modality))
    lowest = float(min(0.0, np.nanmin(values, initial=0.0)))
    image = _draw_pairs(axes, record, values, SIMILARITY, lowest, 1.0)
    axes.set_title(_map_title(modality, " similarity"))
    _draw_scale(axes, image, "cosine of two frames", "neither")


def draw_attention(axes: Axes, record: xr.Dataset, modality: str, shown: HeadMap) -> None:
    """Attention weights of one head: dark = much; grey: outside a local branch's known neighbourhood."""
    values = _pairs(record["attention"].sel(modality=modality, branch=shown.branch, head=shown.head))
    if (mask := branch_mask(record, shown.branch)) is not None:
        values = np.where(mask, values, np.nan)
    highest = float(np.nanquantile(values, QUANTILE))
    image = _draw_pairs(axes, record, values, WEIGHTS, 0.0, highest or 1.0)
    axes.set_title(_map_title(modality, f", head {shown.head}, {shown.branch}"))
    _draw_scale(axes, image, "attention weight", "max" if np.nanmax(values) > highest else "neither")


def _first_branch(record: xr.Dataset, modality: str) -> str:
    present = record["attention"].sel(modality=modality).notnull().any(("head", "query", "key"))
    return str(record["branch"].values[int(present.values.argmax())])


def draw_difference(axes: Axes, record: xr.Dataset, against: xr.Dataset, modality: str) -> None:
    """Global attention of one model less that of another, each averaged over its heads; white = the same.

    Nearly every block has the global branch; of one without it its first stands.
    """
    first, second = (
        _pairs(one["attention"].sel(modality=modality, branch=_first_branch(one, modality)).mean("head"))
        for one in (record, against)
    )
    values = first - second
    highest = float(np.quantile(np.abs(values), QUANTILE)) or 1.0
    image = _draw_pairs(axes, record, values, DIFFERENCE, -highest, highest)
    names = (model_style(str(one["model"].item())).label for one in (record, against))
    axes.set_title("{} − {}\n{}, all heads, global".format(*names, modality))
    _draw_scale(axes, image, "difference of weights", "both" if np.abs(values).max() > highest else "neither")


def _map_title(modality: str, rest: str) -> str:
    """A title no wider than its map, so that those of two maps do not meet."""
    return fit_name(brief(modality), TITLE_POINTS - text_points(rest)) + rest


def _pairs(array: xr.DataArray) -> np.ndarray:
    """Query = row, key = column, whatever the order of the record's dimensions."""
    return array.transpose("query", "key").values


def time_edges(record: xr.Dataset) -> np.ndarray:
    """Edges of the frames in seconds: (frames + 1,), the last frame's end included."""
    starts = record["frame"].values
    return np.append(starts, starts[-1] + record.attrs["frame_seconds"])


def _draw_pairs(
    axes: Axes, record: xr.Dataset, values: np.ndarray, colours: str, lowest: float, highest: float
) -> AxesImage:
    """Query = row, from the top; key = column."""
    edges = time_edges(record)
    colour_map = mpl.colormaps[colours].with_extremes(bad=EXCLUDED)
    image = axes.imshow(
        values, colour_map, vmin=lowest, vmax=highest, extent=(edges[0], edges[-1], edges[-1], edges[0]),
        aspect="equal", origin="upper",
    )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 3, 5, 6, 10]))
    axes.set_xlabel("key (s)", labelpad=1)
    axes.set_ylabel("query (s)", labelpad=1)
    axes.spines[:].set_visible(True)
    return image


def _draw_scale(axes: Axes, image: AxesImage, label: str, extend: str) -> None:
    """A colour bar beneath, with a point where values go beyond it."""
    bar = axes.figure.colorbar(
        image, ax=axes, location="bottom", fraction=0.05, aspect=24, pad=0.03, extend=extend, extendfrac=0.04
    )
    bar.set_label(label, labelpad=1)
    bar.locator = MaxNLocator(3)
    bar.update_ticks()
    bar.outline.set_linewidth(0.4)
