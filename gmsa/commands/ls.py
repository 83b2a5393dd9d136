"""`gmsa ls`: list the clips of a source: ids, lengths, streams, labels."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from gmsa.common import show
from gmsa.options import DataSet, OnError, complete_model
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
    model: Annotated[
        str | None,
        typer.Option(
            help="Name of a trained model (`gmsa models`), or a .safetensors file, whose classes have the names of the "
            "labels; default: of the shipped models the first of the clip's data set.",
            autocompletion=complete_model,
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many clips.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for other programs: a row a clip.")] = False,
    dataset: DataSet = None,
    on_error: OnError = "fail",
) -> None:
    """List the clips of a source: ids, lengths, streams, labels."""
    from itertools import islice

    from gmsa_models import read_clips

    vocabulary_of = _vocabularies(model)  # before any clip is read: a model that is not there is said at once
    with left_out() as skipped:
        clips = read_clips(source, dataset=dataset, on_error=on_error, on_skip=skipped)
        rows = (_row(clip, vocabulary_of(clip.dataset)) for clip in islice(clips, limit))
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


def _vocabularies(model: str | None) -> Callable[[str], Vocabulary | None]:
    """Data set -> the vocabulary with the names of its labels, or None: the model's, or one of the shipped models'."""
    from gmsa_models import available, describe
    from gmsa_models.data.spaces import same_labels

    names = [model] if model else available()
    vocabularies = [each for each in (describe(name).vocabulary for name in names) if each is not None]
    return cache(lambda dataset: next((each for each in vocabularies if same_labels(dataset, each.dataset)), None))


def _labels(clip: Clip, vocabulary: Vocabulary | None) -> Iterator[str]:
    """Names of a clip's labels; numbers where nobody names the classes of its data set."""
    for label in clip.labels:
        yield f"label {label}" if vocabulary is None else vocabulary.name(label)


def _show(rows: Iterable[tuple[str, ...]]) -> None:
    from rich.table import Table

    from gmsa_models.data.vocabulary import unnamed_note

    table = Table(box=None)
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in ("seconds", "frames") else "left", overflow="fold")
    note = ""
    for row in rows:
        table.add_row(*map(visible, row))
        note = note or unnamed_note(row[-1].split("; "))
    show(table)
    print("1 clip" if table.row_count == 1 else f"{table.row_count} clips")
    if note:
        print(note)
