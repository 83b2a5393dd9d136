"""Command line of the workbench: parses, calls one function of the right room, prints.

Heavy libraries are imported inside the commands, so that `gmsa --help` answers at once.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figures.command import figures as draw_figures
from figures.sweeping import sweep as sweep_shards
from figures.terminal import STOPPED, ClickError, OneLineErrors, left_out, one_line, progress_bar, progress_of
from gmsa_models.data.atomic import check_folder

if TYPE_CHECKING:
    import torch

    from gmsa_models import Vocabulary
    from gmsa_models.data.skipped import Skipped

__all__ = ["ClickError", "app", "main"]

app = typer.Typer(
    cls=OneLineErrors,
    add_completion=False,
    invoke_without_command=True,
    help="See what a gated multi-headed self-attention model attends to in a video.",
)

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ... or auto: a GPU if there is one.")]
Model = Annotated[str, typer.Option(help="Name of a trained model (`gmsa models`), or a .safetensors file.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of each operation.")]
OnError = Annotated[
    str,
    typer.Option(help="fail: stop at what cannot be read; skip: leave it out, and say what and why at the end."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        print(version_of("gmsa-workbench"))
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the trained models with their sizes and scores."""
    from figures.screen import models_tables
    from gmsa_models import available, describe

    described = [describe(name) for name in available()]
    if as_json:
        print(json.dumps({each.name: {"bytes": each.bytes, "parameters": each.parameters, "card": each.card}
                          for each in described}, indent=2))  # fmt: skip
    else:
        _print(models_tables(described))


