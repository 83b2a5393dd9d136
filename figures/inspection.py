"""What `gmsa inspect` leaves behind: the overview of each model, two models side by side, and each record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from figures.inspector import write_html
from figures.inspector.records import split_records
from figures.overview import draw
from figures.record_contents import check_drawable
from figures.record_file import open_record, save_record
from figures.style import save


def saved_records(paths: Sequence[str | Path]) -> list[xr.Dataset]:
    """Records of one clip that were saved, one a model; files that hold several models come apart.

    Raises:
        FileNotFoundError: one is not there.
        InspectorError: they are not of one clip, or two are of one model; and as `open_record`.
    """
    for path in paths:
        if not Path(path).exists():
            raise FileNotFoundError(
                f"no saved record {str(path)!r}; expected a file that `gmsa inspect` wrote, for --against too"
            )
    records = split_records([open_record(path) for path in paths])
    for record in records:
        check_drawable(record, f"the record of {record['model'].item()!s} in {', '.join(map(str, paths))}")
    return records


def write_inspection(
    records: Sequence[xr.Dataset], out: str | Path, top: int, command: str, html: bool = False
) -> list[Path]:
    """Write `CLIP-MODEL.png`, `.pdf`, `.json` and `.nc` a record, and `CLIP-MODEL-against-OTHER` for two.

    Args:
        records: of one clip, by one model or two.
        out: folder; made if it is absent.
        top: how many predictions the pictures list.
        command: for the JSON.
        html: write the interactive inspector of all the records as well.

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
    if html:
        view = {"against": str(records[1]["model"].item())} if len(records) > 1 else {}
        written.append(write_html(records, out / f"{clip}-{'-against-'.join(models)}.html", view))
    return written


def provenance(records: Sequence[xr.Dataset], command: str) -> dict[str, Any]:
    """Where a figure of these records comes from, for the JSON beside it."""
    first = records[0].attrs
    return {
        "command": command,
        "clip": {name: first[name] for name in ("clip", "source", "features_sha256")},
        "models": [
            {name: one.attrs[name] for name in ("checkpoint_name", "checkpoint_sha256") if name in one.attrs}
            for one in records
        ],
    }


def file_name(text: str) -> str:
    """A text as part of a file's name: what is not a letter, digit, dot or underscore becomes a hyphen."""
    stem = Path(text).name if "#" not in text else text.rpartition("#")[2]
    kept = "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in stem)
    return kept.removesuffix(".tfrecord").strip("-.") or "clip"
