"""A tiny pretraining as a program of its own: what tests kill, resume, and start as two processes.

Usage: pretraining.py OUT_DIR DEVICES DIE_AFTER; see `references/training.py`.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace

import torch

from gmsa_models import GMSAClassifier, ModelConfig
from gmsa_models.masks import Toeplitz
from gmsa_models.pretraining import PretrainingRecipe, pretrain
from gmsa_models.training.result import TrainingResult
from references.training import Clips, tiny_clip

RECIPE = PretrainingRecipe(
    steps=19, batch_size=4, warmup=3, precision="64-true", validate_every=6, save_every=4, log_every=4,
    length_window=3, span=2,
)  # fmt: skip


def tiny_encoders(attention: str = "gate-op", classes: int = 0, dropout: float = 0.0) -> GMSAClassifier:
    """As `references.training.tiny_model`, of other neighbourhoods and no classes."""
    config = ModelConfig(
        attention=attention, modalities={"visual": 7, "audio": 5}, widths={"visual": 8, "audio": 4}, classes=classes,
        neighbourhood=Toeplitz(4) if attention != "baseline" else None, heads=2, max_frames=13, dropout=dropout,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GMSAClassifier(config)


def run(out_dir: str, devices: int = 1, die_after: int = 0, recipe: PretrainingRecipe = RECIPE) -> TrainingResult:
    held_out = [tiny_clip(number) for number in range(100, 117)]
    model = tiny_encoders(dropout=0.0 if devices > 1 or recipe.length_window == 1 else 0.2)
    strategy = "ddp" if devices > 1 else "auto"
    return pretrain(
        model, Clips(29, die_after), held_out, recipe, out_dir, devices=devices, strategy=strategy, progress=False
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    directory, processes, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    run(directory, processes, last, RECIPE if processes == 1 else replace(RECIPE, length_window=1))