@app.command()
def inspect(
    context: typer.Context,
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="demo:3, a .tfrecord, file#id, catalog#id or record.nc.")],
    model: Model = "gate-op-bd20",
    against: Annotated[str | None, typer.Option(help="A second model, or saved record, to hold against it.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and the records.")] = Path("inspected"),
    top: Annotated[int, typer.Option("--top", "--classes", min=1, help="How many classes to list.")] = 7,
    html: Annotated[bool, typer.Option("--html", help="Write the inspector too, as one HTML file.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Explain a class by every method; some seconds.")] = False,
    target: Annotated[str | None, typer.Option(help="Class to explain; default: the likeliest.")] = None,
    on_error: OnError = "fail",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Show what a model predicts for a video and what it attends to: a screen, a picture, a record."""
    from figures.inspection import saved_records, write_inspection
    from figures.screen import clip_summary

    _use_threads(threads)
    check_folder(out)
    stopped = False
    if _is_saved_record(clip):
        if explain or target:
            raise ClickError(f"{clip} is a saved record: it holds what was explained then. Give the video for another")
        if context.get_parameter_source("model").name != "DEFAULT":
            raise ClickError(
                f"{clip} is a saved record: it is shown without a model. Leave --model out, or give the video"
            )
        records = saved_records([clip, *([against] if against else [])])
    else:
        from analysis.looking import ExplainingStopped, look_at

        names = [model] if against is None else [model, against]
        try:
            with left_out() as skipped, progress_of("explaining") as progress:
                records = look_at(
                    clip, names, _device(device), explain=explain, target=target, on_error=on_error, on_skip=skipped,
                    tell=_say, progress=progress,
                )  # fmt: skip
        except ExplainingStopped as error:
            stopped, records = True, error.records
            _say("explaining was stopped; the records and the pictures are written without explanations")
    written = write_inspection(records, out, top, _command(), html)  # a terminal that fails loses no file
    _print(clip_summary(records, top))
    for path in written:
        print(f"wrote {path}")
    if stopped:
        sys.exit(STOPPED)


@app.command()
def evaluate(
    data: Annotated[list[str], typer.Option(help="TFRecord files, globs, catalogues or demo:A-B; may be repeated.")],
    model: Model = "gate-op-bd20",
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    top_k: Annotated[int, typer.Option(min=0, help="Predictions a video that GAP and MAP use; 0: all.")] = 20,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many videos.")] = None,
    on_error: OnError = "fail",
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """GAP, MAP, PERR and Hit@1 of a model over any amount of data."""
    from figures.screen import scores_table
    from gmsa_models import load
    from gmsa_models.evaluation import evaluate as score

    _use_threads(threads)
    loaded = load(model, _device(device))
    with left_out() as skipped:
        scores = score(loaded, data, batch_size=batch_size, top_k=top_k or None, limit=limit, on_error=on_error,
                       on_skip=skipped)  # fmt: skip
    if as_json:
        print(json.dumps({name: None if value != value else value for name, value in scores.items()}))
    else:
        _print(scores_table(loaded.origin["name"], scores, top_k or None))


@app.command()
def train(
    data: Annotated[list[str], typer.Option(help="Training TFRecord files or globs; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; given again, a stopped run goes on from there.")],
    variant: Annotated[str, typer.Option(help="One of the paper's ten columns, or control.")] = "gate-op-bd20",
    name: Annotated[
        str | None, typer.Option(help="What the model is called in tables and figures; default: as its folder.")
    ] = None,
    size: Annotated[str, typer.Option(help="paper or demo.")] = "demo",
    validation: Annotated[list[str] | None, typer.Option(help="Validation files or globs.")] = None,
    vocabulary: Annotated[Path | None, typer.Option(help="Class table (CSV); default: the demo's classes.")] = None,
    modality: Annotated[list[str] | None, typer.Option(help="Only these inputs, for example audio.")] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="The longest clip; longer ones are cut.")] = None,
    dropout: Annotated[float, typer.Option(min=0.0, max=0.99)] = 0.0,
    weights_seed: Annotated[int, typer.Option(help="Seed of the initial weights.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; default: as many as the epochs have.")] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the data, used without --steps.")] = 1.0,
    batch_size: Annotated[int, typer.Option(help="Clips a step, over all processes together.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="At the end of the warm-up.")] = 3e-3,
    warmup: Annotated[int, typer.Option(help="Steps of linear rise.")] = 100,
    weight_decay: Annotated[float, typer.Option(help="Of the weight matrices.")] = 0.01,
    clip_norm: Annotated[float, typer.Option(help="Largest gradient norm; 0: no clipping.")] = 1.0,
    precision: Annotated[str, typer.Option(help="32-true, 64-true, bf16-mixed, 16-mixed or bf16-true.")] = "32-true",
    initial_probability: Annotated[float, typer.Option(help="Of every class at the start; 0: leave it.")] = 0.01,
    ema_decay: Annotated[float, typer.Option(help="Decay of averaged weights; 0: no averaging.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the order of the clips and of dropout.")] = 0,
    validate_every: Annotated[int | None, typer.Option(help="Steps; default: ten times a run.")] = None,
    patience: Annotated[int | None, typer.Option(help="Validations without a better score before stopping.")] = None,
    monitor: Annotated[str, typer.Option(help="gap, map, perr or hit_at_1: decides which weights stay.")] = "gap",
    save_every: Annotated[int, typer.Option(help="Steps between resumable states.")] = 200,
    log_every: Annotated[int, typer.Option(help="Steps between lines of the log.")] = 50,
    length_window: Annotated[int, typer.Option(help="Batches' worth of clips sorted by length together.")] = 16,
    devices: Annotated[str, typer.Option(help="How many processes or GPUs, or auto.")] = "1",
    accelerator: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    on_error: OnError = "fail",
    threads: Threads = None,
) -> None:
    """Train one of the paper's models; a run that was stopped goes on when the command is given again."""
    given = locals() | {"modalities": tuple(modality) if modality else None}
    with left_out() as skipped:
        result = _train(given, skipped)
    if not _is_first_process():
        return
    scores = ", ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in result.scores.items()
        if value or name != "unlabelled"
    )
    done = f"wrote {result.path}" if result.trained else f"{result.path} was finished already, and stays as it is"
    print(f"{done} (step {result.step}, {result.seconds:.0f} s){': ' + scores if scores else ''}")


@app.command()
def catalog(
    data: Annotated[list[str], typer.Argument(help="TFRecord files or globs (quote a glob).")],
    out: Annotated[Path, typer.Option(help="The .parquet file to write.")] = Path("catalog.parquet"),
    on_error: OnError = "fail",
) -> None:
    """Write a catalogue of shards, so that any video opens at once by its id: `gmsa inspect catalog.parquet#ID`."""
    from gmsa_models.data.catalog import build_catalog

    check_folder(out.parent)
    with left_out() as skipped, progress_bar() as progress:
        task = progress.add_task("shards", total=None)
        summary = build_catalog(
            data,
            out,
            lambda done, total, records: progress.update(task, completed=done, total=total),
            on_error=on_error,
            on_skip=skipped,
        )
    print(f"wrote {summary.path}: {summary.records} videos in {summary.shards} shards, {summary.skipped} left out")


