"""Labels of a user's videos: from the names of their folders, from a table, or none."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gmsa_models.data.errors import brief, is_plain
from gmsa_models.errors import ArgumentError

__all__ = ["FOLDERS", "NONE", "VideoLabel", "read_labels"]

NONE, FOLDERS = "none", "folders"
_NEEDED, _OPTIONAL = ("path", "label"), ("start", "end")
LONGEST_LABEL = 200  # characters


@dataclass(frozen=True)
class VideoLabel:
    """Something that a video shows.

    Attributes:
        name: of its class.
        span: seconds from the first picture, first and last; None: the whole video.
    """

    name: str
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class _Row:
    """A row of a table."""

    line: int
    path: str  # as it stands there
    video: Path  # resolved
    label: VideoLabel


def read_labels(
    source: str, videos: Sequence[Path], notify: Callable[[str], None] = print
) -> dict[Path, tuple[VideoLabel, ...]]:
    """Labels of each video, in the order of the table.

    Args:
        source: "none"; "folders": each video is labelled by the name of the folder it lies in; or the path of a CSV
            table with columns path, label and, if wanted, start and end in seconds, a row a label. Paths are taken
            from the table's folder, then from the working directory.
        videos: files.
        notify: is told how many rows of the table are of none of the videos.

    Raises:
        ArgumentError: a table that is none, with a row that cannot be, or without a row for any of the videos; names
            file and line.
        FileNotFoundError: no such table.
    """
    if source == NONE:
        return dict.fromkeys(videos, ())
    if source == FOLDERS:
        return {video: (VideoLabel(_name(video.resolve().parent.name, str(video))),) for video in videos}
    rows = _read_table(Path(source))
    wanted = {video.resolve() for video in videos}
    others = [each for each in rows if each.video not in wanted]
    if len(others) == len(rows):
        raise ArgumentError(
            f"{source}: none of its {len(rows)} rows is of one of the {len(videos)} videos; its first is of "
            f"{brief(str(rows[0].video))}, the first video is {brief(str(videos[0].resolve()))}"
        )
    if others:
        notify(
            f"{source}: {len(others)} of its {len(rows)} rows are of none of the videos and are left out; the first is "
            f"line {others[0].line}, of {brief(others[0].path)}"
        )
    labels: dict[Path, list[VideoLabel]] = defaultdict(list)
    for each in rows:
        labels[each.video].append(each.label)
    return {video: tuple(labels.get(video.resolve(), ())) for video in videos}


def _read_table(path: Path) -> list[_Row]:
    """The rows of a table, at least one."""
    result: list[_Row] = []
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}; expected {NONE}, {FOLDERS}, or a table of labels")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # a spreadsheet may have put a byte order mark
            rows = csv.DictReader(file)
            columns = rows.fieldnames or ()
            if not set(_NEEDED) <= set(columns) or len(columns) != len(set(columns)):
                raise ArgumentError(
                    f"{path}: columns {brief(list(columns))}; expected {', '.join(_NEEDED)} and, if wanted, "
                    f"{', '.join(_OPTIONAL)}"
                )
            for row in rows:
                where = f"{path}, line {rows.line_num}"
                label = VideoLabel(_name(row["label"] or "", where), _span(row, where))
                text = row["path"] or ""
                result.append(_Row(rows.line_num, text, _video(path, text, where), label))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ArgumentError(f"{path}: not a table of text: {error}") from None
    if not result:
        raise ArgumentError(f"{path}: the table has no rows")
    return result


def _video(table: Path, text: str, where: str) -> Path:
    if not text or not is_plain(text):
        raise ArgumentError(f"{where}: path is {brief(text)}; expected the path of a video")
    beside = table.parent / text
    return (beside if beside.exists() else Path(text)).resolve()


def _name(text: str, where: str) -> str:
    if not 0 < len(text) <= LONGEST_LABEL or not is_plain(text):
        raise ArgumentError(
            f"{where}: label is {brief(text)}; expected 1 to {LONGEST_LABEL} characters, no control one"
        )
    return text


def _span(row: Mapping[str, str | None], where: str) -> tuple[float, float] | None:
    """Seconds; None where a row leaves both empty."""
    texts = [row.get(name) or "" for name in _OPTIONAL]
    if not any(texts):
        return None
    try:
        start, end = (float(text) for text in texts)
    except ValueError:
        start = end = math.nan
    if not (math.isfinite(end) and 0 <= start < end):
        raise ArgumentError(
            f"{where}: start is {brief(texts[0])}, end {brief(texts[1])}; expected seconds, 0 <= start < end"
        )
    return start, end
