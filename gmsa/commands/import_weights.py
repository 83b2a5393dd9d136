"""`gmsa import`: weights of one's own GMSA code become a model that every command opens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gmsa.common import show
from gmsa.terminal import say, visible
from gmsa_models.data.atomic import check_folder

__all__ = ["import_weights"]


def import_weights(
    weights: Annotated[Path, typer.Argument(help="A state_dict: .pt, .pth or .safetensors. Nothing in it is run.")],
    like: Annotated[str, typer.Option(help="The variant that it is; any size of neighbourhood: gate-op-tp20.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    rename: Annotated[Path | None, typer.Option(help="TOML file of names: theirs = ours, empty to leave out.")] = None,
    proof: Annotated[
        Path | None, typer.Option(help="An .npz of inputs by stream, and the original's logits or probabilities.")
    ] = None,
    stream: Annotated[
        list[str] | None,
        typer.Option(help="visual, or PART_OF_NAMES=visual; for each, in the order in which they are joined."),
    ] = None,
    heads: Annotated[int | None, typer.Option(min=1, help="Heads, which no shape tells; default: 8.")] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="The longest clip; default: 300.")] = None,
    norm: Annotated[
        str | None, typer.Option(metavar="pre|post", help="Where norms stand; default: as a last norm tells.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Which of several sets of weights in the file: ema, state_dict.teacher.")
    ] = None,
    transposed: Annotated[bool, typer.Option("--transposed", help="Matrices are (in, out), for x @ W.")] = False,
    classes: Annotated[Path | None, typer.Option(help="Class table (CSV), or text of a name a line.")] = None,
    name: Annotated[str | None, typer.Option(help="What the model is called; default: as the file to write.")] = None,
) -> None:
    """Take the weights of your own GMSA code for a model of this package, and prove that it computes the same."""
    from gmsa.screen_tables import import_tables
    from gmsa_models import save
    from gmsa_models.checkpoints.importing import import_state

    if out.suffix != ".safetensors":
        raise typer.BadParameter(f"--out is {str(out)!r}; expected a name that ends in .safetensors")
    if out.exists() and weights.exists() and out.samefile(weights):
        raise typer.BadParameter(f"--out is {str(out)!r}, the file that is read; give another name")
    check_folder(out.parent)
    imported = import_state(
        weights, like, streams=_streams(stream), heads=heads, max_frames=max_frames, norm=norm,
        transposed=transposed, key=key, rename=rename, classes=classes, proof=proof,
        name=out.stem if name is None else name,
    )  # fmt: skip
    save(imported.model, out)
    show(import_tables(imported))
    if imported.difference is None:
        say(
            "not proven: without --proof nothing tells whether heads, scaling, masks, places of norms and order are "
            "the original's"
        )
    print(f"wrote {visible(out)}")


def _streams(options: list[str] | None) -> dict[str, str]:
    """Part of a name -> stream; a stream alone is its own part.

    Raises:
        typer.BadParameter: an empty part or name, or one that comes twice.
    """
    streams: dict[str, str] = {}
    for option in options or ():
        part, _, name = option.rpartition("=")
        part = part or option
        if not name or part in streams or name in streams.values() or option.startswith("="):
            raise typer.BadParameter(f"--stream {option!r}; expected each once, as visual or PART_OF_NAMES=visual")
        streams[part] = name
    return streams