@app.command()
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
    from gmsa_models.data.montage_recipe import MontageRecipe
    from gmsa_models.data.montage_shards import unshipped_classes, write_montages
    from gmsa_models.data.statistics import shipped_statistics
    from gmsa_models.data.video_vectors import read_video_vectors

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
    variation = {} if vectors else {"variation": dict(source.variation)}
    recipe = MontageRecipe(mix=mix, frames=frames, events=events, **variation)
    with progress_bar() as progress:
        task = progress.add_task("videos", total=count)
        paths = write_montages(source, recipe, seed, count, out, shards, processes, lambda n: progress.advance(task, n))
    print(f"wrote {count} videos of {len(source.kept)} classes to {len(paths)} shards in {out}")


app.command()(draw_figures)
app.command()(sweep_shards)


@app.command()
def lab(folder: Annotated[Path, typer.Option(help="The notebooks.")] = Path("notebooks")) -> None:
    """Open the notebooks in JupyterLab."""
    import subprocess
    from importlib.util import find_spec

    if find_spec("jupyterlab") is None:
        raise ImportError("JupyterLab is not installed; install the notebooks extra: pip install -e '.[notebooks]'")
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {str(folder)!r} here; run this from the root of a checkout, or give --folder"
        )
    raise typer.Exit(subprocess.run([sys.executable, "-m", "jupyterlab", str(folder)], check=False).returncode)


def _is_saved_record(clip: str) -> bool:
    """Whether it is the file or the folder of a record, and no video; a folder's name may end in a slash."""
    return Path(clip).suffix in (".nc", ".zarr") and "#" not in Path(clip).name


def _say(words: str) -> None:
    print(f"gmsa: {one_line(words)}", file=sys.stderr)


def _print(shown: Any) -> None:
    from rich.console import Console

    Console(markup=False, emoji=False).print(shown)  # names come from files: "[/x]" in one is no markup


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise typer.BadParameter(f"device {name!r} is unknown; expected cpu, cuda, cuda:1 or auto") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise typer.BadParameter(f"device {name!r} is not here; torch sees {torch.cuda.device_count()} GPUs")
    return device


def _classes(told: str) -> Vocabulary:
    """Of a class table, or of a model; YouTube-8M's, as the labels of video-level vectors are."""
    from gmsa_models import Vocabulary, describe
    from gmsa_models.data.montage import demo_vocabulary

    found = Vocabulary.read_csv(told) if told.endswith(".csv") else describe(told).vocabulary
    expected = demo_vocabulary().dataset
    if found is None or found.dataset != expected:
        theirs = "no classes" if found is None else f"classes of {found.dataset!r}"
        raise typer.BadParameter(f"--classes {told} has {theirs}; expected those of {expected!r}, as vectors have them")
    return found


def _brief(labels: Sequence[int]) -> str:
    return ", ".join(map(str, labels[:5])) + (" ..." if len(labels) > 5 else "")


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _command() -> str:
    return shlex.join(["gmsa", *sys.argv[1:]])


def _train(given: dict[str, Any], skipped: Skipped) -> Any:
    from gmsa_models import Vocabulary, build
    from gmsa_models.allocator import keep_freed_memory
    from gmsa_models.data.montage import demo_vocabulary
    from gmsa_models.model_names import check_name
    from gmsa_models.recipe import Recipe
    from gmsa_models.training import fit

    keep_freed_memory()
    _use_threads(given["threads"])
    values = {each.name: given[each.name] for each in fields(Recipe)}
    for name in ("clip_norm", "initial_probability", "ema_decay"):
        values[name] = values[name] or None
    recipe = Recipe(**values)
    name = check_name(Path(given["out"]).resolve().name if given["name"] is None else given["name"])
    vocabulary = demo_vocabulary() if given["vocabulary"] is None else Vocabulary.read_csv(given["vocabulary"])
    model = build(
        given["variant"], given["size"], vocabulary=vocabulary, modalities=given["modalities"],
        max_frames=given["max_frames"], dropout=given["dropout"], seed=given["weights_seed"],
    )  # fmt: skip
    devices = int(given["devices"]) if given["devices"].isdigit() else given["devices"]
    return fit(
        model, given["data"], given["validation"] or None, recipe, given["out"],
        devices=devices, accelerator=given["accelerator"], num_nodes=given["nodes"],
        card={"name": name, "command": _command()},
        on_error=given["on_error"], on_skip=skipped,
    )  # fmt: skip


def _is_first_process() -> bool:
    from torch import distributed

    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def main() -> None:
    """Entry point of the `gmsa` command."""
    app()


if __name__ == "__main__":
    main()
