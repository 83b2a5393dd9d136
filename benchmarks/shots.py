"""Shots of videos: are their boundaries found, and what does finding them cost beside decoding.

Found: real videos of one shot each, joined to montages that know their boundaries: cuts, fades through black,
dissolves; with flashes, which are none. By the finder of `gmsa_models.data.video.shots`, and by a fixed threshold on
the same difference of neighbouring pictures. Values are chosen on montages of one half of the videos, scores are of
those of the other half, with 95 % bootstrap intervals over montages. Cost: processor time of decoding videos with the
finder beside decoding them alone, and beside making their features.

    python benchmarks/shots.py [--videos ../shared/data/video] [--rounds 5] [--write]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, product
from pathlib import Path
from unittest.mock import patch

import av
import numpy as np
import torch
from measuring import interleaved, machine, ratio, report

from analysis.features.clip import video_clip
from analysis.features.registry import open_visual
from gmsa_models.data.video import shots
from gmsa_models.data.video.decode import VideoFile

RESULTS = Path(__file__).parent / "results" / "shots.md"
RATE, SIZE, LONGEST = 25, (144, 256), 8  # pictures a second, height and width, seconds that are taken of a video
SEVERAL = ("moviepy_bbb_0_30.webm", "skv_bikes.mp4", "torchcodec_nasa_13013.mp4")  # have boundaries of their own
MONTAGES, PARTS, SHORTEST = 12, 14, 0.8  # of each half; parts of each; seconds of a part
KINDS, SHARES = ("cut", "fade", "dissolve"), (0.7, 0.15, 0.15)
GRADUAL = 12  # pictures of each half of a fade, of a dissolve
FLASH = 0.3  # share of parts with a flash of two pictures
WITHIN = 0.1  # seconds from a boundary, which of a fade or a dissolve is its whole length
LEASTS, RATIOS = (
    (6.0, 8.0, 10.0, 15.0),
    (3.0, 2.0, 4.0, 5.0),
)  # of equals the first; below 6, a title that appears is a cut
THRESHOLDS = (4.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0)
RESAMPLES = 2000
TIMED = ("furg_house6.mp4", "mdn_elf.mp4", "moviepy_bbb_0_30.webm")


@dataclass(frozen=True)
class Boundary:
    """Where one part gives way to the next, in seconds."""

    kind: str
    first: float
    last: float


@dataclass(frozen=True)
class Montage:
    """What a finder sees of a video, and what is known of it."""

    pictures: list[np.ndarray]  # small ones
    boundaries: list[Boundary]


def parts_of(video: Path) -> np.ndarray:
    """Its first pictures."""
    frames = islice(VideoFile(video).frames(RATE), LONGEST * RATE)
    size = {"width": SIZE[1], "height": SIZE[0]}
    return np.stack(
        [
            av.VideoFrame.from_ndarray(each.pixels, "rgb24").reformat(**size).to_ndarray(format="rgb24")
            for each in frames
        ]
    )


def drawn_montage(videos: Sequence[np.ndarray], seed: int) -> tuple[list[np.ndarray], list[Boundary]]:
    """Pictures of parts of videos, one after another."""
    random = np.random.default_rng(seed)
    pictures: list[np.ndarray] = []
    boundaries: list[Boundary] = []
    previous = -1
    for _ in range(PARTS):
        number = int(random.choice([each for each in range(len(videos)) if each != previous]))
        part, previous = _drawn_part(videos[number], random), number
        kind = str(random.choice(KINDS, p=SHARES)) if pictures else ""
        at = len(pictures)
        if kind == "cut":
            boundaries.append(Boundary(kind, at / RATE, at / RATE))
        elif kind:
            pictures, part, first = (_faded if kind == "fade" else _dissolved)(pictures, part)
            boundaries.append(Boundary(kind, first / RATE, (at + GRADUAL) / RATE))
        pictures += part
    return pictures, boundaries


def _drawn_part(video: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    least = min(len(video), round(SHORTEST * RATE) + 2 * GRADUAL)
    count = int(random.integers(least, len(video) + 1))
    first = int(random.integers(0, len(video) - count + 1))
    part = list(video[first : first + count])
    if random.random() < FLASH:
        at = int(random.integers(GRADUAL + 2, count - GRADUAL - 2))
        for number in (at, at + 1):
            part[number] = (0.2 * part[number] + 0.8 * 255).astype(np.uint8)
    return part


def _faded(before: list[np.ndarray], after: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    shares = np.linspace(1, 0, GRADUAL)
    out = [(share * each).astype(np.uint8) for share, each in zip(shares, before[-GRADUAL:], strict=True)]
    into = [(share * each).astype(np.uint8) for share, each in zip(shares[::-1], after[:GRADUAL], strict=True)]
    return [*before[:-GRADUAL], *out], [*into, *after[GRADUAL:]], len(before) - GRADUAL


def _dissolved(before: list[np.ndarray], after: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    shares = np.linspace(0, 1, GRADUAL + 2)[1:-1]
    mixed = [
        ((1 - share) * one + share * other).astype(np.uint8)
        for share, one, other in zip(shares, before[-GRADUAL:], after[:GRADUAL], strict=True)
    ]
    return [*before[:-GRADUAL], *mixed], after[GRADUAL:], len(before) - GRADUAL


def encoded(pictures: Sequence[np.ndarray], path: Path) -> Path:
    """A video of some pictures, as H.264."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "23"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for number, pixels in enumerate(pictures):
            picture = av.VideoFrame.from_ndarray(pixels, "rgb24")
            picture.pts, picture.time_base = number, Fraction(1, RATE)
            file.mux(stream.encode(picture))
        file.mux(stream.encode())
    return path


