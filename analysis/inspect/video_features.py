"""A video file as the clip that GMSA models take: features of the spaces that the models were trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from analysis.features.folder import ExtractorNames, cached_clip
from analysis.features.registry import name_of_space
from gmsa_models.checkpoints.files import Description, describe
from gmsa_models.data.clip import Clip
from gmsa_models.data.feature_folder import PROXY, SHARD, THUMBNAILS
from gmsa_models.data.sources import read_clips
from gmsa_models.data.spaces import FeatureSpace, card_spaces
from gmsa_models.data.video.proxy import MOST_BYTES, Proxy, read_proxy
from gmsa_models.data.video.thumbnails import Thumbnails, read_thumbnails
from gmsa_models.errors import ArgumentError

__all__ = ["clip_for_models", "stored_pictures"]


def clip_for_models(
    video: str | Path,
    models: Sequence[str | Path],
    folder: str | Path,
    *,
    visual: str = "",
    audio: str = "",
    device: torch.device | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Clip, Thumbnails | None]:
    """The features of a video, and its thumbnails, made as those were that some models were trained on.

    Args:
        video: a file.
        models: as `load` takes them; all of one feature space a stream.
        folder: where features are kept by the video's content, so that they are made once.
        visual, audio: extractors with the path of their weights, as `open_visual` and `open_audio` take them, where
            the models' need some; "": by the models' spaces.
        device: where extractors run; default: the CPU.
        progress: called with the frames done and their number.

    Raises:
        ArgumentError: a model that does not say its feature spaces, models of several, or an extractor whose weights
            are not given.
        UnknownNameError: a space that no extractor makes.
        ClipFileError: the video cannot be read.
        ConfigError, CaptureError, ImportError: weights that cannot be loaded.
    """
    spaces: dict[str, FeatureSpace] = {}
    for each in map(describe, models):
        for stream, space in _spaces_of(each).items():
            if stream in spaces and not spaces[stream].is_same(space):
                raise ArgumentError(
                    f"the models take {stream!r} of the spaces {spaces[stream]} and {space}; expected one: show them "
                    "one by one"
                )
            spaces[stream] = space
    if len(rates := {space.rate or 1.0 for space in spaces.values()}) > 1:
        raise ArgumentError(f"the models' streams have {sorted(rates)} frames a second; expected one rate")
    options = {"visual": visual, "audio": audio}
    if extra := [name for name, text in options.items() if text and name not in spaces]:
        raise ArgumentError(f"--{extra[0]} {options[extra[0]]}: the model takes {', '.join(sorted(spaces))} alone")
    extractors = {stream: options[stream] or _extractor_of(stream, space) for stream, space in spaces.items()}
    names = ExtractorNames(extractors.get("visual", ""), extractors.get("audio", ""), rates.pop(), str(device or "cpu"))
    return cached_clip(Path(video), Path(folder), names, progress)


def stored_pictures(source: str) -> tuple[Thumbnails | None, Proxy | None]:
    """What `gmsa features` wrote beside a clip's features.

    Args:
        source: of the clip: `file#id`.

    Returns:
        Thumbnails, and a small copy of at most 4.5 MB; None for what is absent, or is of another video.
    """
    name, ending, _ = source.partition(SHARD)
    sheet, copy = Path(f"{name}{THUMBNAILS}"), Path(f"{name}{PROXY}")
    if not ending or not sheet.is_file():
        return None, None
    frames = next(iter(read_clips([f"{name}{SHARD}"]))).frames  # a model may have been given fewer
    small = copy.is_file() and copy.stat().st_size <= MOST_BYTES
    return read_thumbnails(sheet, frames), read_proxy(copy) if small else None


def _spaces_of(model: Description) -> dict[str, FeatureSpace]:
    """Stream -> feature space, of all streams of a model."""
    dataset = model.vocabulary.dataset if model.vocabulary else ""
    spaces = card_spaces(model.card, dataset, model.config.modalities)
    for stream in model.config.modalities:
        if stream not in spaces or stream not in ("visual", "audio"):
            raise ArgumentError(
                f"model {model.name!r} does not say which features its stream {stream!r} takes, so none can be made of "
                "a video; expected one that was trained on a folder of gmsa features"
            )
    return {stream: spaces[stream] for stream in model.config.modalities}


def _extractor_of(stream: str, space: FeatureSpace) -> str:
    name, weights = name_of_space(space)
    if weights:
        raise ArgumentError(
            f"the model takes {stream!r} of the space {space}, which {name} makes from {weights}: give --{stream} "
            f"{name}=PATH, a model that was trained on features of your own videos (`gmsa features`), or the folder of "
            "a transformers model"
        )
    return name
