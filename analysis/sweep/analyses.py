"""What a sweep can compute of each video: columns by name, and what fills them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from analysis.attention.of_view import (
    branch_head_patterns,
    branch_line_values,
    branch_lines,
    branch_profile,
    branch_unevenness,
    frame_gates,
    frame_local_share,
    line_gate,
)
from analysis.attention.pattern_table import PATTERNS
from analysis.sensitivity.of_view import view_sensitivity
from analysis.statistics.resampling import video_metrics
from analysis.sweep.columns import BRANCHES, Column, column_name
from analysis.view import TraceView
from gmsa_models.branches import GLOBAL
from gmsa_models.errors import UnknownNameError

__all__ = ["ANALYSES", "DEFAULT_ANALYSES", "LABELS", "SCORES", "TOP_K", "Analysis", "chosen"]

TOP_K = 20  # predictions a video: those that GAP and MAP use
NUMBER, CURVE = pa.float64(), pa.list_(pa.float32())
LABELS = pa.list_(pa.int32())
SCORES = "scores"  # the analysis that holds a clip's labels against the model's classes

Columns = tuple[Column, ...]
Values = Mapping[str, Iterable[Any]]  # one value a video of the batch


@dataclass(frozen=True)
class Analysis:
    """A set of columns.

    Attributes:
        meaning: in a few words.
        of: modalities and branches -> the columns, whatever the model: where a model lacks one, its values are null.
        compute: a view of a batch, its neighbourhood chosen -> values of those columns that the model has.
    """

    meaning: str
    of: Callable[[Sequence[str], Sequence[str]], Columns]
    compute: Callable[[TraceView], Values]

    def columns(self, modalities: Sequence[str], branches: Sequence[str] = BRANCHES) -> Columns:
        """The columns of some modalities and branches."""
        return self.of(modalities, branches)


def chosen(names: Sequence[str]) -> dict[str, Analysis]:
    """Analyses by name, in the order of `ANALYSES`.

    Raises:
        UnknownNameError: one that does not exist.
    """
    if unknown := [name for name in names if name not in ANALYSES]:
        raise UnknownNameError(f"unknown analysis {unknown[0]!r}; known: {', '.join(ANALYSES)}")
    return {name: analysis for name, analysis in ANALYSES.items() if name in names}


def _score_columns(modalities: Sequence[str], branches: Sequence[str]) -> Columns:
    kinds = {"known_labels": LABELS, "top_classes": LABELS, "top_scores": CURVE, "perr": NUMBER, "hit_at_1": NUMBER}
    return tuple(Column(name, kind) for name, kind in kinds.items())


def _scores(view: TraceView) -> Values:
    """`known_labels`: of the clip's labels those that the model has. `top_classes`, `top_scores`: its 20 highest."""
    scores = view.logits.float().sigmoid().cpu().numpy()
    labels = np.zeros(scores.shape, bool)
    for row, clip in enumerate(view.clips):
        labels[row, list(clip.positions(view.vocabulary))] = True
    # A stable sort of the negated scores: the class that comes first wins a tie, as in the evaluation of models.
    ranking = np.argsort(-scores, axis=1, kind="stable")[:, :TOP_K]
    classes = np.array(view.vocabulary.indices, np.int32)
    return {
        "known_labels": [classes[row] for row in labels],
        "top_classes": list(classes[ranking]),
        "top_scores": list(np.take_along_axis(scores, ranking, 1)),
        **video_metrics(scores, labels),
    }


def _maps(view: TraceView) -> Iterable[tuple[str, str]]:
    """Modality and branch of every map of the first layer."""
    for modality in view.modalities:
        yield from ((modality, branch) for branch in view.branches if branch in view.layer(modality).weights)


def _uneven(view: TraceView) -> Values:
    values = {}
    for place in _maps(view):
        uneven = branch_unevenness(view, *place)
        values[column_name("gini", *place)] = _numbers(uneven.gini)
        values[column_name("relative_entropy", *place)] = _numbers(uneven.relative_entropy)
    return values


def _profiles(view: TraceView) -> Values:
    return {column_name("profile", *place): _curves(view, branch_profile(view, *place)) for place in _maps(view)}


def _pattern_means(view: TraceView) -> Values:
    return {
        column_name(name, *place): _numbers(values.double().nanmean(-1))
        for place in _maps(view)
        for name, values in branch_head_patterns(view, *place).items()
    }


def _pattern_heads(view: TraceView) -> Values:
    return {
        column_name(f"heads_{name}", *place): list(values.float().cpu().numpy())
        for place in _maps(view)
        for name, values in branch_head_patterns(view, *place).items()
    }


