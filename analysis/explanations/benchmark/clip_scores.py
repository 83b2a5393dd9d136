"""Every explainer on one clip: all measures of the benchmark, and how like two explainers order the frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice

from analysis.explanations.benchmark.degraded import degraded_scores
from analysis.explanations.benchmark.explainers import Explainers, FrameScores
from analysis.explanations.benchmark.random_removal import REMOVAL_MEASURES, random_removal
from analysis.explanations.benchmark.randomisation import (
    RANDOMISATION_MEASURES,
    randomisation_measures,
    randomised_models,
    rank_correlation,
)
from analysis.explanations.benchmark.replacements import REPLACEMENTS, replacement_clip
from analysis.explanations.faithfulness import Replacer
from analysis.explanations.ground_truth import (
    EVIDENCE_MEASURES,
    Evidence,
    average_precision,
    evidence_scores,
    label_evidence,
    relevance_mass,
)
from analysis.explanations.scores import explained_labels
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError, UnknownNameError
from gmsa_models.evaluation.scoring import vocabulary_of

__all__ = ["AGREEMENT", "CHANCE", "MEASURES", "BenchmarkSettings", "MeasuredValue", "clip_scores"]

LOCALISATION = (*EVIDENCE_MEASURES, "average_precision", "relevance_mass")
MEAN_FRAME = ("deletion", "insertion")
IN_DISTRIBUTION = ("deletion_in_distribution", "insertion_in_distribution")
AGREEMENT = "agreement"
# Measure -> whether more is better.
MEASURES = (
    dict.fromkeys(LOCALISATION, True)
    | dict(zip(MEAN_FRAME, (False, True), strict=True))
    | dict(zip(IN_DISTRIBUTION, (False, True), strict=True))
    | dict(zip(REMOVAL_MEASURES, (True, False), strict=True))
    | dict(zip(RANDOMISATION_MEASURES, (False, True), strict=True))
)
CHANCE = "chance"  # stands among the explainers: what localisation comes to at random

# Explainer, the other explainer ("" but of the agreement of two), measure, value.
MeasuredValue = tuple[str, str, str, float]


@dataclass(frozen=True)
class BenchmarkSettings:
    """How much is measured; all of it decides the numbers.

    Attributes:
        videos: how many, the first with seconds that are known to show a label and seconds that are not.
        frames: how many first frames of each.
        randomised: on how many of the videos, the first, the randomisation test is made.
        replacement: a key of `REPLACEMENTS`: the frames of other clips that stand in for removed ones.
        others: how many other clips they are from.
        samples: of random removals, of each size of an explanation.
        degraded: explainer whose degraded forms are benchmarked too; "": none.
        seed: of whatever is drawn.
    """

    videos: int = 32
    frames: int = 60
    randomised: int = 8
    replacement: str = "background"
    others: int = 8
    samples: int = 8
    degraded: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("videos", 2), ("frames", 2), ("randomised", 0), ("others", 1), ("samples", 1)):
            if getattr(self, name) < least:
                raise ArgumentError(f"{name} is {getattr(self, name)}; expected at least {least}")
        if self.replacement not in REPLACEMENTS:
            raise ArgumentError(f"replacement {self.replacement!r} is unknown; known: {', '.join(REPLACEMENTS)}")


def clip_scores(
    model: GMSAClassifier,
    clip: Clip,
    others: Sequence[Clip],
    explainers: Explainers,
    settings: BenchmarkSettings,
    randomise: bool,
) -> list[MeasuredValue]:
    """All measures of all explainers on the first label of a clip whose seconds are known.

    Args:
        model: with a vocabulary.
        clip: with known segments; its first `settings.frames` frames are taken.
        others: clips with known segments, for in-distribution replacement.
        explainers: what is benchmarked.
        settings: how.
        randomise: whether to make the randomisation test too.

    Returns:
        Of each explainer `MEASURES`; of each two explainers `AGREEMENT`, Spearman's rho over the frames; of `CHANCE`
        the measures of localisation at random.

    Raises:
        ArgumentError: a clip without a label whose seconds are known, or see `Explainers.scores`.
        UnknownNameError: the explainer to degrade is none of those that apply.
    """
    short = clip.cut(min(settings.frames, model.config.max_frames))
    label, target = _first_label(model, short)
    explain = lambda each: _explained(each, short, target, explainers, settings)  # noqa: E731
    scores = explain(model)
    evidence = label_evidence(short, label, short.frames)
    mean = Replacer(model, short, target)
    other = Replacer(model, short, target, "video", replacement_clip(short, others, label, settings.replacement))
    values: list[MeasuredValue] = []
    for name, each in scores.items():
        measures = _localisation(each, evidence) | _faithfulness(each, mean, other, settings)
        values += [(name, "", measure, value) for measure, value in measures.items()]
    share = float(evidence.shows[evidence.known].double().mean())
    values += [(CHANCE, "", name, 0.5 if name == "evidence_auc" else share) for name in LOCALISATION]
    arrays = {name: each.numpy() for name, each in scores.items()}
    values += [
        (one, two, AGREEMENT, rank_correlation(arrays[one], arrays[two])) for one, two in combinations(arrays, 2)
    ]
    return values + (_randomisation(model, scores, explain, settings.seed) if randomise else [])


def _first_label(model: GMSAClassifier, clip: Clip) -> tuple[int, int]:
    for label, target in islice(explained_labels(vocabulary_of(model), clip), 1):
        return label, target
    raise ArgumentError(
        f"clip {clip.id!r}: in its first {clip.frames} frames no label of the model has both seconds that show it and "
        "seconds that do not; the benchmark needs both"
    )


def _explained(
    model: GMSAClassifier, clip: Clip, target: int, explainers: Explainers, settings: BenchmarkSettings
) -> dict[str, FrameScores]:
    """Explainers do not know where segments begin and end: what they find, they find in the frames."""
    scores = explainers.scores(model, replace(clip, segments=()), target)
    if settings.degraded:
        if settings.degraded not in scores:
            raise UnknownNameError(
                f"explainer {settings.degraded!r}, which is to be degraded, is none of {', '.join(scores)}"
            )
        scores |= degraded_scores(settings.degraded, scores[settings.degraded], clip.id, settings.seed)
    return scores


def _localisation(values: FrameScores, evidence: Evidence) -> dict[str, float]:
    return evidence_scores(values, evidence) | {
        "average_precision": average_precision(values, evidence), "relevance_mass": relevance_mass(values, evidence),
    }  # fmt: skip


def _faithfulness(
    values: FrameScores, mean: Replacer, other: Replacer, settings: BenchmarkSettings
) -> dict[str, float]:
    curves = [replacer.curves(values).measures() for replacer in (mean, other)]
    names = (MEAN_FRAME, IN_DISTRIBUTION)
    measures = {
        name: each[measure]
        for each, row in zip(curves, names, strict=True)
        for name, measure in zip(row, MEAN_FRAME, strict=True)
    }
    return measures | random_removal(other, values, settings.samples, settings.seed)


def _randomisation(
    model: GMSAClassifier,
    scores: Mapping[str, FrameScores],
    explain: Callable[[GMSAClassifier], dict[str, FrameScores]],
    seed: int,
) -> list[MeasuredValue]:
    stages = [explain(each) for _, each in randomised_models(model, seed)]
    values: list[MeasuredValue] = []
    for name, original in scores.items():
        measures = randomisation_measures(original.numpy(), [stage[name].numpy() for stage in stages])
        values += [(name, "", measure, value) for measure, value in measures.items()]
    return values
