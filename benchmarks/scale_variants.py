"""Variants of several scales beside the models that they grew from, trained alike over a few seeds.

`gate-op-scales` beside `gate-op-tp30`, `local-then-global` beside `baseline`, on the montages of
`benchmarks/segment_variants.py`; models of demo size. GAP of montages that were kept out, its difference with a 95 %
interval over seeds and videos (crossed). S_i of the first layer, visual stream: by each model's own neighbourhood and
by TP5, TP15, TP30 and TP45 for all; means over seeds, of a few of the videos. Gates: the mean share of each branch.

    python benchmarks/scale_variants.py [--steps 120] [--seeds 2] [--keep FOLDER] [--write]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measuring import machine, report
from segment_variants import (
    CLASSES,
    FRAMES,
    MEASURED,
    SCORED_ON,
    TRAINED_ON,
    clips_of,
    trained,
)

from analysis.attention.of_view import frame_gates
from analysis.gmsa_view import view_clips
from analysis.sensitivity.of_view import view_sensitivity
from analysis.statistics.crossed import CrossedDifference, crossed_contrast
from analysis.study.seeds.cell import gap_parts
from analysis.view import TraceView
from gmsa_models import Clip, save
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.evaluation.metrics import classification_metrics
from gmsa_models.evaluation.scoring import predict
from gmsa_models.masks import Neighbourhood, Toeplitz

RESULTS = Path(__file__).parent / "results" / "scale_variants.md"
PARENTS = {"gate-op-scales": "gate-op-tp30", "local-then-global": "baseline"}
VARIANTS = ("baseline", "gate-op-tp30", *PARENTS)
SHARED = (5, 15, 30, 45)  # seconds of the neighbourhoods by which S_i of every model is measured


@dataclass(frozen=True)
class Measured:
    """One trained model.

    Attributes:
        gap: percent.
        parts: jackknife pseudo-values of it, a video each.
        own: mean S_i by its own neighbourhood; NaN without one.
        shared: by each of `SHARED`.
        gates: branch -> mean gate; empty without gates.
    """

    gap: float
    parts: np.ndarray
    own: float
    shared: tuple[float, ...]
    gates: dict[str, float]


def measured(model: GMSAClassifier, clips: list[Clip]) -> Measured:
    """GAP, S_i and gates of a model on clips that were kept out."""
    predictions = predict(model, clips)
    own, views = model.config.neighbourhood, [view_clips(model, [clip]) for clip in clips[:MEASURED]]
    return Measured(
        gap=100 * classification_metrics(predictions.scores, predictions.labels)["gap"],
        parts=gap_parts(predictions.scores, predictions.labels),
        own=float("nan") if own is None else mean_sensitivity(views, own),
        shared=tuple(mean_sensitivity(views, Toeplitz(size)) for size in SHARED),
        gates=mean_gates(views),
    )


def mean_sensitivity(views: list[TraceView], pattern: Neighbourhood) -> float:
    """Mean of S_i over the frames of some clips, by one neighbourhood; G is computed once a view."""
    each = [view_sensitivity(view, "visual", pattern) for view in views]
    return float(np.nanmean(np.concatenate([values[0].numpy() for values in each if values is not None])))


def mean_gates(views: list[TraceView]) -> dict[str, float]:
    """Mean gate of each branch over the frames of some clips, visual stream."""
    each = [frame_gates(view, "visual") for view in views]
    return {branch: float(torch.cat([gates[branch][0] for gates in each]).mean()) for branch in each[0]}


def differences(models: dict[str, list[Measured]]) -> dict[str, CrossedDifference]:
    """GAP of each variant less its parent's, over seeds and videos; the variance is common to all models."""
    names = list(models)
    scores = np.array([[one.gap for one in models[name]] for name in names])
    parts = np.array([[one.parts for one in models[name]] for name in names])
    contrasts = {}
    for name, parent in PARENTS.items():
        weights = np.zeros(len(names))
        weights[names.index(name)], weights[names.index(parent)] = 1.0, -1.0
        contrasts[name] = crossed_contrast(scores, parts, weights)
    return contrasts


def rows(steps: int, seeds: int, keep: Path | None) -> list[str]:
    """A line a variant."""
    training, test = clips_of(0), clips_of(1)
    models: dict[str, list[Measured]] = {}
    for name in VARIANTS:
        models[name] = []
        for seed in range(seeds):
            model = trained(name, training, steps, seed)
            models[name].append(measured(model, test))
            print(f"{name}, seed {seed}: GAP {models[name][-1].gap:.2f}", flush=True)
            if keep is not None and seed == 0:
                save(model, keep / f"{name}.safetensors")
    less = differences(models)
    return [f"| {' | '.join(_cells(name, each, less.get(name)))} |" for name, each in models.items()]


def _cells(name: str, models: list[Measured], less: CrossedDifference | None) -> list[str]:
    gaps = [one.gap for one in models]
    value = None if less is None else less.value
    own = float(np.mean([one.own for one in models]))
    return [
        name,
        f"{np.mean(gaps):.2f} ({min(gaps):.2f} to {max(gaps):.2f})",
        "" if value is None else f"{value.estimate:+.2f}, {value.low:+.2f} to {value.high:+.2f}",
        "" if np.isnan(own) else f"{own:.3f}",
        *(f"{np.mean([one.shared[place] for one in models]):.3f}" for place in range(len(SHARED))),
        ", ".join(f"{branch} {np.mean([one.gates[branch] for one in models]):.3f}" for branch in models[0].gates),
    ]


def main() -> None:
    """Print the table; `--write` keeps it in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120, help="of 16 clips")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each variant, at least 2")
    parser.add_argument("--keep", type=Path, help="folder for the models of the first seed")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/scale_variants.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shared = [f"S_i, TP{size}" for size in SHARED]
    lines = [
        "# Several scales beside one: a first row",
        "",
        f"`python benchmarks/scale_variants.py --steps {arguments.steps} --seeds {arguments.seeds} --write`:",
        f"{TRAINED_ON} montages of {FRAMES[0]} to {FRAMES[1]} s, {CLASSES} classes, {arguments.steps} steps of 16.",
        f"GAP in percent of {SCORED_ON} others: mean over the seeds (least to most), and less its parent's",
        "(`gate-op-tp30`, `baseline`) with a 95 % interval over seeds and videos. S_i: mean of the first visual",
        f"layer over {MEASURED} of them, by the model's own neighbourhood (of scales their union) and by one for all.",
        "Gates: mean over frames and features.",
        "",
        f"| model | GAP | less its parent's | S_i, own | {' | '.join(shared)} | gates |",
        f"|{'---|' * (5 + len(shared))}",
        *rows(arguments.steps, arguments.seeds, arguments.keep),
        "",
        machine(),
    ]
    report(lines, RESULTS, arguments.write)


if __name__ == "__main__":
    main()
