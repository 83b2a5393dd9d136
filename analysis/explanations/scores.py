"""Every explanation of many videos beside the ground truth and the model's own score: one tidy table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import pandas as pd

from analysis.explanations.explanation import Explanation
from analysis.explanations.faithfulness import MEASURES, Replacer
from analysis.explanations.ground_truth import EVIDENCE_MEASURES, evidence_scores, label_evidence
from analysis.explanations.registry import applicable, check_method, explain_all
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.evaluation.scoring import vocabulary_of

__all__ = ["explained_labels", "explanation_scores", "score_explanation"]

COLUMNS = ("video", "label", "method", "measure", "value")
RANDOM_ORDERS = "random-order"


def score_explanation(
    explanation: Explanation, clip: Clip, label: int, replacer: Replacer | None, points: int | None = None
) -> dict[str, float]:
    """One explanation's measures.

    Args:
        explanation: of the clip.
        clip: cut to the frames explained.
        label: of the data set, the one explained.
        replacer: of the same clip and class; None: no faithfulness.
        points: of its curves, see `faithfulness.curve_counts`.

    Returns:
        Measures of `MEASURES` and `EVIDENCE_MEASURES`; NaN for evidence that does not decide.
    """
    values = explanation.frames
    measures: dict[str, float] = {}
    if replacer is not None:
        measures |= replacer.curves(values, points).measures()
    evidence = label_evidence(clip, label, len(values))
    nothing = dict.fromkeys(EVIDENCE_MEASURES, float("nan"))
    return measures | (evidence_scores(values, evidence) if evidence.decides else nothing)


def explanation_scores(
    model: GMSAClassifier,
    clips: Iterable[Clip],
    methods: Sequence[str] | None = None,
    *,
    faithfulness: bool = True,
    labels: int | None = None,
    baseline: str = "mean",
    progress: Callable[[int], None] = lambda clips: None,
) -> pd.DataFrame:
    """A row a video, label, method and measure. Labels whose evidence does not decide are left out.

    Args:
        model: with a vocabulary.
        clips: with known segments.
        methods: keys of `EXPLANATIONS`; those that do not apply to the model are left out. Default: all.
        faithfulness: also replace frames; slow beside the rest. Adds the method "random-order", the mean of
            random rankings.
        labels: how many labels of a clip, the first that decide; default: all.
        baseline: what replaces frames.
        progress: called after each clip with 1.

    Returns:
        Columns `COLUMNS`; `video` is the clip's id, `label` the data set's.

    Raises:
        ArgumentError: the model does not say what its outputs stand for.
        UnknownNameError: an unknown method.
        UnfitClipError: a clip whose labels are of another data set than the model's classes.
    """
    chosen = applicable(model) if methods is None else tuple(methods)
    vocabulary = vocabulary_of(model)
    for name in chosen:
        check_method(name)
    names = [name for name in chosen if name in applicable(model)]
    rows = []
    for clip in clips:
        short = clip.cut(model.config.max_frames)
        # Explanations do not know where segments begin and end: what they find, they find in the frames.
        without_segments = replace(short, segments=())
        for label, target in islice(explained_labels(vocabulary, short), labels):
            replacer = Replacer(model, short, target, baseline) if faithfulness else None
            explanations = {
                name: score_explanation(each, short, label, replacer)
                for name, each in explain_all(model, without_segments, target, names).items()
            }
            if replacer is not None:
                explanations[RANDOM_ORDERS] = _mean([each.measures() for each in replacer.random_curves(2)])
            rows += [
                (clip.id, label, name, measure, value)
                for name, measures in explanations.items()
                for measure, value in measures.items()
            ]
        progress(1)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def explained_labels(vocabulary: Vocabulary, clip: Clip) -> Iterator[tuple[int, int]]:
    """Labels of a clip that the model knows and whose seconds are known, each with its position among the outputs.

    Raises:
        UnfitClipError: the labels are of another data set than the vocabulary.
    """
    for position in clip.positions(vocabulary):
        if label_evidence(clip, label := vocabulary.indices[position]).decides:
            yield label, position


def _mean(measures: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(each[name] for each in measures) / len(measures) for name in MEASURES}
