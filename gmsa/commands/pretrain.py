"""`gmsa pretrain`: train the encoders of a model on clips without labels; `gmsa train --from` goes on from them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gmsa.commands.train import chosen_options, devices_of, is_first_process, modalities_of, refuse_demo
from gmsa.common import command_line, use_threads
from gmsa.options import OnError, Threads
from gmsa.terminal import left_out, visible

if TYPE_CHECKING:
    from gmsa_models.data.skipped import Skipped

__all__ = ["pretrain"]


def pretrain(
    context: typer.Context,
    data: Annotated[
        list[str],
        typer.Option(
            help="Clips to learn from: files or globs; may be repeated. Labels are not read. A folder of `gmsa "
            "features` says its streams, and has a recipe for few clips: what is not given follows from it."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; given again, a stopped run goes on from there.")],
    variant: Annotated[
        str, typer.Option(help="One of the paper's ten columns, control, or BLOCK-seg.")
    ] = "gate-op-bd20",
    name: Annotated[
        str | None, typer.Option(help="What the encoders are called in tables and figures; default: as their folder.")
    ] = None,
    size: Annotated[str, typer.Option(help="paper or demo.")] = "demo",
    validation: Annotated[
        list[str] | None, typer.Option(help="Other clips, files or globs, whose hidden frames score the encoders.")
    ] = None,
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
    hidden_share: Annotated[float, typer.Option(help="Of a clip's frames that are hidden in a step.")] = 0.3,
    span: Annotated[int, typer.Option(help="Frames of a hidden span.")] = 5,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; default: as many as the epochs have.")] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the data, used without --steps.")] = 1.0,
    batch_size: Annotated[int, typer.Option(help="Clips a step, over all processes together.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="At the end of the warm-up.")] = 3e-3,
    warmup: Annotated[int, typer.Option(help="Steps of linear rise.")] = 100,
    weight_decay: Annotated[float, typer.Option(help="Of the weight matrices.")] = 0.01,
    clip_norm: Annotated[float, typer.Option(help="Largest gradient norm; 0: no clipping.")] = 1.0,
    precision: Annotated[str, typer.Option(help="32-true, 64-true, bf16-mixed, 16-mixed or bf16-true.")] = "32-true",
    ema_decay: Annotated[float, typer.Option(help="Decay of averaged weights; 0: no averaging.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the order of the clips, of what is hidden and of dropout.")] = 0,
    validate_every: Annotated[int | None, typer.Option(help="Steps; default: ten times a run.")] = None,
    patience: Annotated[int | None, typer.Option(help="Validations without a better score before stopping.")] = None,
    save_every: Annotated[int, typer.Option(help="Steps between resumable states.")] = 200,
    log_every: Annotated[int, typer.Option(help="Steps between lines of the log.")] = 50,
    length_window: Annotated[int, typer.Option(help="Batches' worth of clips sorted by length together.")] = 16,
    devices: Annotated[str, typer.Option(help="How many processes or GPUs, or auto.")] = "1",
    accelerator: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    on_error: OnError = "fail",
    threads: Threads = None,
) -> None:
    """Train a model's encoders on clips without labels: they learn to predict frames that are hidden from them."""
    modalities, widths = modalities_of(modality)
    arguments = {name: value for name, value in locals().items() if name != "context"}
    refuse_demo(data)
    with left_out() as skipped:
        if len(data) == 1 and Path(data[0]).is_dir():
            arguments |= _of_folder(arguments, chosen_options(context), skipped)
        result = _pretrain(arguments, skipped)
    if not is_first_process():
        return
    scores = ", ".join(f"{key} {value:.4f}" for key, value in result.scores.items() if isinstance(value, float))
    path = visible(result.path)
    done = f"wrote {path}" if result.trained else f"{path} was finished already, and stays as it is"
    print(f"{done} (step {result.step}, {result.seconds:.0f} s){': ' + scores if scores else ''}")


def _of_folder(arguments: dict[str, Any], chosen: set[str], skipped: Skipped) -> dict[str, Any]:
    """What follows from a folder of features, of all that was not given."""
    from gmsa_models.pretraining.own_clips import unlabelled_folder

    plan = unlabelled_folder(arguments["data"][0], skipped if arguments["on_error"] == "skip" else None)
    follows: dict[str, Any] = {"max_frames": plan.max_frames, **plan.recipe}
    if "modality" not in chosen:
        follows |= {"modalities": plan.modalities, "widths": plan.widths}
    always = {"data": [str(path) for path in plan.files], "spaces": plan.spaces}
    return {name: value for name, value in follows.items() if name not in chosen} | always


def _pretrain(arguments: dict[str, Any], skipped: Skipped) -> Any:
    from gmsa_models import build
    from gmsa_models.allocator import keep_freed_memory
    from gmsa_models.checkpoints.names import check_name
    from gmsa_models.data.spaces import spaces_to_dict
    from gmsa_models.pretraining import PretrainingRecipe, pretrain

    keep_freed_memory()
    use_threads(arguments["threads"])
    values = {each.name: arguments[each.name] for each in fields(PretrainingRecipe) if each.name in arguments}
    for name in ("clip_norm", "ema_decay"):
        values[name] = values[name] or None
    name = check_name(Path(arguments["out"]).resolve().name if arguments["name"] is None else arguments["name"])
    model = build(
        arguments["variant"], arguments["size"], classes=0, modalities=arguments["modalities"],
        widths=arguments["widths"], max_frames=arguments["max_frames"], dropout=arguments["dropout"],
        seed=arguments["weights_seed"],
    )  # fmt: skip
    if "spaces" in arguments:  # so that every clip is checked against them
        model.card["feature_spaces"] = spaces_to_dict(arguments["spaces"])
    return pretrain(
        model, arguments["data"], arguments["validation"] or None, PretrainingRecipe(**values), arguments["out"],
        seed=arguments["weights_seed"], devices=devices_of(arguments["devices"]),
        accelerator=arguments["accelerator"], num_nodes=arguments["nodes"],
        card={"name": name, "command": command_line()}, on_error=arguments["on_error"], on_skip=skipped,
    )  # fmt: skip
