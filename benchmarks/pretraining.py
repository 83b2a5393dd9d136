"""Encoders pretrained without labels beside encoders trained from scratch, with 1, 10 and 100 percent of the labels.

Montages of real YouTube-8M vectors, 60 s each; models of demo size. A seed decides the initial weights, the order of
the clips and which videos have labels. Both models of a pair are trained alike, with as many steps and the same videos;
the steps of the pretraining, on all training montages without labels, come before. GAP of montages of other videos; the
difference has a 95 % interval over seeds and videos at once (`analysis.statistics.crossed`). S_i is the mean of the
visual stream over a few of them, by TP30 for every model.

    python benchmarks/pretraining.py [--vectors FILE] [--keep FOLDER] [--write]

Trained models and their scores stay in --keep, so that the command can be killed and given again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measuring import machine, report

from analysis.gmsa_view import view_clips
from analysis.sensitivity.of_view import view_sensitivity
from analysis.statistics.crossed import crossed_contrast
from analysis.study.seeds.cell import gap_parts
from gmsa_models import Clip, GMSAClassifier, read_clips
from gmsa_models.data.montage.make import demo_vocabulary
from gmsa_models.data.montage.recipe import MontageRecipe
from gmsa_models.data.montage.shards import write_montages
from gmsa_models.data.montage.video_vectors import read_video_vectors
from gmsa_models.evaluation.metrics import classification_metrics
from gmsa_models.evaluation.scoring import predict
from gmsa_models.feeding import ClipShare
from gmsa_models.masks import Toeplitz
from gmsa_models.pretraining import PretrainingRecipe, pretrain
from gmsa_models.pretraining.start import start_from
from gmsa_models.training.loop import fit
from gmsa_models.training.recipe import Recipe
from gmsa_models.variants import build

RESULTS = Path(__file__).parent / "results" / "pretraining.md"
VECTORS = Path(__file__).parents[2] / "shared" / "data" / "yt8m_video_level.npz"
VARIANTS, SHARES, SEEDS = ("baseline", "gate-op-tp30"), (0.01, 0.1, 1.0), 3
SERIES = {"train": (1, 4000, 4), "held-out": (2, 1000, 1)}  # split -> seed of its montages, how many, shards
SECONDS, MEASURED, NEIGHBOURHOOD = (60, 60), 16, Toeplitz(30)
NEVER = 10**9  # steps
PERCENT = 100.0


@dataclass(frozen=True)
class Settings:
    """Where and how much."""

    folder: Path
    vectors: Path
    steps: int
    pretraining_steps: int


@dataclass(frozen=True)
class Cell:
    """A trained model: its variant, its seed, the share of the labels that it had, and whether it was pretrained."""

    variant: str
    seed: int
    share: float
    pretrained: bool

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.variant}-{'pretrained' if self.pretrained else 'scratch'}-{self.share:g}-{self.seed}"


def montages_of(settings: Settings, split: str) -> list[str]:
    """Files of the montages of a split; those that are not there are made."""
    seed, count, shards = SERIES[split]
    source = read_video_vectors(str(settings.vectors), split, demo_vocabulary().indices)
    out = settings.folder / "montages" / split
    return [str(path) for path in write_montages(source, MontageRecipe(frames=SECONDS), seed, count, out, shards)]


def pretrained(settings: Settings, variant: str, seed: int, train: list[str], held_out: list[str]) -> Path:
    """The file of a variant's pretrained encoders."""
    recipe = PretrainingRecipe(
        steps=settings.pretraining_steps, warmup=50, seed=seed, validate_every=NEVER, save_every=100
    )
    model = build(variant, "demo", classes=0, seed=seed)
    out = settings.folder / "pretrained" / f"{variant}-{seed}"
    card = {"name": f"{variant}-pretrained"}
    return pretrain(model, train, held_out, recipe, out, seed=seed, progress=False, card=card).path


def measured(settings: Settings, cell: Cell, encoders: Path | None, train: list[str], test: list[Clip]) -> dict:
    """GAP, its parts and S_i of one cell, trained unless its numbers are there."""
    out = settings.folder / "cells" / cell.name
    if (out / "numbers.json").exists():
        return json.loads((out / "numbers.json").read_text(encoding="utf-8"))
    model = build(cell.variant, "demo", vocabulary=demo_vocabulary(), seed=cell.seed)
    if encoders is not None:
        start_from(model, encoders)
    recipe = Recipe(steps=settings.steps, warmup=50, seed=cell.seed, save_every=100)
    part = None if cell.share == 1 else ClipShare(cell.share, cell.seed)
    model = fit(model, train, None, recipe, out, progress=False, part=part, card={"name": cell.name}).model
    predictions = predict(model, test)
    numbers = {
        "gap": PERCENT * classification_metrics(predictions.scores, predictions.labels)["gap"],
        "parts": gap_parts(predictions.scores, predictions.labels).tolist(),
        "sensitivity": mean_sensitivity(model, test),
    }
    (out / "numbers.json").write_text(json.dumps(numbers), encoding="utf-8")
    return numbers


