"""How often intervals over seeds and videos hold the true value, where it is known: `analysis.statistics.crossed`.

    python benchmarks/crossed_coverage.py --write

Scores of 4 variants on 500 videos are drawn with no true difference: effects of seeds, of videos, and of each two of
variant, seed and video, normal ones or lognormal ones of the videos. Once seeds decide most of the error, once videos.
`--write` keeps the table in benchmarks/results/crossed_coverage.md. About a minute and a half on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from analysis.statistics.crossed import crossed_contrast, crossed_mean

RESULTS = Path(__file__).parent / "results" / "crossed_coverage.md"
VARIANTS, VIDEOS = 4, 500
# Standard deviations: variant x seed, variant x video, seed x video, all three; of videos alone it is 10, of seeds 0.6.
SOURCES = {"seeds": (0.4, 1.0, 5.0, 8.0), "videos": (0.02, 8.0, 5.0, 8.0), "both": (0.2, 5.0, 5.0, 8.0)}


def scores(
    rng: np.random.Generator, seeds: int, sources: tuple[float, float, float, float], skewed: bool
) -> np.ndarray:
    """(variant, seed, video), of no difference between variants."""
    one = rng.standard_normal

    def of_videos(*shape: int) -> np.ndarray:
        if not skewed:
            return one(shape)
        return (np.exp(one(shape)) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)

    models, variant_video, seed_video, every = sources
    return (
        0.6 * one((1, seeds, 1))
        + models * one((VARIANTS, seeds, 1))
        + 10.0 * of_videos(1, 1, VIDEOS)
        + variant_video * of_videos(VARIANTS, 1, VIDEOS)
        + seed_video * of_videos(1, seeds, VIDEOS)
        + every * of_videos(VARIANTS, seeds, VIDEOS)
    )


def coverage(seeds: int, source: str, skewed: bool, draws: int) -> tuple[float, float]:
    """Percent of intervals of a difference, and of a mean, that hold 0."""
    rng, weights = np.random.default_rng([seeds, len(source), skewed]), np.array([1.0, -1.0, 0.0, 0.0])
    inside = np.zeros(2)
    for _ in range(draws):
        values = scores(rng, seeds, SOURCES[source], skewed)
        ends = [crossed_contrast(values.mean(2), values, weights).value, crossed_mean(values[0]).value]
        inside += [each.low <= 0.0 <= each.high for each in ends]
    difference, mean = 100.0 * inside / draws
    return float(difference), float(mean)


def main() -> None:
    """Print the table; `--write` keeps it."""
    parser = argparse.ArgumentParser(description="Coverage of intervals over seeds and videos.")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/crossed_coverage.md")
    arguments = parser.parse_args()
    lines = [
        "# Coverage of intervals over seeds and videos",
        "",
        f"`python benchmarks/crossed_coverage.py --write`: {arguments.draws} draws a row, {VARIANTS} variants, "
        f"{VIDEOS} videos. Percent of the 95 % intervals that hold the true value.",
        "",
        "| seeds | error mostly of | videos | difference of two variants | mean of one |",
        "|---|---|---|---|---|",
    ]
    for seeds in (2, 3, 5):
        for source in SOURCES:
            for skewed in (False, True):
                difference, mean = coverage(seeds, source, skewed, arguments.draws)
                kind = "lognormal" if skewed else "normal"
                lines.append(f"| {seeds} | {source} | {kind} | {difference:.1f} | {mean:.1f} |")
                print(lines[-1], flush=True)
    if arguments.write:
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
