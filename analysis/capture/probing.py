"""What parts of a module's input reach which maps of an attention call: passes in which a part is replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.capture.given import frame_tensors, tensors_given
from analysis.capture.maps import ScoredMaps, TokenMaps
from analysis.capture.running import ModuleStack, RunningModule
from analysis.capture.state import copied, kept_random_numbers, kept_state
from analysis.capture.watcher import CallWatcher, unwatched

__all__ = ["ReachedMaps", "given_tensors", "reached_by_clips", "reached_maps", "replaced", "run_again"]

ROUNDING = 1e-6  # of the largest number of a call: how far rounding may move what a replaced part does not reach
CLEAR = 1e-2  # of the largest change: what is clearly reached; much less may have come around through other tokens
Call = tuple[str, int]  # path of a submodule, and number of its call in a pass
Numbers = dict[Call, Float[Tensor, "*lead two"]]


@dataclass(frozen=True, eq=False)
class ReachedMaps:
    """What became of one call when a part of the input was replaced.

    Attributes:
        axis: of the input, of which one position was replaced.
        last: whether that was its last one; else its first.
        reached: which of the call's maps are clearly others.
        same: which are what they were.
        number: of the tensor, of several that may hold the frames.
    """

    axis: int
    last: bool
    reached: Bool[Tensor, "*lead"]
    same: Bool[Tensor, "*lead"]
    number: int = 0


class _Fingerprints(CallWatcher):
    """Two numbers of every map, of each call of a pass."""

    def __init__(self, modules: ModuleStack) -> None:
        super().__init__(modules)
        self.numbers: Numbers = {}
        self._calls: Counter[str] = Counter()

    def record(
        self,
        maps: Callable[[], tuple[TokenMaps, float]],
        where: str,
        kind: str,
        result: Any,
        between: tuple[str, ...] = (),
    ) -> None:
        """Take one attention call."""
        with unwatched():
            self.numbers[where, self._calls[where]] = _fingerprint(maps()[0])
        self._calls[where] += 1


def given_tensors(running: RunningModule, frames: int) -> list[Tensor]:
    """The tensors that a module was given which may hold the frames; see `frame_tensors`."""
    return frame_tensors(tensors_given((running.args, running.kwargs)), frames)


def reached_maps(modules: ModuleStack, count: int, tensors: Sequence[Tensor]) -> dict[Call, list[ReachedMaps]]:
    """Run a module that is running once more for each part of its input, and see which maps are others.

    Of every axis of a tensor but the last, which is of features or the columns of a picture, the first and the last
    position are replaced in turn. Random numbers, buffers and attributes of the module are as before afterwards.

    Args:
        modules: the running ones.
        count: how many of them are outside the one that is run.
        tensors: that it was given, whose parts are replaced: of one, in all tensors of its shape; of several, in each
            by itself.

    Returns:
        Path of a submodule and number of its call in the pass -> what became of it. Empty where the module cannot be
        run so.
    """
    result: dict[Call, list[ReachedMaps]] = {}
    try:
        before = _numbers(modules, count, None) if tensors else {}
        for number, values in enumerate(tensors):
            only = values if len(tensors) > 1 else None
            for axis, last in _parts(values):
                part = partial(replaced, values.shape, axis, -1 if last else 0, only=only)
                after = _numbers(modules, count, part)
                for call, numbers in before.items():
                    if call in after and after[call].shape == numbers.shape:
                        evidence = ReachedMaps(axis, last, *_compared(numbers, after[call]), number)
                        result.setdefault(call, []).append(evidence)
    except Exception:  # whatever a module does that other numbers are no input for
        return {}
    return result


def reached_by_clips(
    modules: ModuleStack, tensors: Sequence[Tensor], axis: int, clips: int
) -> dict[Call, list[tuple[list[int], Bool[Tensor, "*lead"]]]]:
    """Run the outermost module with some of its clips replaced: those whose numbers have a 1 in one binary digit.

    Args:
        modules: the running ones.
        tensors: that it was given, which hold the clips.
        axis: of these.
        clips: how many.

    Returns:
        Path of a submodule and number of its call in the pass -> the clips that were replaced, and which maps are
        clearly others, once for each digit. Empty where the module cannot be run so.
    """
    result: dict[Call, list[tuple[list[int], Bool[Tensor, "*lead"]]]] = {}
    try:
        before = _numbers(modules, 0, None)
        for digit in range((clips - 1).bit_length()):
            chosen = [clip for clip in range(clips) if clip >> digit & 1]
            after = _numbers(modules, 0, partial(_replaced_clips, tensors, axis, chosen))
            for call, numbers in before.items():
                if call in after and after[call].shape == numbers.shape:
                    result.setdefault(call, []).append((chosen, _compared(numbers, after[call])[0]))
    except Exception:  # whatever a module does that other numbers are no input for
        return {}
    return result


def _replaced_clips(tensors: Sequence[Tensor], axis: int, chosen: Sequence[int], values: Any) -> Any:
    if not any(values is each for each in tensors):
        return values
    for clip in chosen:
        values = replaced(values.shape, axis, clip, values)
    return values


def _parts(values: Tensor) -> Iterator[tuple[int, bool]]:
    for axis, size in enumerate(values.shape[:-1]):
        if size > 1:
            yield from ((axis, False), (axis, True))


def replaced(shape: tuple[int, ...], axis: int, position: int, values: Any, only: Tensor | None = None) -> Any:
    """Other numbers at one position of an axis, of a tensor of one shape, or of `only`; anything else as it is."""
    if only is not None and values is not only:
        return values
    if not isinstance(values, Tensor) or values.shape != shape or values.dtype == torch.bool:
        return values
    changed = values.detach().clone()
    part = changed.select(axis, position)
    if values.is_floating_point():
        spread = float(values.detach().float().std().nan_to_num()) or 1.0
        generator = torch.Generator().manual_seed(1)
        part += spread * torch.randn(part.shape, generator=generator).to(part)
    else:
        part.copy_(values.min() + values.max() - part)
    return changed


def _numbers(modules: ModuleStack, count: int, replace: Callable[[Any], Any] | None) -> Numbers:
    seen = _Fingerprints(modules)
    run_again(modules, count, modules.running[count], replace, seen)
    return seen.numbers


def run_again(
    modules: ModuleStack,
    count: int,
    running: RunningModule,
    replace: Callable[[Any], Any] | None,
    watcher: CallWatcher,
) -> None:
    """One more pass of a module that is running, with some of what it was given replaced.

    Args:
        modules: the running ones.
        count: how many of them are outside it.
        running: it.
        replace: of each argument; None: as they are.
        watcher: that sees the pass.
    """
    args, kwargs = copied((running.args, running.kwargs), replace)
    state, numbers = kept_state(running.module), kept_random_numbers()
    with state, numbers, torch.no_grad(), modules.running_as(count), watcher:
        torch.manual_seed(0)
        running.module(*args, **kwargs)


def _fingerprint(maps: TokenMaps) -> Float[Tensor, "*lead two"]:
    parts = (maps.query, maps.key) if isinstance(maps, ScoredMaps) else (maps.weights, maps.weights)
    return torch.stack([_weighted(each.to(maps.wide)).expand(maps.lead) for each in parts], -1)


def _weighted(values: Float[Tensor, "*lead rows columns"]) -> Float[Tensor, "*lead"]:
    generator = torch.Generator().manual_seed(2)
    rows, columns = (torch.randn(size, generator=generator).to(values) for size in values.shape[-2:])
    return (values @ columns) @ rows


def _compared(
    before: Float[Tensor, "*lead two"], after: Float[Tensor, "*lead two"]
) -> tuple[Bool[Tensor, "*lead"], Bool[Tensor, "*lead"]]:
    one, other = before.nan_to_num(), after.nan_to_num()
    scale = one.abs().flatten(0, -2).amax(0).clamp(min=1e-30)
    change = ((one - other).abs() / scale).amax(-1)
    most = change.max()
    return (change > CLEAR * most) & (change > 10 * ROUNDING), (change <= ROUNDING) & (change <= CLEAR**2 * most)
