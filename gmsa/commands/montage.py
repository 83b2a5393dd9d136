"""`gmsa montage`: make labelled videos with exactly known segments, as YouTube-8M shards."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmsa.options import OnError
from gmsa.terminal import left_out
from gmsa_models.data.atomic import check_folder
from gmsa_models.progress import progress_bar

if TYPE_CHECKING:
    from gmsa_models import Vocabulary

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
    from gmsa_models.data.montage.video_vectors import read_video_vectors

    for name, value in (("--split", split), ("--classes", classes)):
        if value is not None and not vectors:
            raise typer.BadParameter(
                f"{name} is of --vectors; the shipped statistics have one split, and their classes"
            )
    kept = 300 if classes is None else _classes(classes).indices
    check_folder(out)
    with left_out() as skipped:
        source = (
            read_video_vectors(
                vectors[0] if len(vectors) == 1 else vectors, split, kept, on_error=on_error, on_skip=skipped
            )
            if vectors
            else shipped_statistics()
        )
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
    print(f"wrote {count} videos of {len(source.kept)} classes to {len(paths)} shards in {out}")


def _classes(name: str) -> Vocabulary:
    """Of a class table, or of a model; YouTube-8M's, as the labels of video-level vectors are."""
    from gmsa_models import Vocabulary, describe
    from gmsa_models.data.montage.make import demo_vocabulary

    classes = Vocabulary.read_csv(name) if name.endswith(".csv") else describe(name).vocabulary
    expected = demo_vocabulary().dataset
    if classes is None or classes.dataset not in ("", expected):  # a bare class table is of no data set
        theirs = "no classes" if classes is None else f"classes of {classes.dataset!r}"
        raise typer.BadParameter(f"--classes {name} has {theirs}; expected those of {expected!r}, as vectors have them")
    return classes


def _brief(labels: Sequence[int]) -> str:
    return ", ".join(map(str, labels[:5])) + (" ..." if len(labels) > 5 else "")
