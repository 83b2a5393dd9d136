"""Records of one clip by several models, as one record along a dimension `model`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from analysis.errors import RecordError
from analysis.record.contents import MODEL_ATTRIBUTES
from analysis.record.labelled import nothing
from gmsa_models.branches import in_order

__all__ = ["combine_models"]

# What the clip alone decides, whichever model looked at it.
CLIP_VARIABLES = frozenset(
    {
        "similarity", "label", "segment_start", "segment_end", "segment_kind", "segment_label", "segment_origin",
        "segment_class",
    }
)  # fmt: skip


def combine_models(records: Sequence[xr.Dataset]) -> xr.Dataset:
    """Records of one clip by several models as one, along a new first dimension `model`.

    What a model lacks is NaN; what was True or False (`neighbourhood`) becomes 1, 0 or -1 (the model lacks it). What
    the clip alone decides (similarity, labels, segments) has no `model` dimension.

    Args:
        records: at least one, all of one clip, by models of different names.

    Returns:
        A record; what told the models apart in attributes (`MODEL_ATTRIBUTES`) is in
        variables of the same names, along `model`.

    Raises:
        RecordError: no records, records of different clips or explained classes, or two models of one name.
    """
    _check(records)
    union = {name: _union(records, name) for name in ("modality", "branch", "head", "class", "explainer", "way")}
    union["branch"] = list(in_order(union["branch"]))
    aligned = [_align(record, union) for record in records]
    of_clip = xr.merge(
        [record[sorted(CLIP_VARIABLES & set(record.data_vars))].drop_vars("model") for record in aligned],
        compat="no_conflicts",
        join="exact",
        combine_attrs="drop_conflicts",
    )
    joined = _concatenate([record.drop_vars(CLIP_VARIABLES, errors="ignore") for record in aligned]).merge(of_clip)
    for attribute in MODEL_ATTRIBUTES:
        joined.attrs.pop(attribute, None)
        values = [str(record.attrs.get(attribute, "")) for record in records]
        if attribute == "edits" and not any(values):  # of plain passes alone: there is nothing to tell
            continue
        joined[attribute] = ("model", np.array(values, dtype=object))
    texts = {
        name: (name, np.array(union[name], dtype=object))
        for name in ("modality", "branch", "explainer", "way")
        if name in joined.dims
    }
    return joined.assign_coords(texts | {"class_name": ("class", _class_names(records, union["class"]))})


def _concatenate(records: list[xr.Dataset]) -> xr.Dataset:
    """Along `model`; a variable that a record lacks is filled with what says so."""
    empty: dict[Hashable, xr.DataArray] = {}
    for record in records:
        empty |= {name: xr.full_like(array, nothing(array)) for name, array in record.data_vars.items()}
    filled = [record.assign({name: empty[name] for name in empty if name not in record}) for record in records]
    return xr.concat(filled, dim="model", join="exact", combine_attrs="drop_conflicts")


def _check(records: Sequence[xr.Dataset]) -> None:
    if not records:
        raise RecordError("no records to combine; expected at least one")
    first = records[0].attrs
    for record in records[1:]:
        for name in ("clip", "features_sha256", "frame_seconds", "vocabulary", "layer"):
            _check_same(records[0], record, name, first[name], record.attrs[name])
        _check_same(records[0], record, "frames", records[0].sizes["frame"], record.sizes["frame"])
        _check_same(records[0], record, "layers", *(_layers(one) for one in (records[0], record)))
        if "explanation" in records[0] and "explanation" in record:
            class_names = [one["explanation"].attrs["class_name"] for one in (records[0], record)]
            _check_same(records[0], record, "the explained class", *class_names)
    names = [str(record["model"].item()) for record in records]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RecordError(f"two records of model {twice[0]!r}; expected models of different names")


def _layers(record: xr.Dataset) -> list[int]:
    return record["layer"].values.tolist() if "layer" in record.dims else [int(record.attrs["layer"])]


def _check_same(first: xr.Dataset, other: xr.Dataset, what: str, expected: object, actual: object) -> None:
    if actual != expected:
        models = f"{other['model'].item()!r} has {actual!r}, {first['model'].item()!r} has {expected!r}"
        raise RecordError(f"records that cannot stand side by side: {what} differs, model {models}")


def _union(records: Sequence[xr.Dataset], name: str) -> list[Any]:
    """Values of a coordinate over all records, as they first appear."""
    return list(
        dict.fromkeys(value for record in records if name in record.coords for value in record[name].values.tolist())
    )


def _align(record: xr.Dataset, union: dict[str, list[Any]]) -> xr.Dataset:
    """The record on the union's coordinates; what is True or False becomes 1 or 0, so that -1 can say "not there"."""
    record = record.drop_vars("class_name", errors="ignore")
    flags = [name for name, array in record.data_vars.items() if array.dtype == bool and name not in CLIP_VARIABLES]
    record = record.assign({name: record[name].astype(np.int8) for name in flags})
    wanted = {name: values for name, values in union.items() if name in record.coords}
    fill = {name: nothing(array) for name, array in record.data_vars.items()}
    return record.reindex(wanted, fill_value=fill | {"label": False})


def _class_names(records: Sequence[xr.Dataset], labels: list[int]) -> np.ndarray:
    names: dict[int, str] = {}
    for record in reversed(records):
        names |= dict(zip(record["class"].values.tolist(), record["class_name"].values.tolist(), strict=True))
    return np.array([names[label] for label in labels], dtype=object)
