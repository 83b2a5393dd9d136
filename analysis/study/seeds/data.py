"""The videos of a task: montages of the classes of the shipped models, or real AudioSet frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import SweepError
from analysis.study.seeds.plan import StudySettings, TaskData
from analysis.study.seeds.tasks import TASKS, StudyTask
from gmsa_models.data.fingerprint import fingerprint_source
from gmsa_models.data.montage.class_statistics import shipped_statistics
from gmsa_models.data.montage.make import VectorSource, demo_vocabulary
from gmsa_models.data.montage.shards import write_montages
from gmsa_models.data.montage.video_vectors import read_video_vectors
from gmsa_models.data.paths import expand
from gmsa_models.data.vocabulary import Vocabulary

__all__ = ["DataSource", "check_real_frames", "task_data"]

SHARDS = 8  # of the training montages: a task of fewer takes the first of them
SERIES = {"train": 1, "held-out": 2}  # split -> seed of its montages, as for the shipped models


@dataclass(frozen=True)
class DataSource:
    """What the videos of a study are made from.

    Attributes:
        vectors: real video-level vectors; None: the shipped class statistics.
        audioset: folder with AudioSet's `bal_train-*.tfrecord`, `eval-*.tfrecord` and `class_labels_indices.csv`;
            None: there is none.
    """

    vectors: str | None = None
    audioset: Path | None = None


def task_data(
    task: StudyTask,
    settings: StudySettings,
    source: DataSource,
    folder: Path,
    progress: Callable[[int, int], None] = lambda videos, total: None,
) -> TaskData:
    """The videos of a task; montages that are not there are made. Tasks of one recipe share their montages.

    Args:
        task: which.
        settings: how many.
        source: what they are made from.
        folder: of the study.
        progress: called with the montages of a shard that is there now, and with how many there are to be.

    Raises:
        SweepError: a task of real frames, and no folder of them.
        ContentError, SourceNotFoundError: vectors or files that cannot be read.
        ConfigError: `folder` holds montages that were made otherwise.
        OutputError: it cannot be written, or another process is writing there.
    """
    if task.recipe is None:
        return _audioset(task, source)
    total, recipe = settings.montages + settings.held_out, task.recipe
    place = folder / "data" / next(name for name, each in TASKS.items() if each.recipe == recipe)
    counts = {"train": (settings.montages, min(SHARDS, settings.montages)), "held-out": (settings.held_out, 1)}
    paths: dict[str, list[Path]] = {}
    keys = []
    for split, seed in SERIES.items():
        vectors, (count, shards) = _vectors(source, split), counts[split]
        paths[split] = write_montages(
            vectors, recipe, seed, count, place / split, shards,
            progress=lambda videos: progress(videos, total),
        )  # fmt: skip
        keys.append(f"{split} {vectors.sha256}")
    used = max(1, round(task.share * len(paths["train"])))
    return TaskData(tuple(paths["train"][:used]), tuple(paths["held-out"]), demo_vocabulary(), ", ".join(keys))


def check_real_frames(tasks: Sequence[StudyTask], source: DataSource) -> None:
    """Refuse, before anything is made, tasks of real frames whose files cannot be had.

    Args:
        tasks: all that are to be done.
        source: what they are made from.

    Raises:
        SweepError: no folder is given.
        SourceNotFoundError, ContentError: files that are not there or cannot be read.
    """
    for task in tasks:
        if task.recipe is None:
            _audioset(task, source)


def _vectors(source: DataSource, split: str) -> VectorSource:
    """Videos of a split, with the classes of the shipped models."""
    if source.vectors is None:
        return shipped_statistics()
    return read_video_vectors(source.vectors, split, demo_vocabulary().indices)


def _audioset(task: StudyTask, source: DataSource) -> TaskData:
    if source.audioset is None:
        raise SweepError(f"task {task.name!r} is of real AudioSet frames; give their folder with --audioset")
    train, held_out = (expand(str(source.audioset / name)) for name in ("bal_train-*.tfrecord", "eval-*.tfrecord"))
    vocabulary = Vocabulary.read_csv(source.audioset / "class_labels_indices.csv")
    files = {"train": train, "eval": held_out}
    key = ", ".join(f"{name} {fingerprint_source([str(path) for path in each])}" for name, each in files.items())
    return TaskData(tuple(train), tuple(held_out), vocabulary, key)