def _sensitivities(view: TraceView) -> Iterable[tuple[str, str, Tensor]]:
    """Statistic, modality, and (batch, frames) of S_i: by the shared neighbourhood, and by the model's own."""
    for modality in view.modalities:
        for name, pattern in (("sensitivity", view.chosen), ("own_sensitivity", view.own)):
            values = view_sensitivity(view, modality, pattern)
            if values is not None:
                yield name, modality, values


def _sensitivity_means(view: TraceView) -> Values:
    return {
        column_name(name, modality): _numbers(values.double().nanmean(-1))
        for name, modality, values in _sensitivities(view)
    }


def _sensitivity_curves(view: TraceView) -> Values:
    return {
        column_name(f"frames_{name}", modality): _curves(view, values)
        for name, modality, values in _sensitivities(view)
    }


def _gates(view: TraceView) -> Values:
    """`gate_local`: mean R_l, over pairs inside N_i or over features, of several local branches the sum of theirs.

    `local_share`: see `analysis.attention.gates`.
    """
    values = {}
    for modality in view.modalities:
        means = {
            "local_share": frame_local_share(view, modality),
            "gate_local": _sum_of_local(frame_gates(view, modality)),
        }
        for name, mean in means.items():
            if mean is not None:
                values[column_name(name, modality)] = _numbers(mean.double().nanmean(-1))
    return values


def _sum_of_local(gates: Mapping[str, Tensor]) -> Tensor | None:
    near = [gate for branch, gate in gates.items() if branch != GLOBAL]
    return reduce(add, near) if near else None


def _lines(view: TraceView) -> Values:
    """Means over heads; `line_norm_ratio` and `line_gate` over those that have a line."""
    values = {}
    for modality in view.modalities:
        if (gate := line_gate(view, modality)) is not None:
            values[column_name("line_gate", modality)] = _numbers(gate.double().nanmean(-1))
    for place in _maps(view):
        lines, at_lines = branch_lines(view, *place), branch_line_values(view, *place)
        values[column_name("line_count", *place)] = _numbers(lines.line.sum(-1).double().mean(-1))
        values[column_name("sink_rate", *place)] = _numbers(lines.sink_rate.double().mean(-1))
        if at_lines is not None:
            values[column_name("line_norm_ratio", *place)] = _numbers(at_lines.norm_ratio.double().nanmean(-1))
    return values


def _numbers(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()


def _curves(view: TraceView, values: Tensor) -> list[np.ndarray]:
    """One array a clip, without its padding."""
    whole = values.float().cpu().numpy()
    return [row[: clip.frames] for row, clip in zip(whole, view.clips, strict=True)]


def _by_branch(names: Iterable[str], kind: pa.DataType) -> Callable[[Sequence[str], Sequence[str]], Columns]:
    names = tuple(names)
    return lambda modalities, branches: tuple(
        Column(name, kind, modality, branch) for name in names for modality in modalities for branch in branches
    )


def _by_modality(names: Iterable[str], kind: pa.DataType) -> Callable[[Sequence[str], Sequence[str]], Columns]:
    names = tuple(names)
    return lambda modalities, branches: tuple(Column(name, kind, modality) for name in names for modality in modalities)


def _line_columns(modalities: Sequence[str], branches: Sequence[str]) -> Columns:
    of_branches = _by_branch(("line_count", "sink_rate", "line_norm_ratio"), NUMBER)(modalities, branches)
    return (*of_branches, *_by_modality(("line_gate",), NUMBER)(modalities, branches))


ANALYSES: dict[str, Analysis] = {
    SCORES: Analysis("20 highest predictions, PERR and Hit@1 of the video", _score_columns, _scores),
    "unevenness": Analysis(
        "Gini and entropy of attention received", _by_branch(("gini", "relative_entropy"), NUMBER), _uneven
    ),
    "patterns": Analysis("every pattern of the maps, mean over heads", _by_branch(PATTERNS, NUMBER), _pattern_means),
    "gates": Analysis(
        "mean local gate; share of the local branches in the output",
        _by_modality(("gate_local", "local_share"), NUMBER),
        _gates,
    ),
    "sensitivity": Analysis(
        "S_i, mean over frames", _by_modality(("sensitivity", "own_sensitivity"), NUMBER), _sensitivity_means
    ),
    "lines": Analysis(
        "vertical lines a head; norm of the values there by the median frame's",
        _line_columns,
        _lines,
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
