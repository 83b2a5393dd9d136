"""Whether the keys of attention calls lie in the order of the layout: told by what moves with a frame of the input.

The verification of a map cannot tell: P V is the same where a module puts keys and values in another order, both alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from analysis.capture import AttentionCall, LayoutError, capture
from analysis.capture.adapter import Inputs
from analysis.capture.layout import Layout
from analysis.capture.maps import ScoredMaps, TokenMaps
from analysis.explanations.input_steps import Steps, explained_tensor, module_steps, replaced_tensor
from analysis.module_pass import NamedCalls, watched_pass
from analysis.module_runs import evaluating_module
from analysis.module_sites import call_module

__all__ = ["check_key_order"]

PROBED = 8  # frames that are replaced, at most
CLEAR = 2.0  # by how much another frame's tokens must move more than those of the frame that was replaced


def check_key_order(
    module: nn.Module,
    inputs: Inputs,
    *,
    layout: Layout | Mapping[str, Layout | None] | None = None,
    steps: Steps | None = None,
) -> pd.DataFrame:
    """Replace frames of the input one by one, and see of which frame the tokens are whose queries or values move most.

    One pass a frame, of at most 8 frames. In the first layers only tokens of that frame move; where layers before have
    mixed the frames, the frame's own tokens move most as long as a residual connection carries them.

    Args:
        module, inputs: of one clip; see `inspect_module`.
        layout: see `inspect_module`.
        steps: the time step of each number of the input; default: along its second axis where that is a multiple of the
            time steps long, else along the only one that is.

    Returns:
        A row a call, side ("query", "key") and replaced frame: `call`, `side`, `frame`, `moved`, the frame of the
        tokens that move most, and `share`, of all that moves the part of the tokens of the replaced frame. A module
        that writes its softmax out has no rows of queries.

    Raises:
        LayoutError: tokens of another frame move more than twice as much as those of the replaced one.
        ArgumentError: which part of the input is of which frame is not known.
        CaptureError, LayoutError: see `capture`.
    """
    with evaluating_module(module), torch.no_grad(), capture(module, reduce="frames", layout=layout) as captured:
        call_module(module, inputs)
    calls = {call.name: call for call in captured if call.tables is not None}
    frames = max(table.frames for call in calls.values() for table in call.tables or ())
    steps = _steps(inputs, frames) if steps is None else steps
    before = _tokens(module, inputs)
    rows = []
    for frame in sorted({round(each * (frames - 1) / (PROBED - 1)) for each in range(PROBED)}):
        after = _tokens(module, _replaced(inputs, frames, steps, frame))
        for (name, side), numbers in before.items():
            if name not in calls or (name, side) not in after or after[name, side].shape != numbers.shape:
                continue
            moved = _moved_frames(calls[name], side, (after[name, side] - numbers).abs())
            if moved is not None and frame < len(moved) and float(moved.sum()) > 0:
                rows.append(_row(name, side, frame, moved))
    return pd.DataFrame(rows, columns=["call", "side", "frame", "moved", "share"])


def _steps(inputs: Inputs, frames: int) -> Steps:
    values = explained_tensor(inputs, frames)
    if values.ndim < 2 or values.shape[1] % frames:
        return module_steps(inputs, frames)
    numbers = torch.arange(values.shape[1]) // (values.shape[1] // frames)
    return numbers.reshape(1, -1, *[1] * (values.ndim - 2))


def _row(name: str, side: str, frame: int, moved: Float[Tensor, " frames"]) -> dict[str, Any]:
    """Of the table.

    Raises:
        LayoutError: tokens of another frame clearly move more.
    """
    most = int(moved.argmax())
    if float(moved[most]) > CLEAR * float(moved[frame]):
        raise LayoutError(
            f"{name or 'the module'}: where time step {frame} of the input is another, the {side} tokens move most "
            f"that are of time step {most} by the layout. The module has its {side} tokens in another order, or the "
            "layout is not its own: say the order in which they are multiplied, CrossLayout(queries=..., "
            "keys=TokenTable(...)); or time is another axis of the input: give steps="
        )
    return {"call": name, "side": side, "frame": frame, "moved": most, "share": float(moved[frame] / moved.sum())}


class _Tokens(NamedCalls):
    """Keeps a number for each query and key token of every call."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.numbers: dict[tuple[str, str], Float[Tensor, "*lead tokens"]] = {}

    def returned(self, name: str, kind: str, result: Any, maps: Callable[[], TokenMaps]) -> None:
        """Keep them."""
        known = maps()
        sides = {"key": known.value} | ({"query": known.query} if isinstance(known, ScoredMaps) else {})
        for side, values in sides.items():
            generator = torch.Generator().manual_seed(4)
            direction = torch.randn(values.shape[-1], generator=generator).to(values)
            self.numbers[name, side] = (values @ direction).expand(*known.lead, -1)


def _tokens(module: nn.Module, inputs: Inputs) -> dict[tuple[str, str], Float[Tensor, "*lead tokens"]]:
    seen = _Tokens(module)
    watched_pass(module, inputs, seen)
    return seen.numbers


def _replaced(inputs: Inputs, frames: int, steps: Steps, frame: int) -> Inputs:
    """The inputs with other numbers in place of one frame's."""
    values = explained_tensor(inputs, frames, steps)
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(frame)).to(values)
    noise *= float(values.std()) or 1.0
    return replaced_tensor(inputs, values, torch.where((steps == frame).to(values.device), values + noise, values))


def _moved_frames(
    call: AttentionCall, side: str, changes: Float[Tensor, "*lead tokens"]
) -> Float[Tensor, " frames"] | None:
    """How much the tokens of each frame moved, on average; None: a call without a layout."""
    if call.axes is None or call.tables is None:
        return None
    table = call.tables[side == "key"]
    by_row = call.axes.arranged(changes.nan_to_num()[..., None, :]).mean((1, 2))[: table.fold]
    frame = table.frame[0].to(by_row.device)
    real = frame >= 0
    sums = by_row.new_zeros(table.frames).index_add_(0, frame[real], by_row[real])
    return sums / torch.bincount(frame[real], minlength=table.frames).clamp(min=1)
