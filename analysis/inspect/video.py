"""A video as a transformers model from a local folder sees or hears it: `gmsa inspect video.mp4 --model FOLDER`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import xarray as xr

from analysis.inspect.module import inspect_module
from analysis.module_sites import Probes
from analysis.module_view import ModuleClip
from analysis.pretrained.model import PretrainedModel, open_pretrained
from analysis.pretrained.video import Span, prepare_video
from analysis.record.variables import DEFAULT_PARTS
from gmsa_models.data.video.shots import video_shots
from gmsa_models.masks import Neighbourhood, Shots

__all__ = ["inspect_video"]


def inspect_video(
    path: str | Path,
    model: str | Path | PretrainedModel,
    *,
    device: torch.device | None = None,
    frames: int | None = None,
    span: Span | None = None,
    neighbourhood: Neighbourhood | None = None,
    layer: int = 0,
    layers: Sequence[int] | str | None = None,
    parts: Sequence[str] | None = None,
    probes: Probes | None = None,
    explain: bool = False,
    methods: Sequence[str] | None = None,
    target: int | str | None = None,
    pinned: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    record_progress: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """The record of a video file, by a transformers model on this machine.

    The video is decoded, prepared as the processor's configuration in the folder says, and seen in windows of as many
    pictures, or as much sound, as the model takes; logits are means over the windows, and no time step attends to
    another window's. A model without a classifier has a record without predictions. Attributes `sampling` and
    `frame_times` say what was taken of the video.

    Args:
        path: of the video.
        model: its folder, or what `open_pretrained` gave of it.
        device: where a folder's model runs; default: the CPU.
        frames, span: see `prepare_video`.
        neighbourhood: N_i, in time steps, by which S_i is measured.
        layer, layers: see `inspect_clip`.
        parts: see `inspect_clip`; default: all, but "sensitivity", which takes longest, only with a neighbourhood.
        probes: see `inspect_module`.
        explain: add the part "explanation".
        methods: by which methods it explains, see `inspect_module`.
        target: the class to explain, see `inspect_module`; adds the part too.
        pinned: see `inspect_module`.
        progress: called as the class is explained, with the steps done and their number.
        record_progress: see `inspect_clip`.

    Raises:
        CaptureError, ConfigError, ClipFileError, ArgumentError, RecordError (all ValueErrors): the model cannot be
            loaded or is not known, the video cannot be read, what is asked for is not there.
    """
    opened = model if isinstance(model, PretrainedModel) else open_pretrained(model, device or torch.device("cpu"))
    prepared = prepare_video(path, opened.folder, opened.module, frames, span)
    if parts is None:
        parts = [name for name in DEFAULT_PARTS if name != "sensitivity" or neighbourhood is not None]
    if explain or target is not None:
        parts = [*parts, "explanation"]
    known = next(opened.module.parameters())
    shots = video_shots(path) if isinstance(neighbourhood, Shots) else ()
    record = inspect_module(
        opened.module, prepared.values.to(known), layout=prepared.layouts, activation=opened.activation,
        clip=ModuleClip(Path(path).stem, prepared.frame_seconds, prepared.span[0], str(path), shots),
        steps=prepared.steps, mask=prepared.mask, note=opened.note, neighbourhood=neighbourhood, layer=layer,
        layers=layers, parts=parts, probes=probes, target=target, methods=methods, pinned=pinned, progress=progress,
        record_progress=record_progress,
    )  # fmt: skip
    about = {"sampling": prepared.sampling, "video_span": json.dumps(prepared.span)}
    times = {"frame_times": json.dumps([round(each, 6) for each in prepared.times])} if prepared.times else {}
    return record.assign_attrs(about | times)
