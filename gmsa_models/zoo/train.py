"""Train the models of the zoo: `python -m gmsa_models.zoo.train NAME ...` (or `all`).

Needs the real data beside the checkout (`../shared/data`): YouTube-8M's video-level vectors, which the training
montages are made of, and AudioSet's frames. Everything that has been done is kept in `runs/`, so the command can be
killed and given again; a model that is trained already is only scored anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from gmsa_models.checkpoints.files import load, save
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.config import ModelConfig
from gmsa_models.data.demo_videos import DEMO_VIDEOS
from gmsa_models.data.montage.make import demo_vocabulary
from gmsa_models.data.montage.recipe import MontageRecipe
from gmsa_models.data.montage.shards import write_montages
from gmsa_models.data.montage.video_vectors import read_video_vectors
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.evaluation.scoring import evaluate
from gmsa_models.masks import Toeplitz
from gmsa_models.training.loop import fit
from gmsa_models.training.recipe import Recipe
from gmsa_models.variants import COLUMNS, CONTROL, build
from gmsa_models.zoo.card import write_card

__all__ = ["main", "train"]

DATA = Path("../shared/data")
VECTORS = DATA / "yt8m_video_level.npz"
RUNS = Path("runs")
ZOO = Path(__file__).parent

# Most videos are short, so that ten models train in an hour on two cores; every length up to 300 s occurs.
MONTAGES = MontageRecipe(frames=((0.75, 60, 150), (0.25, 150, 300)))
# split -> directory, seed, videos, shards
SERIES = {"train": ("train", 1, 40_000, 40), "held-out": ("held-out", 2, 2_000, 2)}
MONTAGE_RECIPE = Recipe(epochs=1.25, batch_size=16, learning_rate=3e-3, warmup=50, weight_decay=0.01, seed=0)

AUDIOSET_RECIPE = Recipe(epochs=12, batch_size=64, learning_rate=1e-3, warmup=100, weight_decay=0.05, seed=0)
AUDIOSET_FRAMES = 10
AUDIOSET_MODELS = {"audioset-baseline": ("baseline", None), "audioset-gate-op": ("gate-op", Toeplitz(4))}


@dataclass(frozen=True)
class Task:
    """What one model of the zoo is trained and scored on.

    Attributes:
        model: untrained.
        train: TFRecord glob of the training clips.
        recipe: of the training.
        data: one sentence for the card.
        tests: what the scores are called -> a source of clips, and how many predictions a video count (None: all).
    """

    model: GMSAClassifier
    train: str
    recipe: Recipe
    data: str
    tests: dict[str, tuple[str, int | None]]


def montage_task(name: str) -> Task:
    """One of the paper's columns, or the control, at demo size, on montages of real YouTube-8M videos."""
    shards = {split: make_montages(split) for split in SERIES}
    return Task(
        model=build(name, "demo", vocabulary=demo_vocabulary(), seed=0),
        train=shards["train"],
        recipe=MONTAGE_RECIPE,
        data=(
            f"{SERIES['train'][2]} montages of real YouTube-8M videos (video-level vectors, CC BY 4.0) of the train "
            f"split, seed {SERIES['train'][1]}; see `recipe.json` beside the shards"
        ),
        tests={
            "held-out montages": (shards["held-out"], 20),
            "demo set": (f"demo:0-{DEMO_VIDEOS}", 20),
        },
    )


def audioset_task(name: str) -> Task:
    """An audio-only model on real AudioSet frames."""
    attention, neighbourhood = AUDIOSET_MODELS[name]
    vocabulary = Vocabulary.read_csv(DATA / "audioset" / "class_labels_indices.csv")
    config = ModelConfig(
        attention=attention,
        neighbourhood=neighbourhood,
        modalities={"audio": 128},
        classes=len(vocabulary),
        heads=4,
        max_frames=AUDIOSET_FRAMES,
        dropout=0.3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GMSAClassifier(config, vocabulary)
    model.card.update(name=name, seed=0)
    return Task(
        model=model,
        train=str(DATA / "audioset" / "bal_train-*.tfrecord"),
        recipe=AUDIOSET_RECIPE,
        data="AudioSet balanced train, 22,160 clips of VGGish frames (CC BY 4.0)",
        tests={"AudioSet eval": (str(DATA / "audioset" / "eval-*.tfrecord"), None)},
    )


TASKS: dict[str, Callable[[str], Task]] = {
    **dict.fromkeys((*COLUMNS, CONTROL), montage_task),
    **dict.fromkeys(AUDIOSET_MODELS, audioset_task),
}


def make_montages(split: str) -> str:
    """Write those montages of a split that are not there, see `write_montages`; returns their glob."""
    directory, seed, count, shards = SERIES[split]
    out = RUNS / "montage" / directory
    source = read_video_vectors(VECTORS).split(split)
    write_montages(source, MONTAGES, seed, count, out, shards=shards, processes=1)  # refuses a series made otherwise
    return str(out / "*.tfrecord")


def train(name: str, progress: bool = True) -> Path:
    """Train (or go on training) one model, score it, and put it into the zoo with its card."""
    if name not in TASKS:
        raise KeyError(f"unknown model {name!r}; known: {', '.join(TASKS)}")
    task = TASKS[name](name)
    card = {"command": f"python -m gmsa_models.zoo.train {name}", "data": task.data, "licence": "CC BY 4.0"}
    result = fit(task.model, task.train, None, task.recipe, RUNS / "zoo" / name, progress=progress, card=card)
    model = load(result.path)
    scores = {}
    for test, (source, top_k) in task.tests.items():
        values = evaluate(model, source, top_k=top_k)
        scores[test] = {key: round(value, 6) for key, value in values.items()} | {"top_k": top_k}
        print(name, test, scores[test], flush=True)
    model.card = {**model.card, "scores": scores}
    path = save(model, ZOO / f"{name}.safetensors")
    write_card(path)
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"all, or any of: {', '.join(TASKS)}")
    parser.add_argument("--threads", type=int, default=2, help="threads of each operation (default 2)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in TASKS if arguments.names == ["all"] else arguments.names:
        train(name, progress=not arguments.quiet)


if __name__ == "__main__":
    main()
