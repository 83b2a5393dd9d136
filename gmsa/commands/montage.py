"""`gmsa montage`: make labelled videos with exactly known segments, as YouTube-8M shards."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmsa.options import OnError
from gmsa.terminal import left_out, visible
from gmsa_models.data.atomic import check_folder
from gmsa_models.progress import progress_bar

if TYPE_CHECKING:
    from gmsa_models import Vocabulary
    from gmsa_models.data.montage.video_vectors import VideoVectors

__all__ = ["montage"]


def montage(
    out: Annotated[Path, typer.Option(help="Folder of the shards.")],
    count: Annotated[int, typer.Option(min=1, help="Videos in all.")] = 100,
    shards: Annotated[int, typer.Option(min=1)] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the series: the same seed, the same videos.")] = 0,
    vectors: Annotated[
        list[str] | None,
        typer.Option(help="Video-level vectors (.npz, or shards); default: the shipped class statistics."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="train or held-out, of the vectors.")] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Whose classes the videos show: a model, or a class table (.csv); default: the 300 most "
            "frequent labels of the vectors."
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Whose labels the vectors have; default: youtube-8m where they are as wide as its own, else not said.",
        ),
    ] = None,
    mix: Annotated[str, typer.Option(help="events, all-labelled or topic.")] = "events",
    frames: Annotated[tuple[int, int], typer.Option(help="Shortest and longest video, seconds.")] = (60, 300),
    events: Annotated[tuple[int, int], typer.Option(help="Fewest and most events of a video.")] = (1, 3),
    on_error: OnError = "fail",
    processes: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Make labelled videos with exactly known segments, as YouTube-8M shards."""
    from gmsa_models.data.montage.class_statistics import ClassStatistics, shipped_statistics
    from gmsa_models.data.montage.recipe import MontageRecipe
    from gmsa_models.data.montage.shards import unshipped_classes, write_montages

    for name, value in (("--split", split), ("--classes", classes), ("--dataset", dataset)):
        if value is not None and not vectors:
            raise typer.BadParameter(
                f"{name} is of --vectors; the shipped statistics have one split, and their classes"
            )
    check_folder(out)
    source = _vectors(vectors, split, classes, dataset, on_error) if vectors else shipped_statistics()
    if others := unshipped_classes(source):
        print(
            f"gmsa: WARNING: {len(others)} of the {len(source.kept)} classes of these montages ({_brief(others)}) are "
            "none of the shipped models', which score without them; for theirs give --classes gate-op-bd20",
            file=sys.stderr,
        )
    recipe = MontageRecipe(mix=mix, frames=frames, events=events)
    if isinstance(source, ClassStatistics):
        recipe = replace(recipe, variation=dict(source.variation))
    with progress_bar() as progress:
        task = progress.add_task("videos", total=count)
        paths = write_montages(source, recipe, seed, count, out, shards, processes, lambda n: progress.advance(task, n))
    print(f"wrote {count} videos of {len(source.kept)} classes to {len(paths)} shards in {visible(out)}")


def _vectors(
    vectors: list[str], split: str | None, classes: str | None, dataset: str | None, on_error: str
) -> VideoVectors:
    """The vectors that are asked for, their labels of one data set with the classes that are."""
    from gmsa_models.data.montage.video_vectors import read_video_vectors
    from gmsa_models.data.spaces import LONGEST_NAME, is_name, same_labels

    if dataset is not None and not is_name(dataset):
        raise typer.BadParameter(f"--dataset {dataset!r}; expected a name of at most {LONGEST_NAME} plain characters")
    chosen = None if classes is None else _classes(classes)
    with left_out() as skipped:
        source = read_video_vectors(
            vectors[0] if len(vectors) == 1 else vectors, split, 300 if chosen is None else chosen.indices,
            dataset=dataset, on_error=on_error, on_skip=skipped,
        )  # fmt: skip
    if chosen is not None and not same_labels(chosen.dataset, source.dataset):
        raise typer.BadParameter(
            f"--classes {classes} has classes of {chosen.dataset!r}; expected those of {source.dataset!r}, as the "
            "vectors have them; if their labels are of another data set, say so with --dataset"
        )
    return source


def _classes(name: str) -> Vocabulary:
    """Of a class table, or of a model."""
    from gmsa_models import Vocabulary, describe

    classes = Vocabulary.read_csv(name) if name.endswith(".csv") else describe(name).vocabulary
    if classes is None:
        raise typer.BadParameter(f"--classes {name} has no classes; expected a model that says what its outputs are")
    return classes


def _brief(labels: Sequence[int]) -> str:
    return ", ".join(map(str, labels[:5])) + (" ..." if len(labels) > 5 else "")
