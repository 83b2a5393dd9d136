"""Ablations over a data set and on one video: what every class scores after each, and what each costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from analysis.interventions.ablation import (
    Ablation,
    ContextMeans,
    ablated_logits,
    all_ablations,
    by_block,
    summed_contexts,
)
from analysis.statistics.comparisons import corrected, score_difference, score_sample
from analysis.statistics.intervals import RESAMPLES, resample_counts
from analysis.statistics.paired import DRAWS
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluating import evaluating
from gmsa_models.evaluation.metrics import METRICS
from gmsa_models.evaluation.scoring import collation_of, limited, sorted_batches, vocabulary_of
from gmsa_models.feeding import ClipSource, Inputs, RawBatch
from gmsa_models.recompute import BlockState, block_state

__all__ = ["ablate_clip", "ablation_costs", "ablation_scores", "context_means"]

# What one pass saw is kept for the second up to so many bytes; beyond, clips are read and traced again.
MAX_KEPT_BYTES = 2**29
BATCH = 16

Progress = Callable[[int], None]
Seen = tuple[list[int], RawBatch, Tensor, dict[tuple[str, int], BlockState]]


def context_means(model: GMSAClassifier, source: ClipSource, layer: int = 0, batch_size: int = BATCH) -> ContextMeans:
    """Mean contexts of every head over a data set, for mean-ablation.

    Args:
        model: with attention and a vocabulary.
        source: anything `read_clips` takes, or clips in hand.
        layer: which encoder layer.
        batch_size: clips a pass; the means do not depend on it.

    Raises:
        ArgumentError: no clips; the control, which has no attention.
    """
    blocks = [(modality, layer) for modality in model.encoders]
    with evaluating(model, widen=True) as replica:
        return _means_of(_Passes(replica, source, blocks, batch_size, labels=False))


def ablation_scores(
    model: GMSAClassifier,
    source: ClipSource,
    ablations: Sequence[Ablation] | None = None,
    means: ContextMeans | None = None,
    *,
    batch_size: int = BATCH,
    progress: Progress = lambda clips: None,
) -> xr.Dataset:
    """Probabilities of every clip after every ablation, beside those of the model as it is.

    Args:
        model: with attention and a vocabulary.
        source: anything `read_clips` takes, or clips in hand; gone through twice where it is longer than is kept.
        ablations: which; default: `all_ablations(model)`. All of one layer where one is of kind "mean".
        means: for kind "mean"; None: those of this source, so of these very videos.
        batch_size: clips a pass; no score depends on it, but for rounding.
        progress: called with the number of clips that are done since the last call.

    Returns:
        `score` (ablation, video, class), `intact` (video, class), `label` (video, class); along `ablation` the fields
        of `Ablation` and `unit` ("" and -1 where a field is None); attributes `mean_videos`, `mean_frames`: of how many
        the means are.

    Raises:
        ArgumentError: no clips, or ablations that the model does not have; the control, which has no attention; the
            model has no vocabulary.
        UnfitClipError: a clip that does not fit the model; an UnfitClipError where its labels are of another data
            set than the model's classes.
    """
    chosen = all_ablations(model) if ablations is None else tuple(ablations)
    vocabulary, blocks = vocabulary_of(model), list(by_block(chosen))
    with evaluating(model, widen=True) as replica:
        passes = _Passes(replica, source, [block for block, _ in blocks], batch_size)
        if means is None and any(one.kind == "mean" for one in chosen):
            means = _means_of(passes)
        rows: list[int] = []
        ids: list[str] = []
        parts = []
        for numbers, batch, logits, states in passes:
            ablated = logits.new_empty(len(chosen), *logits.shape)
            for block, places in blocks:
                ablated[places] = ablated_logits(replica, states[block], [chosen[place] for place in places], means)
            rows.extend(numbers)
            ids.extend(batch.ids)
            parts.append((_scores(ablated), _scores(logits), batch.labels.bool().numpy()))
            progress(len(numbers))
    if not rows:
        raise ArgumentError("the data have no clips; expected at least one")
    order = np.argsort(rows)
    scores, intact, labels = (
        np.concatenate(each, axis) for each, axis in zip(zip(*parts, strict=True), (1, 0, 0), strict=True)
    )
    table = xr.Dataset(
        {
            "score": (("ablation", "video", "class"), scores[:, order]),
            "intact": (("video", "class"), intact[order]),
            "label": (("video", "class"), labels[order]),
        },
        {"video": np.array(ids)[order], "class": np.array(vocabulary.indices)} | _about(chosen),
    )
    return table if means is None else table.assign_attrs(mean_videos=means.videos, mean_frames=means.frames)


def ablation_costs(
    table: xr.Dataset,
    metrics: Sequence[str] = METRICS,
    *,
    resamples: int = RESAMPLES,
    permutations: int = DRAWS,
    seed: int = 0,
    correction: str = "holm",
) -> pd.DataFrame:
    """What each ablation costs: the score of the model as it is less that after the ablation, on the same videos.

    Args:
        table: of `ablation_scores`.
        metrics: of "gap", "map", "perr", "hit_at_1".
        resamples, permutations, seed: of intervals and of `paired_p` (PERR, Hit@1); GAP and MAP leave out each video.
        correction: of p-values, over the ablations of each metric; see `adjust_p_values`.

    Returns:
        A row a metric and ablation: metric, modality, unit, branch, head, kind, layer, intact, ablated, cost (points of
        percent; above 0: the model is worse without), low, high, p_value, p_adjusted, test, videos.
    """
    scores, intact, labels = (np.asarray(table[name]) for name in ("score", "intact", "label"))
    counts = resample_counts(len(intact), resamples, seed)
    whole, about = score_sample(intact, labels, counts, metrics), table[list(ABOUT)].to_dataframe()[list(ABOUT)]
    without = [score_sample(one, labels, counts, metrics) for one in scores]
    rows = [
        {"metric": metric, **about.iloc[place], **asdict(score_difference(whole, one, metric, permutations, seed))}
        for metric in metrics
        for place, one in enumerate(without)
    ]
    names = {"first_value": "intact", "second_value": "ablated", "difference": "cost"}
    return corrected(rows, correction).rename(columns=names)


def ablate_clip(
    model: GMSAClassifier,
    clip: Clip,
    means: ContextMeans | None = None,
    ablations: Sequence[Ablation] | None = None,
) -> xr.Dataset:
    """What each ablation does to one video: logit and probability of every class.

    Args:
        model: with attention and a vocabulary.
        clip: cut to the model's longest.
        means: for kind "mean": of `context_means` over a data set. A video's own mean would say little is lost.
        ablations: which; default: all that the model has, those of kind "mean" only where `means` are given.

    Returns:
        `logit`, `score` (ablation, class) after each ablation, `intact_logit`, `intact_score` (class), and `change`
        (ablation, class): logit after less before, below 0 where what was taken away spoke for the class.

    Raises:
        ArgumentError: a mean-ablation without means; the control, which has no attention.
    """
    kinds = ("zero", "shut") if means is None else ("mean", "zero", "shut")
    chosen = all_ablations(model, kinds) if ablations is None else tuple(ablations)
    vocabulary = vocabulary_of(model)
    blocks = list(by_block(chosen))
    with evaluating(model, widen=True) as replica:
        _, _, intact, states = next(iter(_Passes(replica, [clip], [block for block, _ in blocks], 1, labels=False)))
        logits = intact.new_empty(len(chosen), intact.shape[1])
        for block, places in blocks:
            logits[places] = ablated_logits(replica, states[block], [chosen[place] for place in places], means)[:, 0]
    values = {"logit": logits, "score": logits.sigmoid(), "change": logits - intact[0]}
    return xr.Dataset(
        {name: (("ablation", "class"), value.float().cpu().numpy()) for name, value in values.items()}
        | {"intact_logit": ("class", intact[0].float().cpu().numpy()), "intact_score": ("class", _scores(intact)[0])},
        {
            "class": np.array(vocabulary.indices),
            "class_name": ("class", np.array(vocabulary.names, dtype=object)),
        }
        | _about(chosen),
        {"clip": clip.id},
    )


class _Passes:
    """Batches of a source with the states of some blocks; a second pass takes what the first one kept."""

    def __init__(
        self,
        model: GMSAClassifier,
        source: ClipSource,
        blocks: Sequence[tuple[str, int]],
        batch_size: int,
        labels: bool = True,
    ) -> None:
        """With `labels` False the batches have none, so that it does not matter of which data set the clips' are."""
        self.model, self.source, self.blocks, self.batch_size, self.labels = model, source, blocks, batch_size, labels
        self.kept: list[Seen] | None = None

    def __iter__(self) -> Iterator[Seen]:
        if self.kept is not None:
            yield from self.kept
            return
        kept, room = [], MAX_KEPT_BYTES
        for seen in self._traced():
            room -= sum(map(_bytes, seen[3].values()))
            kept.append(seen)
            if room < 0:
                kept.clear()
            yield seen
        self.kept = kept if room >= 0 else None

    def _traced(self) -> Iterator[Seen]:
        parameter = next(self.model.parameters())
        clips = limited(self.source, inputs=Inputs.of(self.model, self.labels))
        if not self.labels:
            clips = (replace(clip, labels=()) for clip in clips)
        batches = sorted_batches(clips, self.batch_size, collation_of(self.model))
        for numbers, raw in batches:
            batch = raw.batch(parameter.device).to(dtype=parameter.dtype)
            trace = self.model.trace(batch)
            states = {block: block_state(self.model, batch, trace, *block) for block in self.blocks}
            yield numbers, replace(raw, features={}), trace.logits, states