def montages(videos: Sequence[Path], first: int) -> list[Montage]:
    """Montages of some videos, encoded and decoded again."""
    parts, result = [parts_of(each) for each in videos], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(MONTAGES):
            pictures, boundaries = drawn_montage(parts, first + number)
            seen: list[np.ndarray] = []
            watcher = shots.ShotFinder()
            with patch.object(watcher, "add", lambda time, picture, seen=seen: seen.append(picture)):
                for time, frame in VideoFile(encoded(pictures, Path(folder, f"{number}.mp4"))).decoded():
                    watcher.watch(time, frame)
            result.append(Montage(seen, boundaries))
    return result


def by_finder(montage: Montage, values: tuple[float, ...]) -> Sequence[float]:
    """Starts of shots, by the finder with other values."""
    with patch.multiple(shots, LEAST=values[0], RATIO=values[1]):
        finder = shots.ShotFinder()
        for number, picture in enumerate(montage.pictures):
            finder.add(number / RATE, picture)
        return finder.starts()[1:]


def by_threshold(montage: Montage, values: tuple[float, ...]) -> Sequence[float]:
    """Starts of shots, where a picture differs by so much from the one before."""
    pairs = zip(montage.pictures, montage.pictures[1:], strict=False)
    return [number / RATE for number, pair in enumerate(pairs, 1) if shots.difference(*pair) >= values[0]]


def counted(starts: Sequence[float], known: Sequence[Boundary]) -> list[int]:
    """How many starts are right, there are, boundaries there are; then of each kind how many are found, there are."""
    left, found = list(starts), dict.fromkeys(KINDS, 0)
    for boundary in known:
        near = [each for each in left if boundary.first - WITHIN <= each <= boundary.last + WITHIN]
        if near:
            left.remove(near[0])
            found[boundary.kind] += 1
    kinds = [number for kind in KINDS for number in (found[kind], sum(each.kind == kind for each in known))]
    return [sum(found.values()), len(starts), len(known), *kinds]


def scores(counts: np.ndarray) -> tuple[float, float, float]:
    """F1, precision and recall of (montages, ...) counts, over all boundaries."""
    right, found, known = counts.sum(0)[:3]
    return 2 * right / max(1, found + known), right / max(1, found), right / max(1, known)


