"""What `gmsa inspect` leaves behind: the overview of each model, two models side by side, and each record."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from analysis.record.contents import check_drawable
from analysis.record.edits import record_edits
from analysis.record.files import open_record, save_record
from figures.files import digest
from figures.inspector import write_html
from figures.inspector.media import ClipMedia, clip_media
from figures.inspector.records import model_name, split_records
from figures.overview import draw
from figures.style import save
from gmsa_models.data.file_names import HASHED, file_name
from gmsa_models.errors import ArgumentError

if TYPE_CHECKING:
    from analysis.inspect.live import LiveModel

__all__ = ["provenance", "saved_records", "write_inspection"]

LONGEST_CLIP, LONGEST_MODEL = 100, 55  # bytes in a file's name, which has at most 255 with all that is added


def saved_records(paths: Sequence[str | Path]) -> list[xr.Dataset]:
    """Records of one clip that were saved, one a model; files that hold several models come apart.

    Raises:
        FileNotFoundError: one is not there.
        ArgumentError: they are not of one clip, two are of one model, or they explain different classes; and as
            `open_record`.
    """
    for path in paths:
        if not Path(path).exists():
            raise FileNotFoundError(
                f"no saved record {str(path)!r}; expected a file that `gmsa inspect` wrote, for --against too"
            )
    records = split_records([open_record(path) for path in paths])
    for record in records:
        check_drawable(record, f"the record of {record['model'].item()!s} in {', '.join(map(str, paths))}")
    explained = {str(one["explanation"].attrs.get("class_name")): one for one in records if "explanation" in one}
    if len(explained) > 1:
        classes = ", ".join(f"{name!r} by model {one['model'].item()!r}" for name, one in explained.items())
        raise ArgumentError(
            f"the records explain different classes: {classes}; expected one: write them again with --target"
        )
    return records


def write_inspection(
    records: Sequence[xr.Dataset],
    out: str | Path,
    top: int,
    command: str,
    html: bool = False,
    *,
    video: str | Path | ClipMedia | None = None,
    media: str | None = None,
    live: Sequence[LiveModel] = (),
    notify: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Write `CLIP-MODEL.png`, `.pdf`, `.json` and `.nc` a record, and `CLIP-MODEL-against-OTHER` for two.

    Clip and model stand there as `file_name` writes them. Where the folder holds files of such a name, in any case of
    letters, of another clip or model, `~` and a hash follow the name.

    Args:
        records: of one clip, by different models.
        out: folder; made if it is absent.
        top: how many predictions the pictures list.
        command: for the JSON.
        html: write the interactive inspector of all the records as well.
        video, media: its pictures and sound, see `clip_media`.
        live, notify: see `write_html`.
        progress: called with how many pictures, records and pages are written, and how many are to be.

    Returns:
        The files, in the order of writing.

    Raises:
        ArgumentError, ClipFileError: as `clip_media`, before anything is written.
    """
    out, pictures = Path(out), clip_media(records, video, media) if html else None
    out.mkdir(parents=True, exist_ok=True)
    written = []
    steps = _counted(progress, 2 * len(records) + (len(records) == 2) + html)
    for record in records:
        path, about = out / _stem(out, [record]), provenance([record], command)
        written += save(draw(record, top=top), path, provenance=about)
        steps()
        written.append(save_record(record, path.with_name(f"{path.name}.nc")))
        steps()
    path = out / _stem(out, records)
    if len(records) == 2:
        written += save(draw(records[0], records[1], top), path, provenance=provenance(records, command))
        steps()
    if html:
        view = {"against": str(records[1]["model"].item())} if len(records) > 1 else {}
        if len(records) > 2 and record_edits(records[-1].attrs):  # an edited pass, and another model
            view["model"] = str(records[-1]["model"].item())
        page = path.with_name(f"{path.name}.html")
        written.append(write_html(records, page, view, video=pictures, live=live, notify=notify))
        steps()
    return written


def _counted(progress: Callable[[int, int], None], total: int) -> Callable[[], None]:
    """To be called after each of `total` steps, of which none is done."""
    done = count(1)
    progress(0, total)
    return lambda: progress(next(done), total)


def provenance(records: Sequence[xr.Dataset], command: str) -> dict[str, Any]:
    """Where a figure of these records comes from, for the JSON beside it."""
    first = records[0].attrs
    shared = ("checkpoint_name", "checkpoint_path", "checkpoint_sha256")
    return {
        "command": command,
        "clip": {name: first[name] for name in ("clip", "source", "features_sha256") if name in first},
        "models": [
            {"name": model_name(one)}
            | {name: one.attrs[name] for name in shared if name in one.attrs}
            | ({"edits": list(edits)} if (edits := record_edits(one.attrs)) else {})
            for one in records
        ],
    }


def _stem(folder: Path, records: Sequence[xr.Dataset]) -> str:
    """Name of the files of some records, without suffix, that no files of other records in the folder have."""
    clip = file_name(str(records[0].attrs["clip"]), LONGEST_CLIP)
    first, *others = [file_name(_file_label(record), LONGEST_MODEL) for record in records]
    against = f"{len(others)}-others" if len(others) > 1 else "".join(others)
    stem = f"{clip}-{first}-against-{against}" if others else f"{clip}-{first}"
    about = provenance(records, "")
    for path in folder.glob("*.json"):
        if path.stem.casefold() == stem.casefold() and (path.stem != stem or not _is_of_the_same(path, about)):
            models = [each.get("checkpoint_path", each.get("checkpoint_sha256")) for each in about["models"]]
            models += [each["edits"] for each in about["models"] if "edits" in each]
            return f"{stem}{HASHED}{digest([stem, about['clip'].get('features_sha256'), models])[:8]}"
    return stem


def _file_label(record: xr.Dataset) -> str:
    """A model's name, as letters that any file may have: "NAME (weights: random)" is "NAME-random-weights"."""
    weights = record.attrs.get("weights")
    return f"{record.attrs['checkpoint_name']}-{weights}-weights" if weights else model_name(record)


def _is_of_the_same(path: Path, about: dict[str, Any]) -> bool:
    """Whether a file of `provenance` is of this clip and these models; a model trained anew in its place is the same.

    What cannot be read is of nothing, and may be written over.
    """
    try:
        other = json.loads(path.read_text(encoding="utf-8"))
        clips = [each["clip"][name] for each in (other, about) for name in ("clip", "features_sha256")]
        models = list(zip(other["models"], about["models"], strict=True))
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return clips[:2] == clips[2:] and all(map(_is_same_model, *zip(*models, strict=True)))


def _is_same_model(one: dict[str, Any], other: dict[str, Any]) -> bool:
    names = [each.get("name", each.get("checkpoint_name")) for each in (one, other)]  # earlier files have no `name`
    paths = {each.get("checkpoint_path") for each in (one, other)}
    same_path = len(paths) == 1 and None not in paths
    if one.get("edits") != other.get("edits"):
        return False
    return names[0] == names[1] and (same_path or one.get("checkpoint_sha256") == other.get("checkpoint_sha256"))