def _bytes(state: BlockState) -> int:
    parts = [state.contexts, *(part for both in state.shut.values() for part in both if part is not None)]
    tensors: Iterable[Tensor] = (state.hidden, *(tensor for part in parts for tensor in part.values()))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _means_of(passes: _Passes) -> ContextMeans:
    sums: dict[tuple[str, str], Tensor] = {}
    videos = frames = 0
    for _, batch, _, states in passes:
        videos, frames = videos + len(batch), frames + int(batch.valid.sum())
        for (modality, _), state in states.items():
            for branch, total in summed_contexts(state).items():
                sums[modality, branch] = sums.get((modality, branch), 0.0) + total
    if not videos:
        raise ArgumentError("the data have no clips to take means of; expected at least one")
    if len(layers := {layer for _, layer in passes.blocks}) != 1:
        raise ArgumentError(f"means of layers {sorted(layers)} at once; expected one layer")
    return ContextMeans({place: total / frames for place, total in sums.items()}, videos, frames, layers.pop())


ABOUT = ("modality", "unit", "branch", "head", "kind", "layer")


def _about(ablations: Sequence[Ablation]) -> dict[str, tuple[str, np.ndarray]]:
    """Coordinates along `ablation`."""
    values = {
        "modality": [one.modality for one in ablations],
        "unit": [one.unit for one in ablations],
        "branch": [one.branch or "" for one in ablations],
        "head": [-1 if one.head is None else one.head for one in ablations],
        "kind": [one.kind for one in ablations],
        "layer": [one.layer for one in ablations],
    }
    return {name: ("ablation", np.array(each)) for name, each in values.items()}


def _scores(logits: Float[Tensor, "*batch classes"]) -> Float[np.ndarray, "*batch classes"]:
    return logits.float().sigmoid().cpu().numpy()
