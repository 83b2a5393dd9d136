"""What `gmsa figures` is asked for: of what data and models, which items, how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["DATA", "FORMATS", "OUT", "Request"]

OUT = Path("figures/out")
DATA = ("demo:0-400",)
FORMATS = ("pdf", "svg", "png")

# Of a request: what decides the numbers, beside data and models.
SETTINGS = ("videos", "limit", "explained", "ablated", "neighbourhood", "seed")
DEFAULTS = {"videos": 32, "neighbourhood": "TP30"}


@dataclass(frozen=True)
class Request:
    """What to draw, of what, and how.

    Attributes:
        data: sources of `read_clips`; a `.txt` file names one source a line. None: `DATA`, beside a sweep none.
        models: names in the zoo or paths; empty: the paper's ten and the control, as far as the zoo has them.
        out: folder of the files.
        sweep: folder of a sweep: take from it what it holds, compute the rest if there are `data`, else skip it.
        redraw_from: folder with the numbers of an earlier run: draw from those, with neither models nor torch.
        only: names or numbers of items ("3", "results"); empty: all.
        formats: of "pdf", "svg", "png".
        width: in inches; None: each figure's own.
        style: a matplotlib style file, on top of the house style.
        videos: how many are looked at closely (maps, gradients); None: 32, of a sweep all.
        limit: scores are of the first so many videos.
        explained: how many videos every method explains.
        ablated: on how many videos branches and heads are ablated, and knocked out.
        neighbourhood: the N_i by which the sensitivity of all models is measured alike: "BD20", "TP30", "TD60x4";
            None: TP30, or the sweep's.
        seed: of resampling and permutations.
        force: make everything anew, whether it has changed or not.
        command: what the JSON beside each figure says made it.
    """

    data: tuple[str, ...] | None = None
    models: tuple[str, ...] = ()
    out: Path = OUT
    sweep: Path | None = None
    redraw_from: Path | None = None
    only: tuple[str, ...] = ()
    formats: tuple[str, ...] = FORMATS
    width: float | None = None
    style: Path | None = None
    videos: int | None = None
    limit: int = 2000
    explained: int = 16
    ablated: int = 32
    neighbourhood: str | None = None
    seed: int = 0
    force: bool = False
    command: str = "gmsa figures"

    def __post_init__(self) -> None:
        if self.data is None:
            object.__setattr__(self, "data", () if self.sweep else DATA)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the numbers, beside data and models."""
        settings = {name: getattr(self, name) for name in SETTINGS}
        return {name: DEFAULTS[name] if value is None else value for name, value in settings.items()}
