"""`gmsa explainers`: explanations, one's own too, on videos whose seconds are known: a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gmsa.commands.figures import words
from gmsa.common import command_line, show
from gmsa.options import complete_model
from gmsa.terminal import progress_of, visible

if TYPE_CHECKING:
    import xarray as xr
    from rich.console import Group

    from analysis.explanations.benchmark.clip_scores import BenchmarkSettings

__all__ = ["explainers"]

NAME = "explainers"  # of the files


def explainers(
    out: Annotated[Path, typer.Option(help="Folder of table and picture; given again, a stopped run goes on.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Trained models or files, with commas; may be repeated. Default: gate-op-bd20.",
            autocompletion=complete_model,
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Videos with known segments: montages, files of clips, globs, demo:0-400, the default."),
    ] = None,
    methods: Annotated[
        list[str] | None, typer.Option(help="Names that `gmsa inspect --explain` takes, with commas; default: all.")
    ] = None,
    explainer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Your own: a function of model, clip and position of the class that gives a number a frame; modules "
            "of the working folder are known. May be repeated.",
        ),
    ] = None,
    videos: Annotated[int, typer.Option(min=2, help="How many, the first whose seconds are known.")] = 32,
    frames: Annotated[int, typer.Option(min=2, help="How many first frames of each.")] = 60,
    randomised: Annotated[int, typer.Option(min=0, help="On how many of the videos the model is randomised too.")] = 8,
    replacement: Annotated[
        str, typer.Option(help="background: frames of other videos, one after another; nearest: the most similar ones.")
    ] = "background",
    degraded: Annotated[
        str, typer.Option(metavar="NAME", help="An explainer whose degraded forms are to rank below it.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of whatever is drawn.")] = 0,
    engine: Annotated[str, typer.Option(help="in-process, processes, or ray (a cluster).")] = "in-process",
    workers: Annotated[int | None, typer.Option(min=1, help="Videos at once; default: one a core.")] = None,
) -> None:
    """Benchmark explanations on videos whose seconds are known: do they find them, are they faithful?"""
    from analysis.explanations.benchmark.clip_scores import BenchmarkSettings
    from analysis.study.explainers.run import TABLE, benchmark_explainers
    from analysis.study.explainers.summary import benchmark_markdown, benchmark_means
    from figures.paper.explainers import draw
    from figures.style import save
    from gmsa_models.data.atomic import write_text
    from gmsa_models.data.demo_videos import is_demo

    settings = BenchmarkSettings(
        videos=videos, frames=frames, randomised=randomised, replacement=replacement, degraded=degraded, seed=seed
    )
    source = data or ["demo:0-400"]
    with progress_of("videos") as progress:
        table = benchmark_explainers(
            out, words(model) or ("gate-op-bd20",), source, settings, methods=words(methods) or None,
            own=words(explainer), engine=engine, workers=workers, progress=progress,
        )  # fmt: skip
    count = table["video"].nunique()
    of = "demo" if all(is_demo(each) for each in source) else ""
    means = benchmark_means(table).assign_attrs(videos=count, frames=frames, of=of)
    text = write_text(out / f"{NAME}.md", benchmark_markdown(table, _about(settings, count, source)))
    pictures = save(draw(means), out / NAME, ("png", "pdf", "svg"), {"command": command_line()})
    show(_screen_table(means))
    for path in (out / TABLE, text, *pictures):
        print(f"wrote {visible(path)}")


def _about(settings: BenchmarkSettings, videos: int, source: list[str]) -> str:
    """A sentence or two for the head of the Markdown."""
    return (
        f"`{command_line()}`: {videos} videos of {', '.join(source)}, first {settings.frames} frames; one label a "
        f"video. Means over videos with 95 % intervals. Replaced frames are of other videos ({settings.replacement}). "
        f"Randomised on the first {min(settings.randomised, videos)} videos."
    )


def _screen_table(means: xr.Dataset) -> Group:
    """A table a model."""
    from rich.console import Group
    from rich.table import Table

    columns = {
        "evidence_auc": "ROC AUC", "pointing": "point.", "deletion_in_distribution": "delet.",
        "insertion_in_distribution": "insert.", "fidelity_plus": "F-fid.", "randomised_similarity": "simil.",
    }  # fmt: skip
    tables = []
    for model in means["model"].to_numpy():
        title = f"{visible(model)}: means over videos; low deletion and similarity are good"
        table = Table(title=title, title_justify="left", box=None)
        table.add_column("explainer", no_wrap=True, min_width=27)
        for text in columns.values():
            table.add_column(text, justify="right", overflow="fold")
        for explainer in means["explainer"].to_numpy():
            values = [float(means["mean"].sel(model=model, explainer=explainer, measure=name)) for name in columns]
            if any(value == value for value in values):
                table.add_row(visible(explainer), *("" if value != value else f"{value:.2f}" for value in values))
        tables.append(table)
    return Group(*tables)
