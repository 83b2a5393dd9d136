"""matplotlib settings that are all unlike the defaults, as a matplotlibrc or a caller may have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from cycler import cycler

# Settings whose other value does not follow from the kind of the default one.
CHOSEN: dict[str, Any] = {
    "axes.autolimit_mode": "round_numbers",
    "axes.formatter.limits": (-1, 1),
    "axes.grid.axis": "y",
    "axes.grid.which": "both",
    "axes.prop_cycle": cycler("color", ["magenta", "cyan"]),
    "axes.titlelocation": "right",
    "axes.titleweight": "bold",
    "axes.labelweight": "bold",
    "axes.xmargin": 0.3,
    "axes.ymargin": 0.3,
    "axes.zmargin": 0.3,
    "figure.figsize": (3.0, 9.0),
    "figure.titleweight": "bold",
    "font.family": ["serif"],
    "font.sans-serif": ["STIXGeneral"],
    "font.stretch": "condensed",
    "font.style": "italic",
    "font.weight": "bold",
    "image.cmap": "jet",
    "image.interpolation": "bicubic",
    "image.interpolation_stage": "rgba",
    "image.origin": "lower",
    "image.aspect": "auto",
    "legend.loc": "upper left",
    "grid.linestyle": ":",
    "lines.dashed_pattern": (9.0, 9.0),
    "lines.dotted_pattern": (9.0, 9.0),
    "lines.linestyle": ":",
    "lines.marker": "x",
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "bevel",
    "lines.dash_capstyle": "round",
    "mathtext.default": "bf",
    "mathtext.fontset": "stix",
    "path.sketch": (4.0, 50.0, 2.0),
    "savefig.bbox": "tight",
    "savefig.format": "svg",
    "savefig.orientation": "landscape",
    "text.hinting": "none",
    "xaxis.labellocation": "right",
    "yaxis.labellocation": "top",
    "xtick.direction": "in",
    "ytick.direction": "inout",
    "xtick.alignment": "right",
    "ytick.alignment": "top",
    "xtick.labelcolor": "magenta",
    "ytick.labelcolor": "magenta",
}
# Not of pictures, or set by nothing but matplotlib itself; two that exclude each other.
LEFT_OUT = ("backend", "animation.", "keymap.", "webagg.", "tk.", "_internal", "date.", "figure.constrained_layout.use",
            "docstring", "interactive", "toolbar", "timezone", "pgf.", "ps.")  # fmt: skip


def unlike_the_defaults() -> dict[str, Any]:
    """Every setting that pictures may depend on -> a value that is valid and not the default."""
    values = {}
    for name in mpl.rcParamsDefault:
        if name.startswith(LEFT_OUT):
            continue
        default = mpl.rcParamsDefault[name]
        for candidate in [CHOSEN[name]] if name in CHOSEN else _candidates(default):
            if (value := _valid(name, candidate)) is not None and value != default:
                values[name] = value
                break
    return values


def _candidates(default: Any) -> Iterator[Any]:
    if isinstance(default, bool):
        yield not default
    elif isinstance(default, int | float):
        yield from (type(default)(2 * default + 1), default / 2)
    yield from ("magenta", 13.0, 3, "large", True, False)


def _valid(name: str, candidate: Any) -> Any:
    """The setting as matplotlib keeps it; None where it takes no such value."""
    with mpl.rc_context():
        try:
            mpl.rcParams[name] = candidate
        except (ValueError, TypeError, RuntimeError, AttributeError):
            return None
        return mpl.rcParams[name]
