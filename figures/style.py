"""One style and one palette for every figure, and one way to save: the pictures and, beside them, where they come from.

Nothing here rests on colour alone: families of models differ in lightness, their masks in line and marker, the two
branches in lightness; so every figure reads in grey and to colour-blind readers.
"""

from __future__ import annotations

import colorsys
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.style
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from figures.glyphs import find_glyphs, without_glyph_warnings
from figures.texts import plain
from gmsa_models.data.atomic import replaced_when_done, write_text
from gmsa_models.errors import ArgumentError

__all__ = [
    "BACKGROUND",
    "BRANCHES",
    "COLUMN_WIDTH",
    "DIFFERENCE",
    "EVENT",
    "EVENT_ALPHA",
    "EXCLUDED",
    "MODELS",
    "OTHER",
    "PAGE_WIDTH",
    "REFERENCE",
    "SIMILARITY",
    "TRUE",
    "WEIGHTS",
    "LineDashes",
    "LineStyle",
    "branch_style",
    "branch_styles",
    "check_formats",
    "default_settings",
    "ground",
    "model_style",
    "on_ground",
    "save",
    "save_pictures",
    "software",
    "use_style",
    "use_variants",
]

PAGE_WIDTH, COLUMN_WIDTH = 7.0, 3.39  # inches: ICASSP text and column width
SOFTWARE = ("gmsa-workbench", "matplotlib", "numpy", "xarray")


# A line style of matplotlib: a name, or an offset and the lengths of dashes and gaps, in points.
LineDashes = Literal["-", "--", "-.", ":", "none"] | tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class LineStyle:
    """How one model or branch is drawn, everywhere.

    Attributes:
        label: what the legend says.
        colour: as matplotlib takes it.
        line: matplotlib's line style.
        marker: of single points.
    """

    label: str
    colour: str
    line: LineDashes = "-"
    marker: str = "o"


# Families from dark to light: CIE lightness about 13, 33, 46 and 60, with a contrast of 3 on white.
_BASELINE, _SHARE_ATT, _GATE_OP, _GATE_ATT, _CONTROL = "#222222", "#1b4f9c", "#b84e00", "#bc8a00", "#8c8c8c"
_BLOCKS: LineDashes = "-"
_BAND: LineDashes = (0, (4, 1.5))
_DILATED: LineDashes = (0, (1, 1))
_SEGMENTS: LineDashes = (0, (6, 1.5, 1, 1.5))
_SEVERAL: LineDashes = (0, (6, 1, 1, 1, 1, 1))

MODELS: dict[str, LineStyle] = {
    "baseline": LineStyle("Baseline", _BASELINE, "-", "D"),
    "share-att-bd": LineStyle("ShareAtt BD", _SHARE_ATT, _BLOCKS, "s"),
    "share-att-tp": LineStyle("ShareAtt TP", _SHARE_ATT, _BAND, "o"),
    "share-att-td": LineStyle("ShareAtt TD", _SHARE_ATT, _DILATED, "^"),
    "gate-att-bd10": LineStyle("GateAtt BD10", _GATE_ATT, _BLOCKS, "s"),
    "gate-att-tp10": LineStyle("GateAtt TP10", _GATE_ATT, _BAND, "o"),
    "gate-att-td80": LineStyle("GateAtt TD80", _GATE_ATT, _DILATED, "^"),
    "gate-op-bd20": LineStyle("GateOp BD20", _GATE_OP, _BLOCKS, "s"),
    "gate-op-tp30": LineStyle("GateOp TP30", _GATE_OP, _BAND, "o"),
    "gate-op-td60x4": LineStyle("GateOp TD60×4", _GATE_OP, _DILATED, "^"),
    "control": LineStyle("Control", _CONTROL, (0, (3, 1, 1, 1)), "x"),
    "share-att-seg": LineStyle("ShareAtt seg", _SHARE_ATT, _SEGMENTS, "P"),
    "gate-att-seg": LineStyle("GateAtt seg", _GATE_ATT, _SEGMENTS, "P"),
    "gate-op-seg": LineStyle("GateOp seg", _GATE_OP, _SEGMENTS, "P"),
    "gate-op-scales": LineStyle("GateOp scales", _GATE_OP, _SEVERAL, "X"),
    "local-then-global": LineStyle("Local, then global", _BASELINE, _SEVERAL, "X"),
}

