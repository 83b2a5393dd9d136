"""Effects of windows of layers: a cell takes its seconds from a unit in several layers at once, by a pass a cell."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import SupportsIndex

import numpy as np
from jaxtyping import Float

from analysis.gmsa_view import attention_block
from analysis.interventions.cells import DIRECTIONS, Unit, effect_edits, taken_spans
from analysis.interventions.edits import Edit, Seconds
from analysis.interventions.running import EditRun
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError

__all__ = ["LayerWindow", "attribute_of", "layer_window_effects", "layers_of", "unit_edits"]

# One layer, or the first and the last of several.
LayerWindow = SupportsIndex | Sequence[SupportsIndex]


def layers_of(window: LayerWindow, count: int) -> range:
    """The layers of a window.

    Args:
        window: which.
        count: layers that the model has.

    Raises:
        ArgumentError: layers that the model lacks.
    """
    ends = tuple(window) if isinstance(window, Sequence) else (window, window)
    whole = len(ends) == 2 and all(hasattr(each, "__index__") and not isinstance(each, bool) for each in ends)
    first, last = map(operator.index, ends) if whole else (-1, -1)
    if not 0 <= first <= last < count:
        raise ArgumentError(
            f"layer is {window!r:.60}; expected one of the layers 0 to {count - 1}, or the first and the last of some, "
            f"as (0, {count - 1})"
        )
    return range(first, last + 1)


def attribute_of(layers: range) -> int | str:
    """A window of layers as the attribute of a map: "0-2"; one layer as its number."""
    return layers.start if len(layers) == 1 else f"{layers.start}-{layers.stop - 1}"


def unit_edits(
    stream: str, unit: Unit, layers: Iterable[int], spans: Sequence[Seconds], source: Clip | str | None
) -> tuple[Edit, ...]:
    """Edits that take some spans of keys from a unit in every layer of a window that has it; see `effect_edits`."""
    quantity = "weights" if source is None else "values"
    return tuple(edit for layer in layers for edit in effect_edits(unit.site(stream, layer, quantity), spans, source))


def layer_window_effects(
    run: EditRun,
    position: int,
    windows: Sequence[Seconds],
    units: Sequence[Unit],
    layers: range,
    source: Clip | str | None,
) -> tuple[Float[np.ndarray, "direction modality unit window"], Float[np.ndarray, "modality unit"]]:
    """The change of a logit in each cell, and in each unit that has lost all seconds, in all layers of a window.

    Passes begin at the first of the layers, from what comes before it without edits.

    Args:
        run: of one clip.
        position: of the class.
        windows, units, source: see `effect_map`.
        layers: of the window.
    """
    end, streams = run.clock.frames * run.clock.seconds, list(run.model.encoders)

    def lists() -> Iterator[tuple[Edit, ...]]:
        for stream in streams:
            blocks = {number: attention_block(run.model, stream, number) for number in layers}
            for unit in units:
                own = [number for number, block in blocks.items() if unit.branch in block.branches]
                yield unit_edits(stream, unit, own, [(0.0, end)], source)
                for direction in DIRECTIONS:
                    for window in windows:
                        yield unit_edits(stream, unit, own, taken_spans(window, direction, end), source)

    logits = run.logits(list(lists()))[:, 0, position].double().cpu().numpy()
    cells = logits.reshape(len(streams), len(units), 1 + len(DIRECTIONS) * len(windows))
    clean = float(run.clean.logits[0, position])
    base, after = cells[..., 0], cells[..., 1:].reshape(*cells.shape[:2], len(DIRECTIONS), len(windows))
    starts = np.stack([np.full_like(base, clean), base], -1)  # noising begins with the clean pass
    return (after - starts[..., None]).transpose(2, 0, 1, 3), base - clean
