"""Variants that attend inside the clip's own segments beside their parents of fixed blocks, trained alike.

Montages of the shipped class statistics, of 60 to 90 seconds and the most frequent classes; models of demo size, all
from the same initial weights and clip order. GAP of montages that were kept out; the difference from the parent has a
95 % jackknife interval over these videos, not over seeds: one training of each says little. S_i is measured by each
model's own neighbourhood and by one for all, the clips' segments (CP4), on a few of the videos, in the visual stream.

    python benchmarks/segment_variants.py [--steps 120] [--keep FOLDER] [--write]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from measuring import machine, report

from analysis.gmsa_view import view_clips
from analysis.sensitivity.of_view import view_sensitivity
from analysis.statistics.comparisons import ScoreSample, score_difference, score_sample
from analysis.statistics.intervals import resample_counts
from gmsa_models import Clip, Vocabulary, save
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.montage.class_statistics import shipped_statistics
from gmsa_models.data.montage.make import montages
from gmsa_models.data.montage.recipe import MontageRecipe
from gmsa_models.evaluation.scoring import predict
from gmsa_models.masks import ChangePoints, Neighbourhood
from gmsa_models.training.loop import fit
from gmsa_models.training.recipe import Recipe
from gmsa_models.variants import build

RESULTS = Path(__file__).parent / "results" / "segment_variants.md"
PARENTS = {"share-att-seg": "share-att-bd", "gate-att-seg": "gate-att-bd10", "gate-op-seg": "gate-op-bd20"}
TRAINED_ON, SCORED_ON, SEEDS = 1200, 400, (101, 102)  # montages and the seeds of their series
CLASSES, FRAMES, MEASURED = 30, (60, 90), 16


def clips_of(series: int) -> list[Clip]:
    """Montages to train on (0) or to score (1)."""
    statistics = shipped_statistics()
    recipe = MontageRecipe(frames=FRAMES, balance=0.0, variation=dict(statistics.variation))
    return list(montages(statistics, recipe, SEEDS[series], (TRAINED_ON, SCORED_ON)[series]))


def trained(name: str, clips: list[Clip], steps: int, seed: int = 0) -> GMSAClassifier:
    """A variant after its training."""
    classes = shipped_statistics().classes
    vocabulary = Vocabulary(classes.dataset, classes.indices[:CLASSES], classes.names[:CLASSES])
    model = build(name, "demo", vocabulary=vocabulary, max_frames=FRAMES[1], seed=seed)
    recipe = Recipe(steps=steps, warmup=20, seed=seed)
    with tempfile.TemporaryDirectory() as out:
        return fit(model, clips, None, recipe, out, progress=False, card={"name": name}).model


def scored(model: GMSAClassifier, clips: list[Clip]) -> ScoreSample:
    """What differences of GAP need."""
    predictions = predict(model, clips)
    counts = resample_counts(len(clips), 1, 0)
    return score_sample(predictions.scores, predictions.labels, counts, ["gap"])


def mean_sensitivity(model: GMSAClassifier, clips: list[Clip], pattern: Neighbourhood | None) -> float:
    """Mean of S_i over the frames of some clips, by one neighbourhood."""
    each = [view_sensitivity(view_clips(model, [clip]), "visual", pattern) for clip in clips[:MEASURED]]
    return float(np.nanmean(np.concatenate([values[0].numpy() for values in each if values is not None])))


def rows(steps: int, keep: Path | None) -> list[str]:
    """A line a model."""
    training, test = clips_of(0), clips_of(1)
    lines = []
    for name, parent in PARENTS.items():
        models = {each: trained(each, training, steps) for each in (parent, name)}
        samples = {each: scored(model, test) for each, model in models.items()}
        for each, model in models.items():
            own = mean_sensitivity(model, test, model.config.neighbourhood)
            cells = [each, f"{samples[each].estimates['gap']:.2f}"]
            less = score_difference(samples[name], samples[parent], "gap")
            cells.append(f"{less.difference:+.2f}, {less.low:+.2f} to {less.high:+.2f}" if each == name else "")
            cells += [f"{own:.3f}", f"{mean_sensitivity(model, test, ChangePoints()):.3f}"]
            lines.append(f"| {' | '.join(cells)} |")
            if keep is not None:
                save(model, keep / f"{each}.safetensors")
    return lines


def main() -> None:
    """Print the table; `--write` keeps it in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120, help="of 16 clips")
    parser.add_argument("--keep", type=Path, help="folder for the trained models")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/segment_variants.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Neighbourhoods from segments beside fixed blocks: a first row",
        "",
        f"`python benchmarks/segment_variants.py --steps {arguments.steps} --write`: {TRAINED_ON} montages of "
        f"{FRAMES[0]} to {FRAMES[1]} s,",
        f"{CLASSES} classes, {arguments.steps} steps of 16 clips, one seed. GAP in percent of {SCORED_ON} others,",
        "less its parent's with a 95 % jackknife interval over videos, not over seeds. S_i: mean of the visual",
        f"stream over {MEASURED} of them, by the model's own neighbourhood and by the clips' segments.",
        "",
        "| model | GAP | less its parent's | S_i, own | S_i, CP4 |",
        "|---|---|---|---|---|",
        *rows(arguments.steps, arguments.keep),
        "",
        machine(),
    ]
    report(lines, RESULTS, arguments.write)


if __name__ == "__main__":
    main()
