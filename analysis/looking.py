"""One clip of a source, as each of several models sees it: what `gmsa inspect` is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import torch
import xarray as xr

from analysis.record import inspect_clip
from analysis.variables import DEFAULT_PARTS
from gmsa_models.checkpoints import load
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.data.errors import OnSkip
from gmsa_models.data.paths import skip_handler
from gmsa_models.data.sources import read_clips
from gmsa_models.feeding import fitting


def look_at(
    source: str,
    names: Sequence[str],
    device: torch.device,
    *,
    explain: bool = False,
    target: str | None = None,
    on_error: str = "fail",
    on_skip: OnSkip | None = None,
    tell: Callable[[str], None] = print,
) -> list[xr.Dataset]:
    """Records of the first clip of a source, one a model.

    Args:
        source: as `read_clips` takes it.
        names: of models, or checkpoint files.
        device: where they run.
        explain: explain a class too.
        target: which class, by name; default: the likeliest. Explains it.
        on_error, on_skip: see `read_clips`.
        tell: is told when the source holds more clips.

    Raises:
        ValueError: no clip that all models take.
    """
    models = [load(name, device) for name in names]
    clip = _first_clip(source, models, on_error, on_skip, tell)
    parts = [*DEFAULT_PARTS, "explanation"] if explain or target else None
    targets = [target and model.vocabulary.find(target) for model in models]
    return [inspect_clip(model, clip, parts=parts, target=one) for model, one in zip(models, targets, strict=True)]


def _first_clip(
    source: str, models: Sequence[GMSAClassifier], on_error: str, on_skip: OnSkip | None, tell: Callable[[str], None]
) -> Clip:
    clips = read_clips(source, on_error=on_error, on_skip=on_skip)
    for model in models:
        clips = fitting(clips, model.config.modalities, skip_handler(on_error, on_skip))
    found = list(islice(clips, 2))
    if not found:
        raise ValueError(f"no clip in {source!r}")
    if len(found) > 1:
        tell(f"{source} holds more than one video; showing {found[0].id!r}, name another with {source}#ID")
    return found[0]
