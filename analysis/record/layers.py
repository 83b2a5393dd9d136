"""The layers of a record: which it holds, and one of them as a record of its own. Without torch."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from analysis.errors import RecordError

__all__ = ["layers_text", "of_layer", "record_layers"]


def record_layers(record: xr.Dataset) -> tuple[int, ...]:
    """Numbers of the encoder layers that a record holds, from 0; one, unless it has the dimension `layer`."""
    if "layer" in record.dims:
        return tuple(int(number) for number in record["layer"].values)
    return (int(record.attrs.get("layer", 0)),)


def of_layer(record: xr.Dataset, layer: int | None = None) -> xr.Dataset:
    """One layer of a record, as `inspect_clip(..., layer=layer)` makes it.

    Args:
        record: with or without the dimension `layer`.
        layer: one of `record_layers`; None: the first of them.

    Raises:
        RecordError: the record does not hold it.
    """
    layers = record_layers(record)
    layer = layers[0] if layer is None else layer
    if layer not in layers:
        raise RecordError(f"no layer {layer} in this record; it has {', '.join(map(str, layers))}")
    if "layer" not in record.dims:
        return record
    return record.isel(layer=layers.index(layer)).drop_vars("layer").assign_attrs(layer=layer)


def layers_text(records: Sequence[xr.Dataset], layers: Sequence[int | None]) -> str:
    """Which layer of each record is drawn, as the end of a title; empty where each holds its first layer only.

    Args:
        records: with or without the dimension `layer`.
        layers: of each, as `of_layer` takes it.
    """
    layer_lists = [record_layers(one) for one in records]
    shown = [each[0] if layer is None else layer for each, layer in zip(layer_lists, layers, strict=True)]
    if all(each == (0,) for each in layer_lists):
        return ""
    most = max(layer_lists, key=len)
    of = f" of {', '.join(map(str, most))}" if len(most) > 1 else ""
    return f", layer {' and '.join(map(str, dict.fromkeys(shown)))}{of}"
