"""Progress in a notebook: a bar and a line of words, fed by the callbacks that long jobs take."""

from __future__ import annotations

import ipywidgets

__all__ = ["Progress"]


class Progress(ipywidgets.HBox):  # type: ignore[misc]  # ipywidgets has no types
    """`advance(stage, done, total)` moves the bar; `report(name, state, detail)` adds a line."""

    def __init__(self) -> None:
        self.bar = ipywidgets.IntProgress(0, 0, 1)
        self.stage = ipywidgets.Label()
        self.lines = ipywidgets.Label(style={"description_width": "initial"})
        super().__init__([self.bar, self.stage, self.lines])

    def advance(self, stage: str, done: int, total: int | None) -> None:
        """Show how far a stage is; a total that is not known yet shows a full bar."""
        self.stage.value = stage
        self.bar.max, self.bar.value = max(total or done, 1), done

    def report(self, name: str, state: str, detail: str = "") -> None:
        """Show what became of one thing."""
        self.lines.value = f"{name}: {state}{': ' + detail if detail else ''}"
