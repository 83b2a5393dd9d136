"""Ground truth: how well a ranking of seconds finds those that are known to show the label."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError

__all__ = [
    "EVIDENCE_MEASURES",
    "Evidence",
    "average_precision",
    "evidence_scores",
    "label_evidence",
    "relevance_mass",
]

EVIDENCE_MEASURES = ("evidence_auc", "evidence_precision", "pointing")


@dataclass(frozen=True)
class Evidence:
    """Which frames of a clip are known to show a label.

    Attributes:
        shows: True where the frame shows the label.
        known: True where it is known whether it does: everywhere in a montage, in YouTube-8M only inside the segments
            that were rated for this label.
    """

    shows: Bool[Tensor, " frames"]
    known: Bool[Tensor, " frames"]

    @property
    def decides(self) -> bool:
        """Whether there are both frames that show the label and frames that do not; else none is wrong."""
        return bool((self.shows & self.known).any() and (~self.shows & self.known).any())


def label_evidence(clip: Clip, label: int, frames: int | None = None) -> Evidence:
    """What is known of where a clip shows a label.

    Args:
        clip: with segments.
        label: of the data set.
        frames: how many first frames; default: all.
    """
    count = clip.frames if frames is None else min(frames, clip.frames)
    seconds = torch.arange(count, dtype=torch.float64) * clip.frame_seconds
    shows, known = torch.zeros_like(seconds, dtype=torch.bool), torch.zeros_like(seconds, dtype=torch.bool)
    for segment in clip.segments:
        inside = (seconds >= segment.start) & (seconds < segment.end)
        scores = dict(zip(segment.labels, segment.scores or (1.0,) * len(segment.labels), strict=True))
        if segment.kind != "rated" or label in scores:
            known |= inside
        if scores.get(label, 0.0) > 0:
            shows |= inside
    return Evidence(shows, known)


def evidence_scores(values: Float[Tensor, " frames"], evidence: Evidence) -> dict[str, float]:
    """How well values, higher = more, find the frames that show the label; ties count as a random order among equals.

    "evidence_auc": area under the ROC curve, the chance that a frame with evidence ranks above one without; 0.5 by
    chance. "evidence_precision": share with evidence among the as many highest frames as there are with evidence; by
    chance their share. "pointing": whether the highest frame has evidence (the pointing game); by chance that share.

    Args:
        values: one number a frame; NaN ranks below all.
        evidence: of the same frames; frames of which nothing is known are left out.

    Raises:
        ArgumentError: another number of values, or evidence that does not decide.

    Source:
        Zhang et al., "Top-down Neural Attention by Excitation Backprop", 2016, for the pointing game.
    """
    kept, shows = _decided(values, evidence)
    positive, negative = kept[shows], kept[~shows]
    above = (positive[:, None] > negative).double() + 0.5 * (positive[:, None] == negative).double()
    return {
        "evidence_auc": float(above.mean()),
        "evidence_precision": _share_among_highest(kept, shows, int(shows.sum())),
        "pointing": _share_among_highest(kept, shows, 1),
    }


def average_precision(values: Float[Tensor, " frames"], evidence: Evidence) -> float:
    """Area under the curve of precision over recall: precision at each frame with evidence, their mean.

    By chance about the share of frames with evidence, and just that where all values are equal: equal values are
    retrieved together.

    Args:
        values, evidence: as of `evidence_scores`, which says what is raised.
    """
    kept, shows = _decided(values, evidence)
    positive = kept[shows]
    retrieved = (kept[None] >= positive[:, None]).double()
    return float(((retrieved * shows).sum(1) / retrieved.sum(1)).mean())


def relevance_mass(values: Float[Tensor, " frames"], evidence: Evidence) -> float:
    """Share of the positive values that lies on frames with evidence.

    By chance the share of frames with evidence; that is given too where no value is positive, as for equal ones.

    Args:
        values, evidence: as of `evidence_scores`, which says what is raised.

    Source:
        Arras, Osman and Samek, "CLEVR-XAI: A benchmark dataset for the ground truth evaluation of neural network
        explanations", Information Fusion 2022, relevance mass accuracy.
    """
    kept, shows = _decided(values, evidence)
    mass = kept.clamp_min(0.0)
    whole = float(mass.sum())
    return float(mass[shows].sum()) / whole if whole > 0 else float(shows.double().mean())


def _decided(
    values: Float[Tensor, " frames"], evidence: Evidence
) -> tuple[Float[Tensor, " known"], Bool[Tensor, " known"]]:
    """Values of the frames of which it is known whether they show the label, and whether they do."""
    if len(values) != len(evidence.shows):
        raise ArgumentError(f"{len(values)} values; the evidence is of {len(evidence.shows)} frames")
    if not evidence.decides:
        raise ArgumentError("evidence needs frames that show the label and frames that do not")
    return values.double().nan_to_num(nan=-torch.inf)[evidence.known], evidence.shows[evidence.known]


def _share_among_highest(values: Float[Tensor, " frames"], shows: Bool[Tensor, " frames"], count: int) -> float:
    """Expected share of `shows` among the `count` highest, equal values in random order."""
    least = values.sort(descending=True).values[count - 1]
    above, level = values > least, values == least
    places = count - int(above.sum())
    return float(shows[above].sum() + places * shows[level].double().mean()) / count
