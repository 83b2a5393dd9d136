"""One training step, and the forward pass alone, of the paper's ten columns at paper size, relative to Baseline.

T = 300, D = 1024 and 128, 8 heads, 3862 classes, float32, 2 threads. A step is forward, binary cross-entropy,
backward, clipping and fused AdamW, on one batch of random frames that lies ready: no reading. All ten take turns in
one run; a ratio is within a round, and the median of those is reported. Beside them stand the published ratios, which
include the input pipeline, and the sizes in MiB beside the published ones.

    python benchmarks/training_step.py [--batch 4] [--rounds 11] [--write]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import Times, interleaved, machine, ratio, report
from torch.nn import functional

from gmsa_models.allocator import keep_freed_memory
from gmsa_models.classifier import GMSAClassifier, parameter_mib
from gmsa_models.data.batch import Batch
from gmsa_models.variants import COLUMNS, PUBLISHED_FAMILY, build

RESULTS = Path(__file__).parent / "results" / "training_step.md"
FRAMES = 300
# Ratio to Baseline that we hold ourselves to, a family.
TARGETS = {"baseline": 1.0, "share-att": 1.03, "gate-att": 1.35, "gate-op": 1.38}


def random_batch(model: GMSAClassifier, size: int) -> Batch:
    """Frames and labels of no meaning, as many as one batch has; no frame is padding."""
    generator = torch.Generator().manual_seed(0)
    widths = model.config.modalities.items()
    return Batch(
        features={name: torch.randn(size, FRAMES, width, generator=generator) for name, width in widths},
        valid=torch.ones(size, FRAMES, dtype=torch.bool),
        labels=(torch.rand(size, model.config.classes, generator=generator) < 1e-3).float(),
    )


def training_step(model: GMSAClassifier, batch: Batch) -> Callable[[], None]:
    """A function that takes one step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        functional.binary_cross_entropy_with_logits(model(batch), batch.labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def forward_alone(model: GMSAClassifier, batch: Batch) -> Callable[[], None]:
    """A function that makes one forward pass without a graph."""

    def forward() -> None:
        with torch.no_grad():
            model(batch)

    return forward


def rows(models: dict[str, GMSAClassifier], passes: dict[str, Times], steps: dict[str, Times]) -> list[str]:
    """One line a column of the paper."""
    published = PUBLISHED_FAMILY["baseline"]["minutes_per_epoch"]
    lines = []
    for name, model in models.items():
        family = COLUMNS[name][0]
        cells = [name, f"{1000 * statistics.median(steps[name].wall):,.0f}"]
        for times in (steps, passes):
            for kind in ("wall", "processor"):
                cells.append(f"{ratio(getattr(times[name], kind), getattr(times['baseline'], kind)):.3f}")
        cells += [f"{TARGETS[family]:.2f}", f"{PUBLISHED_FAMILY[family]['minutes_per_epoch'] / published:.2f}"]
        cells += [f"{parameter_mib(model):.2f}", f"{PUBLISHED_FAMILY[family]['disk_mebibytes']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Print the table; `--write` keeps it in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=11, help="of steps; there are twice as many of forward passes")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/training_step.md")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    kept = keep_freed_memory()
    models = {name: build(name, size="paper") for name in COLUMNS}
    batch = random_batch(models["baseline"], arguments.batch)
    passes = interleaved({name: forward_alone(model, batch) for name, model in models.items()}, 2 * arguments.rounds)
    steps = interleaved({name: training_step(model, batch) for name, model in models.items()}, arguments.rounds)
    columns = ["model", "step, ms", "step / Baseline", "in processor time", "forward / Baseline", "in processor time"]
    columns += ["at most", "published epoch / Baseline", "MiB", "published MiB"]
    heading = [
        "# A training step of each model, relative to Baseline",
        "",
        f"`python benchmarks/training_step.py --batch {arguments.batch} --rounds {arguments.rounds} --write`: paper",
        f"size, T = {FRAMES}, float32, batch {arguments.batch}, no reading; medians of ratios within a round.",
        f"{machine()}",
        f"Freed memory kept by the allocator: {'yes' if kept else 'no'}. The published ratios include reading.",
        "",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
    ]
    report([*heading, *rows(models, passes, steps)], RESULTS, arguments.write)


if __name__ == "__main__":
    main()
