"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AsJson",
    "DataSet",
    "Device",
    "Model",
    "ModelOrFolder",
    "OnError",
    "Threads",
    "complete_model",
]


def complete_model(incomplete: str) -> list[str]:
    """Names of the trained models that go on from what is typed, behind the last comma; for the shell's tab key."""
    import gmsa_models

    # Not `available`, which loads torch: the key answers at once.
    names = sorted(path.stem for path in Path(gmsa_models.__file__).parent.glob("zoo/*.safetensors"))
    *before, last = incomplete.split(",")
    return [",".join([*before, name]) for name in names if name.startswith(last)]


Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ... or auto: a GPU if there is one.")]
Model = Annotated[
    str,
    typer.Option(
        help="Name of a trained model (`gmsa models`), or a .safetensors file.", autocompletion=complete_model
    ),
]
ModelOrFolder = Annotated[
    str,
    typer.Option(
        help="Name of a trained model (`gmsa models`), or a .safetensors file; or, for a video file, the folder of a "
        "transformers model.",
        autocompletion=complete_model,
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of each operation.")]
OnError = Annotated[
    str,
    typer.Option(help="fail: stop at what cannot be read; skip: leave it out, and say what and why at the end."),
]
DataSet = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="Whose classes the labels count: youtube-8m, audioset, or a model's own; default: as the files say.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
