"""What a sweep can compute of each video: columns by name, and what fills them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from analysis.attention.gates import attention_block, branch_contributions, contribution_norms, local_share, mean_gates
from analysis.attention.maps import layer_maps
from analysis.attention.pattern_table import PATTERNS, branch_patterns
from analysis.attention.profiles import unevenness
from analysis.sensitivity.norms import local_sensitivity
from analysis.statistics.resampling import video_metrics
from analysis.sweep.traced import TracedBatch
from gmsa_models.trace import BRANCHES

TOP_K = 20  # predictions a video: those that GAP and MAP use
NUMBER, CURVE = pa.float64(), pa.list_(pa.float32())
LABELS = pa.list_(pa.int32())
SCORES = "scores"  # the analysis that holds a clip's labels against the model's classes

Columns = dict[str, pa.DataType]
Values = Mapping[str, Iterable]  # one value a video of the batch


class UnknownAnalysisError(KeyError):
    """An analysis that does not exist; the message lists those that do."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Analysis:
    """A set of columns.

    Attributes:
        meaning: in a few words.
        columns: modalities -> the columns, whatever the model: where a model lacks one, its values are null.
        compute: a traced batch -> values of those columns that the model has.
    """

    meaning: str
    columns: Callable[[Sequence[str]], Columns]
    compute: Callable[[TracedBatch], Values]


def chosen(names: Sequence[str]) -> dict[str, Analysis]:
    """Analyses by name, in the order of `ANALYSES`.

    Raises:
        UnknownAnalysisError: one that does not exist.
    """
    if unknown := [name for name in names if name not in ANALYSES]:
        raise UnknownAnalysisError(f"unknown analysis {unknown[0]!r}; known: {', '.join(ANALYSES)}")
    return {name: analysis for name, analysis in ANALYSES.items() if name in names}


def _score_columns(modalities: Sequence[str]) -> Columns:
    top = {"top_classes": LABELS, "top_scores": CURVE}
    return {"known_labels": LABELS} | top | {"perr": NUMBER, "hit_at_1": NUMBER}


def _scores(traced: TracedBatch) -> Values:
    """`known_labels`: of the clip's labels those that the model has. `top_classes`, `top_scores`: its 20 highest."""
    scores = traced.trace.logits.float().sigmoid().cpu().numpy()
    labels = traced.batch.labels.bool().cpu().numpy()
    # A stable sort of the negated scores: the class that comes first wins a tie, as in the evaluation of models.
    ranking = np.argsort(-scores, axis=1, kind="stable")[:, :TOP_K]
    classes = np.array(traced.model.vocabulary.indices, np.int32)
    return {
        "known_labels": [classes[row] for row in labels],
        "top_classes": list(classes[ranking]),
        "top_scores": list(np.take_along_axis(scores, ranking, 1)),
        **video_metrics(scores, labels),
    }


def _uneven(traced: TracedBatch) -> Values:
    values = {}
    for (modality, branch), profile in traced.profiles.items():
        found = unevenness(profile)
        values[f"gini_{modality}_{branch}"] = _numbers(found.gini)
        values[f"relative_entropy_{modality}_{branch}"] = _numbers(found.relative_entropy)
    return values


def _profiles(traced: TracedBatch) -> Values:
    return {f"profile_{'_'.join(where)}": _curves(traced, each) for where, each in traced.profiles.items()}


def _pattern_means(traced: TracedBatch) -> Values:
    return {name: _numbers(values.double().nanmean(-1)) for name, values in _head_values(traced)}


def _pattern_heads(traced: TracedBatch) -> Values:
    return {f"heads_{name}": list(values.float().cpu().numpy()) for name, values in _head_values(traced)}


def _head_values(traced: TracedBatch) -> Iterable[tuple[str, Tensor]]:
    """Column, and (batch, heads) of every pattern of every branch; distances in seconds."""
    seconds = torch.tensor(traced.batch.frame_seconds, dtype=torch.float32, device=traced.trace.valid.device)[:, None]
    for modality in traced.modalities:
        layer = traced.trace.layer(modality)
        for branch in layer_maps(layer):
            for name, values in branch_patterns(layer, branch, traced.trace.valid).items():
                scaled = values * seconds if PATTERNS[name].units == "s" else values
                yield f"{name}_{modality}_{branch}", scaled


