"""`gmsa train`: train one of the paper's models; a run that was stopped goes on when the command is given again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gmsa.common import command_line, use_threads
from gmsa.options import OnError, Threads
from gmsa.pretrained import neighbourhood_of
from gmsa.terminal import ClickError, left_out, say, visible
from gmsa_models.data.demo_videos import is_demo

if TYPE_CHECKING:
    from gmsa_models.data.skipped import Skipped

__all__ = ["chosen_options", "devices_of", "is_first_process", "modalities_of", "refuse_demo", "train"]


def train(
    context: typer.Context,
    data: Annotated[
        list[str],
        typer.Option(
            help="Training files or globs; may be repeated. A folder of `gmsa features` says its classes and streams, "
            "keeps some clips for scores, and has a recipe for few clips: what is not given follows from it."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; given again, a stopped run goes on from there.")],
    variant: Annotated[
        str, typer.Option(help="One of the paper's ten columns, control, or BLOCK-seg.")
    ] = "gate-op-bd20",
    neighbourhood: Annotated[
        str | None,
        typer.Option(
            metavar="TP30",
            help="Of the variant's local branch, in place of its own: BDn, TPn, TDnxd; CP4: the clip's own segments; "
            "SHOTS: its video's shots, which clips of `gmsa features` have.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the model is called in tables and figures; default: as its folder.")
    ] = None,
    size: Annotated[str, typer.Option(help="paper or demo.")] = "demo",
    validation: Annotated[list[str] | None, typer.Option(help="Validation files or globs.")] = None,
    vocabulary: Annotated[Path | None, typer.Option(help="Class table (CSV); default: the demo's classes.")] = None,
    modality: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these inputs, for example audio; of your own features with their width: visual:1280; projected "
            "to another width: visual:1280:128."
        ),
    ] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="The longest clip; longer ones are cut.")] = None,
    dropout: Annotated[float, typer.Option(min=0.0, max=0.99)] = 0.0,
    weights_seed: Annotated[int, typer.Option(help="Seed of the initial weights.")] = 0,
    pretrained: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Start from the encoders of this checkpoint, of `gmsa pretrain` or any other of the same variant and "
            "sizes.",
        ),
    ] = None,
    labelled_share: Annotated[
        float,
        typer.Option(
            help="Train on this share of the training videos, drawn at random; a smaller share lies within a larger "
            "one of the same seed."
        ),
    ] = 1.0,
    share_seed: Annotated[int, typer.Option(min=0, help="Of that draw.")] = 0,
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
    modalities, widths = modalities_of(modality)
    arguments = {name: value for name, value in locals().items() if name != "context"}
    refuse_demo(data)
    with left_out() as skipped:
        if len(data) == 1 and Path(data[0]).is_dir() and vocabulary is None:
            arguments |= _of_folder(arguments, chosen_options(context), skipped)
        result = _train(arguments, skipped)
    if not is_first_process():
        return
    scores = ", ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in result.scores.items()
        if value or name != "unlabelled"
    )
    path = visible(result.path)
    done = f"wrote {path}" if result.trained else f"{path} was finished already, and stays as it is"
    print(f"{done} (step {result.step}, {result.seconds:.0f} s){': ' + scores if scores else ''}")


def chosen_options(context: typer.Context) -> set[str]:
    """Names of the options that were typed."""
    return {name for name in context.params if str(context.get_parameter_source(name)) == "ParameterSource.COMMANDLINE"}


def refuse_demo(data: Sequence[str]) -> None:
    """Refuse the demo videos.

    Raises:
        ClickError: one of the sources is of them.
    """
    if demo := [source for source in data if is_demo(source)]:
        raise ClickError(
            f"--data {demo[0]}: the demo videos score models and lie in no file to train on; `gmsa montage` writes "
            "such videos to train on"
        )


def devices_of(option: str) -> int | str:
    """As Lightning Fabric takes them."""
    return int(option) if option.isdigit() else option


def modalities_of(
    options: Sequence[str] | None,
) -> tuple[tuple[str, ...] | dict[str, int] | None, dict[str, int] | None]:
    """Modalities and model widths as `build` takes them: names alone are of YouTube-8M, others of one's own features.

    Raises:
        typer.BadParameter: a width that is none, or options of several kinds.
    """
    if not options or not any(":" in one for one in options):
        return tuple(options) if options else None, None
    parts = [one.split(":") for one in options]
    for one, (name, *widths) in zip(options, parts, strict=True):
        whole = name and all(width.isdecimal() and int(width) >= 1 for width in widths)
        if not whole or len(widths) not in (1, 2) or len(widths) != len(parts[0]) - 1:
            raise typer.BadParameter(
                f"--modality {one!r}; expected all as NAME:WIDTH, for example visual:1280, or all as NAME:WIDTH:MODEL "
                "with the width that the model works in, for example visual:1280:128"
            )
    projected = {name: int(widths[1]) for name, *widths in parts} if len(parts[0]) == 3 else None
    return {name: int(widths[0]) for name, *widths in parts}, projected


def _of_folder(arguments: dict[str, Any], chosen: set[str], skipped: Skipped) -> dict[str, Any]:
    """What follows from a folder of features, of all that was not given."""
    from gmsa_models.training.own_clips import plan_folder

    plan = plan_folder(
        arguments["data"][0], "validation" not in chosen, skipped if arguments["on_error"] == "skip" else None
    )
    follows: dict[str, Any] = {"max_frames": plan.max_frames, **plan.recipe}
    if plan.validation:
        follows["validation"] = [str(path) for path in plan.validation]
    if "modality" not in chosen:
        follows |= {"modalities": plan.modalities, "widths": plan.widths}
    if plan.unlabelled:
        say(f"{plan.unlabelled} clips have no label and are left out")
    if plan.copies:
        say(f"{plan.copies} clips are of the same video as another one, byte for byte; such clips stay together")
    if "validation" in chosen:
        _tell_of_copies(plan.training, arguments["validation"])
    if "validation" not in chosen:
        scoring = f"{len(plan.validation)} of {len(plan.validation) + len(plan.training)} clips score the model"
        say(
            f"{scoring} and are not trained on" if plan.validation else "no class has two clips, so there are no scores"
        )
    always = {"data": [str(path) for path in plan.training], "classes": plan.vocabulary, "spaces": plan.spaces}
    return {name: value for name, value in follows.items() if name not in chosen} | always


def _tell_of_copies(training: Sequence[Path], validation: Sequence[str]) -> None:
    """Say which files that are to score the model are of videos that it is trained on."""
    from gmsa_models.data.feature_folder import content_of
    from gmsa_models.data.paths import SourceNotFoundError, expand

    known = {content_of(path) for path in training} - {""}
    copies = []
    for source in validation:
        with suppress(SourceNotFoundError):  # as `demo:3`, or `file#id`
            copies += [path for path in expand(source) if content_of(path) in known]
    if copies:
        say(
            f"{len(copies)} of the files of --validation, {copies[0]} first, are of videos that are trained on: their "
            "scores say nothing of other videos"
        )


def _train(arguments: dict[str, Any], skipped: Skipped) -> Any:
    from gmsa_models import Vocabulary, build
    from gmsa_models.allocator import keep_freed_memory
    from gmsa_models.checkpoints.names import check_name
    from gmsa_models.data.montage.make import demo_vocabulary
    from gmsa_models.data.spaces import spaces_to_dict
    from gmsa_models.feeding import ClipShare
    from gmsa_models.training.loop import fit
    from gmsa_models.training.recipe import Recipe

    keep_freed_memory()
    use_threads(arguments["threads"])
    values = {each.name: arguments[each.name] for each in fields(Recipe)}
    for name in ("clip_norm", "initial_probability", "ema_decay"):
        values[name] = values[name] or None
    recipe = Recipe(**values)
    name = check_name(Path(arguments["out"]).resolve().name if arguments["name"] is None else arguments["name"])
    vocabulary = arguments.get("classes") or (
        demo_vocabulary() if arguments["vocabulary"] is None else Vocabulary.read_csv(arguments["vocabulary"])
    )
    model = build(
        arguments["variant"], arguments["size"], vocabulary=vocabulary, modalities=arguments["modalities"],
        widths=arguments["widths"], max_frames=arguments["max_frames"], dropout=arguments["dropout"],
        neighbourhood=neighbourhood_of(arguments["neighbourhood"]), seed=arguments["weights_seed"],
    )  # fmt: skip
    if "spaces" in arguments:  # so that every clip is checked against them
        model.card["feature_spaces"] = spaces_to_dict(arguments["spaces"])
    if arguments["pretrained"] is not None:
        from gmsa_models.pretraining.start import start_from

        start_from(model, arguments["pretrained"])
    whole = arguments["labelled_share"] == 1
    part = None if whole else ClipShare(arguments["labelled_share"], arguments["share_seed"])
    return fit(
        model, arguments["data"], arguments["validation"] or None, recipe, arguments["out"],
        devices=devices_of(arguments["devices"]), accelerator=arguments["accelerator"], num_nodes=arguments["nodes"],
        card={"name": name, "command": command_line()},
        on_error=arguments["on_error"], on_skip=skipped, part=part,
    )  # fmt: skip


def is_first_process() -> bool:
    """Whether this is the process that prints."""
    from torch import distributed

    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0
