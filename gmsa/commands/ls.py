"""`gmsa ls`: list the clips of a source: ids, lengths, streams, labels."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from gmsa.common import show
from gmsa.options import DataSet, Model, OnError
from gmsa.terminal import left_out, visible

if TYPE_CHECKING:
    from gmsa_models.data.clip import Clip
    from gmsa_models.data.vocabulary import Vocabulary

__all__ = ["ls"]

COLUMNS = ("id", "seconds", "frames", "streams", "labels")


def ls(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE", help="Files of clips or globs (quote a glob), file#id, a catalogue, or demo:A-B."
        ),
    ],
    model: Model = "gate-op-bd20",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many clips.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for other programs: a row a clip.")] = False,
    dataset: DataSet = None,
    on_error: OnError = "fail",
) -> None:
    """List the clips of a source: ids, lengths, streams, labels; names of labels are the model's."""
    from itertools import islice

    from gmsa_models import describe, read_clips

    vocabulary = describe(model).vocabulary
    with left_out() as skipped:
        clips = read_clips(source, dataset=dataset, on_error=on_error, on_skip=skipped)
        rows = (_row(clip, vocabulary) for clip in islice(clips, limit))
        if as_csv:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(rows)
        else:
            _show(rows)


def _row(clip: Clip, vocabulary: Vocabulary | None) -> tuple[str, str, str, str, str]:
    streams = " ".join(f"{name}:{values.shape[1]}" for name, values in clip.features.items())
    seconds = f"{clip.frames * clip.frame_seconds:.6g}"
    return clip.id, seconds, str(clip.frames), streams, "; ".join(_labels(clip, vocabulary))


def _labels(clip: Clip, vocabulary: Vocabulary | None) -> Iterator[str]:
    """Names of a clip's labels; numbers where they count another data set's classes than the names."""
    from gmsa_models.data.spaces import same_labels

    named = vocabulary is not None and same_labels(clip.dataset, vocabulary.dataset)
    for label in clip.labels:
        yield vocabulary.name(label) if vocabulary is not None and named else f"label {label}"


def _show(rows: Iterable[tuple[str, ...]]) -> None:
    from rich.table import Table

    table = Table(box=None)
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in ("seconds", "frames") else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(visible, row))
    show(table)
    print(f"{table.row_count} clips")