def _sensitivities(traced: TracedBatch) -> Iterable[tuple[str, Tensor]]:
    """Column, and (batch, frames) of S_i: by the shared neighbourhood, and by the model's own."""
    own = traced.model.config.neighbourhood
    for modality, norms in traced.gradient_norms.items():
        yield f"sensitivity_{modality}", local_sensitivity(norms, traced.neighbourhood)
        if own is not None:
            yield f"own_sensitivity_{modality}", local_sensitivity(norms, own)


def _sensitivity_means(traced: TracedBatch) -> Values:
    return {name: _numbers(values.double().nanmean(-1)) for name, values in _sensitivities(traced)}


def _sensitivity_curves(traced: TracedBatch) -> Values:
    return {f"frames_{name}": _curves(traced, values) for name, values in _sensitivities(traced)}


def _gates(traced: TracedBatch) -> Values:
    """`gate_local`: mean R_l, over pairs inside N_i or over features. `local_share`: see `analysis.attention.gates`."""
    values = {}
    for modality in traced.modalities if traced.model.config.neighbourhood is not None else ():
        layer, valid = traced.trace.layer(modality), traced.trace.valid
        norms = contribution_norms(branch_contributions(attention_block(traced.model, modality), layer), valid)
        values[f"local_share_{modality}"] = _numbers(local_share(norms).double().nanmean(-1))
        if layer.gates:
            values[f"gate_local_{modality}"] = _numbers(mean_gates(layer, valid)["local"].double().nanmean(-1))
    return values


def _numbers(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()


def _curves(traced: TracedBatch, values: Tensor) -> list[np.ndarray]:
    """One array a clip, without its padding."""
    whole = values.float().cpu().numpy()
    return [row[: clip.frames] for row, clip in zip(whole, traced.clips, strict=True)]


def _by_branch(names: Iterable[str], kind: pa.DataType) -> Callable[[Sequence[str]], Columns]:
    names = tuple(names)
    return lambda modalities: {
        f"{name}_{modality}_{branch}": kind for name in names for modality in modalities for branch in BRANCHES
    }


def _by_modality(names: Iterable[str], kind: pa.DataType) -> Callable[[Sequence[str]], Columns]:
    names = tuple(names)
    return lambda modalities: {f"{name}_{modality}": kind for name in names for modality in modalities}


ANALYSES: dict[str, Analysis] = {
    SCORES: Analysis("20 highest predictions, PERR and Hit@1 of the video", _score_columns, _scores),
    "unevenness": Analysis(
        "Gini and entropy of attention received", _by_branch(("gini", "relative_entropy"), NUMBER), _uneven
    ),
    "patterns": Analysis("every pattern of the maps, mean over heads", _by_branch(PATTERNS, NUMBER), _pattern_means),
    "gates": Analysis(
        "mean local gate; share of the local branch in the output",
        _by_modality(("gate_local", "local_share"), NUMBER),
        _gates,
    ),
    "sensitivity": Analysis(
        "S_i, mean over frames", _by_modality(("sensitivity", "own_sensitivity"), NUMBER), _sensitivity_means
    ),
    "profiles": Analysis("attention received, frame by frame", _by_branch(("profile",), CURVE), _profiles),
    "head-patterns": Analysis(
        "every pattern of every head", _by_branch((f"heads_{name}" for name in PATTERNS), CURVE), _pattern_heads
    ),
    "frame-sensitivity": Analysis(
        "S_i, frame by frame",
        _by_modality(("frames_sensitivity", "frames_own_sensitivity"), CURVE),
        _sensitivity_curves,
    ),
}

# What a sweep computes unless told otherwise: one number a video each, but for the predictions.
DEFAULT_ANALYSES = (SCORES, "unevenness", "patterns", "gates", "sensitivity")
