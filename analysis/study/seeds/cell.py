"""One cell of the study: train a model, measure it on the held-out videos, write its table."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float

from analysis.gmsa_view import view_clips
from analysis.statistics.resampling import resampled_metrics, video_metrics
from analysis.study.passes import clip_statistics
from analysis.study.scores import score_models
from analysis.study.seeds.plan import Cell
from analysis.study.seeds.table import SCHEMA, write_table
from analysis.study.seeds.variants import column_of, rebuilt
from analysis.sweep.analyses import chosen
from analysis.sweep.columns import column_name
from analysis.sweep.work import computed_columns
from analysis.workers import one_thread_each
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.data.sources import read_clips
from gmsa_models.errors import OutputError
from gmsa_models.evaluation.metrics import classification_metrics
from gmsa_models.training.loop import fit
from gmsa_models.training.recipe import Recipe
from gmsa_models.variants import build

__all__ = ["CellOutcome", "do_cell", "gap_parts"]

PERCENT = 100.0
# As for the shipped models, `gmsa_models.zoo.train`: of montages, and of AudioSet.
RECIPE = Recipe(batch_size=16, learning_rate=3e-3, warmup=50, weight_decay=0.01)
AUDIO_RECIPE = Recipe(batch_size=64, learning_rate=1e-3, warmup=100, weight_decay=0.05)
AUDIO_STEPS, AUDIO_FRAMES, AUDIO_DROPOUT = 3, 10, 0.3  # steps: of AudioSet, for each of montages
ANALYSES = ("unevenness", "patterns", "sensitivity")
BATCH_SIZE = 16


@dataclass(frozen=True)
class CellOutcome:
    """What became of a cell.

    Attributes:
        cell: which.
        seconds: it took.
        reason: why it failed; "": it is done.
        fatal: nor can any other cell be done: there is no room.
    """

    cell: Cell
    seconds: float = 0.0
    reason: str = ""
    fatal: bool = False


def do_cell(cell: Cell, advance: Callable[[int, int], None] = lambda videos, size: None) -> CellOutcome:
    """Do a cell; never raises but for the keyboard. Numbers depend on the cell only, not on who does it.

    A training that was stopped goes on where it was last saved.

    Args:
        cell: what to do.
        advance: not called; a cell is one piece of work.
    """
    begun = time.monotonic()
    try:
        with one_thread_each():
            model = _trained(cell)
            write_table(cell.path, [_measured(cell, model)], cell.provenance())
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return CellOutcome(cell, time.monotonic() - begun, reason, isinstance(error, OutputError))
    return CellOutcome(cell, time.monotonic() - begun)


def _trained(cell: Cell) -> GMSAClassifier:
    real = cell.task.recipe is None
    steps = cell.settings.steps * (AUDIO_STEPS if real else 1)
    recipe = replace(AUDIO_RECIPE if real else RECIPE, steps=steps, seed=cell.seed)
    train = [str(path) for path in cell.data.train]
    card = {"name": cell.name.replace("/", "-"), "data": f"task {cell.task.name!r}: {cell.task.meaning}"}
    return fit(_untrained(cell), train, None, recipe, cell.run, progress=False, card=card).model


def _untrained(cell: Cell) -> GMSAClassifier:
    """A model of demo size; of AudioSet with audio alone."""
    audio: dict[str, Any] = {"modalities": {"audio": 128}, "max_frames": AUDIO_FRAMES, "dropout": AUDIO_DROPOUT}
    more = audio if cell.task.recipe is None else {}
    model = build(column_of(cell.variant), "demo", vocabulary=cell.data.vocabulary, seed=cell.seed, **more)
    return rebuilt(model, cell.variant, cell.task.scaled, cell.seed)


def _measured(cell: Cell, model: GMSAClassifier) -> pa.Table:
    """A row a held-out video; what maps and gradients say is null but in the first `inspected`."""
    clips = list(islice(read_clips([str(path) for path in cell.data.held_out]), cell.settings.held_out))
    table = score_models({cell.variant: model}, clips)[cell.variant]
    scores, labels = table["score"].values, table["label"].values
    whole, each = classification_metrics(scores, labels), video_metrics(scores, labels)
    count = len(clips)
    columns: dict[str, object] = {
        "task": [cell.task.name] * count,
        "variant": [cell.variant] * count,
        "seed": [cell.seed] * count,
        "video": range(count),
        "gap": [PERCENT * whole["gap"]] * count,
        "map": [PERCENT * whole["map"]] * count,
        "gap_part": gap_parts(scores, labels),
        "perr": PERCENT * each["perr"],
        "hit_at_1": PERCENT * each["hit_at_1"],
        "weights": [_digest(model)] * count,
        **_inspected(cell, model, clips[: cell.settings.inspected], count),
    }
    arrays = [pa.array(columns[field.name], field.type, from_pandas=True) for field in SCHEMA]
    return pa.table(arrays, schema=SCHEMA)


def gap_parts(scores: Float[np.ndarray, "videos classes"], labels: np.ndarray) -> Float[np.ndarray, " videos"]:
    """What each video adds to GAP: its jackknife pseudo-value, in percent.

    GAP ranks the predictions of all videos together, so it is no mean over videos; the mean of the pseudo-values is GAP
    less its bias, and their variance over the number of videos is that of GAP (Tukey's jackknife).

    Args:
        scores: probabilities in [0, 1].
        labels: True where the video has the label; videos without any are left out of GAP.

    Returns:
        One a video, NaN for one without a label.
    """
    labelled = labels.any(1)
    count = int(labelled.sum())
    parts = np.full(len(scores), np.nan)
    if count > 1:
        without = 1 - np.eye(count, dtype=np.int64)
        kept = scores[labelled], labels[labelled]
        whole = resampled_metrics(*kept, np.ones((1, count), np.int64), metrics=("gap",))["gap"][0]
        parts[labelled] = count * whole - (count - 1) * resampled_metrics(*kept, without, metrics=("gap",))["gap"]
    return PERCENT * parts


def _inspected(cell: Cell, model: GMSAClassifier, clips: Sequence[Clip], count: int) -> dict[str, object]:
    """Columns of maps, gradients and frames, of the visual modality where there is one."""
    modality = next(iter(model.config.modalities))
    names = {
        "sensitivity": column_name("sensitivity", modality),
        "gini_global": column_name("gini", modality, "global"),
        "gini_local": column_name("gini", modality, "local"),
        "verticality": column_name("verticality_adjusted", modality, "global"),
    }
    values = {name: np.full(count, np.nan) for name in names}
    if model.config.attention != "none":
        for start in range(0, len(clips), BATCH_SIZE):
            batch = clips[start : start + BATCH_SIZE]
            view = view_clips(model, batch, chosen=cell.task.neighbourhood)
            computed = dict(computed_columns(view, chosen(ANALYSES).values()))
            for name, column in names.items():
                if column in computed:
                    values[name][start : start + len(batch)] = np.asarray(computed[column], np.float64)
    return {**values, **_similarities(clips, modality, count)}


def _similarities(clips: Sequence[Clip], modality: str, count: int) -> dict[str, np.ndarray]:
    """Mean cosine of frames 1 s apart, and of those half of the video or more apart."""
    near, far = np.full(count, np.nan), np.full(count, np.nan)
    for place, clip in enumerate(clips):
        if clip.frames > 1:
            by_lag = clip_statistics([clip], [modality])["similarity_by_lag"].values[0, 0]
            near[place], far[place] = by_lag[1], by_lag[(len(by_lag) + 1) // 2 :].mean()
    return {"similarity_near": near, "similarity_far": far}


def _digest(model: GMSAClassifier) -> str:
    """Of the weights, so that two tables show whether their models are the same."""
    digest = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True, default=str).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
