"""Faithfulness: whether the frames that an explanation ranks high are those that the score depends on.

Frames are replaced in all modalities at once, in an order that the explanation gives: highest first (deletion), or all
but the highest (insertion). The curves run over every frame, or over some numbers of frames: all measures are read off
them. They are the logits of edits (patches of the streams' inputs), which a test holds them against, but do not stand
on them: `logits_with` took 69 times as much processor time for GateOp BD20 and 31 times for GateAtt BD10 (181 frames,
both streams, every tenth step timed and scaled up).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import SupportsIndex

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.explanations.attribution.baselines import baseline_inputs
from analysis.explanations.explanation import class_position
from analysis.explanations.incremental.kept_scores import kept_scores
from analysis.explanations.incremental.replacement import replacement_curve
from analysis.explanations.stream import stream_inputs, streams
from analysis.workers import map_in_threads
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Clip
from gmsa_models.errors import ArgumentError
from gmsa_models.evaluating import evaluation_replica, standard_contexts

__all__ = ["CURVE_POINTS", "MEASURES", "FaithfulnessCurves", "Replacer", "curve_counts"]

# Parts of a curve where every frame would take long. How far areas are then off: `benchmarks/curve_points.py`.
CURVE_POINTS = 64

# Shares of the frames at which comprehensiveness and sufficiency are taken, as in DeYoung et al.
FRACTIONS = (0.01, 0.05, 0.1, 0.2, 0.5)
SCALES = ("probability", "logit")
MEASURES = ("deletion", "insertion", "comprehensiveness", "sufficiency")

Steps = Float[Tensor, " steps"]
Counts = Int[Tensor, " steps"]


def curve_counts(frames: int, points: int | None = None) -> Counts:
    """How many frames are replaced at each step of a curve, from none to all.

    Args:
        frames: of the clip.
        points: parts of the curve, about equal; besides, the counts of `FRACTIONS`. None: every number of frames.

    Returns:
        Rising; with each count c also frames - c, so that a ranking upside down has the same.

    Raises:
        ArgumentError: points below 1.
    """
    if points is None or frames <= points:
        return torch.arange(frames + 1, device="cpu")
    if points < 1:
        raise ArgumentError(f"points is {points}; expected at least 1, or None for every frame")
    parts = range(points // 2 + 1)  # of one half; the other mirrors it
    counts = {(2 * frames * part + points) // (2 * points) for part in parts}
    counts |= {math.ceil(each * frames) for each in FRACTIONS}
    return torch.tensor(sorted(counts | {frames - each for each in counts}), device="cpu")


@dataclass(frozen=True)
class FaithfulnessCurves:
    """Logits of a class as frames are replaced.

    Attributes:
        deletion: with no frame replaced, with the highest, with the two highest, ... with all.
        insertion: with every frame replaced, with the highest back, with the two highest, ... with none replaced.
        baseline: what replaces them, by name.
        counts: how many frames are replaced, or back, at each step; None: 0, 1, ... every number of frames.
    """

    deletion: Steps
    insertion: Steps
    baseline: str
    counts: Counts | None = None

    @property
    def reverse(self) -> FaithfulnessCurves:
        """The curves of the same ranking upside down, lowest first; they are these read backwards."""
        counts = None if self.counts is None else (self.counts[-1] - self.counts).flip(0)
        return FaithfulnessCurves(self.insertion.flip(0), self.deletion.flip(0), self.baseline, counts)

    def measures(self, fractions: Sequence[float] = FRACTIONS, scale: str = "probability") -> dict[str, float]:
        """One number a measure of `MEASURES`.

        "deletion" and "insertion": the mean of the curve over replaced shares from 0 to 1, by the trapezoid rule; a
        faithful ranking makes the first small and the second large. "comprehensiveness": how far the score falls
        without the highest frames, "sufficiency": how far it falls with them alone, means over `fractions`; a faithful
        ranking makes the first large and the second small.

        Args:
            fractions: shares of the frames, in (0, 1]; rounded up to whole frames.
            scale: "probability" or "logit".

        Raises:
            ArgumentError: a fraction outside (0, 1], none, or another scale; a fraction at which the curves have no
                step.

        Source:
            Petsiuk, Das and Saenko, "RISE", 2018; DeYoung et al., "ERASER", 2020.
        """
        if scale not in SCALES:
            raise ArgumentError(f"scale is {scale!r}; expected one of {', '.join(SCALES)}")
        if not fractions or not all(0 < each <= 1 for each in fractions):
            raise ArgumentError(f"fractions are {tuple(fractions)}; expected shares of the frames in (0, 1]")
        deletion, insertion = self._scaled(scale)
        counts = torch.arange(len(deletion), device=deletion.device) if self.counts is None else self.counts
        frames = int(counts[-1])
        places = [self._place(counts, math.ceil(each * frames)) for each in fractions]
        whole = float(deletion[0])
        return {
            "deletion": float(torch.trapezoid(deletion, counts.double())) / frames,
            "insertion": float(torch.trapezoid(insertion, counts.double())) / frames,
            "comprehensiveness": whole - float(deletion[places].mean()),
            "sufficiency": whole - float(insertion[places].mean()),
        }

    @staticmethod
    def _place(counts: Counts, count: int) -> int:
        places = (counts == count).nonzero()
        if not len(places):
            raise ArgumentError(
                f"the curves have no step at {count} of {int(counts[-1])} frames: make them with points=None, or take "
                f"fractions among {FRACTIONS}"
            )
        return int(places[0])

    def _scaled(self, scale: str) -> tuple[Steps, Steps]:
        both = self.deletion.double(), self.insertion.double()
        return both if scale == "logit" else (both[0].sigmoid(), both[1].sigmoid())


class Replacer:
    """One clip and class, ready for any number of rankings.

    Args:
        model: on any device; left as it was.
        clip: cut to the model's longest.
        target: the class, by its position among the model's outputs or by its name.
        baseline: a key of `BASELINES`: what replaces a frame.
        other: the other video of baseline "video".

    Raises:
        ArgumentError: a target or baseline that is unknown.
    """

    def __init__(
        self,
        model: GMSAClassifier,
        clip: Clip,
        target: SupportsIndex | str,
        baseline: str = "mean",
        other: Clip | None = None,
    ) -> None:
        self.model, self.clip, self.baseline = model, clip.cut(model.config.max_frames), baseline
        with standard_contexts():
            position, replica = class_position(model, target), evaluation_replica(model, widen=True)
            self._streams = streams(replica, position, clip)
            self._inputs = stream_inputs(replica, clip)
            self._baselines = baseline_inputs(replica, clip, baseline, other)
            bias = replica.classifier.bias
            self._bias = 0.0 if bias is None else float(bias[position])

    def curves(self, values: Float[Tensor, " frames"], points: int | None = None) -> FaithfulnessCurves:
        """Curves of the ranking that some values give, highest first; of equal values the earlier frame first.

        Args:
            values: one number a frame; NaN ranks last.
            points: see `curve_counts`; the logits at its steps are those of the curves over every frame.

        Raises:
            ArgumentError: another number of values than frames; points below 1.
        """
        order, counts = self._order(values), curve_counts(self.frames, points)
        jobs = [(name, each, counts) for each in (order, order.flip(0)) for name in self._streams]
        with standard_contexts():
            curves = map_in_threads(lambda job: self._curve(*job), jobs)
        half = len(self._streams)
        deletion, backwards = reduce(add, curves[:half]), reduce(add, curves[half:])
        return FaithfulnessCurves(deletion + self._bias, backwards.flip(0) + self._bias, self.baseline, counts)

    def random_curves(self, count: int = 5, seed: int = 0) -> list[FaithfulnessCurves]:
        """Curves of random rankings, which a faithful one must beat; each stands with its reverse, as good as it.

        Args:
            count: how many rankings are drawn.
            seed: of the rankings.
        """
        generator = torch.Generator().manual_seed(seed)
        drawn = [self.curves(torch.rand(self.frames, generator=generator, dtype=torch.float32)) for _ in range(count)]
        return [each for pair in drawn for each in (pair, pair.reverse)]

    def logits(self, kept: Bool[Tensor, "choices frames"]) -> Steps:
        """The class's logit for choices of frames that stay, the others replaced.

        Args:
            kept: True where the clip's own frame stays.

        Raises:
            ArgumentError: choices of another number of frames.
        """
        jobs = [(self._streams[name], self._inputs[name], self._baselines[name]) for name in self._streams]
        with standard_contexts():
            parts = map_in_threads(lambda job: kept_scores(*job, kept).cpu(), jobs)
        return reduce(add, parts) + self._bias

    @property
    def frames(self) -> int:
        """Frames of the clip as the model takes it."""
        return len(next(iter(self._inputs.values())))

    def _order(self, values: Float[Tensor, " frames"]) -> Int[Tensor, " frames"]:
        if len(values) != self.frames:
            raise ArgumentError(f"{len(values)} values; the clip has {self.frames} frames as the model takes it")
        return values.double().nan_to_num(nan=-torch.inf).argsort(descending=True, stable=True)

    def _curve(self, name: str, order: Int[Tensor, " frames"], counts: Counts) -> Steps:
        return replacement_curve(self._streams[name], self._inputs[name], self._baselines[name], order, counts).cpu()
