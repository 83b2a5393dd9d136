"""The variants that the paper leaves for later: GAP against what they grew from, and every seed of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from figures.panels.common import WIDE, letter, model_legend
from figures.panels.interval_rows import draw_interval_rows
from figures.paper.local_attention import draw_points, two_panels
from figures.style import PAGE_WIDTH, use_style
from figures.texts import in_formula, plain

__all__ = ["draw"]

ROW = 0.7  # inches
MARKER = 4.5  # points: large enough to tell shapes of one colour apart
# Rows of a task: what stands there, and the columns of the difference and its interval.
AGAINST = {
    "parent": ("difference", "low", "high"),
    "Baseline": ("baseline_difference", "baseline_low", "baseline_high"),
}


def draw(differences: pd.DataFrame, points: xr.Dataset, width: float = PAGE_WIDTH) -> Figure:
    """Draw the picture.

    Visual signs. (a) Two rows a task, in each a marker a variant: its GAP less that of the variant that it grew from,
    and less Baseline's, means over the seeds, with 95 % intervals over seeds and videos. Dotted: no difference. (b) A
    small marker a model that was trained with one seed, a thin line from it to the mean of its variant, the large
    marker.

    Args:
        differences: of `analysis.study.seeds.later.differences_to_parents`.
        points: as for Figure 11, of the same models.
        width: in inches; from `WIDE` on the panels stand side by side.

    Returns:
        A figure of that width.
    """
    models = list(dict.fromkeys(differences["variant"]))
    tasks = list(dict.fromkeys(differences["task"]))
    rows = [f"{task}, less {other}" for task in tasks for other in AGAINST]
    each = differences.set_index(["variant", "task"])
    value, low, high = (
        np.array([[each[columns[end]].get((name, task), np.nan) for task in tasks for columns in AGAINST.values()]
                  for name in models], np.float64)
        for end in range(3)
    )  # fmt: skip
    with use_style():
        figure, left, right = two_panels(width, ROW * len(rows))
        draw_interval_rows(left, models, rows, value, low, high, 0.0, marker_size=MARKER)
        letter(left, 0, "GAP less that of another variant")
        left.set_xlabel(f"points of GAP, {_counts(differences)}")
        draw_points(right, points)
        letter(right, 1, f"every seed of task “{plain(points.attrs['task'])}”")
        across = f"mean local sensitivity $S$, $N_i$ of {in_formula(points.attrs['neighbourhood'])}"
        right.set_xlabel(across, parse_math=True)
        right.set_ylabel("GAP (%)")
        drawn = dict.fromkeys([*models, *(str(name) for name in points["variant"].to_numpy())])
        model_legend(figure, list(drawn), 4 if width >= WIDE else 2, lines=False, markers=True)
    return figure


def _counts(differences: pd.DataFrame) -> str:
    seeds, videos = (" or ".join(f"{n:,}" for n in sorted(set(differences[name]))) for name in ("seeds", "videos"))
    return f"{seeds} seeds, {videos} videos"
