"""A clip that is longer than its model takes: windows one after another, and what that makes of layouts and logits."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from analysis.capture.layout import Layout, TokenLayout, TokenTable

__all__ = ["Layouts", "OverWindows", "WindowOutput", "joined", "over_windows", "window_mask"]

Layouts = dict[str, Layout | None]


@dataclass(frozen=True)
class WindowOutput:
    """What `OverWindows` returns.

    Attributes:
        logits: means over the windows; no columns where the model has no classifier.
    """

    logits: Float[Tensor, "1 classes"]


class OverWindows(nn.Module):
    """A transformers model on every window of a clip, in one batch.

    Args:
        model: in evaluation mode; its configuration is this module's too.
        classifies: whether its output has logits of classes.
    """

    def __init__(self, model: nn.Module, classifies: bool) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self.classifies = classifies
        known = inspect.signature(model.forward).parameters
        self._others: dict[str, Any] = {"skip_predictor": True} if "skip_predictor" in known else {}

    def forward(self, windows: Float[Tensor, "windows ..."]) -> WindowOutput:
        """Run all windows, which belong to one clip."""
        name: Any = self.model.main_input_name
        output = self.model(**{name: windows}, **self._others)
        if not self.classifies:
            return WindowOutput(windows.new_zeros(1, 0))
        return WindowOutput(output.logits.mean(0, keepdim=True))


def joined(layout: TokenLayout, tokens: int) -> TokenLayout:
    """Some tokens of time, one after another, as one time step; what is left at the end is of no step.

    Args:
        layout: one token a time step.
        tokens: how many make one step; at most all.
    """
    steps = layout.frames // tokens
    back = layout.back + layout.frames - steps * tokens
    return TokenLayout(steps, tokens, front=layout.front, back=back)


def over_windows(layouts: Mapping[str, Layout | None], windows: int) -> Layouts:
    """Layouts of a batch whose rows are the windows of one clip, from those of one window."""
    if windows == 1:
        return dict(layouts)
    return {pattern: None if layout is None else _repeated(layout, windows) for pattern, layout in layouts.items()}


def _repeated(layout: Layout, windows: int) -> TokenTable:
    assert isinstance(layout, TokenLayout | TokenTable)  # no recognised layout has other queries than keys
    one = layout.table()
    first = torch.arange(windows).repeat_interleave(one.fold)[None, :, None] * one.frames
    frame, patch = (numbers.repeat(1, windows, 1) for numbers in (one.frame, one.patch))
    return TokenTable(torch.where(frame < 0, -1, frame + first), patch, windows * one.frames, one.patches)


def window_mask(windows: int, steps: int) -> Bool[Tensor, "query key"] | None:
    """Which time steps of a clip a time step may attend to: those of its own window; None: all, in a single window."""
    if windows == 1:
        return None
    window = torch.arange(windows).repeat_interleave(steps)
    return window[:, None] == window
