"""A tiny training run as a program of its own: what tests kill, resume, and start as two processes.

Usage: references_training.py OUT_DIR DEVICES DIE_AFTER: after that many clips were asked for, the process is killed
with SIGKILL, as a machine that loses power would; 0: never.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from gmsa_models import Clip, GMSAClassifier, ModelConfig, Vocabulary
from gmsa_models.masks import BlockDiagonal
from gmsa_models.training.loop import fit
from gmsa_models.training.recipe import Recipe
from gmsa_models.training.result import TrainingResult

VOCABULARY = Vocabulary("youtube-8m", (2, 3, 5), ("Game", "Car", "Food"))
RECIPE = Recipe(
    steps=23, batch_size=4, warmup=3, precision="64-true", validate_every=9, save_every=5, log_every=4, length_window=3
)


def tiny_model(dropout: float = 0.0, attention: str = "gate-op") -> GMSAClassifier:
    neighbourhood = BlockDiagonal(3) if attention == "gate-op" else None
    config = ModelConfig(
        attention=attention, modalities={"visual": 7, "audio": 5}, widths={"visual": 8, "audio": 4}, classes=3,
        neighbourhood=neighbourhood, heads=2, max_frames=13, dropout=dropout,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GMSAClassifier(config, VOCABULARY)


def tiny_clip(number: int, equal: bool = False) -> Clip:
    """A clip of 3 to 13 frames whose label shows in its features; one label in four is not in the vocabulary."""
    random = np.random.default_rng(number)
    label = (2, 3, 5, 7)[number % 4]
    frames = 7 if equal else int(random.integers(3, 14))
    visual = random.integers(0, 100, (frames, 7))
    visual[:, number % 4] += 150
    audio = random.integers(0, 256, (frames, 5))
    return Clip(f"clip{number}", {"visual": visual.astype(np.uint8), "audio": audio.astype(np.uint8)}, (label,))


class Clips(Sequence[Clip]):
    """Clips made when they are asked for; asking for too many ends the process."""

    def __init__(self, count: int, die_after: int = 0) -> None:
        self.count, self.die_after, self.asked = count, die_after, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Clip:
        self.asked += 1
        if self.asked == self.die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return tiny_clip(index)


def train(out_dir: str, devices: int = 1, die_after: int = 0, recipe: Recipe = RECIPE) -> TrainingResult:
    validation = [tiny_clip(number) for number in range(100, 117)]
    model = tiny_model(dropout=0.0 if devices > 1 or recipe.length_window == 1 else 0.2)
    strategy = "ddp" if devices > 1 else "auto"
    return fit(
        model, Clips(29, die_after), validation, recipe, out_dir, devices=devices, strategy=strategy, progress=False
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    directory, processes, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    train(directory, processes, last, RECIPE if processes == 1 else replace(RECIPE, length_window=1))
