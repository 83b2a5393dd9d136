"""What a study over seeds and tasks is of: its cells, each a model to train and to measure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analysis.errors import SweepError
from analysis.study.seeds.tasks import TASKS, StudyTask
from analysis.study.seeds.variants import STUDY_VARIANTS, check_known
from gmsa_models.data.vocabulary import Vocabulary

__all__ = ["Cell", "StudySettings", "TaskData", "cells_of", "check_variants", "in_table_order"]

FORMAT_VERSION = 1
COMPUTED_WITH = ("gmsa-workbench", "torch", "numpy")


@dataclass(frozen=True)
class StudySettings:
    """How much is trained and measured; all of it decides the numbers.

    Attributes:
        montages: training videos of a task.
        steps: of the optimiser, 16 videos each.
        held_out: videos that models are scored by, made of videos that no training montage is made of.
        inspected: how many of them, the first, maps and gradients are computed of.
    """

    montages: int = 8000
    steps: int = 500
    held_out: int = 2000
    inspected: int = 64

    def __post_init__(self) -> None:
        for name, least in (("montages", 16), ("steps", 1), ("held_out", 2), ("inspected", 2)):
            if getattr(self, name) < least:
                raise SweepError(f"{name} is {getattr(self, name)}; expected at least {least}")
        if self.inspected > self.held_out:
            raise SweepError(f"{self.inspected} videos to inspect of {self.held_out} held-out ones; expected no more")


@dataclass(frozen=True)
class TaskData:
    """Where the videos of a task lie.

    Attributes:
        train, held_out: files.
        vocabulary: the classes.
        key: tells what the videos are made from.
    """

    train: tuple[Path, ...]
    held_out: tuple[Path, ...]
    vocabulary: Vocabulary
    key: str


@dataclass(frozen=True)
class Cell:
    """One model of the study: a task, a variant, a seed. It travels to whichever process trains it.

    Attributes:
        task: what it is trained on.
        variant: of `STUDY_VARIANTS`.
        seed: of the initial weights, of the order of the videos and of dropout.
        settings: how much.
        folder: of the study.
        data: of the task.
    """

    task: StudyTask
    variant: str
    seed: int
    settings: StudySettings
    folder: Path
    data: TaskData

    @property
    def name(self) -> str:
        """For messages and files."""
        return f"{self.task.name}/{self.variant}-{self.seed}"

    @property
    def path(self) -> Path:
        """The table that it comes to."""
        return self.folder / "cells" / f"{self.name}.parquet"

    @property
    def run(self) -> Path:
        """Folder of its training."""
        return self.folder / "runs" / self.name

    def provenance(self) -> dict[str, Any]:
        """What its table says it was made from."""
        parts = {
            "format_version": FORMAT_VERSION,
            "task": self.task.to_dict(),
            "settings": asdict(self.settings),
            "data": self.data.key,
            "versions": {name: version(name) for name in COMPUTED_WITH},
        }
        return json.loads(json.dumps(parts))


def cells_of(
    task: StudyTask, variants: Sequence[str], seeds: int | None, settings: StudySettings, folder: Path, data: TaskData
) -> list[Cell]:
    """The cells of one task, seed by seed, so that a study that is stopped has all variants of the seeds it has."""
    count = task.seeds if seeds is None else seeds
    return [Cell(task, variant, seed, settings, folder, data) for seed in range(count) for variant in variants]


def check_variants(names: Sequence[str]) -> tuple[str, ...]:
    """The same names.

    Raises:
        UnknownNameError: one is none of `STUDY_VARIANTS`.
        SweepError: one is given twice, or there is none.
    """
    check_known(tuple(names))
    if not names or len(set(names)) < len(names):
        raise SweepError(f"variants {', '.join(names) or 'none'}; expected at least one, each once")
    return tuple(names)


def in_table_order(names: Iterable[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """(task, variant, seed) in the order of `TASKS` and `STUDY_VARIANTS`, whichever came first."""
    tasks, variants = list(TASKS), list(STUDY_VARIANTS)
    return sorted(names, key=lambda each: (tasks.index(each[0]), variants.index(each[1]), each[2]))
