"""Training on a folder of features: what the model takes, its classes, which clips score it, a recipe for few clips."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmsa_models.data.errors import OnSkip, UnfitClipError
from gmsa_models.data.feature_folder import CLASSES, content_of, folder_classes, folder_files
from gmsa_models.data.formats import read_file
from gmsa_models.data.spaces import FeatureSpace
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.errors import ArgumentError

__all__ = ["FolderPlan", "frames_taken", "plan_folder", "recipe_of_few", "stream_width"]

# Of a model of a few hundred clips: widths that streams are projected to, and the recipe; set by the clips of
# docs/your_own_video.md, where more steps or width gain nothing.
WIDTHS, OTHER_WIDTH, HEADS = {"visual": 128, "audio": 64}, 64, 4
HELD_OUT = 5  # of so many clips of a class, one scores the model
MOST_BATCH, LEAST_STEPS, PASSES = 16, 200, 30
FRAMES, MOST_FRAMES = 300, 3600  # the longest clip that a model takes: at least, at most


@dataclass(frozen=True)
class FolderPlan:
    """How a model is trained on a folder of features.

    Attributes:
        training: files of the clips that it is trained on.
        validation: files of the clips that score it; empty where no class has two clips.
        unlabelled: how many clips are left out since they have no label.
        copies: how many labelled clips are of the same video as one before, byte for byte.
        vocabulary: the classes.
        modalities: stream -> width of a frame.
        widths: stream -> width that it is projected to.
        spaces: stream -> the space of its features.
        max_frames: the longest clip that the model takes.
        recipe: values of `Recipe` for so many clips, under its names.
    """

    training: tuple[Path, ...]
    validation: tuple[Path, ...]
    unlabelled: int
    copies: int
    vocabulary: Vocabulary
    modalities: dict[str, int]
    widths: dict[str, int]
    spaces: dict[str, FeatureSpace]
    max_frames: int
    recipe: dict[str, Any]


@dataclass(frozen=True)
class _Entry:
    """What is needed of a file."""

    path: Path
    id: str
    frames: int
    labels: tuple[int, ...]

    @property
    def content(self) -> str:
        """The same for copies of one video."""
        return content_of(self.path) or str(self.path)


def plan_folder(folder: str | Path, hold_out: bool = True, on_skip: OnSkip | None = None) -> FolderPlan:
    """Plan the training on a folder that `gmsa features` wrote.

    Of the clips with the same labels every fifth, at least one of two, scores the model and is not trained on: which
    ones follows from their ids alone, so a folder that grows keeps its split but for the new clips. Copies of one video
    count as one clip, with the labels of all, and stay together.

    Args:
        folder: of features, with labels.
        hold_out: False trains on all.
        on_skip: takes the error of each file that cannot be read; None: it is raised.

    Raises:
        ArgumentError: no clip, no classes, or no clip with a label.
        UnfitClipError: clips of several feature spaces.
        ClipFileError: a file that cannot be read, unless `on_skip` takes it.
    """
    names = folder_classes(folder)
    if not names:
        raise ArgumentError(
            f"{folder} has no {CLASSES}, so its clips have no labels: write it with gmsa features --labels folders, or "
            "--labels FILE.csv"
        )
    entries, first = [], None
    for path in folder_files(folder):
        for clip in read_file(path, on_skip):
            first = first or clip
            if (clip.spaces, sorted(clip.features)) != (first.spaces, sorted(first.features)):
                raise UnfitClipError(
                    f"{path}: its features are of {_described(clip.spaces)}, those of {first.source} of "
                    f"{_described(first.spaces)}; expected one way of making them in a folder: give gmsa features "
                    "again for all of its videos",
                    kind="features of another space",
                )
            entries.append(_Entry(path, clip.id, clip.frames, clip.labels))
    labelled = [each for each in entries if each.labels]
    if first is None or not labelled:
        raise ArgumentError(f"{folder}: none of its {len(entries)} clips has a label; expected some to train on")
    kept = _held_out(labelled) if hold_out else set()
    training = [each for each in labelled if each.content not in kept]
    validation = [each for each in labelled if each.content in kept]
    modalities = {name: values.shape[1] for name, values in first.features.items()}
    longest = max(each.frames for each in labelled)
    return FolderPlan(
        _paths(training), _paths(validation), len(entries) - len(labelled),
        len(_paths(labelled)) - len({each.content for each in labelled}),
        Vocabulary(first.dataset, tuple(range(len(names))), names), modalities,
        {name: stream_width(name, width) for name, width in modalities.items()}, dict(first.spaces),
        frames_taken(longest),
        {**recipe_of_few(len(training)), "initial_probability": 1 / max(2, len(names))},
    )  # fmt: skip


def _paths(entries: Sequence[_Entry]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(each.path for each in entries))


def _held_out(entries: Sequence[_Entry]) -> set[str]:
    """Contents of the clips that score the model."""
    videos: dict[str, list[_Entry]] = defaultdict(list)
    for each in entries:
        videos[each.content].append(each)
    alike: dict[tuple[int, ...], list[tuple[str, str]]] = defaultdict(list)  # labels -> id and content of each video
    for content, copies in videos.items():
        labels = tuple(sorted({label for each in copies for label in each.labels}))
        alike[labels].append((min(each.id for each in copies), content))
    kept: set[str] = set()
    for several in alike.values():
        order = sorted(several, key=lambda video: hashlib.sha256(video[0].encode()).digest())
        kept |= {content for _, content in order[: max(len(order) // HELD_OUT, int(len(order) > 1))]}
    return kept


def frames_taken(longest: int) -> int:
    """The longest clip that a model takes, by the longest that it is trained on."""
    return min(max(FRAMES, longest), MOST_FRAMES)


def stream_width(stream: str, width: int) -> int:
    """Width that a stream is projected to: its own if that is small, in steps that the heads divide."""
    return min(WIDTHS.get(stream, OTHER_WIDTH), max(HEADS, width // HEADS * HEADS))


def recipe_of_few(clips: int) -> dict[str, Any]:
    """Values of `Recipe` for a few hundred clips, under its names."""
    batch = min(MOST_BATCH, clips)
    steps = max(LEAST_STEPS, PASSES * clips // batch)
    return {
        "batch_size": batch, "steps": steps, "learning_rate": 1e-3, "warmup": steps // 10, "length_window": 4,
    }  # fmt: skip


def _described(spaces: Mapping[str, FeatureSpace]) -> str:
    return ", ".join(f"{name} {space}" for name, space in sorted(spaces.items())) or "no feature space"
