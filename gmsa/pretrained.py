"""`gmsa inspect video.mp4 --model FOLDER`: options of the command line, as `inspect_video` takes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmsa.terminal import ClickError

if TYPE_CHECKING:
    import torch
    import xarray as xr

    from gmsa_models.masks import Neighbourhood

__all__ = ["folder_record", "neighbourhood_of", "refuse_for_folder"]

# Why an option has no meaning for a transformers model.
REFUSED = {
    "--against": "two such models see frames of their own, which cannot stand side by side: write a record of each",
    "--edit": "edits are of the shipped kind of model",
    "--live": "a page makes passes of the shipped kind of model",
    "--certify": "its maps were verified one by one as they were recorded; the record says how exactly",
    "--dataset": "a video file has no labels to say it of",
    "--curve-points": "its curves always have 16 parts, a pass each",
    "--on-error": "it is of data sets of many clips; a video that cannot be read is an error",
}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\.\.(\d+(?:\.\d+)?)")


def refuse_for_folder(folder: str, options: Mapping[str, Any]) -> None:
    """Refuse options that do not go with a transformers model.

    Args:
        folder: of the model.
        options: option -> its value; what is empty was not given.

    Raises:
        ClickError: the first that was given, and why.
    """
    for option, value in options.items():
        if value:
            raise ClickError(
                f"{option} does not go with the folder of a transformers model, {folder!r}: {REFUSED[option]}"
            )


def folder_record(
    clip: str,
    folder: str,
    device: torch.device,
    frames: int | None,
    span: str | None,
    neighbourhood: str | None,
    explain: bool,
    methods: Sequence[str] | None,
    target: str | None,
    progress: Callable[[int, int], None],
    record_progress: Callable[[int, int], None],
    layers: Mapping[str, Any],
) -> xr.Dataset:
    """The record of a video file by a transformers model.

    Args:
        clip: path of the video.
        span: "A..B", seconds.
        neighbourhood: as it is written, such as TP30; in time steps.
        layers: as `inspect_video` takes them.
        folder, device, frames, explain, methods, target, progress, record_progress: see `inspect_video`.

    Raises:
        ClickError: a folder of another kind, a clip that is no file, or a span that is none.
    """
    from analysis.inspect.video import inspect_video

    checkpoints = sorted(Path(folder).glob("*.safetensors"))
    if checkpoints and not Path(folder, "config.json").exists():
        raise ClickError(
            f"--model {folder}: no folder of a transformers model, which has a config.json; of a model that was "
            f"trained here give the file: --model {checkpoints[0]}"
        )
    if not Path(clip).is_file():
        raise ClickError(f"{clip!r} is no file; a transformers model, here {folder!r}, takes a video file")
    return inspect_video(
        clip, folder, device=device, frames=frames, span=_span(span), neighbourhood=neighbourhood_of(neighbourhood),
        explain=explain, methods=methods, target=target, progress=progress,
        record_progress=record_progress, **layers,
    )  # fmt: skip


def neighbourhood_of(text: str | None) -> Neighbourhood | None:
    """The neighbourhood that an option names; None without one."""
    from gmsa_models.masks import neighbourhood_from_text

    return None if text is None else neighbourhood_from_text(text)


def _span(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    match = _SPAN.fullmatch(text)
    if match is None:
        raise ClickError(f"--span is {text!r}; expected seconds as A..B, for example 10..20")
    return float(match[1]), float(match[2])