BRANCHES: dict[str, LineStyle] = {
    "global": LineStyle("global", "#5b2a86", "-"),
    "local": LineStyle("local", "#27937d", "-"),
    "combined": LineStyle("combined", "#777777", (0, (1, 1))),
}

# Of local branches that have other names than "local", in the order in which a record has them.
_LOCAL_BRANCHES = ("#1b6fae", "#b03a70", "#8a6a00", "#5a7d1e", "#6a5acd")

WEIGHTS = "magma_r"  # sequential, pale = 0, dark = much
DIFFERENCE = "PuOr_r"  # diverging, white = equal; sign and place show the same
SIMILARITY = "cividis"  # sequential, light = alike
EXCLUDED = "#e4e4e4"  # a pair of frames outside the neighbourhood
EVENT, BACKGROUND = "#f2dfa6", "#eeeeee"  # known segments
EVENT_ALPHA = 0.6  # of an event behind lines
TRUE, OTHER = "#1f8a63", "#a8a8a8"  # bars of labels that the clip has, and has not
REFERENCE = "#949494"  # lines that say "even", "uniform", "the same"

# How often a figure is laid out: where decorations decide the size of axes, the first attempt is not the last word.
LAYOUTS = 2

SALT = "gmsa"  # of the names inside an SVG: without one they are drawn by lot
_RC: dict[Any, Any] = {  # by matplotlib's names
    "figure.dpi": 100,
    "savefig.dpi": 220,
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.1,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # fonts embedded as text that can be searched and edited
    "svg.fonttype": "none",
}
# What each format writes of itself; without dates the same figure gives the same bytes.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None, "Creator": None},
}


_ON_TOP: ContextVar[str | None] = ContextVar("style file on top of the house style", default=None)
_VARIANTS: ContextVar[Mapping[str, str] | None] = ContextVar("model -> whose style it is drawn in", default=None)


def model_style(name: str) -> LineStyle:
    """Colour, line and marker of the model's variant; its label tells the model's name.

    Args:
        name: of the paper's ten or the control, with or without `@MARK`, has that one's label; any other is its own.
            What kind of model a name stands for, `use_variants` says; without it an unknown name is grey.
    """
    column, at, mark = name.partition("@")
    label = MODELS[column].label + at + mark if column in MODELS else name
    style = MODELS.get((_VARIANTS.get() or {}).get(name, column), LineStyle(name, "#6f6f6f", (0, (5, 1, 1, 1)), "v"))
    return replace(style, label=plain(label), colour=on_ground(style.colour))


@contextmanager
def use_variants(variants: Mapping[str, str]) -> Iterator[None]:
    """Draw models in the style of their variants inside the block.

    Args:
        variants: name of a model -> one of `MODELS`.
    """
    token = _VARIANTS.set(dict(variants))
    try:
        yield
    finally:
        _VARIANTS.reset(token)


def branch_style(name: str) -> LineStyle:
    """Style of a branch by name.

    Raises:
        KeyError: none of `BRANCHES`.
    """
    return replace(BRANCHES[name], colour=on_ground(BRANCHES[name].colour))


def branch_styles(names: Iterable[str]) -> dict[str, LineStyle]:
    """Styles of the branches of some records, by name: those of `BRANCHES`, others by their order among themselves.

    Args:
        names: all branches, repeats allowed.
    """
    known, others = {}, 0
    for name in dict.fromkeys(names):
        if name in BRANCHES:
            style = BRANCHES[name]
        else:
            style = LineStyle(plain(name), _LOCAL_BRANCHES[others % len(_LOCAL_BRANCHES)])
            others += 1
        known[name] = replace(style, colour=on_ground(style.colour))
    return known


def ground() -> str:
    """What panels are drawn on, in the style that is on."""
    return to_hex(mpl.rcParams["axes.facecolor"])


