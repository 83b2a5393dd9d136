"""How much of a large record a browser is given: heads, then whole kinds of maps, are left out, and a text says so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from analysis.record.branches import branch_mask
from analysis.record.layers import record_layers

__all__ = ["LARGEST", "LEFT_OUT", "fitted_records", "map_bytes"]

# Bytes of all maps of a page or widget. A browser holds them and, as it opens a page, their text beside them.
LARGEST = 2**27
LEFT_OUT = "maps_left_out"  # attribute of a record whose maps are not all there
BYTES = {"float32": 4, "float16": 2}
# Maps beside those of heads, in the order in which they are left out.
OTHERS = ("gate_map", "gradient_norm", "similarity")


def fitted_records(records: Sequence[xr.Dataset], precision: str, most: int = LARGEST) -> list[xr.Dataset]:
    """The records with no more maps than a browser can hold: as they are where all of them fit.

    Of all records the same number of heads, the first ones, is kept. Where not even one fits, no attention map is, and
    then other maps go too. Curves over time are always kept.

    Args:
        records: of `split_records`.
        precision: of maps, see `pack`.
        most: bytes of all maps.

    Returns:
        Records whose attribute `LEFT_OUT` says what is missing, if something is.
    """
    records = list(records)
    if (whole := map_bytes(records, precision)) <= most:
        return records
    heads = max((record.sizes.get("head", 0) for record in records), default=0)
    others = map_bytes([_without(record, ("attention",)) for record in records], precision)
    kept = heads * max(0, most - others) // max(1, whole - others)
    if kept:
        shown = f"Heads 0 to {kept - 1} of {heads}" if kept > 1 else f"Head 0 of {heads}"
        return _noted([_first_heads(record, kept) for record in records], shown, whole)
    kinds = [name for name in ("attention", *OTHERS) if any(name in record for record in records)]
    less, count = records, 0
    while count < len(kinds) and map_bytes(less, precision) > most:
        count += 1
        less = [_without(record, kinds[:count]) for record in records]
    return _noted(less, f"No maps ({', '.join(kinds[:count]).replace('_', ' ')})", whole)


def _first_heads(record: xr.Dataset, kept: int) -> xr.Dataset:
    return record.isel(head=slice(0, kept)) if "head" in record.dims else record


def _without(record: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    return record.drop_vars([name for name in names if name in record])


def _noted(records: list[xr.Dataset], shown: str, whole: int) -> list[xr.Dataset]:
    frames = records[0].sizes["frame"]
    text = (
        f"{shown} shown: all maps of {frames:,} frames would take {whole / 1e6:,.0f} MB of the browser's memory; for "
        "the others show fewer frames, one layer, or record.isel(head=...)"
    )
    return [record.assign_attrs({LEFT_OUT: text}) for record in records]


def map_bytes(records: Sequence[xr.Dataset], precision: str) -> int:
    """Bytes of the maps of some records of one clip, in some precision; those of similarity once."""
    numbers, of_clip = 0, 0
    for record in records:
        frames, layers = record.sizes["frame"], len(record_layers(record))
        square = frames * frames
        if "attention" in record:
            numbers += _attention_numbers(record, square)
        for name in ("gate_map", "gradient_norm"):
            numbers += layers * record.sizes["modality"] * square if name in record else 0
        if "similarity" in record:
            of_clip = max(of_clip, record.sizes["modality"] * square // 2)
    return (numbers + of_clip) * BYTES[precision]


def _attention_numbers(record: xr.Dataset, square: int) -> int:
    """How many numbers the maps of a record's heads have, of local ones inside the neighbourhood only."""
    if not square:
        return 0
    attention = record["attention"]
    masks = [branch_mask(record, str(branch)) for branch in attention["branch"].values]
    first = (
        attention.isel(query=0).transpose("branch", ..., "key").values
    )  # a head that a branch lacks is NaN throughout
    heads = (~np.isnan(first)).any(axis=-1).reshape(len(first), -1).sum(axis=1)
    return int(heads @ np.array([square if mask is None else int(mask.sum()) for mask in masks]))
