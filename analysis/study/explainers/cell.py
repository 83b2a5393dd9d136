"""One cell of the explanation benchmark: all explainers on one video by one model, and the file it comes to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analysis.explanations.benchmark.clip_scores import BenchmarkSettings, clip_scores
from analysis.explanations.benchmark.explainers import Explainers, source_digest
from analysis.explanations.registry import EXPLANATIONS
from analysis.study.explainers.table import ROWS, rows_table
from gmsa_models.checkpoints.files import load
from gmsa_models.checkpoints.model_file import ModelFile
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.data.fingerprint import fingerprint_clips
from gmsa_models.errors import OutputError

__all__ = ["BenchmarkCell", "BenchmarkOutcome", "do_cell"]

FORMAT_VERSION = 1
COMPUTED_WITH = ("gmsa-workbench", "torch", "numpy", "scipy", "captum")


@dataclass(frozen=True, eq=False)
class BenchmarkCell:
    """A video and a model. It travels to whichever process does it.

    Attributes:
        model: the checkpoint.
        place: of the video among those of the benchmark.
        clip: the video, cut.
        others: the clips that stand in for its frames.
        explainers: what is benchmarked.
        settings: how much.
        folder: of the benchmark.
    """

    model: ModelFile
    place: int
    clip: Clip
    others: tuple[Clip, ...]
    explainers: Explainers
    settings: BenchmarkSettings
    folder: Path

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.model.name}, video {self.clip.id}"

    @property
    def path(self) -> Path:
        """Of its rows."""
        return self.folder / "videos" / self.model.sha256[:16] / f"{self.place:05}.parquet"

    def provenance(self) -> dict[str, Any]:
        """What its rows say they were made from."""
        methods = list(EXPLANATIONS if self.explainers.methods is None else self.explainers.methods)
        segments = [str(each.segments) for each in (self.clip, *self.others)]
        parts = {
            "format_version": FORMAT_VERSION,
            "model": self.model.sha256,
            "video": fingerprint_clips([self.clip, *self.others]),
            "segments": hashlib.sha256("\n".join(segments).encode()).hexdigest(),
            "settings": asdict(self.settings),
            "explainers": methods + [[name, source_digest(function)] for name, function in self.explainers.own],
            "versions": {name: version(name) for name in COMPUTED_WITH},
        }
        return json.loads(json.dumps(parts))


@dataclass(frozen=True)
class BenchmarkOutcome:
    """What became of a cell.

    Attributes:
        cell: which.
        reason: why it failed; "": it is done.
        fatal: nor can any other cell be done: there is no room.
    """

    cell: BenchmarkCell
    reason: str = ""
    fatal: bool = False


def do_cell(cell: BenchmarkCell, advance: Callable[[int, int], None] = lambda videos, size: None) -> BenchmarkOutcome:
    """Do a cell; never raises but for the keyboard. Numbers depend on the cell only, not on who does it.

    Args:
        cell: what to do.
        advance: not called; a cell is one piece of work.
    """
    try:
        model, settings = _loaded(cell.model.path, cell.model.sha256), cell.settings
        randomise = cell.place < settings.randomised
        values = clip_scores(model, cell.clip, cell.others, cell.explainers, settings, randomise)
        ROWS.write(cell.path, rows_table(cell.model.name, cell.clip.id, values), cell.provenance())
    except Exception as error:
        return BenchmarkOutcome(cell, f"{type(error).__name__}: {error}", isinstance(error, OutputError))
    return BenchmarkOutcome(cell)


@lru_cache(2)
def _loaded(path: Path, sha256: str) -> GMSAClassifier:
    """A model, kept for the videos that follow."""
    return load(path)
