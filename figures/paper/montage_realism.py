"""Frame distance against lag, montages beside a real video: do montages change as real video does?"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import default_settings
from figures.styled_figure import StyledFigure

__all__ = ["REAL_COLOUR", "draw"]

TOLERANCE = 0.15
REAL_COLOUR, MONTAGE_COLOUR = "#222222", "#d55e00"


def draw(table: pd.DataFrame, tolerance: float = TOLERANCE) -> Figure:
    """Draw one panel a modality; a curve inside the band is close enough.

    Args:
        table: of `gmsa_models.data.montage.realism.distance_table`: columns `modality`, `lag` (seconds), `real` and
            `montage` (mean absolute difference of two frames, uint8 units).
        tolerance: half width of the band, as a part of the real distance.

    Returns:
        A figure: black = the real video, grey band = `tolerance` around it, orange = montages.

    Raises:
        ValueError: a column is missing; names it.
    """
    missing = {"modality", "lag", "real", "montage"} - set(table.columns)
    if missing:
        raise ValueError(f"the table lacks columns {sorted(missing)}; it has {sorted(table.columns)}")
    modalities = list(dict.fromkeys(table["modality"]))
    with default_settings():
        figure = StyledFigure(figsize=(3.6 * len(modalities) + 0.4, 3.2), layout="constrained")
        panels = figure.subplots(1, len(modalities), sharey=True, squeeze=False)[0]
        for axes, modality in zip(panels, modalities, strict=True):
            _draw_panel(axes, table[table["modality"] == modality], tolerance)
            axes.set_title(f"{modality} features", parse_math=False)
        panels[0].set_ylabel("mean absolute difference\nof two frames (uint8 steps)")
        panels[0].legend(loc="lower right", frameon=False, fontsize="small")
    return figure


def _draw_panel(axes: Axes, table: pd.DataFrame, tolerance: float) -> None:
    lag, real = table["lag"].to_numpy(), table["real"].to_numpy()
    band = (real * (1 - tolerance), real * (1 + tolerance))
    axes.fill_between(lag, *band, color="0.88", linewidth=0, label=f"real, within {tolerance:.0%}")
    axes.plot(lag, real, color=REAL_COLOUR, linewidth=1.5, label="one real video")
    axes.plot(lag, table["montage"].to_numpy(), color=MONTAGE_COLOUR, linewidth=1.5, label="montages, mean")
    axes.set(xlabel="lag between the frames (seconds)", xlim=(0, lag.max()), ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