def found_rows(videos: Sequence[Path]) -> Iterator[str]:
    """A line for each way, with what was chosen for it."""
    chosen_on, scored_on = montages(videos[::2], 0), montages(videos[1::2], MONTAGES)
    ways: dict[str, tuple[list[tuple[float, ...]], Callable[[Montage, tuple[float, ...]], Sequence[float]]]] = {
        "shots: difference, × mean around": (list(product(LEASTS, RATIOS)), by_finder),
        "fixed threshold: difference": ([(each,) for each in THRESHOLDS], by_threshold),
    }
    random = np.random.default_rng(0).integers(0, MONTAGES, (RESAMPLES, MONTAGES))
    for name, (values, way) in ways.items():

        def counts(several: list[Montage], value: tuple[float, ...], way=way) -> np.ndarray:
            return np.array([counted(way(each, value), each.boundaries) for each in several])

        best = max(values, key=lambda value: scores(counts(chosen_on, value))[0])
        result = counts(scored_on, best)
        low, high = np.percentile([scores(result[rows])[0] for rows in random], (2.5, 97.5))
        f1, precision, recall = scores(result)
        kinds = " | ".join(f"{found} of {known}" for found, known in result.sum(0)[3:].reshape(-1, 2))
        chosen = ", ".join(f"{each:g}" for each in best)
        yield f"| {name} {chosen} | {f1:.3f} | {low:.3f} to {high:.3f} | {precision:.3f} | {recall:.3f} | {kinds} |"


def decode(path: Path, watched: bool) -> None:
    """Every picture, and its shots."""
    finder = shots.ShotFinder()
    for time, frame in VideoFile(path).decoded():
        if watched:
            finder.watch(time, frame)


def time_rows(folder: Path, rounds: int) -> Iterator[str]:
    """A line for each video."""
    visual = open_visual("efficientnet-lite0", torch.device("cpu"))
    for name in TIMED:
        path = folder / name
        ways: dict[str, Callable[[], object]] = {
            "alone": lambda path=path: decode(path, False),
            "shots": lambda path=path: decode(path, True),
            "features": lambda path=path: video_clip(path, visual, None),
        }
        times = interleaved(ways, rounds)
        middle = {way: statistics.median(each.processor) for way, each in times.items()}
        added = statistics.median(
            one - other for one, other in zip(times["shots"].processor, times["alone"].processor, strict=True)
        )
        pictures = sum(1 for _ in VideoFile(path).decoded())
        first = next(VideoFile(path).frames()).pixels.shape
        yield (
            f"| {first[1]} × {first[0]} | {pictures} | {middle['alone']:.2f} | {middle['shots']:.2f} | "
            f"{ratio(times['shots'].processor, times['alone'].processor):.2f} | {middle['features']:.2f} | "
            f"{100 * added / middle['features']:.0f} % |"
        )


def main() -> None:
    """Print the tables; `--write` keeps them in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=Path("../shared/data/video"), help="folder of the real videos")
    parser.add_argument("--rounds", type=int, default=5, help="of the times")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/shots.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    files = sorted(each for each in arguments.videos.iterdir() if each.suffix in (".mp4", ".mkv", ".webm"))
    videos = [each for each in files if each.name not in SEVERAL]
    lines = [
        "# Shots of videos: found, timed",
        "",
        f"`python benchmarks/shots.py --rounds {arguments.rounds} --write`. {len(videos)} real videos of one shot "
        f"each, joined to {MONTAGES} montages of {PARTS} parts of",
        f"each half; boundaries within {WITHIN:g} s. Values are the best of one half, scores are of the other; 95 % "
        "bootstrap intervals over",
        "montages.",
        "",
        "| boundaries | F1 | interval | precision | recall | cuts | fades through black | dissolves |",
        "|---|---|---|---|---|---|---|---|",
        *found_rows(videos),
        "",
        "Processor time in s of decoding every picture, alone and with shots; of features (EfficientNet-Lite0, a "
        "picture a second),",
        "which have shots; and what shots add to these.",
        "",
        "| video | pictures | decoded | with shots | with shots / decoded | features with shots | of it shots |",
        "|---|---|---|---|---|---|---|",
        *time_rows(arguments.videos, arguments.rounds),
        "",
        machine(),
    ]
    report(lines, RESULTS, arguments.write)


if __name__ == "__main__":
    main()
