"""The variants that the paper leaves for later, in a finished study: GAP against what they grew from, S_i and gates.

GAP and its differences are those of the study's table, with intervals over seeds and videos. S_i (visual stream, first
layer) and gates are measured here, of the study's trained models of its main task: means over the first of its held-out
videos, then over seeds. `--write` keeps the table in `benchmarks/results/` and draws the picture of the documentation.

    gmsa study --out FOLDER --variants baseline,gate-op-tp30,gate-op-scales,gate-op-seg,local-then-global
    python benchmarks/later_variants.py --study FOLDER [--write]
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from measuring import machine, report

from analysis.attention.of_view import frame_gates
from analysis.gmsa_view import view_clips
from analysis.sensitivity.of_view import view_sensitivity
from analysis.study.seeds.comparison import TaskModels
from analysis.study.seeds.figure_tables import point_table
from analysis.study.seeds.later import differences_to_parents, later_models
from analysis.study.seeds.table import read_study
from analysis.study.seeds.tasks import MAIN
from analysis.view import TraceView
from figures.paper.later_variants import draw
from gmsa_models import Clip, load, read_clips
from gmsa_models.masks import ChangePoints, Neighbourhood, Toeplitz, neighbourhood_text

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "later_variants.md"
PICTURE = ROOT / "docs" / "later_variants.png"
MODALITY, MEASURED, BATCH = "visual", 16, 16  # how many of the held-out videos, and how many in one pass
# By which the S_i of every model is measured alike: the clip's segments, and four lengths.
SHARED: tuple[Neighbourhood, ...] = (ChangePoints(), Toeplitz(5), Toeplitz(15), Toeplitz(30), Toeplitz(45))


def mean_sensitivity(views: list[TraceView], pattern: Neighbourhood | None) -> float:
    """Mean of S_i over the frames of some clips; NaN without a neighbourhood."""
    each = [view_sensitivity(view, MODALITY, pattern) for view in views]
    values = [one.double().numpy().ravel() for one in each if one is not None]
    return float(np.nanmean(np.concatenate(values))) if values else float("nan")


def mean_gates(views: list[TraceView]) -> dict[str, float]:
    """Mean gate of each branch over the frames of some clips."""
    each = [frame_gates(view, MODALITY) for view in views]
    return {branch: float(np.mean([float(one[branch].nanmean()) for one in each])) for branch in each[0]}


def measured(path: Path, clips: list[Clip]) -> tuple[list[float], dict[str, float]]:
    """S_i of one model by its own neighbourhood and by each of `SHARED`; its gates."""
    model = load(path)
    views = [view_clips(model, clips[start : start + BATCH]) for start in range(0, len(clips), BATCH)]
    return [mean_sensitivity(views, each) for each in (model.config.neighbourhood, *SHARED)], mean_gates(views)


def inside_rows(models: TaskModels, study: Path) -> list[str]:
    """A line a variant: S_i and gates."""
    held_out = sorted((study / "data" / models.task / "held-out").glob("*.tfrecord"))
    clips = list(islice(read_clips([str(path) for path in held_out]), MEASURED))
    lines = []
    for name in models.variants:
        paths = [study / "runs" / models.task / f"{name}-{seed}" / "model.safetensors" for seed in models.seeds]
        values, gates = zip(*(measured(path, clips) for path in paths), strict=True)
        means = np.mean(values, axis=0)
        shares = [f"{branch} {np.mean([each[branch] for each in gates]):.3f}" for branch in gates[0]]
        cells = [name, *("" if np.isnan(value) else f"{value:.3f}" for value in means), ", ".join(shares)]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def gap_rows(models: dict[str, TaskModels]) -> list[str]:
    """A line a task and variant: GAP and its differences."""
    lines = []
    for row in differences_to_parents(models).itertuples():
        each = models[row.task]
        gaps = each.gap[each.variants.index(row.variant)]
        less = f"{row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}]"
        if row.p_adjusted < 0.05:
            less = f"**{less}**"
        base = f"{row.baseline_difference:+.2f} [{row.baseline_low:+.2f}, {row.baseline_high:+.2f}]"
        cells = [row.task, row.variant, f"{row.gap:.2f} ({gaps.min():.2f} to {gaps.max():.2f})", row.parent, less, base]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Print both tables; `--write` keeps them, and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True, help="folder of `gmsa study --out`")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} and {PICTURE.name}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = later_models(read_study(arguments.study / "study.parquet"))
    main_task = models[MAIN]
    shared = [f"S_i, {neighbourhood_text(each)}" for each in SHARED]
    lines = [
        "# Variants left for later: GAP, S_i and gates",
        "",
        f"`python benchmarks/later_variants.py --study FOLDER --write`, seeds {', '.join(map(str, main_task.seeds))}.",
        "GAP in percent, mean over the seeds (least to most); points less that of the variant it grew from, and less",
        "Baseline's [95 % interval over seeds and videos; bold: beyond chance, Holm's correction over these rows].",
        "",
        "| task | variant | GAP | grew from | less its | less Baseline's |",
        "|---|---|---|---|---|---|",
        *gap_rows(models),
        "",
        f"Models of task {MAIN}, {MODALITY} stream, first layer, {MEASURED} held-out videos, means over the seeds.",
        "S_i by the model's own neighbourhood (of scales their union) and by one for all; gates: mean shares.",
        "",
        f"| variant | S_i, own | {' | '.join(shared)} | gates |",
        f"|{'---|' * (3 + len(shared))}",
        *inside_rows(main_task, arguments.study),
        "",
        machine(),
    ]
    report(lines, RESULTS, arguments.write)
    if arguments.write:
        draw(differences_to_parents(models), point_table(main_task)).savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main()
