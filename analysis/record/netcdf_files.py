"""The NetCDF-4 file of a record, written and read by h5py itself.

xarray does both through h5netcdf, which looks every object of the file up again and again: for a record of some fifty
small variables that takes several times as long as what is here. The file is the same in kind (dimension scales, the
attributes of NetCDF-4, fill values, CF's `coordinates`), so that `xarray.open_dataset` and other NetCDF readers open
it, and a file that xarray wrote is read here. What no record of ours has, xarray writes or reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from h5py import h5a, h5ds, h5r, h5s, h5t
from xarray.conventions import cf_encoder, encode_dataset_coordinates

__all__ = ["read_netcdf", "write_netcdf"]

_PACKED = {"compression": "gzip", "compression_opts": 1}
_NOT_A_VARIABLE = b"This is a netCDF dimension but not a netCDF variable."
# Attributes by which HDF5 and NetCDF-4 say how variables and dimensions belong together.
_STRUCTURE = frozenset(
    {
        "CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties",
        "_nc3_strict",
    }
)  # fmt: skip
# Attributes by which CF changes what values mean, but for those that `_decoded` knows.
_CONVENTIONS = frozenset(
    {
        "_Encoding", "_Unsigned", "add_offset", "ancillary_variables", "bounds", "cell_measures", "climatology",
        "formula_terms", "grid_mapping", "missing_value", "scale_factor",
    }
)  # fmt: skip
_TEXT = h5py.string_dtype()
_REFERENCES = h5py.vlen_dtype(h5py.ref_dtype)
_BACK_REFERENCE = np.dtype([("dataset", h5py.ref_dtype), ("dimension", np.uint32)], align=True)
_STORED_TEXT, _STORED_REFERENCES = h5t.py_create(_TEXT, logical=True), h5t.py_create(_REFERENCES, logical=True)
_ONE = h5s.create(h5s.SCALAR)


class _UnusualError(Exception):
    """Something that xarray can write or read, and this cannot."""


def write_netcdf(record: xr.Dataset, path: Path) -> None:
    """Write a record to a new NetCDF-4 file; variables of floating-point numbers are compressed.

    Args:
        record: any data set that NetCDF-4 can hold.
        path: of the file; one that exists is replaced.
    """
    bare = record.drop_encoding()
    variables, attributes = cf_encoder(*encode_dataset_coordinates(bare))
    try:
        _check_plain(variables, attributes, record.sizes)
    except _UnusualError:
        packed = {name: {"zlib": True, "complevel": 1} for name, value in bare.items() if value.dtype.kind == "f"}
        bare.to_netcdf(path, engine="h5netcdf", encoding=packed)
        return
    with h5py.File(path, "w", track_order=True) as file:
        _write(file, variables, attributes, packed=frozenset(record.data_vars))


def read_netcdf(path: Path) -> xr.Dataset:
    """What `xarray.open_dataset(path, engine="h5netcdf", decode_times=False).load()` reads of a file that is sound.

    Of the encodings, variables have how they were compressed.
    """
    try:
        with h5py.File(path) as file:
            return _read(file)
    except _UnusualError:
        with xr.open_dataset(path, engine="h5netcdf", decode_times=False) as opened:
            return opened.load()


# Writing


def _check_plain(variables: Mapping[Any, xr.Variable], attributes: Mapping[Any, Any], sizes: Mapping[Any, int]) -> None:
    """Refuse what is not written here.

    Raises:
        _UnusualError: see there.
    """
    names = [*variables, *sizes, *attributes, *(name for each in variables.values() for name in each.attrs)]
    if not all(isinstance(name, str) and name and "/" not in name and name not in _STRUCTURE for name in names):
        raise _UnusualError
    if not all(sizes.values()):  # NetCDF has no dimension of length 0: it would be unlimited
        raise _UnusualError
    for name, variable in variables.items():
        if not isinstance(variable.data, np.ndarray):
            raise _UnusualError
        text = variable.dtype.kind == "U" or (
            variable.dtype.kind == "O" and all(isinstance(value, str) for value in variable.data.flat)
        )
        if not (text or _is_number(variable.dtype)):
            raise _UnusualError
        if name in sizes and variable.dims != (name,):
            raise _UnusualError
        if (text and "_FillValue" in variable.attrs) or len(set(variable.dims)) < variable.ndim:
            raise _UnusualError
    every = [*attributes.values(), *(value for each in variables.values() for value in each.attrs.values())]
    if not all(isinstance(value, str) or _is_number(np.asarray(value).dtype) for value in every):
        raise _UnusualError


def _is_number(kind: np.dtype) -> bool:
    return kind.kind in "iuf" and kind.itemsize <= 8 and kind.isnative


def _write(
    file: h5py.File, variables: Mapping[Any, xr.Variable], attributes: Mapping[Any, Any], packed: frozenset[Any]
) -> None:
    sizes: dict[Any, int] = {dim: size for each in variables.values() for dim, size in each.sizes.items()}
    made = {dim: file.create_dataset(dim, (size,), ">f4") for dim, size in sizes.items() if dim not in variables}
    made |= {name: _values(file, name, each, name in packed) for name, each in variables.items()}
    references = {name: h5r.create(file.id, name.encode(), h5r.OBJECT) for name in made}
    numbers = {dim: number for number, dim in enumerate(sizes)}
    users: dict[Any, list[tuple[h5r.Reference, int]]] = {dim: [] for dim in sizes}
    for name, variable in variables.items():
        if dims := variable.dims:
            _put(made[name], "_Netcdf4Coordinates", np.array([numbers[dim] for dim in dims], np.int32))
            _put(made[name], "_Netcdf4Dimid", np.array(numbers[dims[0]], np.int32))
        if dims and name not in sizes:
            scales = np.empty(len(dims), _REFERENCES)
            for axis, dim in enumerate(dims):
                scales[axis] = np.array([references[dim]], h5py.ref_dtype)
                users[dim].append((references[name], axis))
            _put(made[name], "DIMENSION_LIST", scales, _STORED_REFERENCES)
        _put_all(made[name], variable.attrs)
    for dim, size in sizes.items():
        _make_scale(made[dim], dim if dim in variables else None, size, numbers[dim], users[dim])
    _put_all(file, attributes)
    properties = f"version=2,hdf5={h5py.version.hdf5_version},h5py={h5py.version.version}"
    _put(file, "_NCProperties", np.bytes_(properties.encode()))


def _make_scale(
    made: h5py.Dataset, name: str | None, size: int, number: int, users: list[tuple[h5r.Reference, int]]
) -> None:
    """Say of a data set that it is a dimension, of a variable's name or of none, and what is along it."""
    h5ds.set_scale(made.id, _NOT_A_VARIABLE + b"%10d" % size if name is None else name.encode())
    if name is None:
        _put(made, "_Netcdf4Dimid", np.array(number, np.int32))
    if users:
        _put(made, "REFERENCE_LIST", np.array(users, _BACK_REFERENCE))


