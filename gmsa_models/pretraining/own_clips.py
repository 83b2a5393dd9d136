"""Pretraining on a folder of features: what the model takes, a recipe for few clips; its labels are not read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmsa_models.data.errors import OnSkip
from gmsa_models.data.feature_folder import folder_files
from gmsa_models.data.formats import read_file
from gmsa_models.data.spaces import FeatureSpace
from gmsa_models.errors import ArgumentError
from gmsa_models.training.own_clips import frames_taken, recipe_of_few, stream_width

__all__ = ["UnlabelledFolder", "unlabelled_folder"]


@dataclass(frozen=True)
class UnlabelledFolder:
    """How encoders are pretrained on a folder of features.

    Attributes:
        files: of the clips.
        modalities: stream -> width of a frame.
        widths: stream -> width that it is projected to, as `plan_folder` has it.
        spaces: stream -> the space of its features, of the first clip; others are refused when they are read.
        max_frames: the longest clip that the model takes.
        recipe: values of `Recipe` for so many clips, under its names.
    """

    files: tuple[Path, ...]
    modalities: dict[str, int]
    widths: dict[str, int]
    spaces: dict[str, FeatureSpace]
    max_frames: int
    recipe: dict[str, Any]


def unlabelled_folder(folder: str | Path, on_skip: OnSkip | None = None) -> UnlabelledFolder:
    """Plan the pretraining on all clips of a folder that `gmsa features` wrote, with labels or without.

    Args:
        folder: of features.
        on_skip: takes the error of each file that cannot be read; None: it is raised.

    Raises:
        ArgumentError: no clip.
        ClipFileError: a file that cannot be read, unless `on_skip` takes it.
    """
    files, first, longest, count = [], None, 0, 0
    for path in folder_files(folder):
        for clip in read_file(path, on_skip):
            first, longest, count = first or clip, max(longest, clip.frames), count + 1
            files.append(path)
    if first is None:
        raise ArgumentError(f"{folder}: no clip in it; expected a folder that gmsa features wrote")
    modalities = {name: values.shape[1] for name, values in first.features.items()}
    return UnlabelledFolder(
        files=tuple(dict.fromkeys(files)),
        modalities=modalities,
        widths={name: stream_width(name, width) for name, width in modalities.items()},
        spaces=dict(first.spaces),
        max_frames=frames_taken(longest),
        recipe=recipe_of_few(count),
    )
