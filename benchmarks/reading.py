"""How fast frame-level videos are read: ours beside the `tfrecord` package, the same work, in one run.

The work: every record of one shard of 300-frame YouTube-8M videos (1024 + 128 bytes a frame), from the page cache, in
one process, to an id, labels, and two uint8 arrays of shape (300, dim). Ours verifies both checksums; the package has
none. Beside the wall clock stands the processor time of the process, which other work on the machine hardly changes.
The last reader is the input of training: shuffled, checked, sorted by length into batches, padded, labels as columns;
all that is left to a step is the copy to the device.

    python benchmarks/reading.py [--videos 1024] [--write]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tfrecord.reader import sequence_loader

from gmsa_models.allocator import keep_freed_memory
from gmsa_models.data.catalog.catalog import build_catalog, open_clip
from gmsa_models.data.clip import Clip
from gmsa_models.data.shuffle import shuffled_clips
from gmsa_models.data.sources import read_clips
from gmsa_models.data.tfrecord.files import write_clips
from gmsa_models.data.vocabulary import Vocabulary
from gmsa_models.feeding import Collation, Inputs, TrainingClips, planned_batches, prefetched
from gmsa_models.training.recipe import Recipe

RESULTS = Path(__file__).parent / "results" / "reading.md"
REPEATS = 5
BATCH = Recipe().batch_size
TRAINING = "training input, one reading thread"
CLASSES = Vocabulary("youtube-8m", tuple(range(3862)), tuple(map(str, range(3862))))
FRAMES, WIDTHS = 300, {"visual": 1024, "audio": 128}
SHORTEST = 132  # with which the mean is 216 frames, 249 kB: that of YouTube-8M


def made_clips(count: int, shortest: int = FRAMES) -> Iterator[Clip]:
    """Videos of random bytes; what is in them makes no difference to reading."""
    random = np.random.default_rng(0)
    for number in range(count):
        frames = int(random.integers(shortest, FRAMES + 1))
        features = {name: random.integers(0, 256, (frames, dim), dtype=np.uint8) for name, dim in WIDTHS.items()}
        yield Clip(f"v{number:04d}", features, labels=(number % 3862, 7))


def read_ours(path: Path, verify: bool = True) -> int:
    """Records read by `read_clips`."""
    return sum(clip.features["visual"].shape == (FRAMES, 1024) for clip in read_clips(path, verify=verify))


def read_shuffled(path: Path) -> int:
    """Records read by `shuffled_clips`, in random order."""
    return sum(clip.features["visual"].shape == (FRAMES, 1024) for clip in shuffled_clips(path, 0, 0))


def fed_to_training(path: Path) -> int:
    """Records that come out of the input of `gmsa train` as padded batches."""
    clips = TrainingClips([str(path)], inputs=Inputs(WIDTHS))
    collate = Collation(tuple(WIDTHS), CLASSES, FRAMES)
    plan = planned_batches(clips, batch_size=BATCH, window=Recipe().length_window, seed=0, epoch=0)
    return sum(map(len, prefetched(collate(each) for each in plan)))


def read_package(path: Path) -> int:
    """Records read by the `tfrecord` package, their frames stacked to arrays as ours are."""
    kinds = {"id": "byte", "labels": "int"}, {"rgb": "byte", "audio": "byte"}
    count = 0
    for context, lists in sequence_loader(str(path), None, *kinds):
        bytes(context["id"]).decode(), tuple(context["labels"])
        arrays = {name: np.stack([np.frombuffer(frame, np.uint8) for frame in lists[name]]) for name in kinds[1]}
        count += arrays["rgb"].shape == (FRAMES, 1024)
    return count


def rates(readers: dict[str, Callable[[], int]], videos: int) -> dict[str, tuple[list[float], list[float]]]:
    """Videos a second by the wall clock and by processor time, `REPEATS` times in turn."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in readers}
    for _ in range(REPEATS):
        for name, reader in readers.items():
            wall, processor = time.perf_counter(), time.process_time()
            if reader() != videos:
                raise RuntimeError(f"{name} did not read {videos} videos")
            found[name][0].append(videos / (time.perf_counter() - wall))
            found[name][1].append(videos / (time.process_time() - processor))
    return found


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes, the median of `REPEATS`."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(videos: int, folder: Path) -> list[str]:
    """Run everything; lines of Markdown."""
    shard, catalog = folder / "made.tfrecord", folder / "made.parquet"
    write_clips(shard, made_clips(videos))
    average = folder / "average.tfrecord"
    write_clips(average, made_clips(videos, SHORTEST))
    build_catalog(shard, catalog)
    readers = {
        "`read_clips`, checksums verified": lambda: read_ours(shard),
        "`read_clips(verify=False)`": lambda: read_ours(shard, verify=False),
        "`shuffled_clips`, checksums verified": lambda: read_shuffled(shard),
        f"{TRAINING}, batches of {BATCH}": lambda: fed_to_training(shard),
        f"the same, videos of {SHORTEST} to {FRAMES} frames": lambda: fed_to_training(average),
        "`tfrecord` package (no checksums)": lambda: read_package(shard),
    }
    found = rates(readers, videos)
    package = statistics.median(found["`tfrecord` package (no checksums)"][1])
    lines = [
        "| reader | videos a second, median (slowest, fastest) | videos a processor second | times the package |",
        "|---|---|---|---|",
    ]
    for name, (walls, processors) in found.items():
        clock = f"{statistics.median(walls):,.0f} ({min(walls):,.0f}, {max(walls):,.0f})"
        middle = statistics.median(processors)
        lines.append(f"| {name} | {clock} | {middle:,.0f} | {middle / package:.1f} |")
    last = f"v{videos - 1:04d}"
    lines += [
        "",
        f"The last video by id: {1000 * seconds(lambda: open_clip(catalog, last)):.1f} ms by the catalogue, "
        f"{1000 * seconds(lambda: next(read_clips(f'{shard}#{last}'))):.0f} ms by reading on through "
        f"{videos} videos ({shard.stat().st_size / 1e6:.0f} MB).",
    ]
    return lines


def _heading(videos: int) -> list[str]:
    widths = " + ".join(map(str, WIDTHS.values()))
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, niceness {os.nice(0)}"
    return [
        "# Reading frame-level videos",
        "",
        f"`python benchmarks/reading.py --videos {videos} --write`: {videos} videos of {FRAMES} frames,",
        f"{widths} bytes a frame, one shard in the page cache, one process, {REPEATS} rounds in turn.",
        f"{machine}, load {os.getloadavg()[0]:.1f} at the end. Where other work takes part of the cores, processor",
        "seconds are the fairer measure; the last column compares those.",
        "",
    ]


def main() -> None:
    """Print the table; `--write` keeps it in `benchmarks/results/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1024)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/reading.md")
    arguments = parser.parse_args()
    if arguments.videos % BATCH:
        parser.error(f"--videos is {arguments.videos}; expected a multiple of {BATCH}, so that batches are full")
    keep_freed_memory()  # as `gmsa train` does
    with tempfile.TemporaryDirectory() as folder:
        table = measure(arguments.videos, Path(folder))
    text = "\n".join([*_heading(arguments.videos), *table, ""])
    print(text)
    if arguments.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
