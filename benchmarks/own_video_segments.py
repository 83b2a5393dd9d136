"""Does a GMSA model that was trained on montages of real videos find the segment that its label is of?

A montage is 60 frames: backgrounds, of classes that are never labels, and one event of 12 to 20 frames of another
class, which is the label. Clips are divided before any montage is made: of a class with several clips every third is
kept out; of a class with one or two, the last third of their frames. Montages of what was kept out are scored, and
their label is explained by every method: how often the frame with the highest score lies in the event (pointing), and
the area under the curve of frames of the event against others.

    python benchmarks/own_video_segments.py FOLDER --background CLASS --background CLASS [--write]

With `--keep OUT --videos 'videos/*/*' --shown CLASS` it leaves the model there, one video that is joined of seconds
which were kept out (the class that is shown, among backgrounds), and the table of its labels.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copy

import numpy as np
import torch
from joined_video import Part, joined
from measuring import machine, report

from analysis import inspect_clip
from analysis.features.video_files import clip_ids
from gmsa_models import Clip, Vocabulary, read_clips
from gmsa_models.classifier import GMSAClassifier
from gmsa_models.data.clip import Segment
from gmsa_models.data.feature_folder import folder_classes
from gmsa_models.data.paths import expand
from gmsa_models.data.spaces import FeatureSpace, spaces_to_dict
from gmsa_models.evaluation.scoring import evaluate
from gmsa_models.training.loop import fit
from gmsa_models.training.recipe import Recipe
from gmsa_models.variants import build

RESULTS = Path(__file__).parent / "results" / "own_video_segments.md"
FRAMES, SHORTEST, LONGEST, SCENE = 60, 12, 20, 10
WIDTHS = {"visual": 128, "audio": 64}
MEASURES = ("pointing", "evidence_auc")
SHOWN, SIZE = 12, (360, 640)  # seconds of each part of the video that is kept, and its height and width

Pool = dict[int, list[dict[str, np.ndarray]]]  # label -> the frames of each of its clips


@dataclass(frozen=True)
class Piece:
    """Frames of a clip, one a second.

    Attributes:
        label: of the clip.
        clip: its id.
        first: number of the first frame in the clip.
        frames: stream -> features.
    """

    label: int
    clip: str
    first: int
    frames: dict[str, np.ndarray]

    @property
    def count(self) -> int:
        """How many frames."""
        return len(next(iter(self.frames.values())))


def divided(folder: Path) -> tuple[list[Piece], list[Piece], dict[str, FeatureSpace]]:
    """Pieces to train on, pieces kept out, and the spaces of their features."""
    clips: dict[int, list[Clip]] = defaultdict(list)
    for clip in read_clips(folder):
        clips[clip.labels[0]].append(clip)
    training, kept_out = [], []
    for label, several in clips.items():
        for number, clip in enumerate(several):
            frames = {name: clip.floats(name) for name in clip.features}
            if len(several) > 2:
                (kept_out if number % 3 == 2 else training).append(Piece(label, clip.id, 0, frames))
            else:
                cut = clip.frames * 2 // 3
                training.append(Piece(label, clip.id, 0, {name: values[:cut] for name, values in frames.items()}))
                kept_out.append(Piece(label, clip.id, cut, {name: values[cut:] for name, values in frames.items()}))
    return training, kept_out, dict(several[0].spaces)


def pooled(pieces: Sequence[Piece]) -> Pool:
    """Their frames, by label."""
    pool: Pool = defaultdict(list)
    for each in pieces:
        pool[each.label].append(each.frames)
    return dict(pool)


def kept_out_video(
    pieces: Sequence[Piece], shown: int, backgrounds: Sequence[int], paths: Mapping[str, Path], out: Path, name: str
) -> Path:
    """A video file of the longest piece of a class between one of each background, and the table of its label."""
    longest = {
        label: max((each for each in pieces if each.label == label), key=lambda each: each.count)
        for label in (*backgrounds, shown)
    }
    order = [longest[label] for label in (*backgrounds[:1], shown, *backgrounds[1:])]
    parts = [Part(paths[each.clip], each.first, min(SHOWN, each.count - 1)) for each in order]
    path = joined(parts, out / "kept-out.mp4", sum(each.seconds for each in parts), size=SIZE)
    start = parts[0].seconds
    with (out / "kept-out.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("path", "label", "start", "end"), (path.name, name, start, start + parts[1].seconds)]
        )
    for each in parts:
        print(f"{each.path.name} from second {each.first:g} on, {each.seconds:g} s")
    return path


def stretch(clips: list[dict[str, np.ndarray]], count: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """So many frames of clips of one class, drawn one after another; each begins anywhere, and may come again."""
    parts: list[dict[str, np.ndarray]] = []
    while sum(len(each["visual"]) for each in parts) < count:
        clip = clips[random.integers(len(clips))]
        start = random.integers(len(clip["visual"]))
        parts.append({name: values[start:] for name, values in clip.items()})
    return {name: np.concatenate([each[name] for each in parts])[:count] for name in parts[0]}


def montage(
    pool: Pool,
    label: int,
    backgrounds: list[int],
    random: np.random.Generator,
    name: str,
    spaces: dict[str, FeatureSpace],
) -> Clip:
    """One event among backgrounds."""
    length = int(random.integers(SHORTEST, LONGEST + 1))
    start = int(random.integers(0, FRAMES - length + 1))
    scenes = [stretch(pool[random.choice(backgrounds)], SCENE, random) for _ in range(FRAMES // SCENE)]
    frames = {stream: np.concatenate([each[stream] for each in scenes]) for stream in scenes[0]}
    for stream, values in stretch(pool[label], length, random).items():
        frames[stream][start : start + length] = values
    end = start + length
    around = [Segment(first, last, kind="background") for first, last in ((0, start), (end, FRAMES)) if first < last]
    return Clip(name, frames, (label,), segments=(Segment(start, end, (label,)), *around), spaces=spaces)


def montages(pool: Pool, count: int, backgrounds: list[int], seed: int, spaces: dict[str, FeatureSpace]) -> list[Clip]:
    """So many, of every event class in turn."""
    random, events = np.random.default_rng(seed), sorted(set(pool) - set(backgrounds))
    return [
        montage(pool, events[number % len(events)], backgrounds, random, f"montage{number}", spaces)
        for number in range(count)
    ]


def trained(
    clips: list[Clip], vocabulary: Vocabulary, spaces: dict[str, FeatureSpace], steps: int, out: Path
) -> GMSAClassifier:
    """A model of the demo size; its file is `out/model.safetensors`."""
    widths = {name: values.shape[1] for name, values in clips[0].features.items()}
    model = build("gate-op-tp30", "demo", vocabulary=vocabulary, modalities=widths, widths=WIDTHS, max_frames=FRAMES)
    model.card["feature_spaces"] = spaces_to_dict(spaces)
    recipe = Recipe(steps=steps, learning_rate=1e-3, warmup=20)
    return fit(model, clips, None, recipe, out, progress=False, card={"name": "segments"}).model


def arguments_of() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--background", action="append", required=True)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--explained", type=int, default=12)
    parser.add_argument("--keep", type=Path, metavar="OUT", help="leave the model and a video of what was kept out")
    parser.add_argument("--videos", nargs="+", default=[], help="with --keep: those that the features are of")
    parser.add_argument("--shown", help="with --keep: the class of the event in the video; default: the first")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/own_video_segments.md")
    return parser.parse_args()


def main() -> None:
    """Train, score, explain; print a table."""
    arguments = arguments_of()
    torch.set_num_threads(1)
    names = folder_classes(arguments.folder)
    backgrounds = [names.index(each) for each in arguments.background]
    events = [number for number in range(len(names)) if number not in backgrounds]
    training, kept_out, spaces = divided(arguments.folder)
    vocabulary = Vocabulary("", tuple(events), tuple(names[each] for each in events))
    train = montages(pooled(training), 400, backgrounds, 0, spaces)
    test = montages(pooled(kept_out), 100, backgrounds, 1, spaces)
    with tempfile.TemporaryDirectory() as folder:
        model = trained(train, vocabulary, spaces, arguments.steps, Path(folder))
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            copy(Path(folder) / "model.safetensors", arguments.keep)
            shown = names.index(arguments.shown) if arguments.shown else events[0]
            paths = {identity: path for path, identity in clip_ids(expand(arguments.videos)).items()}
            kept_out_video(kept_out, shown, backgrounds, paths, arguments.keep, names[shown])
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
