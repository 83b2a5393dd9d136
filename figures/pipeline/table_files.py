"""Every number that a figure draws, as one `.npz` beside it: labelled tables out and in again, bit for bit.

Needs neither torch nor the models. An entry `table/variable` holds the values; the entry `tables` says, as JSON, which
dimensions and attributes they have.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gmsa_models.data.atomic import replaced_when_done
from gmsa_models.errors import DamagedError

__all__ = ["differences", "load_tables", "save_tables"]

# How much a file's bytes may become in memory; the numbers of all figures together take a few MiB.
_BYTES_A_BYTE, _ALLOWANCE = 16, 1 << 26
INDEX = "tables"
FORMAT_VERSION = 1
# What numpy, zipfile, zlib, json and xarray raise on bytes that are not what they were.
_DAMAGED = (
    OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError,
    SyntaxError, ArithmeticError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def save_tables(path: Path, tables: Mapping[str, xr.Dataset]) -> Path:
    """Write tables to one `.npz`; the same tables give the same bytes.

    Args:
        path: ends in `.npz`.
        tables: name -> table, of numbers, True and False, and text.
    """
    arrays, index = {}, {}
    for name, table in tables.items():
        for variable, array in table.variables.items():
            arrays[f"{name}/{variable}"] = _plain(array.values)
        index[name] = {
            "dims": {variable: list(array.dims) for variable, array in table.variables.items()},
            "units": {v: a.attrs for v, a in table.variables.items() if a.attrs},
            "coords": [str(coordinate) for coordinate in table.coords],
            "attributes": table.attrs,
        }
    about = json.dumps({"version": FORMAT_VERSION, "tables": index}, ensure_ascii=False, default=_number)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_when_done(path) as temporary, temporary.open("wb") as file:
        everything: dict[str, Any] = {INDEX: np.array(about), **arrays}
        np.savez_compressed(file, **everything)
    return path


def load_tables(path: Path) -> dict[str, xr.Dataset]:
    """The tables of `save_tables`.

    Raises:
        DamagedError: no such file, not an `.npz`, damaged, not written by `save_tables`, or by a later version.
    """
    try:
        _check_sizes(Path(path))
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            about = json.loads(str(file[INDEX]))
            if about["version"] != FORMAT_VERSION:
                raise DamagedError(f"{path}: format version {about['version']}; this program reads {FORMAT_VERSION}")
            arrays = {name: file[name] for name in file.files}
        return {name: _table(name, index, arrays) for name, index in about["tables"].items()}
    except FileNotFoundError:
        raise DamagedError(f"{path}: no such file") from None
    except DamagedError:
        raise
    except _DAMAGED as error:
        raise DamagedError(
            f"{path}: not a file of tables: {error!s:.200}; make it again with `gmsa figures`"
        ) from error


def _check_sizes(path: Path) -> None:
    """Refuse arrays that claim more than the file's bytes can hold, before any is unpacked."""
    limit = _BYTES_A_BYTE * path.stat().st_size + _ALLOWANCE
    with zipfile.ZipFile(path) as file:
        claimed = sum(member.file_size for member in file.infolist())
        if claimed > limit:
            raise ValueError(f"claims {claimed} bytes of arrays; at most {limit} are read of a file of its size")
        for member in file.infolist():
            with file.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = header[version](stream)
                if prod(shape) * dtype.itemsize != member.file_size - stream.tell():
                    raise ValueError(f"array {member.filename!r:.100} is not of the size that it says")


def differences(saved: Mapping[str, xr.Dataset], fresh: Mapping[str, xr.Dataset], tolerance: float = 0.0) -> list[str]:
    """What differs between two sets of tables: one line a variable; none when they are the same.

    NaN equals NaN. Variables whose attribute `not_compared` is set (timings) are left out.

    Args:
        saved, fresh: by name.
        tolerance: how far floating-point numbers may differ, as a share of the largest value of their variable; 0:
            bit for bit; else neighbours of the type, which are far apart in float16, are alike too. Whole numbers and
            texts, and where NaN stands, are compared exactly.
    """
    lines = [f"{name}: only in one of the two" for name in sorted(set(saved) ^ set(fresh))]
    for name in [name for name in saved if name in fresh]:
        one, two = saved[name], fresh[name]
        for variable in sorted({str(each) for each in (*one.variables, *two.variables)}):
            if variable not in one.variables or variable not in two.variables:
                lines.append(f"{name}/{variable}: only in one of the two")
            elif line := _difference(one[variable], two[variable], tolerance):
                lines.append(f"{name}/{variable}: {line}")
        changed = [
            key for key in sorted({*one.attrs, *two.attrs}) if not _same_attribute(one.attrs, two.attrs, key, tolerance)
        ]
        lines += [f"{name}, attribute {key}: {one.attrs.get(key)!r}, now {two.attrs.get(key)!r}" for key in changed]
    return lines


def _difference(one: xr.DataArray, two: xr.DataArray, tolerance: float) -> str:
    if one.attrs.get("not_compared") or two.attrs.get("not_compared"):
        return ""
    first, second = _plain(one.values), _plain(two.values)
    if one.dims != two.dims or first.shape != second.shape:
        return f"{dict(one.sizes)}, now {dict(two.sizes)}"
    if first.dtype.kind in "US":
        return "" if (first == second).all() else "texts differ"
    if first.dtype != second.dtype:
        return f"{first.dtype}, now {second.dtype}"
    same = first == second
    if first.dtype.kind == "f":
        same |= np.isnan(first) & np.isnan(second)
    if same.all():
        return ""
    apart = np.abs(first[~same].astype(np.float64) - second[~same].astype(np.float64))
    largest = np.max(np.abs(first[np.isfinite(first)].astype(np.float64)), initial=0.0)
    details = ""
    if first.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):  # beside infinity and the type's largest number
            step = np.spacing(np.maximum(np.abs(first[~same]), np.abs(second[~same]))).astype(np.float64)
        if tolerance and (apart <= np.maximum(tolerance * largest, step)).all():  # False where one alone is NaN
            return ""
        missing = int(np.isnan(apart).sum())
        details = f", {missing} of them NaN in one of the two" if missing else ""
        details += f", neighbours in {first.dtype}" if (apart <= step).all() else ""
    farthest = np.nanmax(apart, initial=0.0)
    share = f", {farthest / largest:.2g} of the largest value" if largest > 0 else ""
    return f"{int((~same).sum())} of {same.size} values differ, by at most {farthest:.3g}{share}{details}"


def _same_attribute(one: Mapping[str, Any], two: Mapping[str, Any], key: str, tolerance: float) -> bool:
    if isinstance(one.get(key), float) and isinstance(two.get(key), float):
        return math.isclose(one[key], two[key], rel_tol=tolerance) or (one[key] != one[key] and two[key] != two[key])
    # NaN within lists is written as NaN and compares equal as text.
    return key in one and key in two and json.dumps(one[key], default=_number) == json.dumps(two[key], default=_number)


def _table(name: str, index: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> xr.Dataset:
    variables = {
        variable: xr.Variable(dims, arrays[f"{name}/{variable}"], index["units"].get(variable))
        for variable, dims in index["dims"].items()
    }
    return xr.Dataset(variables, attrs=index["attributes"]).set_coords(index["coords"])


def _plain(values: np.ndarray) -> np.ndarray:
    """Text as fixed-width unicode: no pickles."""
    return values.astype(str) if values.dtype.kind == "O" else values


def _number(value: object) -> object:
    """numpy scalars in attributes."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} in a table's attributes; expected text or a number")
