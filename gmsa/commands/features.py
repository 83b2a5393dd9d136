"""`gmsa features`: from video files to a folder of features that every other command takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gmsa.common import device_of, use_threads
from gmsa.options import Device, OnError, Threads
from gmsa.terminal import ClickError, left_out, progress_of, say, visible
from gmsa_models.data.atomic import check_folder

__all__ = ["features"]

NONE = "none"
MOST_NAMED = 5  # of several videos


def features(
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO...", help="Video files or globs (quote a glob).")],
    out: Annotated[Path, typer.Option(help="Folder of the features; given again, what is there is kept.")],
    visual: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What sees the pictures: efficientnet-lite0, transformers=FOLDER, youtube-8m=FOLDER, or none.",
        ),
    ] = "efficientnet-lite0",
    audio: Annotated[
        str,
        typer.Option(metavar="NAME", help="What hears the sound: log-mel, yamnet=FILE, vggish=FOLDER, or none."),
    ] = "log-mel",
    rate: Annotated[float, typer.Option(help="Frames a second.")] = 1.0,
    labels: Annotated[
        str,
        typer.Option(
            metavar="none|folders|FILE.csv",
            help="folders: each video is labelled by the name of its folder; or a table with columns path, label and, "
            "if wanted, start, end in seconds.",
        ),
    ] = NONE,
    dataset: Annotated[
        str | None, typer.Option(help="Whose classes the labels count; default: the name of the folder.")
    ] = None,
    thumbnails: Annotated[
        bool, typer.Option(help="Write the pictures of each video's frames too, as one small WebP file.")
    ] = True,
    proxy: Annotated[
        bool, typer.Option(help="Write a small copy of each video too, which plays in pages: at most 1 MB a minute.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="Videos at once.")] = 1,
    on_error: OnError = "fail",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Features of your own videos: a file each, for `gmsa train`, `inspect`, `evaluate`, `sweep` and `catalog`."""
    from analysis.features.folder import ExtractorNames, write_features
    from analysis.features.labels import read_labels
    from analysis.features.video_files import video_files
    from gmsa_models.data.paths import skip_handler
    from gmsa_models.data.video.decode import HIGHEST_RATE

    use_threads(threads)
    if visual == audio == NONE:
        raise ClickError("--visual none and --audio none: there would be no features. Give one of the two")
    if not 0 < rate <= HIGHEST_RATE:
        raise ClickError(f"--rate is {rate:g}; expected more than 0, at most {HIGHEST_RATE:g} frames a second")
    names = ExtractorNames(
        "" if visual == NONE else visual, "" if audio == NONE else audio, rate, str(device_of(device))
    )
    check_folder(out)
    with left_out() as skipped, progress_of("videos") as progress:
        paths = video_files(videos, skip_handler(on_error, skipped))
        known = read_labels(labels, paths, say)
        summary = write_features(
            paths, out, names, known, dataset=out.resolve().name if dataset is None else dataset,
            thumbnails=thumbnails, proxy=proxy, processes=processes, on_error=on_error, on_skip=skipped,
            progress=progress,
        )  # fmt: skip
    if summary.replaced:
        say(
            f"{_listed(summary.replaced)}: features of another content took the place of those that were there. "
            "Videos of one name are kept apart where they are given together, or by an --out each"
        )
    if summary.cut:
        say(f"{_listed(summary.cut)}: a label reaches beyond the end of the video; its segment ends there")
    for each in summary.copies[:MOST_NAMED]:
        say(f"{_listed(each)}: one video, byte for byte; training keeps such copies together")
    if len(summary.copies) > MOST_NAMED:
        say(f"{len(summary.copies) - MOST_NAMED} more videos lie in {out} more than once")
    if summary.silent:
        say(f"{summary.silent} of the videos have no sound: silence was heard")
    if summary.unlabelled:
        say(f"{summary.unlabelled} of the videos have no label in {labels}")
    classes = f", {len(summary.classes)} classes" if summary.classes else ""
    kept = f" ({summary.kept} were there)" if summary.kept else ""
    print(f"wrote {visible(out)}: {summary.made + summary.kept} videos{kept}, {summary.frames} frames{classes}")


def _listed(names: Sequence[str]) -> str:
    """Names, the first few of many."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
