"""Deletion and insertion curves over every frame beside one forward pass a step, and all explanations of one video.

Trained demo models, the longest demo video among the first 20, float32. "One forward a step" replaces the frames of the
step in both modalities and runs the model, once for each of the 2 x (frames + 1) states; a few steps are measured,
evenly spread, and their mean is multiplied. Both ways are compared before they are timed.

    python benchmarks/faithfulness.py [--rounds 5] [--write]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import interleaved, machine, ratio, report

from analysis.explanations.attribution.baselines import baseline_inputs
from analysis.explanations.faithfulness import Replacer
from analysis.explanations.registry import explain_all
from analysis.explanations.stream import stream_inputs
from gmsa_models import GMSAClassifier, load, read_clips
from gmsa_models.allocator import keep_freed_memory
from gmsa_models.data.batch import Batch
from gmsa_models.data.clip import Clip

RESULTS = Path(__file__).parent / "results" / "faithfulness.md"
MODELS = ("gate-op-bd20", "gate-op-tp30", "baseline", "share-att-tp", "gate-att-bd10")
TARGET, STEPS = 0, 20


def one_forward_a_step(model: GMSAClassifier, clip: Clip, values: torch.Tensor) -> Callable[[int], torch.Tensor]:
    """A function of the number of replaced frames: the logit, by replacing them and running the model."""
    inputs, baseline = stream_inputs(model, clip), baseline_inputs(model, clip, "mean")
    rank = values.argsort(descending=True, stable=True).argsort()
    valid = torch.ones(1, len(values), dtype=torch.bool)

    def logit(step: int) -> torch.Tensor:
        kept = (rank >= step)[:, None]
        features = {name: torch.where(kept, inputs[name], baseline[name])[None] for name in inputs}
        with torch.inference_mode():
            return model(Batch(features, valid))[0, TARGET]

    return logit


def row(name: str, clip: Clip, rounds: int) -> str:
    """One line of the table."""
    model, values = load(name), torch.rand(clip.frames, generator=torch.Generator().manual_seed(0))
    replacer, logit = Replacer(model, clip, TARGET), one_forward_a_step(model, clip, values)
    places = torch.linspace(0, clip.frames, STEPS).round().int().tolist()
    curve = replacer.curves(values).deletion
    torch.testing.assert_close(torch.stack([logit(step) for step in places]), curve[places], rtol=0, atol=2e-4)
    ways = {"curves": lambda: replacer.curves(values), "passes": lambda: [logit(step) for step in places]}
    times = interleaved(ways, rounds)
    states = 2 * (clip.frames + 1)
    passes = [each * states / STEPS for each in times["passes"].wall]
    wall, times_faster = times["curves"].wall, ratio(passes, times["curves"].wall)
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        found = explain_all(model, clip, TARGET)
        seconds.append(time.perf_counter() - began)
    cells = [
        name,
        statistics.median(passes),
        statistics.median(wall),
        times_faster,
        len(found),
        statistics.median(seconds),
    ]
    return "| {} | {:.2f} | {:.2f} | {:.1f} | {} | {:.1f} |".format(*cells)


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    kept = keep_freed_memory()
    clip = max(read_clips("demo:0-20"), key=lambda clip: clip.frames)
    lines = [
        "# Faithfulness curves beside one forward pass a step, and all explanations of one video",
        "",
        f"`python benchmarks/faithfulness.py --rounds {arguments.rounds} --write`: deletion and insertion over all",
        f"{clip.frames} frames of one demo video, both modalities; medians, and medians of ratios within a round. One",
        f"forward a step: {STEPS} of the {2 * (clip.frames + 1)} steps measured, the rest extrapolated.",
        "",
        "| model | one forward a step, s | both curves, s | times faster | explanations | all of them, s |",
        "|---|---|---|---|---|---|",
        *(row(name, clip, arguments.rounds) for name in arguments.models),
        "",
        machine(),
        f"Freed memory kept by the allocator: {'yes' if kept else 'no'}.",
    ]
    report(lines, RESULTS, arguments.write)


if __name__ == "__main__":
    main()
