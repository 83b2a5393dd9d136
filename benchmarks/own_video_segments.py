"""Does a GMSA model that was trained on montages of real videos find the segment that its label is of?

A montage is 60 frames: backgrounds, of classes that are never labels, and one event of 12 to 20 frames of another
class, which is the label. Clips are divided before any montage is made: of a class with several clips every third is
kept out; of a class with one or two, the last third of their frames. Montages of what was kept out are scored, and
their label is explained by every method: how often the frame with the highest score lies in the event (pointing), and
the area under the curve of frames of the event against others.

    python benchmarks/own_video_segments.py FOLDER --background CLASS --background CLASS [--write]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from measuring import machine, report

from analysis import inspect_clip
from gmsa_models import Clip, Vocabulary, read_clips
from gmsa_models.data.clip import Segment
from gmsa_models.data.feature_folder import folder_classes
from gmsa_models.evaluation.scoring import evaluate
from gmsa_models.training.loop import fit
from gmsa_models.training.recipe import Recipe
from gmsa_models.variants import build

RESULTS = Path(__file__).parent / "results" / "own_video_segments.md"
FRAMES, SHORTEST, LONGEST, SCENE = 60, 12, 20, 10
WIDTHS = {"visual": 128, "audio": 64}
MEASURES = ("pointing", "evidence_auc")

Pool = dict[int, list[dict[str, np.ndarray]]]  # label -> the frames of each of its clips


def divided(folder: Path) -> tuple[Pool, Pool]:
    """Frames to train on, and frames kept out, by label."""
    pools: tuple[Pool, Pool] = ({}, {})
    clips: dict[int, list[Clip]] = {}
    for clip in read_clips(folder):
        clips.setdefault(clip.labels[0], []).append(clip)
    for label, several in clips.items():
        for number, clip in enumerate(several):
            frames = {name: clip.floats(name) for name in clip.features}
            if len(several) > 2:
                pools[int(number % 3 == 2)].setdefault(label, []).append(frames)
            else:
                cut = clip.frames * 2 // 3
                pools[0].setdefault(label, []).append({name: values[:cut] for name, values in frames.items()})
                pools[1].setdefault(label, []).append({name: values[cut:] for name, values in frames.items()})
    return pools


def stretch(clips: list[dict[str, np.ndarray]], count: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """So many frames of clips of one class, drawn one after another; each begins anywhere, and may come again."""
    parts: list[dict[str, np.ndarray]] = []
    while sum(len(each["visual"]) for each in parts) < count:
        clip = clips[random.integers(len(clips))]
        start = random.integers(len(clip["visual"]))
        parts.append({name: values[start:] for name, values in clip.items()})
    return {name: np.concatenate([each[name] for each in parts])[:count] for name in parts[0]}


def montage(pool: Pool, label: int, backgrounds: list[int], random: np.random.Generator, name: str) -> Clip:
    """One event among backgrounds."""
    length = int(random.integers(SHORTEST, LONGEST + 1))
    start = int(random.integers(0, FRAMES - length + 1))
    scenes = [stretch(pool[random.choice(backgrounds)], SCENE, random) for _ in range(FRAMES // SCENE)]
    frames = {stream: np.concatenate([each[stream] for each in scenes]) for stream in scenes[0]}
    for stream, values in stretch(pool[label], length, random).items():
        frames[stream][start : start + length] = values
    end = start + length
    around = [Segment(first, last, kind="background") for first, last in ((0, start), (end, FRAMES)) if first < last]
    return Clip(name, frames, (label,), segments=(Segment(start, end, (label,)), *around))


def montages(pool: Pool, count: int, backgrounds: list[int], seed: int) -> list[Clip]:
    """So many, of every event class in turn."""
    random, events = np.random.default_rng(seed), sorted(set(pool) - set(backgrounds))
    return [
        montage(pool, events[number % len(events)], backgrounds, random, f"montage{number}") for number in range(count)
    ]


def main() -> None:
    """Train, score, explain; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--background", action="append", required=True)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--explained", type=int, default=12)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/own_video_segments.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = folder_classes(arguments.folder)
    backgrounds = [names.index(each) for each in arguments.background]
    events = [number for number in range(len(names)) if number not in backgrounds]
    training, kept_out = divided(arguments.folder)
    vocabulary = Vocabulary("", tuple(events), tuple(names[each] for each in events))
    train, test = montages(training, 400, backgrounds, 0), montages(kept_out, 100, backgrounds, 1)
    widths = {name: values.shape[1] for name, values in train[0].features.items()}
    model = build("gate-op-tp30", "demo", vocabulary=vocabulary, modalities=widths, widths=WIDTHS, max_frames=FRAMES)
    with tempfile.TemporaryDirectory() as out:
        recipe = Recipe(steps=arguments.steps, learning_rate=1e-3, warmup=20)
        model = fit(model, train, None, recipe, out, progress=False).model
    scores = evaluate(model, test)
    chosen = test[: arguments.explained]
    tables = [
        inspect_clip(model, clip, parts=("explanation",), target=vocabulary.positions(clip.labels)[0])["faithfulness"]
        .sel(measure=list(MEASURES)).to_pandas()
        for clip in chosen
    ]  # fmt: skip
    means = sum(tables) / len(tables)
    share = np.mean([(clip.segments[0].end - clip.segments[0].start) / FRAMES for clip in chosen])
    lines = [
        "# Segments of real videos in montages", "",
        f"GateOp TP30 (demo size), {arguments.steps} steps on {len(train)} montages; events: "
        f"{', '.join(vocabulary.names)};\nbackgrounds: {', '.join(arguments.background)}. {len(test)} montages of "
        f"frames kept out: Hit@1 {scores['hit_at_1']:.2f}, GAP {scores['gap']:.2f}.\nOf {len(chosen)} of them, the "
        f"label explained; by chance pointing is {share:.2f} and the area 0.50.", "",
        "| method | pointing | area under the curve |", "|---|---|---|",
        *(f"| {name} | {row[MEASURES[0]]:.2f} | {row[MEASURES[1]]:.2f} |" for name, row in means.iterrows()),
        "", machine(),
    ]  # fmt: skip
    report(lines, RESULTS, arguments.write)


if __name__ == "__main__":
    main()