def mean_sensitivity(model: GMSAClassifier, clips: list[Clip]) -> float:
    """Mean of S_i over the frames of the visual stream of some clips."""
    values = [view_sensitivity(view_clips(model, [clip]), "visual", NEIGHBOURHOOD) for clip in clips[:MEASURED]]
    return float(np.nanmean(np.concatenate([each[0].numpy() for each in values if each is not None])))


def rows(settings: Settings, seeds: int) -> tuple[list[str], list[str]]:
    """Lines of the pretraining, and of the models that were trained with labels."""
    train, held_out = (montages_of(settings, split) for split in SERIES)
    test = list(read_clips(held_out))
    files, cells = {}, {}
    for seed, variant in itertools.product(range(seeds), VARIANTS):
        files[variant, seed] = pretrained(settings, variant, seed, train, held_out)
        for share, start in itertools.product(SHARES, (False, True)):
            encoders = files[variant, seed] if start else None
            cell = Cell(variant, seed, share, start)
            cells[cell] = measured(settings, cell, encoders, train, test)
            print(f"{cell.name}: GAP {cells[cell]['gap']:.2f}", flush=True)
    return [pretraining_row(settings, files, name, seeds, test) for name in VARIANTS], [
        label_row(cells, name, share, seeds) for name in VARIANTS for share in SHARES
    ]


def pretraining_row(settings: Settings, files: dict, variant: str, seeds: int, test: list[Clip]) -> str:
    """Errors of hidden frames, and S_i before and after the pretraining; the range of the seeds."""
    from gmsa_models import load

    models = [load(files[variant, seed]) for seed in range(seeds)]
    cards = [model.card["validation"] for model in models]
    new = [mean_sensitivity(build(variant, "demo", classes=0, seed=seed).eval(), test) for seed in range(seeds)]
    cells = [variant]
    for stream in ("visual", "audio"):
        cells += [
            spread([card[f"{stream}_error"] for card in cards], 3),
            f"{cards[0][f'{stream}_visible_mean_error']:.3f}",
        ]
    cells += [spread(new, 3), spread([mean_sensitivity(model, test) for model in models], 3)]
    return f"| {' | '.join(cells)} |"


def label_row(cells: dict[Cell, dict], variant: str, share: float, seeds: int) -> str:
    """GAP from scratch and pretrained, the difference with its interval, S_i of both."""
    pair = [[cells[Cell(variant, seed, share, start)] for seed in range(seeds)] for start in (False, True)]
    gap = np.array([[each["gap"] for each in some] for some in pair])
    parts = np.array([[each["parts"] for each in some] for some in pair])
    less = crossed_contrast(gap, parts, np.array([-1.0, 1.0])).value
    local = [spread([each["sensitivity"] for each in some], 3) for some in pair]
    scores = [spread(list(some), 2) for some in gap]
    difference = f"{less.estimate:+.2f}, {less.low:+.2f} to {less.high:+.2f}"
    return f"| {variant} | {100 * share:g} % | {' | '.join([*scores, difference, *local])} |"


def spread(values: list[float], digits: int) -> str:
    """The mean and the range of the seeds."""
    return f"{np.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    """Print the tables; `--write` keeps them in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, default=VECTORS, help="video-level vectors (.npz)")
    parser.add_argument("--steps", type=int, default=200, help="of 16 clips, with labels")
    parser.add_argument("--pretraining-steps", type=int, default=200, help="of 16 clips, without")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--keep", type=Path, help="folder of the montages, models and scores")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/pretraining.md")
    arguments = parser.parse_args()
    if not arguments.vectors.is_file():
        print(f"skipped: {arguments.vectors} is not there; it holds real YouTube-8M vectors, which --vectors names")
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        settings = Settings(folder, arguments.vectors, arguments.steps, arguments.pretraining_steps)
        hidden, labels = rows(settings, arguments.seeds)
    lines = [
        "# Pretraining without labels",
        "",
        f"`python benchmarks/pretraining.py --steps {arguments.steps} --pretraining-steps "
        f"{arguments.pretraining_steps} --seeds {arguments.seeds} --write`:",
        f"{SERIES['train'][1]} montages of {SECONDS[0]} s of real YouTube-8M vectors, {SERIES['held-out'][1]} of other "
        "videos to score; models of demo size, batches of 16.",
        f"Means over {arguments.seeds} seeds with the range of the seeds in brackets.",
        "",
        f"Hidden frames after {arguments.pretraining_steps} steps, relative to predicting the mean of the clip's "
        "frames (1); beside it what",
        f"the mean of the visible frames has. S_i: visual stream, {MEASURED} clips, by TP30, of new and of pretrained "
        "encoders.",
        "",
        "| model | visual error | visible mean | audio error | visible mean | S_i, new | S_i, pretrained |",
        "|---|---|---|---|---|---|---|",
        *hidden,
        "",
        f"GAP in percent after {arguments.steps} steps with labels; pretrained less from scratch with a 95 % interval "
        "over seeds and videos.",
        "",
        "| model | labels | GAP, scratch | GAP, pretrained | difference | S_i, scratch | S_i, pretrained |",
        "|---|---|---|---|---|---|---|",
        *labels,
        "",
        machine(),
    ]
    report(lines, RESULTS, arguments.write)


if __name__ == "__main__":
    main()