def _values(file: h5py.File, name: str, variable: xr.Variable, may_pack: bool) -> h5py.Dataset:
    """A variable's values, which may be compressed where they are floating-point numbers along a dimension."""
    values = variable.values
    if values.dtype.kind in "UO":
        return file.create_dataset(name, data=values.astype(object), dtype=_TEXT)
    options = _PACKED if may_pack and values.dtype.kind == "f" and values.ndim else {}
    return file.create_dataset(name, data=values, fillvalue=variable.attrs.get("_FillValue"), **options)


def _put_all(owner: h5py.HLObject, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if isinstance(value, str):
            _put(owner, name, np.array(value, _TEXT), _STORED_TEXT)
        else:
            _put(owner, name, np.atleast_1d(np.asarray(value)))


def _put(owner: h5py.HLObject, name: str, value: np.ndarray | np.generic, kind: h5t.TypeID | None = None) -> None:
    """Write a new attribute: `owner.attrs` would first look whether it is there, for each in turn."""
    array = np.asarray(value)
    space = h5s.create_simple(array.shape) if array.shape else _ONE
    h5a.create(owner.id, name.encode(), kind or h5t.py_create(array.dtype, logical=True), space).write(array)


# Reading


def _read(file: h5py.File) -> xr.Dataset:
    attributes = _attributes(file)[0]
    variables, scales, owners = {}, {}, {}
    for name, dataset in file.items():
        if not isinstance(dataset, h5py.Dataset) or name.startswith("_nc4_non_coord_"):
            raise _UnusualError
        if None in dataset.maxshape:  # unlimited dimensions fill one another
            raise _UnusualError
        own, structure = _attributes(dataset)
        if structure.get("CLASS") == "DIMENSION_SCALE":
            if dataset.ndim != 1:
                raise _UnusualError
            scales[dataset.id] = name
            if str(structure.get("NAME")).startswith(_NOT_A_VARIABLE.decode()):
                continue
        owners[name] = dataset, own, structure.get("DIMENSION_LIST")
    coordinates = _coordinates(attributes, owners)
    for name, (dataset, own, references) in owners.items():
        dims = (name,) if dataset.id in scales else _dims(file, dataset, references, scales)
        coordinates |= _coordinates(own, owners)
        variables[name] = _decoded(dims, dataset, own)
    return xr.Dataset(variables, attrs=attributes).set_coords(coordinates)


def _dims(
    file: h5py.File, dataset: h5py.Dataset, references: np.ndarray | None, scales: Mapping[Any, str]
) -> tuple[str, ...]:
    """Names of a variable's dimensions, one a scale."""
    if not dataset.ndim:
        return ()
    if references is None or references.shape != (dataset.ndim,) or not all(map(len, references)):
        raise _UnusualError
    made = [h5r.dereference(each[-1], file.id) for each in references]
    if not scales.keys() >= set(made):
        raise _UnusualError
    return tuple(scales[each] for each in made)


def _coordinates(attributes: dict[str, Any], variables: Mapping[str, Any]) -> set[str]:
    """The variables that CF's attribute names, which is taken away."""
    names = set(str(attributes.get("coordinates", "")).split())
    if not names <= variables.keys():
        raise _UnusualError
    attributes.pop("coordinates", None)
    return names


def _decoded(dims: tuple[str, ...], dataset: h5py.Dataset, attributes: dict[str, Any]) -> xr.Variable:
    """A variable as CF means it: missing numbers are NaN already, whole numbers may stand for truth values."""
    kind = dataset.dtype
    text = h5py.check_string_dtype(kind)
    if not _CONVENTIONS.isdisjoint(attributes) or not (_is_number(kind) or (text is not None and text.length is None)):
        raise _UnusualError
    filled = attributes.pop("_FillValue", None)
    if filled is not None and not (kind.kind == "f" and filled.dtype == kind and np.isnan(filled)):
        raise _UnusualError
    values = np.asarray(dataset[()] if text is None else np.asarray(dataset.asstr()[()]).astype(str))
    if attributes.get("dtype") == "bool":
        if kind.kind not in "iu":
            raise _UnusualError
        values = values.astype(bool)
        del attributes["dtype"]
    encoding = {"zlib": True, "complevel": dataset.compression_opts} if dataset.compression == "gzip" else {}
    return xr.Variable(dims, values, attributes, encoding)


def _attributes(owner: h5py.HLObject) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes as h5netcdf gives them, and those of the structure that are of use here."""
    own: dict[str, Any] = {}
    structure: dict[str, Any] = {}
    for number in range(h5a.get_num_attrs(owner.id)):
        attribute = h5a.open(owner.id, index=number)
        name = attribute.name.decode()
        if attribute.shape is None:  # an attribute without a value
            raise _UnusualError
        if name not in _STRUCTURE:
            own[name] = _value(attribute)
        elif name == "DIMENSION_LIST":
            structure[name] = owner.attrs[name]
        elif name in ("CLASS", "NAME"):
            structure[name] = _value(attribute)
    return own, structure


def _value(attribute: h5a.AttrID) -> Any:
    kind, shape = attribute.dtype, attribute.shape
    text = h5py.check_string_dtype(kind)
    if len(shape) > 1 or not (text or kind.kind in "iuf"):
        raise _UnusualError
    values = np.zeros(shape, kind)
    attribute.read(values)
    if text is None:
        return values if values.size > 1 else values.reshape(-1)[0]
    if values.size != 1 or text.length == 1:
        raise _UnusualError
    return values.item().decode(text.encoding, "surrogateescape")
