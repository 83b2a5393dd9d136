"""Measure how real montages look: frame distance against lag, beside the one real frame-level video.

`python -m benchmarks.montage_realism --out figures/rendered/montage_realism.png` measures and draws;
`--fit` tries a grid of frame variations and prints the best, from which the literals of `montage_recipe.VARIATION` are
rounded.
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np

from figures.paper.montage_realism import draw
from gmsa_models.data.clip import Clip
from gmsa_models.data.montage.class_statistics import shipped_statistics
from gmsa_models.data.montage.make import VectorSource, montages
from gmsa_models.data.montage.realism import TOLERANCE, distance_table, mean_distances
from gmsa_models.data.montage.recipe import VARIATION, FrameVariation, MontageRecipe
from gmsa_models.data.montage.video_vectors import read_video_vectors
from gmsa_models.data.sources import read_clips

DEVIATIONS = (0.96, 0.99, 1.02, 1.05, 1.08)
NOISES = (0.7, 0.75, 0.8, 0.85)
STATICS = (0.24, 0.28, 0.3, 0.34, 0.38)


def fit(real: Clip, source: VectorSource, videos: int) -> list[tuple[str, FrameVariation, float]]:
    """Root mean square log ratio of the two curves for every variation of a grid, best first in each modality."""
    target = mean_distances([real])
    tried = []
    for constants in product(DEVIATIONS, NOISES, STATICS):
        variation = FrameVariation(*constants)
        recipe = MontageRecipe(frames=(real.frames, real.frames), variation=dict.fromkeys(target, variation))
        made = mean_distances(montages(source, recipe, 0, videos))
        tried += [
            (modality, variation, float(np.sqrt(np.mean(np.log(made[modality] / target[modality]) ** 2))))
            for modality in target
        ]
    return sorted(tried, key=lambda row: (row[0], row[2]))


def measure(real: Clip, source: VectorSource, videos: int, out: str | None) -> None:
    """Print the range of montage / real and draw both curves."""
    recipe = MontageRecipe(frames=(real.frames, real.frames))
    table = distance_table(real, source, recipe, videos)
    for modality, part in table.groupby("modality", sort=False):
        low, high = part["ratio"].min(), part["ratio"].max()
        verdict = "within" if max(1 - low, high - 1) <= TOLERANCE else "NOT within"
        print(f"{source.name}, {modality}: montage / real is {low:.3f} to {high:.3f}, {verdict} {TOLERANCE:.0%}")
    if out:
        draw(table, TOLERANCE).savefig(out, dpi=150)


def main() -> None:
    """Parse the command line, measure or fit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.montage_realism", description=__doc__)
    parser.add_argument("--real", default="../shared/data/yt8m_frame_SjJ3.tfrecord", help="a frame-level video")
    parser.add_argument(
        "--vectors", default="../shared/data/yt8m_video_level.npz", help="video-level vectors, or 'shipped'"
    )
    parser.add_argument("--videos", type=int, default=200, help="montages to average over (default: 200)")
    parser.add_argument("--out", help="picture to write")
    parser.add_argument("--fit", action="store_true", help="try a grid of frame variations instead")
    options = parser.parse_args()
    real = next(iter(read_clips(options.real)))
    source = shipped_statistics() if options.vectors == "shipped" else read_video_vectors(options.vectors, "train")
    if not options.fit:
        measure(real, source, options.videos, options.out)
        return
    tried = fit(real, source, options.videos)
    for modality in VARIATION:
        for row in [row for row in tried if row[0] == modality][:5]:
            print(*row)


if __name__ == "__main__":
    main()
