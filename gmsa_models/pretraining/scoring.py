"""How well hidden frames of other clips are predicted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from lightning_fabric import Fabric
from torch import Tensor

from gmsa_models.data.clip import Clip
from gmsa_models.data.errors import OnSkip
from gmsa_models.errors import TrainingError
from gmsa_models.evaluating import evaluating
from gmsa_models.evaluation.scoring import limited, sorted_batches
from gmsa_models.feeding import ClipSource, Collation, Inputs, prefetched
from gmsa_models.pretraining.errors_of_frames import squared_errors
from gmsa_models.pretraining.hidden_frames import hidden_spans
from gmsa_models.pretraining.model import FramePredictor
from gmsa_models.pretraining.recipe import PretrainingRecipe
from gmsa_models.training.log import Values

__all__ = ["score_hidden_frames", "score_names"]

SEED = 1_000_003  # of what is hidden when a model is scored: always the same frames of a clip's place


def score_names(modalities: Iterable[str]) -> tuple[str, ...]:
    """Names of the scores."""
    each = (f"{name}_{kind}" for name in modalities for kind in ("error", "visible_mean_error"))
    return ("variance_explained", "error", *each, "videos", "hidden_frames")


def score_hidden_frames(
    fabric: Fabric,
    predictor: FramePredictor,
    source: ClipSource,
    recipe: PretrainingRecipe,
    on_skip: OnSkip | None = None,
) -> Values:
    """Scores over a source; the same on every process, and each time the same frames are hidden.

    Args:
        fabric: of the processes that share the clips.
        predictor: left in its mode.
        source: of clips; their labels are not used.
        recipe: says what is hidden, and the clips of a pass.
        on_skip: takes the errors of what cannot be read or does not fit the model; None: they are raised.

    Returns:
        `error`: the mean over the streams of squared error by that of predicting the clip's mean; `STREAM_error`: of
        one stream; `STREAM_visible_mean_error`: what predicting the mean of the visible frames has;
        `variance_explained`: 1 - error, higher is better; `videos`; `hidden_frames`.

    Raises:
        TrainingError: no frame of a stream differs from the mean of its clip.
    """
    modalities = tuple(predictor.model.config.modalities)
    sums = torch.zeros(3 * len(modalities) + 2, dtype=torch.float64)
    clips = limited(source, None, Inputs.of(predictor.model, labels=False), on_skip)
    for part in _sums_of_batches(fabric, predictor, clips, recipe):
        sums += part
    if fabric.world_size > 1:
        gathered = [sums] * fabric.world_size
        torch.distributed.all_gather_object(gathered, sums)
        sums = torch.stack(gathered).sum(0)
    errors: Values = {}
    for name, (model, mean, visible) in zip(modalities, sums[:-2].view(-1, 3).tolist(), strict=True):
        if mean == 0:
            raise TrainingError(
                f"no hidden frame of {name!r} differs from the mean of its clip, so no error is defined; give "
                "validation clips of several frames that differ"
            )
        errors |= {f"{name}_error": model / mean, f"{name}_visible_mean_error": visible / mean}
    error = sum(errors[f"{name}_error"] for name in modalities) / len(modalities)
    count = {"videos": int(sums[-2]), "hidden_frames": int(sums[-1])}
    return {"variance_explained": 1 - error, "error": error, **errors, **count}


def _sums_of_batches(
    fabric: Fabric, predictor: FramePredictor, clips: Iterable[Clip], recipe: PretrainingRecipe
) -> Iterator[Tensor]:
    """Of each batch of a process's share: three squared errors a stream, clips, hidden frames."""
    config, rank, processes = predictor.model.config, fabric.global_rank, fabric.world_size
    collate = Collation(tuple(config.modalities), None, config.max_frames)
    share = islice(clips, rank, None, processes)
    for places, raw in prefetched(sorted_batches(share, recipe.batch_size, collate)):
        seeds = [(SEED, place * processes + rank) for place in places]
        hidden = hidden_spans(raw.valid, recipe.hidden_share, recipe.span, seeds).to(fabric.device)
        batch = raw.batch(fabric.device)
        with evaluating(predictor) as replica, torch.inference_mode():
            floats = {name: each.to(replica.dtype) for name, each in batch.features.items()}
            predicted = replica(floats, batch.valid, hidden, batch.shots)
            errors = squared_errors(predicted, floats, batch.valid, hidden).values()
        numbers = [number for each in errors for number in (each.model, each.mean, each.visible_mean)]
        counts = torch.tensor([len(raw), int(hidden.sum())], dtype=torch.float64)
        yield torch.cat([torch.stack(numbers).double().cpu(), counts])
