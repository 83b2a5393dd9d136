"""Faithfulness by curves of fewer steps: how far its measures are from those over every frame, and what it takes.

Trained demo models and demo videos; the rankings are those of some explanations and a random one, of the class that
the model finds most probable. The steps that both have are equal to rounding, so comprehensiveness and sufficiency are
too, and only areas differ. Processor time of the curves, one thread.

    python benchmarks/curve_points.py [--videos 20] [--write]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from measuring import machine, report

from analysis.explanations.faithfulness import CURVE_POINTS, Replacer, curve_counts
from analysis.explanations.registry import explain_all
from gmsa_models import Batch, Clip, load, read_clips

RESULTS = Path(__file__).parent / "results" / "curve_points.md"
MODELS = ("baseline", "gate-op-tp30", "gate-att-tp10")
METHODS = ("saliency", "input-x-gradient", "rollout", "relevance-propagation", "random")
AREAS = ("deletion", "insertion")
POINTS = (16, 32, CURVE_POINTS, 128)
SHORTEST = 200  # frames of the videos: where fewer points matter


def errors(name: str, clips: list[Clip]) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
    """Of one model: by how much areas miss those over every frame, and ratios of time, by points."""
    model, missed, ratios = load(name), {each: [] for each in POINTS}, {each: [] for each in POINTS}
    for clip in clips:
        with torch.inference_mode():
            target = int(model(Batch.from_clips([clip])).argmax())
        replacer = Replacer(model, clip, target)
        for explanation in explain_all(model, clip, target, METHODS).values():
            began = time.process_time()
            every = replacer.curves(explanation.frames).measures()
            whole = time.process_time() - began
            for points in POINTS:
                began = time.process_time()
                some = replacer.curves(explanation.frames, points).measures()
                ratios[points].append((time.process_time() - began) / whole)
                missed[points] += [abs(some[area] - every[area]) for area in AREAS]
    return missed, ratios


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clips = [clip for clip in read_clips("demo:0-400") if clip.frames >= SHORTEST][: arguments.videos]
    frames = [clip.frames for clip in clips]
    lines = [
        "# Faithfulness by curves of fewer steps beside every frame",
        "",
        f"`python benchmarks/curve_points.py --videos {arguments.videos} --write`: {len(clips)} demo videos of",
        f"{min(frames)} to {max(frames)} frames, {len(METHODS)} rankings each, deletion and insertion (probabilities).",
        f"Steps are those of {max(frames)} frames; time is the processor's, beside the curves over every frame.",
        "",
        "| model | points | steps | mean error of the area | 95 % below | largest | time |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in MODELS:
        missed, ratios = errors(name, clips)
        for points in POINTS:
            each, steps = missed[points], len(curve_counts(max(frames), points))
            off = (np.mean(each), np.quantile(each, 0.95), max(each))
            cells = [name, points, steps, *(f"{one:.4f}" for one in off), f"{np.median(ratios[points]):.2f}"]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    report([*lines, "", machine()], RESULTS, arguments.write)


if __name__ == "__main__":
    main()
