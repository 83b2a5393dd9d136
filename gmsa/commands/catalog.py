"""`gmsa catalog`: write a catalogue of shards, so that any video opens at once by its id."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gmsa.options import OnError
from gmsa.terminal import ClickError, left_out, visible
from gmsa_models.data.atomic import check_folder
from gmsa_models.data.demo_videos import DEMO, is_demo
from gmsa_models.progress import progress_bar

__all__ = ["catalog"]


def catalog(
    data: Annotated[list[str], typer.Argument(help="Files of clips or globs (quote a glob).")],
    out: Annotated[Path, typer.Option(help="The .parquet file to write.")] = Path("catalog.parquet"),
    on_error: OnError = "fail",
) -> None:
    """Write a catalogue of shards, so that any video opens at once by its id: `gmsa inspect catalog.parquet#ID`."""
    from gmsa_models.data.catalog.catalog import build_catalog

    check_folder(out.parent)
    if demo := [source for source in data if is_demo(source)]:
        raise ClickError(f"{demo[0]} is made anew each time and lies in no file to list; it opens by number: {DEMO}3")
    with left_out() as skipped, progress_bar() as progress:
        task = progress.add_task("shards", total=None)
        summary = build_catalog(
            data,
            out,
            lambda done, total, records: progress.update(task, completed=done, total=total),
            on_error=on_error,
            on_skip=skipped,
        )
    counts = f"{summary.records} videos in {summary.shards} shards, {summary.skipped} left out"
    print(f"wrote {visible(summary.path)}: {counts}")
