"""What `gmsa inspect` leaves behind: the overview of each model, two models side by side, and each record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from figures.gallery import file_name, provenance
from figures.overview import draw
from figures.style import save, whole_file


def write_inspection(records: Sequence[xr.Dataset], out: str | Path, top: int, command: str) -> list[Path]:
    """Write `CLIP-MODEL.png`, `.pdf`, `.json` and `.nc` a record, and `CLIP-MODEL-against-OTHER` for two.

    Args:
        records: of one clip, by one model or two.
        out: folder; made if it is absent.
        top: how many predictions the pictures list.
        command: for the JSON.

    Returns:
        The files, in the order of writing.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    clip = file_name(records[0].attrs["clip"])
    models = [file_name(str(record["model"].item())) for record in records]
    written = []
    for model, record in zip(models, records, strict=True):
        written += save(draw(record, top=top), out / f"{clip}-{model}", provenance=provenance([record], command))
        written.append(save_record(record, out / f"{clip}-{model}.nc"))
    if len(records) > 1:
        path = out / f"{clip}-{models[0]}-against-{models[1]}"
        written += save(draw(*records, top=top), path, provenance=provenance(records, command))
    return written


def save_record(record: xr.Dataset, path: str | Path) -> Path:
    """Write a record to one compressed NetCDF file, which appears whole or not at all."""
    path = Path(path)
    packed = {name: {"zlib": True, "complevel": 1} for name, value in record.items() if value.dtype.kind == "f"}
    with whole_file(path) as temporary:
        record.to_netcdf(temporary, engine="h5netcdf", encoding=packed)
    return path
