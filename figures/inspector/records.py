"""What the inspector is given: a record, several of one clip, or several joined along `model`; made into a list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from analysis.record.contents import MODEL_ATTRIBUTES
from gmsa_models.errors import ArgumentError

__all__ = ["has_values", "model_name", "split_records"]


def split_records(inspected: xr.Dataset | Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """One record a model.

    Args:
        inspected: a record of `analysis.inspect_clip`, a joined one of `analysis.combine_models`, or a list of either.

    Returns:
        Records without a `model` dimension, in order; what a model lacks is absent again.

    Raises:
        ArgumentError: nothing given, records of different clips or of classes of different data sets, two models of
            one name.
    """
    records: list[xr.Dataset] = []
    for one in [inspected] if isinstance(inspected, xr.Dataset) else inspected:
        joined = "model" in one.dims
        records += [_of_one_model(one, index) for index in range(one.sizes["model"])] if joined else [one]
    _check(records)
    return records


def model_name(record: xr.Dataset) -> str:
    """Name of the model that a record is of."""
    return str(record["model"].item()) if "model" in record.coords else "unnamed"


def has_values(values: np.ndarray) -> bool:
    """Whether any entry is a number; the first one mostly says so."""
    return values.size > 0 and (not np.isnan(values.flat[0]) or not np.isnan(values).all())


def _of_one_model(joined: xr.Dataset, index: int) -> xr.Dataset:
    record = joined.isel(model=index)
    for name in [name for name in MODEL_ATTRIBUTES if name in record]:
        if value := str(record[name].item()):
            record.attrs[name] = value
    record = record.drop_vars(MODEL_ATTRIBUTES, errors="ignore")
    record = record.drop_vars([name for name, array in record.data_vars.items() if _is_absent(array)])
    for name in [name for name in ("neighbourhood", "branch_neighbourhood") if name in record]:
        record[name] = record[name] > 0
    return _without_empty(record)


def _is_absent(array: xr.DataArray) -> bool:
    """Whether `combine_models` filled the whole variable, because the model lacks it."""
    if array.dtype.kind == "f":
        return array.size > 0 and bool(array.isnull().all())
    return array.dtype == np.int8 and array.size > 0 and bool((array < 0).all())


def _without_empty(record: xr.Dataset) -> xr.Dataset:
    """Only the branches and modalities of this model."""
    if "attention" not in record:
        return record
    for name in ("branch", "modality"):
        others = [dim for dim in record["attention"].dims if dim != name]
        present = record["attention"].notnull().any(others)
        record = record.isel({name: np.flatnonzero(present.values)})
    return record


def _check(records: list[xr.Dataset]) -> None:
    if not records:
        raise ArgumentError("no records to inspect; expected at least one")
    first = records[0]
    for record in records[1:]:
        for what in ("clip", "features_sha256"):
            if record.attrs.get(what) != first.attrs.get(what):
                actual, expected = record.attrs.get(what), first.attrs.get(what)
                raise ArgumentError(f"records of different clips: {what} is {actual!r}, of the first {expected!r}")
        if (classes := record.attrs.get("vocabulary")) != (of := first.attrs.get("vocabulary")):
            raise ArgumentError(
                f"model {model_name(record)!r} has classes of {classes!r}, {model_name(first)!r} of {of!r}: numbers of "
                "their classes do not compare; show each alone"
            )
        if record.sizes.get("frame") != first.sizes.get("frame"):
            raise ArgumentError(
                f"record of {model_name(record)!r} has {record.sizes.get('frame')} frames, the first has "
                f"{first.sizes.get('frame')}; expected the same frames"
            )
    names = [model_name(record) for record in records]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ArgumentError(f"two records of model {twice[0]!r}; expected models of different names")