def on_ground(colour: str) -> str:
    """A colour of the palette as it is on the ground of the style that is on.

    On a light ground the colour itself; on a dark one its hue with the lightness turned round, so that what stands out
    on white stands out on black, in the same order.
    """
    if sum(to_rgb(ground())) > 1.5:
        return colour
    hue, light, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    return to_hex(colorsys.hls_to_rgb(hue, 1.0 - light, saturation))


@contextmanager
def default_settings() -> Iterator[None]:
    """matplotlib's own defaults inside the block, whatever a matplotlibrc or a caller says; the backend stays."""
    with mpl.rc_context():
        mpl.style.use("default")
        mpl.rcParams["svg.hashsalt"] = SALT
        yield


@contextmanager
def use_style(file: str | Path | None = None) -> Iterator[None]:
    """Draw in the house style inside the block; what was set before comes back after it.

    The house style stands on matplotlib's own defaults: neither a user's matplotlibrc nor a caller's rcParams reach a
    picture; the backend stays the user's. Text is never read as mathematics, since names come from files: a formula
    says so itself, by `parse_math=True`.

    Args:
        file: a matplotlib style file that goes on top, here and in every `use_style` inside the block.

    Raises:
        ArgumentError: the file has TeX draw all text.
    """
    token = _ON_TOP.set(_ON_TOP.get() if file is None else str(file))
    try:
        with default_settings():
            mpl.rcParams.update(_RC)
            if (on_top := _ON_TOP.get()) is not None:
                mpl.style.use(on_top)
                _check_text(on_top)
            mpl.rcParams["text.parse_math"] = False
            yield
    finally:
        _ON_TOP.reset(token)


def _check_text(file: str) -> None:
    if mpl.rcParams["text.usetex"]:
        raise ArgumentError(
            f"{file}: text.usetex is True; expected False: figures show names from files, which TeX would read as "
            "commands. Take the line out, and set the fonts by font.family and mathtext.fontset"
        )


def save(
    figure: Figure,
    path: str | Path,
    formats: Sequence[str] = ("png", "pdf"),
    provenance: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a figure in each format, and `PATH.json` that says where it comes from.

    A file appears whole or not at all; the JSON comes last, so where it is the pictures are.

    Args:
        figure: drawn inside `use_style`.
        path: without suffix; parent folders are made.
        formats: of "png", "pdf", "svg".
        provenance: checkpoints, clips, command, seed: whatever the numbers depend on, as plain values.

    Returns:
        The files, pictures first.

    Raises:
        ArgumentError: an unknown format.
    """
    path = Path(path)
    written = save_pictures(figure, path, formats)
    about = {"software": software()} | dict(provenance or {})
    text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    return [*written, write_text(path.with_name(f"{path.name}.json"), text)]


def check_formats(formats: Sequence[str]) -> None:
    """Check that a picture can be written in each of some formats.

    Raises:
        ArgumentError: an unknown format.
    """
    if unknown := [name for name in formats if name not in _METADATA]:
        raise ArgumentError(f"unknown picture format {unknown[0]!r}; known: {', '.join(_METADATA)}")


def save_pictures(figure: Figure, path: Path, formats: Sequence[str]) -> list[Path]:
    """Write a figure in each format, whole, and return the files. Args and Raises: as for `save`."""
    check_formats(formats)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = [path.with_name(f"{path.name}.{name}") for name in formats]
    with use_style(), without_glyph_warnings(), _laid_out(figure):
        for file, name in zip(written, formats, strict=True):
            with replaced_when_done(file) as temporary:
                figure.savefig(temporary, format=name, metadata=_METADATA[name])
    return written


@contextmanager
def _laid_out(figure: Figure) -> Iterator[None]:
    """Lay a figure out first and keep it so inside the block: else it is laid out, and drawn twice, for each format."""
    find_glyphs(figure)
    if (engine := figure.get_layout_engine()) is None:
        yield
        return
    for _ in range(LAYOUTS):
        engine.execute(figure)
    with mpl.rc_context({"figure.constrained_layout.use": False, "figure.autolayout": False}):
        figure.set_layout_engine(None)
    try:
        yield
    finally:
        figure.set_layout_engine(engine)


def software() -> dict[str, str]:
    """Versions of what draws."""
    return {"python": platform.python_version()} | {name: version(name) for name in SOFTWARE}
