"""`gmsa sweep`: options in, a Parquet file a shard out. Light to import; the work comes later."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmsa.commands.figures import words
from gmsa.options import complete_model
from gmsa.terminal import FAILED, one_line
from gmsa_models.progress import progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress

    from analysis.sweep import SweepResult
    from analysis.sweep.work import ShardOutcome

__all__ = ["Bar", "sweep"]

MEBI = 2**20


def sweep(
    data: Annotated[list[str], typer.Option(help="Files of clips, globs of them, or demo:A-B; may be repeated.")],
    model: Annotated[
        list[str],
        typer.Option(help="Trained models or files, with commas; may be repeated.", autocompletion=complete_model),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the table; given again, a stopped sweep goes on from there.")],
    analyses: Annotated[
        list[str] | None,
        typer.Option(help="Of scores, unevenness, patterns, gates, sensitivity (these five unless told otherwise), "
                     "lines, profiles, head-patterns, frame-sensitivity; with commas."),
    ] = None,
    neighbourhood: Annotated[
        str,
        typer.Option(help="BD20, TP30, TD60x4 ...: the N_i by which all models' sensitivity is measured alike; CP4: "
                     "the clips' own segments; SHOTS: the shots of their videos."),
    ] = "TP30",
    engine: Annotated[str, typer.Option(help="in-process, processes, or ray (a cluster).")] = "in-process",
    workers: Annotated[int | None, typer.Option(min=1, help="Shards at once; default: one a core.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster: auto, HOST:PORT, ray://HOST:PORT; default: one here.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips a pass, at most.")] = 16,
    memory: Annotated[
        int, typer.Option(min=1, help="MiB that a worker may take, about, beside the program and the models.")
    ] = 256,
    device: Annotated[str, typer.Option(help="cpu or cuda; several workers share the GPUs.")] = "cpu",
    on_error: Annotated[
        str,
        typer.Option(help="fail: a shard with a record that cannot be read is recorded as failed, and the rest go on; "
                     "skip: the record is left out."),
    ] = "fail",
    again: Annotated[
        bool, typer.Option("--again", help="Do shards anew that were made with other models, settings or versions.")
    ] = False,
) -> None:  # fmt: skip
    """Any analyses of every video of a data set, to one table in Parquet. Exit code 1 if a shard could not be read."""
    from analysis.sweep import DEFAULT_ANALYSES, SweepSettings, run_sweep
    from gmsa_models.checkpoints.names import name_checkpoints, renamed
    from gmsa_models.masks import neighbourhood_from_text

    settings = SweepSettings(
        words(analyses) or DEFAULT_ANALYSES, neighbourhood_from_text(neighbourhood), batch_size, memory * MEBI, device,
        on_error,
    )  # fmt: skip
    for line in renamed(name_checkpoints(words(model))):
        print(f"gmsa: {one_line(line)}", file=sys.stderr)
    with progress_bar("{task.fields[videos]} videos, {task.fields[rate]:.1f}/s") as progress:
        result = run_sweep(
            words(model), data, out, settings, engine=engine, workers=workers, address=address, again=again,
            watch=Bar(progress),
        )  # fmt: skip
    print(summary(result))
    if not result.good:
        raise typer.Exit(FAILED)


class Bar:
    """A progress bar that is told of clips and shards. Its length is bytes: shards differ in size."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task = progress.add_task("shards", total=None, videos=0, rate=0.0)
        self.within, self.whole, self.counted, self.finished = 0, 0, 0, 0

    def begin(self, size: int, left: int) -> None:
        """Bytes to do, of all."""
        self.progress.update(self.task, total=left)

    def advance(self, videos: int, size: int) -> None:
        """Clips of a shard that is not done yet."""
        self.within, self.counted = self.within + size, self.counted + videos
        self._show()

    def end_shard(self, outcome: ShardOutcome) -> None:
        """A shard that is done, or has failed."""
        self.whole, self.within, self.counted = self.whole + outcome.task.shard.bytes, 0, 0
        self.finished += outcome.videos
        for line in (outcome.reason, *outcome.left_out):
            if line:
                message = one_line(f"{outcome.task.shard.name}: {line}")  # a file may have any name
                self.progress.console.print(message, highlight=False, soft_wrap=True, markup=False)
        self._show()

    def _show(self) -> None:
        task, videos = self.progress.tasks[self.task], self.finished + self.counted
        rate = videos / task.elapsed if task.elapsed else 0.0
        # Frames are a little less than their records, so a shard in work never counts as more than itself.
        done = min(self.whole + self.within, task.total or 0)
        self.progress.update(self.task, completed=done, videos=videos, rate=rate)


def summary(result: SweepResult) -> str:
    """One line on what was done, and one a shard that failed."""
    if result.unchanged == result.shards:
        return f"nothing to do: all {result.shards} shards are finished in {result.folder}"
    rate = result.videos / max(result.seconds, 1e-9)
    parts = [f"{len(result.done)} shards done ({result.videos} videos, {rate:.1f} a second)"]
    parts += [f"{result.unchanged} finished before"] if result.unchanged else []
    parts += [f"{len(result.failed)} FAILED, see {result.folder / 'failed'}"] if result.failed else []
    return f"{', '.join(parts)}, in {result.folder}"
